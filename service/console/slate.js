// Ask for a slate, click an item, and see the scores change.

import { call } from "./api.js";
import { cell, fill } from "./view.js";

const PATIENCE_MS = 5000;
const titles = new Map();

/** Wire the form up; `problem` shows what went wrong. */
export function tryIt(form, problem) {
  form.addEventListener("submit", async event => {
    event.preventDefault();
    await attempt(problem, () => show(form, problem));
  });
}

async function attempt(problem, action) {
  try {
    problem(null);
    await action();
  } catch (error) {
    problem(error.message);
  }
}

function ask(form) {
  const { user_id, limit, arm } = Object.fromEntries(new FormData(form));
  return call("POST", "v1/recommendations", {
    limit: Number(limit), explain: true, ...(user_id && { user_id }), ...(arm && { arm }),
  });
}

async function show(form, problem, old = new Map()) {
  const slate = await ask(form);
  await Promise.all(slate.items.map(describe));
  const fallback = slate.fallback ? `, by ${slate.fallback}` : "";
  if (!old.size) tell(`${slate.policy}${fallback}`);
  const most = Math.max(...slate.items.map(item => item.score ?? 0), 1e-9);
  const rows = fill("slate", ["item", "", "score", "mean + bonus", "impressions", "chosen", ""], slate.items.map(item => [
    cell(item.item_id),
    cell(titles.get(item.item_id), "quiet"),
    cell(item.score?.toFixed(5) ?? "–", "number"),
    bar(item.explanation, most),
    cell(item.explanation?.impressions.toFixed(2) ?? "", "number"),
    cell(item.propensity === null ? item.source : `${item.source}, p = ${item.propensity.toPrecision(2)}`, "quiet"),
    click(slate, item, form, problem),
  ]));
  for (const [at, item] of slate.items.entries()) {
    rows[at].classList.toggle("changed", old.has(item.item_id) && old.get(item.item_id) !== item.score);
  }
  return slate;
}

/** What the catalogue says of an item, in a few words. */
async function describe({ item_id }) {
  if (titles.has(item_id)) return;
  const path = item_id.split("/").map(encodeURIComponent).join("/");
  const { attributes = {} } = await call("GET", `v1/items/${path}`);
  titles.set(item_id, Object.values(attributes).filter(value => typeof value === "string").join(", "));
}

function bar(explanation, most) {
  const found = document.createElement("td");
  const whole = document.createElement("div");
  whole.className = "score";
  if (explanation) {
    whole.title = `mean ${explanation.mean.toFixed(5)}, bonus ${explanation.bonus.toFixed(5)}`;
    for (const part of [explanation.mean, explanation.bonus]) {
      const piece = document.createElement("i");
      piece.style.width = `${Math.max(0, 100 * part / most)}%`;
      whole.append(piece);
    }
  }
  found.append(whole);
  return found;
}

function click(slate, item, form, problem) {
  const found = cell("", "number");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Click";
  button.onclick = () => attempt(problem, () => send(slate, item, form, problem));
  found.append(button);
  return found;
}

/** Send the click and wait until the scores have changed. */
async function send(slate, item, form, problem) {
  const token = { attribution_token: slate.attribution_token };
  const { events } = await call("POST", "v1/events", [
    { type: "impression", ...token },
    { type: "reward", ...token, item_id: item.item_id },
  ]);
  const refused = events.find(event => event.verdict !== "accepted");
  if (refused) throw new Error(`The click was not taken: ${refused.reason}`);
  const accepted = performance.now();
  const old = new Map(slate.items.map(each => [each.item_id, each.score]));
  while (performance.now() - accepted < PATIENCE_MS) {
    const now = await ask(form);
    if (now.items.some(each => old.has(each.item_id) && old.get(each.item_id) !== each.score)) {
      tell(`learned after ${Math.round(performance.now() - accepted)} ms`);
      await show(form, problem, old);
      return;
    }
  }
  tell("accepted, but no score has changed yet");
}

function tell(text) {
  document.getElementById("told").textContent = text;
}
