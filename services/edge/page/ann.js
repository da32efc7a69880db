// Ann: her program in a worker, what it shows her, and what was sent to her while she was away.

import { messages } from "./bob.js";
import { $, append, element, keep, kept, stepDone } from "./tab.js";
import { carrier, clock, notifications, secondsUntil, span } from "./words.js";

const HINTS = {
  connecting: "Her program looks for the server, and tries again by itself.",
  online: "Close her app: a clean goodbye. Pull the plug: her connection breaks without one. "
    + "Freeze it: it hangs, and its socket stays open.",
  closed: "She said goodbye, so the grace is short. What she has not acknowledged when it ends becomes a notification.",
  cut: "Her connection broke without a goodbye, so the grace is longer: she may just be in a tunnel. "
    + "(A browser says goodbye for its pages, so her program had the server cut it.)",
  frozen: "Her socket is open and the browser still answers pings, but nothing is acknowledged. "
    + "The server gives up on her after about half a minute.",
};

export const ann = { worker: null, state: "connecting", seen: new Set(), repeats: 0, recovered: 0,
  get away() { return this.state !== "online" && this.state !== "connecting"; } };

export function startAnn() {
  ann.worker = new Worker("/page/client.js", { type: "module" });
  ann.worker.onmessage = ({ data }) => hear(data);
  ann.recovered = 0;
  ann.worker.postMessage({ do: "start", user: kept.ann, subject: kept.subject,
    kept: { ...kept.client }, endpoint: endpoint() });
  show("connecting");
}

function stopAnn(state) {
  show(state);
  stepDone("leave");
  $("ann-back").focus();
}

function hear(data) {
  if (data.kind === "kept") { kept.client = data.kept; keep(); }
  else if (data.kind === "state") { heardState(data.state); }
  else if (data.kind === "message") { showAnns(data); }
  else if (data.kind === "acknowledged") { showAcknowledged(data.seq); }
  else if (data.kind === "repeat") { ann.repeats++; showTally(); }
  else if (data.kind === "gap") { heardGap(data); }
  else if (data.kind === "noticed") { remark("The server noticed that she hangs, and closed her socket."); }
  else if (data.kind === "refused") { remark(`Refused: ${data.text}`); }
}

function heardGap({ from, to, reason }) {
  if (reason !== "LOG_REPLACED") { remark(`${span(from, to)} will not come: ${reason}`); return; }
  ann.worker.terminate(); // the server began anew, and so does this tab
  sessionStorage.clear();
  location.reload();
}

function heardState(state) {
  if (state === "away") {
    ann.worker.terminate();
    if (!ann.away) { show("closed"); }
  } else if (!ann.away) {
    show(state);
  }
}

function showAnns({ seq, text, publisher, way }) {
  const line = element("li");
  const label = way === "LIVE" ? `#${seq}` : `#${seq}, ${way.toLowerCase()}`;
  const from = publisher === kept.bob ? "" : `${publisher}: `;
  const number = element("small", `number fresh ${way.toLowerCase()}`, label);
  number.dataset.seq = seq;
  line.append(element("span", "text", from + text), number);
  append($("ann-talk"), line);
  ann.seen.add(seq);
  ann.worker.postMessage({ do: "shown", seq }); // only now may it be acknowledged
  if (way === "RECOVERED") { stepDone("back"); } else if (way === "LIVE") { stepDone("write"); }
  showTally();
}

function showAcknowledged(seq) {
  for (const label of $("ann-talk").querySelectorAll(".fresh")) {
    if (Number(label.dataset.seq) > seq) { continue; }
    label.classList.remove("fresh");
    label.textContent += ", acknowledged";
  }
}

function remark(text) { append($("ann-talk"), element("li", "told", text)); }

export function showTally() {
  const all = [...messages.keys()];
  const seen = all.filter((seq) => ann.seen.has(seq)).length;
  const repeats = ann.repeats ? `, ${ann.repeats} came again and were dropped` : ", none twice";
  $("ann-tally").textContent = all.length ? `Seen ${seen} of ${all.length}${repeats}.` : "";
}

