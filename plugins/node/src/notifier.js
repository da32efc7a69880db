// The gRPC side: the calls of the contract, health, and who may call.

import { timingSafeEqual, createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

import { LIMITS } from './deliveries.js';
import { CHANNELS, NAME, VERSION } from './send.js';

const SERVICE = 'onward.notifier.v1.NotifierService';
// Taken off the caller's deadline, so that the answer arrives before it.
const ANSWER_MARGIN_MS = 200;
// A call of the presence service may have 8 MiB of content.
const MESSAGE_BYTES_MAX = 32 * 1024 * 1024;

// The protos are here, in a copy of this folder, or two folders up.
const folder = ['../protos', '../../../protos']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find((path) => existsSync(path));
const own = fileURLToPath(new URL('.', import.meta.url));
const load = (file, includeDirs) =>
  grpc.loadPackageDefinition(loadSync(file, { includeDirs, longs: String, enums: String, defaults: true }));
const { onward } = load('onward/notifier/v1/notifier.proto', [folder]);
const health = load('health.proto', [own]).grpc.health.v1;

export const services = { notifier: onward.notifier.v1.NotifierService, health: health.Health };

/** A server that is not listening yet. Its `setServing(false)` comes before `tryShutdown`. */
export function makeServer(deliveries, secret, limits = LIMITS) {
  const server = new grpc.Server({
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    interceptors: secret ? [requireSecret(secret)] : [],
  });
  let serving = true;

  server.addService(services.notifier.service, {
    Describe(_, done) {
      done(null, {
        name: NAME,
        version: VERSION,
        channels: CHANNELS,
        batchMax: limits.batchMax,
        concurrencyMax: limits.callsMax,
      });
    },

    async Notify(call, done) {
      const batch = call.request.deliveries;
      if (batch.length < 1 || batch.length > limits.batchMax) {
        const details = `a batch has 1 to ${limits.batchMax} deliveries, not ${batch.length}`;
        return done({ code: grpc.status.INVALID_ARGUMENT, details });
      }
      const gone = new AbortController();
      call.on('cancelled', () => gone.abort());
      const waitMs = Number(call.getDeadline()) - Date.now() - ANSWER_MARGIN_MS;
      const results = await deliveries.answer(batch, waitMs, gone.signal);
      const outcomes = {};
      for (const { outcome } of results) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      console.error(`batch of ${batch.length}: ${JSON.stringify(outcomes)}`);
      done(null, { results });
    },
  });

  server.addService(services.health.service, {
    Check({ request }, done) {
      if (!['', SERVICE].includes(request.service)) {
        return done({ code: grpc.status.NOT_FOUND, details: 'no such service' });
      }
      done(null, { status: serving ? 'SERVING' : 'NOT_SERVING' });
    },
  });

  server.setServing = (is) => {
    serving = is;
  };
  return server;
}

/** Refuses every call that does not carry the secret. */
function requireSecret(secret) {
  const digest = (text) => createHash('sha256').update(text).digest();
  const expected = digest(`Bearer ${secret}`);
  return (_, call) =>
    new grpc.ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, go) {
            const given = metadata.get('authorization').map(String);
            if (given.some((one) => timingSafeEqual(digest(one), expected))) return go(metadata);
            const details = 'the shared secret is missing';
            call.sendStatus({ code: grpc.status.UNAUTHENTICATED, details });
          },
        });
      },
    });
}
