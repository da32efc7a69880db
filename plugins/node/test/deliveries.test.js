// What every notifier owes its caller.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Deliveries, LIMITS } from '../src/deliveries.js';

const IN_A_MINUTE = { seconds: String(Math.floor(Date.now() / 1e3) + 60), nanos: 0 };

function delivery(deliveryId, fields = {}) {
  return { deliveryId, endpoint: `example:${deliveryId}`, expiresAt: IN_A_MINUTE, ...fields };
}

/** Counts what it is given, and holds it until `open()`. */
function provider(limits = {}, held = false) {
  const sent = {};
  let open;
  const opened = held ? new Promise((resolve) => (open = resolve)) : Promise.resolve();
  const send = async ({ deliveryId, endpoint }) => {
    sent[deliveryId] = (sent[deliveryId] ?? 0) + 1;
    await opened;
    if (endpoint === 'example:throws') throw new TypeError('the title was: secret');
    return { outcome: 'ACCEPTED' };
  };
  const deliveries = new Deliveries(['example'], send, { limits: { ...LIMITS, ...limits } });
  const answer = async (batch, waitMs = 5_000, gone = undefined) =>
    (await deliveries.answer(batch, waitMs, gone)).map((one) => `${one.deliveryId} ${one.outcome}`);
  return { sent, open, deliveries, answer };
}

test('every delivery is answered, in order', async () => {
  const { answer } = provider();
  assert.deepEqual(await answer([delivery('a'), delivery('b')]), ['a ACCEPTED', 'b ACCEPTED']);
});

test('what has expired or is for another channel is not sent', async () => {
  const { answer, sent } = provider();
  const old = delivery('old', { expiresAt: { seconds: '1', nanos: 0 } });
  const batch = [old, delivery('strange', { endpoint: 'pigeon:1' }), delivery('')];
  assert.deepEqual(await answer(batch), ['old EXPIRED', 'strange REJECTED_MESSAGE', ' REJECTED_MESSAGE']);
  assert.deepEqual(sent, {});
});

test('one id is sent once, later and at the same time', async () => {
  const { answer, sent } = provider();
  for (let time = 0; time < 2; time += 1) {
    assert.deepEqual(await answer([delivery('a'), delivery('a')]), ['a ACCEPTED', 'a ACCEPTED']);
  }
  const both = await Promise.all([answer([delivery('b')]), answer([delivery('b')])]);
  assert.deepEqual(both, [['b ACCEPTED'], ['b ACCEPTED']]);
  assert.deepEqual(sent, { a: 1, b: 1 });
});

test('at the deadline what has begun is unknown, and the rest never begins', async () => {
  const { answer, sent, open, deliveries } = provider({ sendsMax: 1 }, true);
  const batch = [delivery('a'), delivery('b')];
  assert.deepEqual(await answer(batch, 30), ['a UNKNOWN', 'b RETRY']);
  open();
  await deliveries.finish(5_000);
  assert.deepEqual(sent, { a: 1 });
  assert.deepEqual(await answer(batch), ['a ACCEPTED', 'b ACCEPTED']);
  assert.deepEqual(sent, { a: 1, b: 1 });
});

test('a call that is cancelled ends at once', async () => {
  const { answer, open } = provider({}, true);
  const gone = new AbortController();
  setImmediate(() => gone.abort());
  assert.deepEqual(await answer([delivery('a')], 60_000, gone.signal), ['a UNKNOWN']);
  open();
});

test('what send throws costs one delivery and is not quoted', async () => {
  const { deliveries } = provider();
  const batch = [delivery('a', { endpoint: 'example:throws' }), delivery('b')];
  const [a, b] = await deliveries.answer(batch, 5_000);
  assert.deepEqual([a.outcome, a.detail, b.outcome], ['UNKNOWN', 'send threw TypeError', 'ACCEPTED']);
});

test('what was sent is remembered within a bound', async () => {
  const { answer, sent } = provider({ rememberedMax: 2 });
  for (const id of 'abcca') await answer([delivery(id)]);
  assert.deepEqual(sent, { a: 2, b: 1, c: 1 });
});

test('beyond the bound deliveries are retried', async () => {
  const { answer } = provider({ waitingMax: 1 });
  assert.deepEqual(await answer([delivery('a'), delivery('b')]), ['a ACCEPTED', 'b RETRY']);
});
