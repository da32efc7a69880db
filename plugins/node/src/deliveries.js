// What every notifier owes its caller, whatever it sends. It knows deliveries, results and time limits,
// and neither gRPC nor a channel's provider.

/** The bounds of the process. */
export const LIMITS = {
  batchMax: 100, // deliveries in one call; more: the call is refused
  callsMax: 8, // calls at a time, told to the caller
  sendsMax: 64, // sends at a time; further deliveries wait their turn
  waitingMax: 2_000, // deliveries waiting or being sent; more: RETRY
  sendMs: 30_000, // one send; longer: UNKNOWN
  rememberedMax: 100_000, // ids that were sent; beyond it the oldest are forgotten
};

const SENT = new Set(['ACCEPTED', 'DELIVERED']);

/**
 * Answers once for each delivery of a batch, in time.
 *
 * - What has expired is EXPIRED, what is for another channel REJECTED_MESSAGE; neither is sent.
 * - When the wait is over, what has begun is UNKNOWN and runs on; what has not is RETRY and never begins.
 * - One id is sent once: a repeat waits for the one under way, or is told what became of it. The memory
 *   of that is bounded, and lost at a restart.
 * - `send` throws: UNKNOWN, since it may have sent. The words of the error are not logged, they may
 *   quote a message.
 */
export class Deliveries {
  #schemes;
  #send;
  #limits;
  #note;
  #sending = 0;
  #queue = [];
  #underWay = new Map();
  #remembered = new Map();

  /** `note(delivery)` is called before each send; for conformance tests only. */
  constructor(schemes, send, { limits = LIMITS, note = () => {} } = {}) {
    this.#schemes = new Set(schemes);
    this.#send = send;
    this.#limits = limits;
    this.#note = note;
  }

  /** The results, in the order of the batch. `gone`: an AbortSignal, when nobody waits any more. */
  async answer(batch, waitMs, gone) {
    const sendings = batch.map((delivery) => this.#take(delivery));
    await within(Promise.all(sendings.map((one) => one.ended)), waitMs, gone);
    const results = batch.map((delivery, number) => ({
      ...sendings[number].soFar(),
      deliveryId: delivery.deliveryId,
    }));
    for (const one of sendings) if (!one.begun && !one.result) this.#end(one, one.soFar());
    return results;
  }

  /** Waits until nothing is being sent, or for so long. */
  async finish(graceMs) {
    await within(Promise.all([...this.#underWay.values()].map((one) => one.ended)), graceMs);
  }

  #take(delivery) {
    const { deliveryId: id, endpoint } = delivery;
    const colon = endpoint.indexOf(':');
    if (!id) return over('REJECTED_MESSAGE', 'no delivery_id');
    if (colon < 0 || !this.#schemes.has(endpoint.slice(0, colon).toLowerCase())) {
      return over('REJECTED_MESSAGE', 'not a channel of this plugin');
    }
    if (this.#remembered.has(id)) return new Sending(delivery, this.#remembered.get(id));
    if (this.#underWay.has(id)) return this.#underWay.get(id);
    if (this.#underWay.size >= this.#limits.waitingMax) {
      return over('RETRY', 'too many deliveries under way');
    }
    const one = new Sending(delivery);
    this.#underWay.set(id, one);
    this.#queue.push(one);
    this.#next();
    return one;
  }

  /** Begins what waits, as far as there is room. */
  #next() {
    while (this.#sending < this.#limits.sendsMax && this.#queue.length > 0) {
      const one = this.#queue.shift();
      if (one.result) continue; // its call has ended without it
      one.begun = true;
      this.#sending += 1;
      this.#try(one.delivery).then((result) => {
        this.#sending -= 1;
        this.#end(one, result);
        this.#next();
      });
    }
  }

  async #try(delivery) {
    if (hasExpired(delivery, Date.now())) return { outcome: 'EXPIRED' };
    try {
      this.#note(delivery);
      const signal = AbortSignal.timeout(this.#limits.sendMs);
      const late = { outcome: 'UNKNOWN', detail: 'no answer from the provider' };
      return (await within(this.#send(delivery, signal), this.#limits.sendMs)) ?? late;
    } catch (error) {
      console.error(`send threw ${error?.name}, delivery ${delivery.deliveryId}`);
      return { outcome: 'UNKNOWN', detail: `send threw ${error?.name}` };
    }
  }

  #end(one, result) {
    const id = one.delivery.deliveryId;
    this.#underWay.delete(id);
    if (SENT.has(result.outcome)) {
      this.#remembered.set(id, result);
      // A Map keeps its keys in the order in which they came.
      if (this.#remembered.size > this.#limits.rememberedMax) {
        this.#remembered.delete(this.#remembered.keys().next().value);
      }
    }
    one.end(result);
  }
}

/** One delivery id under way. Once `begun`, the provider has been called. */
class Sending {
  begun = false;

  constructor(delivery, result) {
    this.delivery = delivery;
    this.result = result;
    this.ended = result ? Promise.resolve() : new Promise((resolve) => (this.resolve = resolve));
  }

  end(result) {
    this.result = result;
    this.resolve();
  }

  /** What became of it so far. */
  soFar() {
    if (this.result) return this.result;
    if (this.begun) return { outcome: 'UNKNOWN', detail: 'no answer within the deadline' };
    return { outcome: 'RETRY', detail: 'its turn did not come within the deadline' };
  }
}

function over(outcome, detail) {
  return new Sending(undefined, { outcome, detail });
}

/** By its `expiresAt`; without one it never does. */
function hasExpired({ expiresAt }, nowMs) {
  return !!expiresAt && Number(expiresAt.seconds) * 1e3 + expiresAt.nanos / 1e6 <= nowMs;
}

/** What the promise becomes; undefined when it has not within `ms`, or when `gone` aborts before. */
async function within(promise, ms, gone) {
  let timer;
  const over = new Promise((resolve) => {
    if (ms < 2 ** 31) timer = setTimeout(resolve, Math.max(0, ms));
    gone?.addEventListener('abort', () => resolve(), { once: true });
  });
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}