function show(state) {
  ann.state = state;
  $("ann").classList.toggle("away", ann.away);
  for (const id of ["ann-close", "ann-cut", "ann-freeze"]) {
    $(id).hidden = ann.away;
    $(id).disabled = state !== "online";
  }
  $("ann-back").hidden = !ann.away;
  $("ann-hint").textContent = HINTS[state];
  $("ann-program").textContent = { connecting: "her program connects", online: "her program is connected",
    closed: "her program is closed", cut: "her connection is cut", frozen: "her program hangs" }[state];
  $("ann-reachable").disabled = $("ann-address").disabled = state !== "online";
}

$("ann-close").addEventListener("click", () => { ann.worker.postMessage({ do: "leave" }); stopAnn("closed"); });
$("ann-cut").addEventListener("click", () => { ann.worker.postMessage({ do: "cut" }); stopAnn("cut"); });
$("ann-freeze").addEventListener("click", () => { ann.worker.postMessage({ do: "freeze" }); stopAnn("frozen"); });
$("ann-back").addEventListener("click", () => {
  ann.worker.terminate();
  startAnn();
  $("bob-text").focus();
});

function endpoint() { return kept.reachable ? `mailto:${kept.address}` : ""; }

function changeAddress() {
  if (!$("ann-address").reportValidity()) { return; }
  Object.assign(kept, { reachable: $("ann-reachable").checked, address: $("ann-address").value.trim() });
  keep();
  ann.worker.postMessage({ do: "endpoint", uri: endpoint() });
}
$("ann-reachable").addEventListener("change", changeAddress);
$("ann-address").addEventListener("change", changeAddress);

/** `client`: how she stands by the newest record, null if there is none; `isKnown`: whether it is new. */
export function showStanding(client, isKnown = true) {
  const pill = $("ann-pill"), state = client ? client.state : "";
  const words = { online: "online", grace: "in her grace", offline: "offline" };
  const text = isKnown ? words[state] || "not seen yet" : "not known now";
  if (pill.textContent !== text) { pill.textContent = text; }
  pill.className = `pill ${state}`;
  $("ann-grace").dataset.until = state === "grace" ? client.graceUntil || "" : "";
  showGrace();
}

export function showGrace() {
  const grace = $("ann-grace"), seconds = secondsUntil(grace.dataset.until, Date.now());
  grace.hidden = !seconds;
  grace.textContent = seconds ? `${seconds} s left` : "";
}

let shownNotes = "";

export function showNotes(story, plugins) {
  const tones = { NOTIFIED: "sent", PENDING: "waits", HELD: "waits", FAILED: "bad", UNKNOWN: "bad" };
  const list = notifications(story);
  const told = JSON.stringify([list, plugins]);
  if (told === shownNotes) { return; } // touch the page only on a change
  shownNotes = told;
  $("notes").hidden = list.length === 0;
  $("note-list").replaceChildren(...list.slice(0, 5).map((note) => {
    const line = element("li", tones[note.state] || "");
    line.append(element("strong", "", note.title));
    line.append(element("span", "", `${note.range}, ${carrier(plugins, note.channel)}`));
    for (const { at, outcome, detail } of note.attempts) {
      line.append(element("small", "", `${clock(at)} ${outcome.toLowerCase()}${detail ? ": " + detail : ""}`));
    }
    if (note.state === "PENDING" && note.due) {
      line.append(element("small", "", `next try at ${clock(note.due)}`));
    }
    return line;
  }));
  const sent = list.filter(({ state }) => state === "NOTIFIED");
  if (sent.length) {
    stepDone("notified");
    const news = `${sent[0].title}, ${carrier(plugins, sent[0].channel)}.`;
    if ($("news").textContent !== news) { $("news").textContent = news; }
  }
}

/** After a reload: what she had seen before. */
export function showEarlier(read) {
  for (const { seq, text } of read) {
    if (kept.client.seq === null || Number(seq) > kept.client.seq) { continue; }
    const line = element("li");
    line.append(element("span", "text", text ?? "(bytes)"), element("small", "number", `#${seq} earlier`));
    append($("ann-talk"), line);
    ann.seen.add(Number(seq));
  }
}
