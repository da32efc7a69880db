// Bob: publishes by plain HTTP, and shows each message with its way.

import { $, append, backoff, element, kept, pause, stepDone } from "./tab.js";
import { secondsUntil, step } from "./words.js";

const SHOWN_MAX = 100; // messages whose way is shown
const PUBLISH_TRIES = 6;

export const messages = new Map(); // seq → {line, way, chips: step → its element}

function addBobs(seq, text) {
  if (messages.has(seq)) { return; }
  const line = element("li");
  const row = element("div", "row"), way = element("ol", "way");
  way.setAttribute("aria-label", `What became of message ${seq}`);
  row.append(element("span", "number", `#${seq}`), way);
  line.append(element("span", "text", text), row);
  messages.set(seq, { line, way, chips: new Map() });
  addChip(seq, { key: "accepted", tone: "good", text: "accepted" });
  append($("bob-talk"), line);
  if (messages.size > SHOWN_MAX) { messages.delete(messages.keys().next().value); }
}

function addChip(seq, { key, tone, text, until }) {
  const message = messages.get(seq);
  let chip = message.chips.get(key);
  if (!chip) {
    const item = element("li"), talk = $("bob-talk");
    const atEnd = talk.scrollTop + talk.clientHeight >= talk.scrollHeight - 8;
    chip = element("span", tone);
    item.append(chip);
    message.way.append(item);
    if (atEnd) { talk.scrollTop = talk.scrollHeight; }
    message.chips.set(key, chip);
    for (const [other, earlier] of message.chips) { // what it waited for is over
      if (other === key) { continue; }
      earlier.classList.remove("waits");
      earlier.dataset.until = "";
      showChip(earlier);
    }
  }
  chip.dataset.text = text;
  chip.dataset.until = until || "";
  showChip(chip);
}

function showChip(chip) {
  const seconds = secondsUntil(chip.dataset.until, Date.now());
  const words = seconds ? `${chip.dataset.text} ${seconds} s` : chip.dataset.text;
  if (chip.textContent !== words) { chip.textContent = words; }
}

async function publish(text) {
  const body = JSON.stringify({ subject: kept.subject, text, publicationId: crypto.randomUUID() });
  const url = "/v1/publish?" + new URLSearchParams({ user: kept.bob });
  for (let failures = 0; ; failures++) { // the same id makes a repeat harmless
    let refusal = { message: "the server cannot be reached" };
    try {
      const answer = await fetch(url, { method: "POST", body });
      const said = await answer.json();
      if (answer.ok) { return Number(said.seq); }
      refusal = said;
      if (answer.status < 429) { throw new Error(said.message); }
    } catch (error) {
      if (refusal.code) { throw error; }
    }
    if (failures === PUBLISH_TRIES) { throw new Error(refusal.message); }
    await pause(Math.max(refusal.retryAfterMs || 0, backoff(failures)));
  }
}

export async function sendBobs(event, whileAway, published) {
  event.preventDefault();
  const text = $("bob-text").value.trim();
  if (!text) { return; }
  $("bob-text").value = "";
  try {
    addBobs(await publish(text), text);
    if (whileAway) { stepDone("miss"); }
    published();
  } catch (error) {
    append($("bob-talk"), element("li", "told", `Not sent: ${error.message}`));
    $("bob-text").value ||= text;
  }
}

export async function readHistory() { // what others published on this subject, and what was here before
  const query = new URLSearchParams({ user: kept.ann, subject: kept.subject, last: "50" });
  const answer = await fetch(`/v1/history?${query}`);
  if (answer.status === 401) { throw new Error("This server asks for tokens; the page has none."); }
  if (!answer.ok) { return []; }
  const read = (await answer.json()).messages;
  for (const message of read) { addBobs(Number(message.seq), message.text ?? "(bytes)"); }
  return read;
}

/** Adds what a story says to the way of each message; returns the newest that is not shown, or 0. */
export function showWays(story, client) {
  let newest = 0;
  for (const outcome of story.outcomes) {
    const next = step(outcome, client);
    for (let seq = Number(outcome.fromSeq); seq <= Number(outcome.toSeq); seq++) {
      if (!messages.has(seq)) { newest = Math.max(newest, seq); } else if (next) { addChip(seq, next); }
    }
  }
  return newest;
}

export function showWaits() {
  for (const { chips } of messages.values()) {
    for (const chip of chips.values()) { if (chip.dataset.until) { showChip(chip); } }
  }
}
