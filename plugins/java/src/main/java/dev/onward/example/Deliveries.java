package dev.onward.example;

import dev.onward.notifier.v1.Delivery;
import dev.onward.notifier.v1.Result;
import dev.onward.notifier.v1.Result.Outcome;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.logging.Logger;

/**
 * Answers once for each delivery of a batch, in time. It knows deliveries, results and time limits, and
 * neither gRPC nor a channel's provider.
 *
 * <ul>
 *   <li>What has expired is EXPIRED, what is for another channel REJECTED_MESSAGE; neither is sent.
 *   <li>When the wait is over, what has begun is UNKNOWN and runs on; what has not is RETRY and never
 *       begins.
 *   <li>One id is sent once: a repeat waits for the one under way, or is told what became of it. The
 *       memory of that is bounded, and lost at a restart.
 *   <li>An exception of the channel, or null: UNKNOWN, since it may have sent. Its words are not logged,
 *       they may quote a message.
 * </ul>
 */
final class Deliveries {
  private static final Logger LOG = Logger.getLogger("notifier");

  /** What a channel does with one delivery. */
  interface Send {
    Result send(Delivery delivery) throws Exception;
  }

  private enum State {
    WAITING,
    BEGUN,
    WITHDRAWN
  }

  /** One delivery id under way. */
  private static final class Sending {
    final AtomicReference<State> state = new AtomicReference<>(State.WAITING);
    final CompletableFuture<Result> result;

    Sending(CompletableFuture<Result> result) {
      this.result = result;
    }

    boolean moves(State to) {
      return state.compareAndSet(State.WAITING, to);
    }

    Result soFar() {
      return result.getNow(verdict(Outcome.UNKNOWN, "no answer within the deadline"));
    }
  }

  private final Set<String> schemes;
  private final Send send;
  private final Limits limits;
  private final Consumer<Delivery> note;
  private final ThreadPoolExecutor senders;
  private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
  private final Object lock = new Object();
  private final Map<String, Sending> underWay = new HashMap<>();
  private final Map<String, Result> remembered;

  /** {@code note} is given each delivery before it is sent; for conformance tests only. */
  Deliveries(Set<String> schemes, Send send, Limits limits, Consumer<Delivery> note) {
    this.schemes = schemes;
    this.send = send;
    this.limits = limits;
    this.note = note;
    this.senders = (ThreadPoolExecutor) Executors.newFixedThreadPool(limits.sendsMax());
    this.remembered =
        new LinkedHashMap<>() {
          @Override
          protected boolean removeEldestEntry(Map.Entry<String, Result> eldest) {
            return size() > limits.rememberedMax();
          }
        };
  }

  /** The results, in the order of the batch. {@code gone} completes when nobody waits any more. */
  List<Result> answer(List<Delivery> batch, Duration wait, CompletableFuture<?> gone) {
    List<Sending> all = batch.stream().map(this::take).toList();
    CompletableFuture<?>[] ends = all.stream().map(one -> one.result).toArray(CompletableFuture[]::new);
    try {
      CompletableFuture.anyOf(CompletableFuture.allOf(ends), gone)
          .get(Math.max(0, wait.toNanos()), TimeUnit.NANOSECONDS);
    } catch (TimeoutException | ExecutionException late) {
      // What there is then is the answer.
    } catch (InterruptedException stopping) {
      Thread.currentThread().interrupt();
    }
    List<Result> results = new ArrayList<>(all.size());
    for (int number = 0; number < all.size(); number++) {
      Sending one = all.get(number);
      String id = batch.get(number).getDeliveryId();
      if (!one.result.isDone() && one.moves(State.WITHDRAWN)) {
        end(id, one, verdict(Outcome.RETRY, "its turn did not come within the deadline"));
      }
      results.add(one.soFar().toBuilder().setDeliveryId(id).build());
    }
    return results;
  }

  /** Takes nothing more, and gives what is being sent so long. */
  void finish(Duration grace) throws InterruptedException {
    senders.shutdown();
    senders.awaitTermination(grace.toMillis(), TimeUnit.MILLISECONDS);
    senders.shutdownNow();
    timer.shutdownNow();
  }

  private Sending take(Delivery delivery) {
    String id = delivery.getDeliveryId();
    String endpoint = delivery.getEndpoint();
    int colon = endpoint.indexOf(':');
    if (id.isEmpty()) {
      return over(verdict(Outcome.REJECTED_MESSAGE, "no delivery_id"));
    }
    if (colon < 0 || !schemes.contains(endpoint.substring(0, colon).toLowerCase(Locale.ROOT))) {
      return over(verdict(Outcome.REJECTED_MESSAGE, "not a channel of this plugin"));
    }
    synchronized (lock) {
      if (remembered.containsKey(id)) {
        return over(remembered.get(id));
      }
      if (underWay.containsKey(id)) {
        return underWay.get(id);
      }
      if (underWay.size() >= limits.waitingMax()) {
        return over(verdict(Outcome.RETRY, "too many deliveries under way"));
      }
      Sending one = new Sending(new CompletableFuture<>());
      underWay.put(id, one);
      senders.execute(() -> work(delivery, one));
      return one;
    }
  }

  private void work(Delivery delivery, Sending one) {
    if (one.moves(State.BEGUN)) {
      end(delivery.getDeliveryId(), one, attempt(delivery));
    }
  }

  private Result attempt(Delivery delivery) {
    if (hasExpired(delivery)) {
      return verdict(Outcome.EXPIRED, "");
    }
    Thread self = Thread.currentThread();
    Future<?> alarm =
        timer.schedule(self::interrupt, limits.send().toMillis(), TimeUnit.MILLISECONDS);
    try {
      note.accept(delivery);
      Result result = send.send(delivery);
      return result != null ? result : unknown(delivery, "send returned null");
    } catch (Exception | Error failure) { // whatever is thrown costs one delivery
      return unknown(delivery, "send threw " + failure.getClass().getSimpleName());
    } finally {
      alarm.cancel(false);
      Thread.interrupted();
    }
  }

  /** Makes a result known, and remembers it if it was sent. */
  private void end(String id, Sending one, Result result) {
    synchronized (lock) {
      underWay.remove(id);
      if (result.getOutcome() == Outcome.ACCEPTED || result.getOutcome() == Outcome.DELIVERED) {
        remembered.put(id, result);
      }
    }
    one.result.complete(result);
  }

  private static Sending over(Result result) {
    return new Sending(CompletableFuture.completedFuture(result));
  }

  /** It may have been sent. {@code why} quotes nothing of it. */
  private static Result unknown(Delivery delivery, String why) {
    LOG.warning(() -> why + ", delivery " + delivery.getDeliveryId());
    return verdict(Outcome.UNKNOWN, why);
  }

  private static Result verdict(Outcome outcome, String detail) {
    return Result.newBuilder().setOutcome(outcome).setDetail(detail).build();
  }

  /** By its {@code expires_at}; without one it never does. */
  private static boolean hasExpired(Delivery delivery) {
    Instant now = Instant.now();
    long seconds = delivery.getExpiresAt().getSeconds();
    return delivery.hasExpiresAt()
        && (seconds < now.getEpochSecond()
            || seconds == now.getEpochSecond()
                && delivery.getExpiresAt().getNanos() <= now.getNano());
  }
}
