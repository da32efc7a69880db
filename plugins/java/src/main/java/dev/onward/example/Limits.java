package dev.onward.example;

import java.time.Duration;

/**
 * The bounds of the process.
 *
 * @param batchMax deliveries in one call; more: the call is refused
 * @param callsMax calls at a time, told to the caller
 * @param sendsMax sends at a time, each on a thread; further deliveries wait their turn
 * @param waitingMax deliveries waiting or being sent; more: RETRY
 * @param rememberedMax ids that were sent; beyond it the oldest are forgotten
 * @param send one send; longer: its thread is interrupted, UNKNOWN
 */
record Limits(
    int batchMax, int callsMax, int sendsMax, int waitingMax, int rememberedMax, Duration send) {
  static final Limits DEFAULT = new Limits(500, 16, 64, 10_000, 100_000, Duration.ofSeconds(30));
}
