/* Publishers: connections that publish stamped messages, and count the answers.
 *
 * Options: --port, --clients, --user, --subject (both with {i}), --bytes (of a message's text), and
 * how fast: --rate (messages a second of each client, --burst in one write), or --window (so many
 * unanswered ones of each client), or --echo (so many bursts that have not come back to the
 * publisher, who subscribes to the subject: as fast as it is fanned out).
 * Prints `ready`, publishes from the line `go` on; then as subscribe.c.
 */
#include "wire.h"

enum { TIMES = 1 << 12 };
typedef enum { HTTP, CONNECTING, OPEN } state_t;
typedef struct {
    int fd, rest_size, open; /* open: unanswered, or not come back */
    state_t state;
    char *rest;
    uint32_t id;
    int64_t sent[TIMES];
} client_t;

static client_t *clients;
static int epoll, port, count, bytes, rate, burst, window, echo, ready, going, sample;
static const char *user, *subject;
static uint64_t published, answered, errors, echoed;

static void publish(client_t *client) {
    static char out[FRAME_BYTES_MAX * 16];
    char text[FRAME_BYTES_MAX], topic[256], *at = out, padding[FRAME_BYTES_MAX / 2];
    int64_t now = now_ns();
    fill_in(topic, sizeof topic, subject, client - clients);
    memset(padding, '.', bytes);
    for (int i = 0; i < burst; i++) {
        uint32_t id = client->id++;
        client->sent[id % TIMES] = now;
        size_t size = sprintf(text, "{\"id\":\"%u\",\"publish\":{\"subject\":\"%s\",\"text\":\"t=%016lld%.*s\"}}",
                              id, topic, (long long)now, bytes - 2 - STAMP_DIGITS, padding);
        at += put_frame(at, TEXT, 1, text, size);
    }
    published += burst;
    client->open += burst;
    send_all(client->fd, out, at - out);
}

static void open_session(client_t *client) {
    char text[1024], name[256], topic[256], out[1100];
    fill_in(name, sizeof name, user, client - clients);
    fill_in(topic, sizeof topic, subject, client - clients);
    size_t size = echo ? sprintf(text, "{\"id\":\"c\",\"connect\":{\"clientId\":\"%s\",\"acknowledges\":"
                                 "\"NONE\",\"subscriptions\":{\"list\":[{\"subject\":\"%s\"}]}}}", name, topic)
                       : sprintf(text, "{\"id\":\"c\",\"connect\":{\"clientId\":\"%s\",\"acknowledges\":"
                                 "\"NONE\"}}", name);
    send_all(client->fd, out, put_frame(out, TEXT, 1, text, size));
    client->state = CONNECTING;
}

static void go_on(client_t *client) {
    if (!going) return;
    if (echo)
        while (client->open <= (echo - 1) * burst) publish(client);
    else if (window)
        while (client->open < window) publish(client);
}

static void take(client_t *client, frame_t *frame, int64_t now) {
    if (frame->opcode == PING) {
        char out[256];
        send_all(client->fd, out, put_frame(out, PONG, 1, frame->payload, frame->size));
    } else if (frame->opcode == CLOSE) {
        fail("closed: %.*s", (int)frame->size - 2, frame->payload + 2);
    } else if (client->state == CONNECTING) {
        if (!begins(frame, "{\"id\":\"c\",\"connected\""))
            fail("refused: %.*s", (int)frame->size, frame->payload);
        client->state = OPEN;
        if (++ready == count) {
            puts("ready");
            fflush(stdout);
        }
    } else if (begins(frame, "{\"message\"")) {
        echoed++;
        if (echo) client->open--;
    } else if (memmem(frame->payload, frame->size, "\"published\"", 11)) {
        if (answered++ % sample == 0)
            add_sample(client->sent[strtoul(frame->payload + 7, NULL, 10) % TIMES], now);
        if (!echo) client->open--;
    } else if (memmem(frame->payload, frame->size, "\"error\"", 7)) {
        if (!errors++) fprintf(stderr, "%.*s\n", (int)frame->size, frame->payload);
        client->open--;
    }
}

static void on_readable(client_t *client) {
    static char buffer[READ_BYTES + FRAME_BYTES_MAX];
    memcpy(buffer, client->rest, client->rest_size);
    ssize_t got = recv(client->fd, buffer + client->rest_size, READ_BYTES, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail("the server hung up");
    char *at = buffer, *end = buffer + client->rest_size + got;
    if (client->state == HTTP) {
        char *body = memmem(at, end - at, "\r\n\r\n", 4);
        if (!body || memcmp(at, "HTTP/1.1 101", 12)) fail("no handshake: %.*s", (int)(end - at), at);
        at = body + 4;
        open_session(client);
    }
    frame_t frame;
    int64_t now = now_ns();
    while (next_frame(&at, end, &frame)) take(client, &frame, now);
    client->rest_size = end - at;
    if (client->rest_size > FRAME_BYTES_MAX) fail("no room for a frame");
    memcpy(client->rest, at, client->rest_size);
    go_on(client);
}

int main(int argc, char **argv) {
    port = number(argc, argv, "--port", NULL);
    count = number(argc, argv, "--clients", "1");
    user = option(argc, argv, "--user", NULL);
    subject = option(argc, argv, "--subject", NULL);
    bytes = number(argc, argv, "--bytes", "64");
    rate = number(argc, argv, "--rate", "0");
    burst = number(argc, argv, "--burst", "1");
    window = number(argc, argv, "--window", "0");
    echo = number(argc, argv, "--echo", "0");
    sample = number(argc, argv, "--sample", "1");
    if (bytes < 2 + STAMP_DIGITS || bytes > 4096 || burst > 64) fail("--bytes or --burst");
    clients = calloc(count, sizeof *clients);
    epoll = epoll_create1(0);
    setvbuf(stdin, NULL, _IONBF, 0);
    const uint64_t commands = count, timer = count + 1;
    int ticks = rate ? metronome(1000000000LL * burst / rate) : -1;
    watch(epoll, 0, commands);
    if (rate) watch(epoll, ticks, timer);
    for (int i = 0; i < count; i++) {
        clients[i].rest = malloc(FRAME_BYTES_MAX);
        clients[i].fd = dial(port, i);
        char name[256];
        fill_in(name, sizeof name, user, i);
        send_handshake(clients[i].fd, port, name);
        watch(epoll, clients[i].fd, i);
    }
    int64_t marked_ns = now_ns();
    double marked_cpu_s = cpu_s();
    for (;;) {
        struct epoll_event events[256];
        int got = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < got; i++) {
            uint64_t key = events[i].data.u64;
            char line[32];
            if (key < commands) {
                on_readable(&clients[key]);
            } else if (key == timer) {
                if (rings(ticks) && going)
                    for (int j = 0; j < count; j++) publish(&clients[j]);
            } else if (!read_line(line, sizeof line)) {
                return 0;
            } else if (line[0] == 'g' || line[0] == 's') {
                going = line[0] == 'g';
                for (int j = 0; j < count; j++) go_on(&clients[j]);
            } else if (line[0] == 'm') {
                published = answered = errors = echoed = sample_count = 0;
                marked_ns = now_ns();
                marked_cpu_s = cpu_s();
            } else {
                printf("{\"published\":%lu,\"answered\":%lu,\"errors\":%lu,\"echoed\":%lu,"
                       "\"seconds\":%.6f,\"cpu_s\":%.6f,", published, answered, errors, echoed,
                       (now_ns() - marked_ns) / 1e9, cpu_s() - marked_cpu_s);
                print_samples();
                puts("}");
                fflush(stdout);
            }
        }
    }
}
