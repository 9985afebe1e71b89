// The bundles: which there are, which one is served, and how to change that.

import { call } from "./api.js";
import { cell, fill } from "./view.js";

/** List them; `problem` shows what went wrong. */
export async function showBundles(problem) {
  show(await call("GET", "v1/bundles"), problem);
}

function show({ bundles, pinned, revision, changes }, problem) {
  // Whoever acts names what he saw: if somebody else was faster, nothing is done.
  const change = (title, question, path) => {
    const button = document.createElement("button");
    button.textContent = title;
    button.onclick = async () => {
      if (!confirm(question)) return;
      try {
        problem(null);
        show(await call("POST", `v1/bundles${path}?revision=${revision}`), problem);
      } catch (error) {
        problem(error.message);
      }
    };
    return button;
  };
  fill("bundles", ["version", "made", "items", "clusters", "edges", "learns on from", "", ""], bundles.map(bundle => {
    const { version, state } = bundle;
    const path = `/${encodeURIComponent(version)}`;
    const actions = cell("", "number");
    if (state === "available") actions.append(change("Activate", `Serve ${version} from now on?`, `${path}:activate`));
    if (state === "active" && changes.length) {
      actions.append(change("Roll back", `Go back to what was active before ${version}?`, `${path}:rollback`));
    }
    return [
      cell(version),
      cell(bundle.created_at ? new Date(bundle.created_at).toLocaleString() : "", "quiet"),
      ...["items", "clusters", "edges"].map(name => cell(bundle.counts?.[name]?.toLocaleString("en") ?? "", "number")),
      cell(bundle.parent_version ?? "", "quiet"),
      cell(bundle.reason ?? state, { refused: "bad", active: "ok" }[state] ?? ""),
      actions,
    ];
  }));
  const told = document.getElementById("pinned");
  told.textContent = pinned ? "Pinned: newer bundles wait until they are activated. " : "The newest whole bundle is served.";
  if (pinned) told.append(change("Follow the newest", "Serve the newest bundle, and every newer one?", ":unpin"));
}
