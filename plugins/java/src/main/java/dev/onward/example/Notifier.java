package dev.onward.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.onward.notifier.v1.DescribeRequest;
import dev.onward.notifier.v1.DescribeResponse;
import dev.onward.notifier.v1.NotifierServiceGrpc;
import dev.onward.notifier.v1.NotifyRequest;
import dev.onward.notifier.v1.NotifyResponse;
import dev.onward.notifier.v1.Result;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.logging.Logger;

/** The calls of the contract. */
final class Notifier extends NotifierServiceGrpc.NotifierServiceImplBase {
  private static final Logger LOG = Logger.getLogger("notifier");
  /** Taken off the caller's deadline, so that the answer arrives before it. */
  private static final Duration ANSWER_MARGIN = Duration.ofMillis(200);
  /** What a caller without a deadline waits. */
  private static final Duration WAIT_MAX = Duration.ofSeconds(60);

  private final Deliveries deliveries;
  private final Limits limits;

  Notifier(Deliveries deliveries, Limits limits) {
    this.deliveries = deliveries;
    this.limits = limits;
  }

  @Override
  public void describe(DescribeRequest request, StreamObserver<DescribeResponse> answer) {
    answer.onNext(
        DescribeResponse.newBuilder()
            .setName(Sender.NAME)
            .setVersion(Sender.VERSION)
            .addAllChannels(Sender.CHANNELS)
            .setBatchMax(limits.batchMax())
            .setConcurrencyMax(limits.callsMax())
            .build());
    answer.onCompleted();
  }

  @Override
  public void notify(NotifyRequest request, StreamObserver<NotifyResponse> answer) {
    int size = request.getDeliveriesCount();
    if (size < 1 || size > limits.batchMax()) {
      String words = "a batch has 1 to %d deliveries, not %d".formatted(limits.batchMax(), size);
      answer.onError(Status.INVALID_ARGUMENT.withDescription(words).asRuntimeException());
      return;
    }
    CompletableFuture<Void> gone = new CompletableFuture<>();
    Context.current().addListener(context -> gone.complete(null), Runnable::run);
    List<Result> results = deliveries.answer(request.getDeliveriesList(), wait(Context.current()), gone);
    Map<String, Integer> outcomes = new TreeMap<>();
    results.forEach(one -> outcomes.merge(one.getOutcome().name(), 1, Integer::sum));
    LOG.info(() -> "batch of %d: %s".formatted(size, outcomes));
    if (!Context.current().isCancelled()) {
      answer.onNext(NotifyResponse.newBuilder().addAllResults(results).build());
      answer.onCompleted();
    }
  }

  private static Duration wait(Context context) {
    Deadline deadline = context.getDeadline();
    if (deadline == null) {
      return WAIT_MAX;
    }
    return Duration.ofNanos(deadline.timeRemaining(TimeUnit.NANOSECONDS)).minus(ANSWER_MARGIN);
  }

  /** Refuses every call that does not carry the secret. */
  record RequireSecret(String secret) implements ServerInterceptor {
    private static final Metadata.Key<String> SHOWN =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
      String given = headers.get(SHOWN);
      byte[] expected = ("Bearer " + secret).getBytes(UTF_8);
      if (given != null && MessageDigest.isEqual(given.getBytes(UTF_8), expected)) {
        return next.startCall(call, headers);
      }
      String words = "the shared secret is missing";
      call.close(Status.UNAUTHENTICATED.withDescription(words), new Metadata());
      return new ServerCall.Listener<>() {};
    }
  }
}
