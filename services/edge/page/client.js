// Ann's program: a client of the protocol "onward.v1.json", as small as it can be, in a worker of
// its own, so that it can hang without the page. One subject, explicit acknowledgements,
// recovery from the last message shown, reconnects with full jitter.
//
// The page posts {do: "start" | "shown" | "endpoint" | "leave" | "cut" | "freeze"}; what happens comes
// back as {kind: …}. A message is acknowledged after the page has shown it, never before.

const BACKOFF_MS = 200; // doubled with each failure, up to BACKOFF_MAX_MS; a random part is waited
const BACKOFF_MAX_MS = 20000;
const ACK_AFTER_MS = 100; // acknowledgements are collected for so long
const TOO_LARGE = 4 * 1024 * 1024 + 1; // no server can be set to take such a frame
const CLOSE_REPLACED = 4502;
const CLOSE_FINAL = 4500; // from here on the server does not want this client back
const RETRIED = ["UNAVAILABLE", "OVERLOADED", "STORE_FULL", "RATE_LIMITED", "STALE_SESSION",
  "TOO_MANY_CONNECTIONS"];

const tell = (kind, detail = {}) => postMessage({ kind, ...detail });

class Client {
  constructor({ user, subject, kept, endpoint }) {
    this.user = user;
    this.subject = subject;
    this.kept = kept; // {clientId, generation, logId, seq}: what an app keeps on its device
    this.endpoint = endpoint; // an external token, or ""
    this.failures = 0;
    this.lastId = 0;
    this.advisedMs = 0;
    this.leaveAt = 0; // when to leave an edge that is stopping; 0: none is
    this.wanted = true;
    this.acked = null;
    this.socket = null;
  }

  open() {
    tell("state", { state: "connecting" });
    const url = new URL("/v1/connect", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("user", this.user);
    this.socket = new WebSocket(url, "onward.v1.json");
    this.isOpen = this.askedForHole = this.triedAgain = false;
    this.socket.onopen = () => this.connect();
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = (event) => this.closed(event.code);
  }

  connect() {
    const { clientId, generation, logId, seq } = this.kept;
    this.acked = this.received = seq;
    const start = seq === null ? {} : { afterSeq: String(seq) };
    this.connectId = this.send({ connect: {
      clientId,
      lastGeneration: generation || "0",
      logId: logId || "",
      acknowledges: "EXPLICIT",
      info: { app: "onward-page" },
      externalTokens: this.endpoint ? [{ uri: this.endpoint }] : [],
      subscriptions: { list: [{ subject: this.subject, ...start }] },
    } });
  }

  send(frame) {
    const id = String(++this.lastId);
    this.socket.send(JSON.stringify({ id, ...frame }));
    return id;
  }

  take(frame) {
    if (frame.connected) { this.connected(frame.connected); }
    else if (frame.message) { this.message(frame.message); }
    else if (frame.synced) { tell("synced", { seq: Number(frame.synced.seq) }); }
    else if (frame.subscribed) { this.positions(frame.subscribed.subscriptions); }
    else if (frame.gap) { this.skip(Number(frame.gap.toSeq), frame.gap.reason); }
    else if (frame.goingAway) { this.leaveAfter(frame.goingAway.reconnectAfterMs); }
    else if (frame.error) { this.refused(frame.id, frame.error); }
  }

  connected({ generation, logId, subscriptions }) {
    Object.assign(this.kept, { generation, logId });
    this.isOpen = true;
    this.failures = 0;
    this.positions(subscriptions || []);
    this.keep();
    tell("state", { state: "online" });
  }

  positions(states) {
    for (const { subject, seq, recovered, reason } of states) {
      if (subject !== this.subject) { continue; }
      this.askedForHole = false;
      if (this.kept.seq === null) {
        this.kept.seq = this.received = this.acked = Number(seq);
      } else if (recovered === false && reason) {
        // The log is another one, or does not go back so far: go on from where it says.
        tell("gap", { from: this.kept.seq + 1, to: Number(seq), reason });
        this.kept.seq = this.received = this.acked = Number(seq);
      }
    }
  }

  skip(seq, reason) {
    if (seq <= this.received) { return; }
    tell("gap", { from: this.received + 1, to: seq, reason });
    this.kept.seq = this.received = seq;
    this.keep();
  }

  message(message) {
    const seq = Number(message.seq);
    if (seq <= this.received) { tell("repeat", { seq }); return; }
    if (seq > this.received + 1) { // a hole: ask for what is missing, once
      if (!this.askedForHole) {
        this.askedForHole = true;
        const again = { subject: this.subject, afterSeq: String(this.received) };
        this.send({ subscribe: { subscriptions: [again] } });
      }
      return;
    }
    this.received = seq;
    tell("message", { seq, text: message.text ?? "(bytes)", publisher: message.publisher,
      acceptedAt: message.acceptedAt, way: message.kind });
  }

  shown(seq) {
    this.kept.seq = Math.max(this.kept.seq, seq);
    this.keep();
    clearTimeout(this.ackTimer);
    this.ackTimer = setTimeout(() => this.acknowledge(), ACK_AFTER_MS);
  }

  acknowledge() {
    const { seq } = this.kept;
    if (!this.isOpen || seq === null || seq === this.acked) { return; }
    this.acked = seq;
    const positions = [{ subject: this.subject, seq: String(seq) }];
    this.socket.send(JSON.stringify({ ack: { positions } }));
    tell("acknowledged", { seq });
  }

  setEndpoint(uri) {
    const old = this.endpoint;
    this.endpoint = uri;
    if (!this.isOpen) { return; } // the next connect names it
    if (uri) { this.send({ setExternalToken: old ? { uri, replaces: old } : { uri } }); }
    else if (old) { this.send({ removeExternalToken: { uri: old } }); }
  }

  leaveAfter(ms) { // the edge is stopping, and serves this client until then
    this.leaveAt = Date.now() + (ms || 0);
    this.leaving = setTimeout(() => { this.acknowledge(); this.socket.close(1000); }, ms || 0);
  }

  leave() { // as a good app does: acknowledge what was shown, then close
    this.wanted = false;
    clearTimeout(this.retry);
    this.acknowledge();
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) { this.socket.close(1000); }
    else { this.ended(); }
  }

