// What the server's records say, in a few words. Pure: takes a story as `/v1/explain` tells it
// (`ExplainResponse` of presence.proto) and returns what to show. Touches no page.

const count = (number, one, many = one + "s") => `${number} ${number === 1 ? one : many}`;

export function span(from, to) { return from === to ? `#${from}` : `#${from}–#${to}`; }

export function clock(timestamp) {
  return timestamp ? new Date(timestamp).toLocaleTimeString() : "";
}

/** Seconds until `timestamp`, at least 0; null if there is none. */
export function secondsUntil(timestamp, now) {
  if (!timestamp) { return null; }
  return Math.max(0, Math.ceil((new Date(timestamp).getTime() - now) / 1000));
}

const WHY = {
  NO_ENDPOINT: "she left no address",
  PUBLISHER: "she wrote it herself",
  UNSUBSCRIBED: "she had unsubscribed",
  TRIMMED: "the log no longer had it",
  OPTED_OUT: "her addresses take no notifications",
  ENDPOINT_REMOVED: "the address was removed",
  ENDPOINT_MOVED: "the address went to another user",
  ENDPOINT_GONE: "the address is gone",
};

/** How a client stands, from `clients` of a story; null if presence does not know it yet. */
export function standing(story, clientId) {
  return (story.clients || []).find((client) => client.clientId === clientId && !client.ended) || null;
}

/**
 * One step of a message's way: {key, tone, text, until}. `tone`: waits, good, sent, quiet, bad.
 * `until`: when it ends, a timestamp, if that is known.
 */
export function step(outcome, client) {
  const [delivery] = outcome.deliveries || [];
  switch (outcome.state) {
    case "ACKNOWLEDGED":
      return { key: "acknowledged", tone: "good", text: "acknowledged by Ann" };
    case "ANSWERED_FOR":
      if (client && client.state === "grace") {
        return { key: "grace", tone: "waits", text: "grace", until: client.graceUntil };
      }
      return { key: "online", tone: "waits", text: "on its way" };
    case "NOT_YET":
      return null;
    case "PENDING":
      if (delivery && delivery.attempts && delivery.attempts.length) {
        return { key: "retry", tone: "bad", until: delivery.dueAt,
          text: `${count(delivery.attempts.length, "try", "tries")} failed; next` };
      }
      return { key: "pending", tone: "waits", text: "due" };
    case "HELD":
      return { key: "held", tone: "waits", text: "held back, she is here again" };
    case "NOTIFIED":
      return { key: "notified", tone: "sent", text: `notified by ${delivery ? delivery.channel : "?"}` };
    case "SUPPRESSED":
      return { key: "suppressed", tone: "quiet",
        text: `not sent: ${WHY[outcome.reason] || outcome.reason}` };
    case "FAILED":
      return { key: "failed", tone: "bad", text: `given up: ${outcome.reason || "no more tries"}` };
    case "UNKNOWN":
      return { key: "unknown", tone: "bad", text: "handed over; nobody knows if it arrived" };
    case "NOT_FOLLOWED":
      return { key: "not-followed", tone: "quiet", text: "from before Ann followed" };
    default:
      return { key: "not-found", tone: "quiet", text: "no longer in the log" };
  }
}

/** Notifications of a story, newest first: {id, title, range, state, channel, attempts, due, text}. */
export function notifications(story) {
  const found = new Map();
  for (const outcome of story.outcomes || []) {
    if (!outcome.notificationId) { continue; }
    const from = Number(outcome.fromSeq), to = Number(outcome.toSeq);
    const one = found.get(outcome.notificationId);
    if (one) {
      one.count += to - from + 1;
      one.to = to;
      continue;
    }
    const [delivery] = outcome.deliveries || [];
    found.set(outcome.notificationId, {
      id: outcome.notificationId, count: to - from + 1, from, to, state: outcome.state,
      channel: delivery ? delivery.channel : "", stage: delivery ? delivery.state : "",
      attempts: (delivery && delivery.attempts) || [], due: delivery ? delivery.dueAt : "",
      text: outcome.text,
    });
  }
  return [...found.values()].reverse().map((one) => ({
    ...one, range: span(one.from, one.to), title: title(one),
  }));
}

function title({ state, count: messages }) {
  const what = count(messages, "message");
  switch (state) {
    case "NOTIFIED": return `One notification for ${what}`;
    case "PENDING": return `A notification for ${what} is due`;
    case "HELD": return `A notification for ${what} is held back`;
    case "ACKNOWLEDGED": return `Not needed any more: ${what} acknowledged first`;
    case "SUPPRESSED": return `No notification for ${what}`;
    default: return `A notification for ${what} failed`;
  }
}

/** Who carries out a channel, from `plugins` of `/v1/status`, for a sentence. */
export function carrier(plugins, channel) {
  const plugin = plugins.find(({ channels }) => channels.includes(channel))
    || plugins.find(({ channels }) => channels.includes("*"));
  if (!plugin) { return `by ${channel}`; }
  if (plugin.name === "console") { return "printed in the terminal where Onward runs"; }
  return `by e-mail`;
}
