package dev.onward.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.onward.notifier.v1.Channel;
import dev.onward.notifier.v1.Delivery;
import dev.onward.notifier.v1.NotifierServiceGrpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.ServerCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import java.io.File;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * A notifier plugin: serves what {@link Sender} sends.
 *
 * <p>Environment: {@code ONWARD_SECRET}, the shared secret that callers show, 16 characters or more;
 * {@code ONWARD_PLUGIN_LISTEN}, host:port, 127.0.0.1:7500 if it is not set, port 0 draws one; {@code
 * ONWARD_PLUGIN_TLS_CA_FILE} with {@code _CERT_FILE} and {@code _KEY_FILE}, mutual TLS, instead of the
 * secret or with it; {@code ONWARD_PLUGIN_SENT_LOG}, a file that gets a line for each send, for
 * conformance tests only.
 */
final class Main {
  private static final int SECRET_CHARACTERS_MIN = 16;
  /** A call of the presence service may have 8 MiB of content. */
  private static final int MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
  private static final Duration DRAIN = Duration.ofSeconds(5);

  /** Wrong settings: a sentence with the remedy. */
  static final class SettingException extends Exception {
    private static final long serialVersionUID = 1L;

    SettingException(String sentence) {
      super(sentence);
    }
  }

  private final Server server;
  private final Deliveries deliveries;
  private final HealthStatusManager health = new HealthStatusManager();

  private Main(Map<String, String> env) throws SettingException, IOException {
    String secret = secret(env);
    InetSocketAddress listen = address(env.getOrDefault("ONWARD_PLUGIN_LISTEN", "127.0.0.1:7500"));
    Limits limits = Limits.DEFAULT;
    deliveries =
        new Deliveries(
            Sender.CHANNELS.stream().map(Channel::getScheme).collect(Collectors.toSet()),
            Sender::send,
            limits,
            sentLog(env));
    NettyServerBuilder builder =
        NettyServerBuilder.forAddress(listen, credentials(env, secret))
            .maxInboundMessageSize(MESSAGE_BYTES_MAX)
            // The presence service pings every 10 s, also while there is nothing to send.
            .permitKeepAliveTime(5, TimeUnit.SECONDS)
            .permitKeepAliveWithoutCalls(true)
            .addService(new Notifier(deliveries, limits))
            .addService(health.getHealthService());
    if (!secret.isEmpty()) {
      builder.intercept(new Notifier.RequireSecret(secret));
    }
    server = builder.build().start();
    health.setStatus(NotifierServiceGrpc.SERVICE_NAME, ServingStatus.SERVING);
  }

  /** A plugin that serves. */
  static Main start(Map<String, String> env) throws SettingException, IOException {
    return new Main(env);
  }

  int port() {
    return server.getPort();
  }

  /** Takes no new calls, and ends what is under way. */
  void stop() throws InterruptedException {
    health.enterTerminalState();
    if (!server.shutdown().awaitTermination(DRAIN.toMillis(), TimeUnit.MILLISECONDS)) {
      server.shutdownNow();
    }
    deliveries.finish(DRAIN);
  }

  private static String secret(Map<String, String> env) throws SettingException {
    String secret = env.getOrDefault("ONWARD_SECRET", "");
    if (!secret.isEmpty() && secret.length() < SECRET_CHARACTERS_MIN) {
      throw new SettingException(
          "ONWARD_SECRET is shorter than %d characters".formatted(SECRET_CHARACTERS_MIN));
    }
    return secret;
  }

  private static InetSocketAddress address(String text) throws SettingException {
    int colon = text.lastIndexOf(':');
    try {
      return new InetSocketAddress(text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
    } catch (IllegalArgumentException | IndexOutOfBoundsException wrong) {
      throw new SettingException("ONWARD_PLUGIN_LISTEN is no address; use host:port");
    }
  }

  private static ServerCredentials credentials(Map<String, String> env, String secret)
      throws SettingException, IOException {
    List<String> names =
        Stream.of("CA", "CERT", "KEY").map("ONWARD_PLUGIN_TLS_%s_FILE"::formatted).toList();
    List<String> missing =
        names.stream().filter(name -> env.getOrDefault(name, "").isEmpty()).toList();
    if (missing.size() == names.size()) {
      if (secret.isEmpty()) {
        throw new SettingException(
            "ONWARD_SECRET is not set; set it, or " + String.join(", ", names));
      }
      return InsecureServerCredentials.create();
    }
    if (!missing.isEmpty()) {
      throw new SettingException(
          missing.get(0) + " is not set, and others are; set all three, or none");
    }
    return TlsServerCredentials.newBuilder()
        .trustManager(new File(env.get(names.get(0))))
        .keyManager(new File(env.get(names.get(1))), new File(env.get(names.get(2))))
        .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE)
        .build();
  }

  private static Consumer<Delivery> sentLog(Map<String, String> env) throws IOException {
    String path = env.getOrDefault("ONWARD_PLUGIN_SENT_LOG", "");
    if (path.isEmpty()) {
      return delivery -> {};
    }
    FileChannel file =
        FileChannel.open(Path.of(path), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    return delivery -> {
      String line =
          "{\"delivery_id\": \"%s\", \"endpoint\": \"%s\"}\n"
              .formatted(escaped(delivery.getDeliveryId()), escaped(delivery.getEndpoint()));
      try {
        file.write(UTF_8.encode(line));
      } catch (IOException failure) {
        System.err.println("the log of sends cannot be written");
      }
    };
  }

  /** As it stands within a JSON string. */
  private static String escaped(String text) {
    return text.codePoints()
        .mapToObj(
            c ->
                c == '"' || c == '\\' || c < 0x20
                    ? "\\u%04x".formatted(c)
                    : Character.toString(c))
        .collect(Collectors.joining());
  }

  public static void main(String[] arguments) {
    try {
      Main plugin = start(System.getenv());
      Runtime.getRuntime()
          .addShutdownHook(
              new Thread(
                  () -> {
                    try {
                      plugin.stop();
                      // Else the exit code tells of the signal, not that all has ended well.
                      Runtime.getRuntime().halt(0);
                    } catch (InterruptedException cut) {
                      Thread.currentThread().interrupt();
                    }
                  }));
      String listen = System.getenv().getOrDefault("ONWARD_PLUGIN_LISTEN", "127.0.0.1:7500");
      String host = listen.substring(0, listen.lastIndexOf(':'));
      System.out.printf("%s ready: %s:%d%n", Sender.NAME, host, plugin.port());
      plugin.server.awaitTermination();
    } catch (InterruptedException cut) {
      Thread.currentThread().interrupt();
    } catch (SettingException | IOException failure) {
      System.err.printf("%s: %s%n", Sender.NAME, failure.getMessage());
      System.exit(1);
    }
  }
}
