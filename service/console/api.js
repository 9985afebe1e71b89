// Asks the service, with the key of the operator where it wants one.

const KEY = "online-matching-key";

/** What the service answers: parsed JSON, or text. Throws an Error with the problem's detail. */
export async function call(method, path, body) {
  const key = sessionStorage.getItem(KEY);
  const answer = await fetch(`../${path}`, {
    method,
    headers: { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  if (answer.status === 401) {
    await askForKey();
    return call(method, path, body);
  }
  const json = answer.headers.get("content-type")?.includes("json");
  const told = json ? await answer.json() : await answer.text();
  // Readiness says 503 and what is missing: that is an answer, too.
  if (!answer.ok && !told.dependencies) throw new Error(told.detail ?? `${path} answered ${answer.status}`);
  return told;
}

let asking = null;

/** Asks once, however many requests were refused. */
function askForKey() {
  asking ??= new Promise(resolve => {
    const dialog = document.getElementById("access");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, dialog.querySelector("input").value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
