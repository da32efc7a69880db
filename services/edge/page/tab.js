// What every part of the page uses: its elements, who takes part in this tab, waiting, the steps.

const SHOWN_MAX = 100; // lines kept in a list
const BACKOFF_MS = 500; // doubled up to BACKOFF_MAX_MS; a random part is waited
const BACKOFF_MAX_MS = 8000;

export const $ = (id) => document.getElementById(id);
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const backoff = (failures) => Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** failures);

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) { made.className = className; }
  if (text) { made.textContent = text; }
  return made;
}

export function append(list, line) {
  list.querySelector(".empty")?.remove();
  list.append(line);
  while (list.children.length > SHOWN_MAX) { list.firstElementChild.remove(); }
  list.scrollTop = list.scrollHeight;
}

// Who takes part: drawn for this tab, and kept as long as it is.
export const kept = JSON.parse(sessionStorage.getItem("onward.page") || "null") || (() => {
  const word = crypto.randomUUID().slice(0, 6);
  return { subject: `/demo/${word}`, ann: `ann-${word}`, bob: `bob-${word}`, reachable: true,
    address: `ann-${word}@example.org`,
    client: { clientId: `tab-${word}`, generation: "0", logId: "", seq: null } };
})();
export const keep = () => sessionStorage.setItem("onward.page", JSON.stringify(kept));
keep();

const done = new Set();

export function stepDone(name) {
  if (done.has(name)) { return; }
  done.add(name);
  showSteps();
}

export function showSteps() {
  let next = false;
  for (const line of $("steps").children) {
    const isDone = done.has(line.dataset.step);
    line.className = isDone ? "done" : next ? "" : "next";
    if (isDone) { line.setAttribute("aria-label", `${line.textContent}: done`); }
    next ||= !isDone;
  }
}
