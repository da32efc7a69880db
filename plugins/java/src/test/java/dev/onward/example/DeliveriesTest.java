package dev.onward.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.onward.notifier.v1.Delivery;
import dev.onward.notifier.v1.Result;
import dev.onward.notifier.v1.Result.Outcome;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** What every notifier owes its caller. */
class DeliveriesTest {
  private static final Duration SOON = Duration.ofSeconds(5);
  private static final Limits FEW = limits(1, 10_000, 100_000);

  private final Map<String, Integer> sent = new ConcurrentHashMap<>();
  private final CountDownLatch open = new CountDownLatch(1);

  private static Limits limits(int sends, int waiting, int remembered) {
    return new Limits(100, 8, sends, waiting, remembered, Duration.ofSeconds(30));
  }

  /** Counts what it is given, and holds it while {@code open} is closed. */
  private Result send(Delivery delivery) throws Exception {
    sent.merge(delivery.getDeliveryId(), 1, Integer::sum);
    open.await();
    if (delivery.getEndpoint().equals("example:throws")) {
      throw new IllegalStateException("the title was: secret");
    }
    if (delivery.getEndpoint().equals("example:null")) {
      return null;
    }
    return Result.newBuilder().setOutcome(Outcome.ACCEPTED).build();
  }

  private Deliveries deliveries(Limits limits) {
    return new Deliveries(Set.of("example"), this::send, limits, delivery -> {});
  }

  private static Delivery delivery(String id) {
    return to(id, "example:" + id);
  }

  private static Delivery to(String id, String endpoint) {
    return Delivery.newBuilder().setDeliveryId(id).setEndpoint(endpoint).build();
  }

  private static String answer(Deliveries deliveries, Duration wait, Delivery... batch) {
    return said(deliveries.answer(List.of(batch), wait, new CompletableFuture<>()));
  }

  private static String said(List<Result> results) {
    return results.stream()
        .map(one -> one.getDeliveryId() + " " + one.getOutcome())
        .collect(Collectors.joining(", "));
  }

  @Test
  void everyDeliveryIsAnsweredInOrder() {
    open.countDown();
    Deliveries deliveries = deliveries(Limits.DEFAULT);
    assertEquals(
        "a ACCEPTED, b ACCEPTED", answer(deliveries, SOON, delivery("a"), delivery("b")));
  }

  @Test
  void whatHasExpiredOrIsForAnotherChannelIsNotSent() {
    open.countDown();
    Delivery.Builder old = delivery("old").toBuilder();
    old.getExpiresAtBuilder().setSeconds(1);
    assertEquals(
        "old EXPIRED, strange REJECTED_MESSAGE,  REJECTED_MESSAGE",
        answer(deliveries(FEW), SOON, old.build(), to("strange", "pigeon:1"), delivery("")));
    assertTrue(sent.isEmpty());
  }

  @Test
  void oneIdIsSentOnceLaterAndAtTheSameTime() {
    Deliveries deliveries = deliveries(Limits.DEFAULT);
    CompletableFuture<String> first =
        CompletableFuture.supplyAsync(() -> answer(deliveries, SOON, delivery("a")));
    CompletableFuture<String> second =
        CompletableFuture.supplyAsync(() -> answer(deliveries, SOON, delivery("a"), delivery("a")));
    open.countDown();
    assertEquals("a ACCEPTED", first.join());
    assertEquals("a ACCEPTED, a ACCEPTED", second.join());
    assertEquals("a ACCEPTED", answer(deliveries, SOON, delivery("a")));
    assertEquals(Map.of("a", 1), sent);
  }

  @Test
  void atTheDeadlineWhatHasBegunIsUnknownAndTheRestNeverBegins() throws Exception {
    Deliveries deliveries = deliveries(FEW);
    Delivery[] batch = {delivery("a"), delivery("b")};
    assertEquals("a UNKNOWN, b RETRY", answer(deliveries, Duration.ofMillis(200), batch));
    open.countDown();
    assertEquals("a ACCEPTED", answer(deliveries, SOON, delivery("a")));
    assertEquals(Map.of("a", 1), sent);
    assertEquals("a ACCEPTED, b ACCEPTED", answer(deliveries, SOON, batch));
    assertEquals(Map.of("a", 1, "b", 1), sent);
  }

  @Test
  void aCallThatIsCancelledEndsAtOnce() {
    Deliveries deliveries = deliveries(FEW);
    CompletableFuture<?> gone = CompletableFuture.completedFuture(null);
    List<Result> results = deliveries.answer(List.of(delivery("a")), Duration.ofMinutes(1), gone);
    assertTrue(said(results).matches("a (UNKNOWN|RETRY)"));
    open.countDown();
  }

  @Test
  void whatIsThrownCostsOneDeliveryAndIsNotQuoted() {
    open.countDown();
    List<Delivery> batch = List.of(to("a", "example:throws"), delivery("b"));
    List<Result> results = deliveries(FEW).answer(batch, SOON, new CompletableFuture<>());
    assertEquals("a UNKNOWN, b ACCEPTED", said(results));
    assertEquals("send threw IllegalStateException", results.get(0).getDetail());
  }

  @Test
  void aSendThatReturnsNullCostsOneDeliveryAndIsAnsweredAtOnce() {
    open.countDown();
    Deliveries deliveries = deliveries(FEW);
    Duration minute = Duration.ofMinutes(1);
    Delivery[] batch = {to("a", "example:null"), delivery("b")};
    assertTimeoutPreemptively(
        SOON, () -> assertEquals("a UNKNOWN, b ACCEPTED", answer(deliveries, minute, batch)));
    assertEquals(Map.of("a", 1, "b", 1), sent);
  }

  @Test
  void aSendThatTakesTooLongIsUnknown() {
    Limits limits = new Limits(100, 8, 1, 10, 10, Duration.ofMillis(50));
    assertEquals("a UNKNOWN", answer(deliveries(limits), SOON, delivery("a")));
    open.countDown();
  }

  @Test
  void whatWasSentIsRememberedWithinABound() {
    open.countDown();
    Deliveries deliveries = deliveries(limits(8, 100, 2));
    for (String id : List.of("a", "b", "c", "c", "a")) {
      answer(deliveries, SOON, delivery(id));
    }
    assertEquals(Map.of("a", 2, "b", 1, "c", 1), sent);
  }

  @Test
  void beyondTheBoundDeliveriesAreRetried() {
    Deliveries deliveries = deliveries(limits(1, 1, 10));
    String answer = answer(deliveries, Duration.ofMillis(200), delivery("a"), delivery("b"));
    assertEquals("a UNKNOWN, b RETRY", answer);
    open.countDown();
  }
}
