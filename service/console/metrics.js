// Reads the Prometheus exposition of the API, and what changed between two readings.

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** The samples of an exposition: [{name, labels, value}]. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    samples.push({ name: found[1], labels, value: found[3] === "+Inf" ? Infinity : Number(found[3]) });
  }
  return samples;
}

/** The sum of a family's samples whose labels hold. */
export function sum(samples, name, holds = () => true) {
  return samples.filter(s => s.name === name && holds(s.labels)).reduce((total, s) => total + s.value, 0);
}

/** A histogram summed over its labels: [[upper bound, observations at or below it]], ascending. */
export function buckets(samples, name, holds = () => true) {
  const counts = new Map();
  for (const { name: found, labels, value } of samples) {
    if (found !== `${name}_bucket` || !holds(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/** The q-quantile of what came between two readings of a histogram; null where nothing did. */
export function quantile(q, now, before) {
  const earlier = new Map(before);
  const grown = now.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)]);
  const total = grown.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let lower = 0, below = 0;
  for (const [bound, count] of grown) {
    if (count >= q * total) {
      return bound === Infinity ? lower : lower + (bound - lower) * (q * total - below) / (count - below);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}