  cut() { // no page can drop a connection without a goodbye; the server can, when it is sent too much
    this.wanted = false;
    clearTimeout(this.retry);
    clearTimeout(this.ackTimer);
    this.socket.onmessage = null;
    if (this.socket.readyState === WebSocket.OPEN) { this.socket.send(" ".repeat(TOO_LARGE)); }
  }

  refused(id, error) {
    if (id !== this.connectId) { tell("refused", { code: error.code, text: error.message }); return; }
    if (error.code === "STALE_SESSION" && !this.triedAgain) {
      this.triedAgain = true;
      this.kept.generation = error.generation;
      this.connect();
      return;
    }
    tell("refused", { code: error.code, text: error.message });
    this.wanted = RETRIED.includes(error.code);
    this.advisedMs = error.retryAfterMs;
    this.socket.close(1000);
  }

  closed(code) {
    this.isOpen = false;
    clearTimeout(this.ackTimer);
    clearTimeout(this.leaving);
    tell("closed", { code });
    if (code === CLOSE_REPLACED) { // a copy of this tab is this client now: be a new one
      this.kept.clientId = `${this.user}-${crypto.randomUUID().slice(0, 8)}`;
      this.kept.generation = "0";
      this.keep();
    } else if (code >= CLOSE_FINAL) {
      this.wanted = false;
    }
    if (!this.wanted) { this.ended(); return; }
    const longest = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.failures++);
    const wait = this.leaveAt ? Math.max(0, this.leaveAt - Date.now())
      : Math.max(this.advisedMs || 0, Math.random() * longest);
    this.advisedMs = this.leaveAt = 0;
    tell("state", { state: "connecting" });
    this.retry = setTimeout(() => this.open(), wait);
  }

  ended() { tell("state", { state: "away" }); }

  keep() { tell("kept", { kept: { ...this.kept } }); }
}

let client = null;
let frozen = false;

onmessage = ({ data }) => {
  if (frozen) { return; } // hangs: the socket stays open, and the browser goes on answering pings
  if (data.do === "start") { client = new Client(data); client.open(); }
  else if (data.do === "shown") { client.shown(data.seq); }
  else if (data.do === "endpoint") { client.setEndpoint(data.uri); }
  else if (data.do === "leave") { client.leave(); }
  else if (data.do === "cut") { client.cut(); }
  else if (data.do === "freeze") {
    frozen = true;
    client.acknowledge();
    client.socket.onmessage = null;
    client.socket.onclose = ({ code }) => tell("noticed", { code });
  }
};
