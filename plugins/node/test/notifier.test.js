// The plugin as a process, by gRPC.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import grpc from '@grpc/grpc-js';

import { services } from '../src/notifier.js';

const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url));
const SECRET = '0123456789abcdef';
let process_;
let address;
let errors = '';

function start(env) {
  const options = { env: { PATH: process.env.PATH, ONWARD_PLUGIN_LISTEN: '127.0.0.1:0', ...env } };
  return spawn(process.execPath, [MAIN], options);
}

function call(service, method, request, { shown = `Bearer ${SECRET}`, timeoutMs = 10_000 } = {}) {
  const client = new service(address, grpc.credentials.createInsecure());
  const metadata = new grpc.Metadata();
  metadata.set('authorization', shown);
  const options = { deadline: Date.now() + timeoutMs };
  return promisify(client[method].bind(client))(request, metadata, options).finally(() => client.close());
}

async function notify(endpoints, options) {
  const deliveries = endpoints.map((endpoint, number) => ({
    deliveryId: `${endpoint}${number}`,
    endpoint,
    title: 'a private title',
  }));
  const { results } = await call(services.notifier, 'Notify', { deliveries }, options);
  return results.map((one) => one.outcome);
}

before(async () => {
  process_ = start({ ONWARD_SECRET: SECRET });
  process_.stderr.on('data', (data) => (errors += data));
  const [line] = await once(createInterface(process_.stdout), 'line');
  address = line.split(' ').at(-1);
});

after(async () => {
  process_.kill('SIGTERM');
  const [code] = await once(process_, 'exit');
  assert.equal(code, 0);
  assert.ok(!errors.includes('a private title'));
});

test('it sends, and says what became of each', async () => {
  const answers = await notify(['example:1', 'example:gone', 'example:busy', 'pigeon:1']);
  assert.deepEqual(answers, ['ACCEPTED', 'ENDPOINT_GONE', 'RETRY', 'REJECTED_MESSAGE']);
});

test('it refuses who does not show the secret', async () => {
  for (const shown of ['', 'Bearer wrong', `Bearer ${SECRET}x`]) {
    const refused = { code: grpc.status.UNAUTHENTICATED };
    await assert.rejects(notify(['example:1'], { shown }), refused);
  }
});

test('a batch out of bounds is refused', async () => {
  for (const size of [0, 101]) {
    const refused = { code: grpc.status.INVALID_ARGUMENT };
    await assert.rejects(notify(Array(size).fill('example:1')), refused);
  }
});

test('the answer comes before the deadline', async () => {
  const answers = await notify(['example:slow', 'example:2'], { timeoutMs: 2_000 });
  assert.deepEqual(answers, ['UNKNOWN', 'ACCEPTED']);
});

test('health says serving', async () => {
  assert.equal((await call(services.health, 'Check', {})).status, 'SERVING');
});

test('wrong settings stop the start with a sentence', async () => {
  const wrong = [
    [{}, 'ONWARD_SECRET is not set'],
    [{ ONWARD_SECRET: 'short' }, 'shorter than 16'],
    [{ ONWARD_PLUGIN_TLS_CA_FILE: 'ca.pem' }, 'set all three, or none'],
  ];
  for (const [env, words] of wrong) {
    const one = start(env);
    let said = '';
    one.stderr.on('data', (data) => (said += data));
    const [code] = await once(one, 'exit');
    assert.equal(code, 1);
    assert.ok(said.includes(words), said);
  }
});
