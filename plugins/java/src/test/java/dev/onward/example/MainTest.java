package dev.onward.example;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.onward.notifier.v1.NotifierServiceGrpc;
import dev.onward.notifier.v1.NotifyRequest;
import dev.onward.notifier.v1.Result;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.stub.MetadataUtils;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The plugin by gRPC. */
class MainTest {
  private static final String SECRET = "0123456789abcdef";

  private Main plugin;
  private ManagedChannel channel;

  @BeforeEach
  void start() throws Exception {
    plugin = Main.start(Map.of("ONWARD_SECRET", SECRET, "ONWARD_PLUGIN_LISTEN", "127.0.0.1:0"));
    String address = "127.0.0.1:" + plugin.port();
    channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
  }

  @AfterEach
  void stop() throws Exception {
    channel.shutdownNow();
    plugin.stop();
  }

  private NotifierServiceGrpc.NotifierServiceBlockingStub stub(String shown, long millis) {
    Metadata metadata = new Metadata();
    metadata.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), shown);
    return NotifierServiceGrpc.newBlockingStub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata))
        .withDeadlineAfter(millis, TimeUnit.MILLISECONDS);
  }

  private List<String> notify(String shown, long millis, String... endpoints) {
    NotifyRequest.Builder request = NotifyRequest.newBuilder();
    for (String endpoint : endpoints) {
      String id = endpoint + request.getDeliveriesCount();
      request.addDeliveriesBuilder().setDeliveryId(id).setEndpoint(endpoint);
    }
    List<Result> results = stub(shown, millis).notify(request.build()).getResultsList();
    return results.stream().map(one -> one.getOutcome().name()).toList();
  }

  private static Status.Code code(Runnable call) {
    return assertThrows(StatusRuntimeException.class, call::run).getStatus().getCode();
  }

  @Test
  void itSendsAndSaysWhatBecameOfEach() {
    List<String> expected = List.of("ACCEPTED", "ENDPOINT_GONE", "RETRY", "REJECTED_MESSAGE");
    String shown = "Bearer " + SECRET;
    assertEquals(
        expected, notify(shown, 9_000, "example:1", "example:gone", "example:busy", "pigeon:1"));
  }

  @Test
  void itRefusesWhoDoesNotShowTheSecret() {
    for (String shown : List.of("", "Bearer wrong", "Bearer " + SECRET + "x")) {
      assertEquals(Status.Code.UNAUTHENTICATED, code(() -> notify(shown, 9_000, "example:1")));
    }
    HealthGrpc.HealthBlockingStub health = HealthGrpc.newBlockingStub(channel);
    assertEquals(
        Status.Code.UNAUTHENTICATED,
        code(() -> health.check(HealthCheckRequest.getDefaultInstance())));
  }

  @Test
  void aBatchOutOfBoundsIsRefused() {
    for (int size : new int[] {0, Limits.DEFAULT.batchMax() + 1}) {
      String[] batch = IntStream.range(0, size).mapToObj(n -> "example:1").toArray(String[]::new);
      assertEquals(
          Status.Code.INVALID_ARGUMENT, code(() -> notify("Bearer " + SECRET, 9_000, batch)));
    }
  }

  @Test
  void theAnswerComesBeforeTheDeadline() {
    String shown = "Bearer " + SECRET;
    notify(shown, 9_000, "example:1"); // the first call of a JVM takes its time
    assertEquals(
        List.of("UNKNOWN", "ACCEPTED"), notify(shown, 3_000, "example:slow", "example:2"));
  }

  @Test
  void healthSaysServing() {
    Metadata metadata = new Metadata();
    metadata.put(
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + SECRET);
    HealthGrpc.HealthBlockingStub health =
        HealthGrpc.newBlockingStub(channel)
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
    assertEquals(
        ServingStatus.SERVING, health.check(HealthCheckRequest.getDefaultInstance()).getStatus());
  }

  @Test
  void wrongSettingsStopTheStartWithASentence() {
    String secret = "ONWARD_SECRET";
    Map<Map<String, String>, String> wrong =
        Map.of(
            Map.of(), "ONWARD_SECRET is not set",
            Map.of(secret, "short"), "shorter than 16",
            Map.of(secret, SECRET, "ONWARD_PLUGIN_LISTEN", "nonsense"), "no address",
            Map.of("ONWARD_PLUGIN_TLS_CA_FILE", "ca.pem"), "set all three, or none");
    wrong.forEach(
        (env, words) -> {
          String said =
              assertThrows(Main.SettingException.class, () -> Main.start(env)).getMessage();
          assertTrue(said.contains(words), said);
        });
  }
}
