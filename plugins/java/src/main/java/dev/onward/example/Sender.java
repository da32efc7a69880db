package dev.onward.example;

import com.google.protobuf.Duration;
import dev.onward.notifier.v1.Channel;
import dev.onward.notifier.v1.Delivery;
import dev.onward.notifier.v1.Result;
import java.util.List;

/** The file to change: which channel this plugin serves, and how it sends one notification. */
final class Sender {
  static final String NAME = "example";
  static final String VERSION = "0.1.0";
  static final List<Channel> CHANNELS =
      List.of(Channel.newBuilder().setScheme("example").setRepeatsUnknown(true).build());

  private Sender() {}

  /**
   * Sends one notification and says what became of it. YOUR PROVIDER'S CALL GOES HERE.
   *
   * <p>{@code getEndpoint()} says where to, {@code getTitle()} and {@code getBody()} what to show, and
   * {@code getDeliveryId()} is the provider's idempotency key, if it has such a thing. It may block; its
   * thread is interrupted when it takes too long. What must not be here: retries, memory of what was
   * sent. An exception becomes UNKNOWN.
   */
  static Result send(Delivery delivery) throws Exception {
    String address = delivery.getEndpoint().substring(delivery.getEndpoint().indexOf(':') + 1);
    // In place of a provider: what it answers is read off the address.
    if (address.startsWith("slow")) {
      Thread.sleep(5_000);
    }
    if (address.startsWith("gone")) {
      return result(Result.Outcome.ENDPOINT_GONE).setDetail("404").build();
    }
    if (address.startsWith("busy")) {
      Duration wait = Duration.newBuilder().setSeconds(30).build();
      return result(Result.Outcome.RETRY).setDetail("429").setRetryAfter(wait).build();
    }
    return result(Result.Outcome.ACCEPTED).setProviderId("example").build();
  }

  private static Result.Builder result(Result.Outcome outcome) {
    return Result.newBuilder().setOutcome(outcome);
  }
}
