// The file to change: which channel this plugin serves, and how it sends one notification.

import { setTimeout as sleep } from 'node:timers/promises';

export const NAME = 'example';
export const VERSION = '0.1.0';
export const CHANNELS = [{ scheme: 'example', repeatsUnknown: true }];

/**
 * Sends one notification and says what became of it. YOUR PROVIDER'S CALL GOES HERE.
 *
 * `delivery.endpoint` says where to, `delivery.title` and `delivery.body` what to show, and
 * `delivery.deliveryId` is the provider's idempotency key, if it has such a thing. Give `signal` to
 * what you call (`fetch` takes it): it aborts when the send has taken too long. What must not be here:
 * retries, memory of what was sent. Whatever is thrown becomes UNKNOWN.
 */
export async function send(delivery, signal) {
  const address = delivery.endpoint.slice(delivery.endpoint.indexOf(':') + 1);
  // In place of a provider: what it answers is read off the address.
  if (address.startsWith('slow')) await sleep(5_000, undefined, { signal, ref: false });
  if (address.startsWith('gone')) return { outcome: 'ENDPOINT_GONE', detail: '404' };
  if (address.startsWith('busy')) {
    return { outcome: 'RETRY', detail: '429', retryAfter: { seconds: 30 } };
  }
  return { outcome: 'ACCEPTED', providerId: `example-${delivery.deliveryId.slice(0, 8)}` };
}
