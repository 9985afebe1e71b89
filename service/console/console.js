// The console: the pulse of one API process, read off its own endpoints; and a place to try it.

import { call } from "./api.js";
import { showBundles } from "./bundles.js";
import { buckets, parse, quantile, sum } from "./metrics.js";
import { cell, fill, figure } from "./view.js";
import { tryIt } from "./slate.js";

const EVERY_MS = 2000;
const KEPT = 60;
const history = new Map();
let before = null;
let silent = false;

const served = labels => labels.route === "/v1/recommendations";

async function look() {
  try {
    const [ready, text] = await Promise.all([call("GET", "health/ready"), call("GET", "metrics")]);
    showReadiness(ready);
    const now = { at: performance.now(), samples: parse(text) };
    if (before) showPulse(now, before);
    showArms(now.samples);
    before = now;
    await showBundles(problem);
    if (silent) problem(null);
    silent = false;
  } catch (error) {
    problem(error.message);
    silent = true;
  }
  setTimeout(look, EVERY_MS);
}

function problem(text) {
  const element = document.getElementById("problem");
  element.hidden = text === null;
  element.textContent = text;
}

function showReadiness({ status, dependencies }) {
  const pill = document.getElementById("status");
  pill.textContent = status;
  pill.className = `pill ${status}`;
  document.getElementById("version").textContent = dependencies.bundle.version ?? "";
  fill("dependencies", null, Object.entries(dependencies).map(([name, { ok, ...more }]) => [
    cell(name.replace("_", " ")),
    cell(ok ? "well" : "not well", ok ? "ok" : "bad"),
    cell(more.detail ?? Object.entries(more).map(([key, value]) => `${key} ${plain(value)}`).join(", "), "quiet"),
  ]));
}

const plain = value => typeof value === "object" && value !== null ? JSON.stringify(value) : value;

function showPulse(now, then) {
  const seconds = (now.at - then.at) / 1000;
  const rate = (name, holds) => (sum(now.samples, name, holds) - sum(then.samples, name, holds)) / seconds;
  const p = (q, name, holds) => {
    const found = quantile(q, buckets(now.samples, name, holds), buckets(then.samples, name, holds));
    return found === null ? null : found * 1000;
  };
  const figures = {
    "slates per second": [rate("om_request_seconds_count", served), 0],
    "slate p50, ms": [p(0.5, "om_request_seconds", served), 1],
    "slate p99, ms": [p(0.99, "om_request_seconds", served), 1],
    "events per second": [rate("om_events_received_total", labels => labels.verdict === "accepted"), 0],
    "learned after, p50 ms": [p(0.5, "om_freshness_seconds"), 0],
    "learned after, p99 ms": [p(0.99, "om_freshness_seconds"), 0],
  };
  document.getElementById("pulse").replaceChildren(...Object.entries(figures).map(([name, [value, digits]]) => {
    const kept = [...(history.get(name) ?? []), value].slice(-KEPT);
    history.set(name, kept);
    return figure(name, value === null ? "–" : value.toFixed(digits), kept);
  }));
}

function showArms(samples) {
  const arms = new Map();
  for (const { name, labels, value } of samples) {
    if (name !== "om_slate_items_total") continue;
    arms.set(labels.arm, { ...arms.get(labels.arm), [labels.source]: value });
  }
  const sources = ["exploit", "explore", "fallback"];
  fill("arms", ["arm", ...sources], [...arms].map(([arm, shown]) => [
    cell(arm), ...sources.map(source => cell((shown[source] ?? 0).toLocaleString("en"), "number")),
  ]));
  const select = document.querySelector("#ask select");
  for (const arm of arms.keys()) {
    if (![...select.options].some(option => option.value === arm)) select.add(new Option(arm, arm));
  }
}

tryIt(document.getElementById("ask"), problem);
look();
