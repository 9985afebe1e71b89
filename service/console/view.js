// Small pieces of the page. Text is always set as text: ids and names come from outside.

/** A table cell. */
export function cell(text, kind = "") {
  const found = document.createElement("td");
  found.textContent = text;
  found.className = kind;
  return found;
}

/** Replace a table's content: titles (or null), and rows of cells. */
export function fill(id, titles, rows) {
  const parts = [];
  if (titles) {
    const head = document.createElement("tr");
    for (const [at, title] of titles.entries()) {
      const th = document.createElement("th");
      th.textContent = title;
      th.className = rows[0]?.[at].className.includes("number") ? "number" : "";
      head.append(th);
    }
    parts.push(head);
  }
  for (const cells of rows) {
    const row = document.createElement("tr");
    row.append(...cells);
    parts.push(row);
  }
  document.getElementById(id).replaceChildren(...parts);
  return parts.slice(titles ? 1 : 0);
}

/** A figure with its name and its last values as a line. */
export function figure(name, text, values) {
  const element = document.createElement("div");
  element.className = "figure";
  const value = document.createElement("b");
  value.textContent = text;
  const label = document.createElement("span");
  label.textContent = name;
  element.append(label, value, line(values));
  return element;
}

/** Values as a line; gaps where there was nothing. */
function line(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 20");
  svg.setAttribute("preserveAspectRatio", "none");
  const most = Math.max(...values.filter(value => value !== null), 1e-9);
  const points = values
    .map((value, at) => value === null ? null : `${100 * at / Math.max(values.length - 1, 1)},${19 - 18 * value / most}`)
    .filter(point => point !== null);
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  drawn.setAttribute("points", points.join(" "));
  svg.append(drawn);
  return svg;
}
