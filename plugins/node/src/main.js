// A notifier plugin: serves what send.js sends. Run it: `npm start`.
//
// Environment:
//   ONWARD_SECRET               the shared secret that callers show, 16 characters or more
//   ONWARD_PLUGIN_LISTEN        host:port; 127.0.0.1:7500 if it is not set, port 0 draws one
//   ONWARD_PLUGIN_TLS_CA_FILE   with _CERT_FILE and _KEY_FILE: mutual TLS, instead of the secret or with it
//   ONWARD_PLUGIN_SENT_LOG      a file that gets a line for each send; for conformance tests only

import { appendFileSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';

import grpc from '@grpc/grpc-js';

import { Deliveries } from './deliveries.js';
import { makeServer } from './notifier.js';
import { CHANNELS, NAME, send } from './send.js';

const SECRET_CHARACTERS_MIN = 16;
const DRAIN_MS = 5_000;

/** The secret that callers show, and what TLS needs. Throws a sentence with the remedy. */
function trust(env) {
  const secret = env.ONWARD_SECRET ?? '';
  if (secret && secret.length < SECRET_CHARACTERS_MIN) {
    throw new Error(`ONWARD_SECRET is shorter than ${SECRET_CHARACTERS_MIN} characters`);
  }
  const names = ['CA', 'CERT', 'KEY'].map((part) => `ONWARD_PLUGIN_TLS_${part}_FILE`);
  const missing = names.filter((name) => !env[name]);
  if (missing.length === names.length) {
    if (!secret) throw new Error(`ONWARD_SECRET is not set; set it, or ${names.join(', ')}`);
    return [secret, grpc.ServerCredentials.createInsecure()];
  }
  if (missing.length > 0) {
    throw new Error(`${missing[0]} is not set, and others are; set all three, or none`);
  }
  const [ca, cert, key] = names.map((name) => readFileSync(env[name]));
  return [secret, grpc.ServerCredentials.createSsl(ca, [{ cert_chain: cert, private_key: key }], true)];
}

function noteIn(path) {
  return ({ deliveryId, endpoint }) =>
    appendFileSync(path, `${JSON.stringify({ delivery_id: deliveryId, endpoint })}\n`);
}

async function main(env) {
  const [secret, credentials] = trust(env);
  const path = env.ONWARD_PLUGIN_SENT_LOG;
  const schemes = CHANNELS.map((channel) => channel.scheme);
  const deliveries = new Deliveries(schemes, send, path ? { note: noteIn(path) } : {});
  const server = makeServer(deliveries, secret);
  const listen = env.ONWARD_PLUGIN_LISTEN || '127.0.0.1:7500';
  const port = await promisify(server.bindAsync.bind(server))(listen, credentials);
  console.log(`${NAME} ready: ${listen.replace(/:\d+$/, '')}:${port}`);

  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    server.setServing(false);
    const cut = setTimeout(() => server.forceShutdown(), DRAIN_MS);
    await promisify(server.tryShutdown.bind(server))();
    clearTimeout(cut);
    await deliveries.finish(DRAIN_MS);
    process.exit(0);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main(process.env).catch((error) => {
  console.error(`${NAME}: ${error.message}`);
  process.exit(1);
});
