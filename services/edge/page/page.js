// The page: follows the server's story stream, and hands it to its parts. It shows records and makes
// none up: Bob publishes by HTTP (bob.js), Ann's program runs in a worker (ann.js, client.js).

import { ann, showEarlier, showGrace, showNotes, showStanding, showTally, startAnn } from "./ann.js";
import { readHistory, sendBobs, showWaits, showWays } from "./bob.js";
import { $, append, backoff, element, kept, showSteps } from "./tab.js";
import { standing } from "./words.js";

let story = { outcomes: [], clients: [] };
let plugins = [];
let readUpTo = 0; // history has been asked for up to this seq
let failures = 0;

function showStory() {
  const client = standing(story, kept.client.clientId);
  const head = showWays(story, client);
  if (head > readUpTo) { // somebody else has published here
    readUpTo = head;
    readHistory().then(showStory).catch(() => { readUpTo = 0; });
  }
  showStanding(client);
  showNotes(story, plugins);
  showTally();
}

async function readPlugins() {
  try {
    const answer = await fetch("/v1/status");
    if (answer.ok) { plugins = (await answer.json()).plugins; showNotes(story, plugins); }
  } catch { /* shown as the bare channel until it can be read */ }
}

function followStory() {
  const query = new URLSearchParams({ user: kept.ann, subject: kept.subject, limit: "50" });
  const stream = new EventSource(`/v1/explain?${query}`);
  const again = (wait) => { stream.close(); setTimeout(followStory, wait); };
  stream.addEventListener("story", ({ data }) => {
    failures = 0;
    banner("");
    story = JSON.parse(data);
    showStory();
    if (!plugins.length) { readPlugins(); }
  });
  stream.addEventListener("unavailable", () => lost("The presence service is away. Its story goes on when it is back."));
  stream.addEventListener("goingAway", ({ data }) => again(JSON.parse(data).reconnectAfterMs));
  stream.addEventListener("refused", ({ data }) => { stream.close(); banner(JSON.parse(data).message); });
  stream.onerror = () => {
    lost("The server cannot be reached. This page tries again by itself.");
    again(backoff(failures++));
  };
}

function lost(text) { // what is shown is old from now on
  banner(text);
  showStanding(null, false);
}

function banner(text) {
  if ($("banner").textContent !== text) { $("banner").textContent = text; }
  $("banner").hidden = !text;
}

function showCode() {
  const { subject, ann: reader, bob } = kept, socket = `${location.origin.replace("http", "ws")}/v1/connect?user=${reader}`;
  $("code-js").textContent = [
    `s = new WebSocket("${socket}", "onward.v1.json")`,
    `s.onopen = () => s.send(JSON.stringify({id: "1", connect: {clientId: "laptop", acknowledges: "EXPLICIT", subscriptions: {list: [{subject: "${subject}"}]}}}))`,
    `s.onmessage = ({data}) => { const {message: m} = JSON.parse(data); if (m) { console.log(m.text); s.send(JSON.stringify({ack: {positions: [{subject: m.subject, seq: m.seq}]}})) } }`,
  ].join("\n");
  $("code-curl").textContent = [
    `curl '${location.origin}/v1/publish?user=${bob}' -d '{"subject": "${subject}", "text": "hello by curl"}'`,
    `curl -N -H 'Accept: text/event-stream' '${location.origin}/v1/explain?user=${reader}&subject=${subject}'`,
  ].join("\n");
  const where = location.origin === "http://127.0.0.1:8080" ? "" : `export ONWARD_URL=${location.origin}\n`;
  $("code-cli").textContent = `${where}onward publish ${subject} "hello" --user ${bob}\n`
    + `onward subscribe ${subject} --user ${reader} --client-id phone --external-token mailto:${kept.address}\n`
    + `onward explain --user ${reader} --subject ${subject}`;
}

async function start() {
  showSteps();
  showCode();
  $("ann-address").value = kept.address;
  $("ann-reachable").checked = kept.reachable;
  append($("bob-talk"), element("li", "empty", "Nothing written yet."));
  append($("ann-talk"), element("li", "empty", "Nothing to read yet."));
  try { // after a reload: what Ann had seen before
    showEarlier(await readHistory());
  } catch (error) {
    if (!(error instanceof TypeError)) { banner(error.message); return; }
    // The server is away, which the story stream will say and wait out.
  }
  $("bob-form").addEventListener("submit", (event) => sendBobs(event, ann.away, showStory));
  setInterval(() => { showGrace(); showWaits(); }, 250);
  startAnn();
  followStory();
  readPlugins();
}
start();
