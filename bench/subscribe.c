/* Subscribers: many connections that read everything, answer pings, and count.
 *
 * Options: --port, --clients, --user, --connect (the frame, with {i} for the client's number),
 * --ack (a frame with {seq}; empty: pongs only), --sample k (one message in k has its time read).
 * Prints `ready` when all are connected. Lines of standard input: `mark` begins to count anew,
 * `report` prints what was counted as one line of JSON; at its end the program ends, and leaves
 * its connections to the kernel, as a killed program does.
 */
#include "wire.h"

enum { OPENING = 64, ACK_SLICES = 100 };
typedef enum { HTTP, CONNECTING, OPEN } state_t;
typedef struct {
    int fd, rest_size;
    state_t state;
    char *rest; /* the beginning of a frame that is not complete */
    char seq[20];
} client_t;

static client_t *clients;
static int epoll, port, count, started, opened, sample, slice, pause_us;
static const char *user, *connect_frame, *ack_frame;
static uint64_t deliveries, bytes, others, closed;
static int close_code; /* the newest; 0: none has come */

static void start_one(void) {
    client_t *client = &clients[started];
    char name[256];
    client->fd = dial(port, started);
    fill_in(name, sizeof name, user, started);
    send_handshake(client->fd, port, name);
    watch(epoll, client->fd, started++);
}

static void send_frame(client_t *client, int opcode, const char *payload, size_t size) {
    static char out[FRAME_BYTES_MAX];
    send_all(client->fd, out, put_frame(out, opcode, 1, payload, size));
}

static void take_answer(client_t *client, frame_t *frame) {
    if (!begins(frame, "{\"id\":\"c\",\"connected\"") || memmem(frame->payload, frame->size, "refusal", 7))
        fail("refused: %.*s", (int)frame->size, frame->payload);
    client->state = OPEN;
    if (++opened == count) {
        puts("ready");
        fflush(stdout);
    }
    if (started < count) start_one();
}

static void take(client_t *client, frame_t *frame, int64_t now, frame_t *newest) {
    if (frame->opcode == PING) {
        send_frame(client, PONG, frame->payload, frame->size);
    } else if (frame->opcode == CLOSE) {
        closed++;
        if (frame->size > 1)
            close_code = (unsigned char)frame->payload[0] << 8 | (unsigned char)frame->payload[1];
    } else if (client->state == CONNECTING) {
        take_answer(client, frame);
    } else if (begins(frame, "{\"message\"")) {
        *newest = *frame;
        bytes += frame->size;
        if (deliveries++ % sample == 0) {
            int64_t sent = stamp_of(frame);
            if (sent) add_sample(sent, now);
        }
    } else {
        others++;
    }
}

/* Keeps the seq of the newest message for the next acknowledgement. */
static void note_seq(client_t *client, frame_t *newest) {
    char *found = memmem(newest->payload, newest->size, "\"seq\":\"", 7);
    if (found) snprintf(client->seq, sizeof client->seq, "%lld", strtoll(found + 7, NULL, 10));
}

static void on_readable(client_t *client) {
    static char buffer[READ_BYTES + FRAME_BYTES_MAX];
    memcpy(buffer, client->rest, client->rest_size);
    ssize_t got = recv(client->fd, buffer + client->rest_size, READ_BYTES, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        closed++;
        epoll_ctl(epoll, EPOLL_CTL_DEL, client->fd, NULL);
        return;
    }
    char *at = buffer, *end = buffer + client->rest_size + got;
    int64_t now = now_ns();
    if (client->state == HTTP) {
        char *body = memmem(at, end - at, "\r\n\r\n", 4);
        if (!body || memcmp(at, "HTTP/1.1 101", 12)) fail("no handshake: %.*s", (int)(end - at), at);
        at = body + 4;
        char text[FRAME_BYTES_MAX];
        send_frame(client, TEXT, text, fill_in(text, sizeof text, connect_frame, client - clients));
        client->state = CONNECTING;
    }
    frame_t frame, newest = {0};
    while (next_frame(&at, end, &frame)) take(client, &frame, now, &newest);
    if (*ack_frame && newest.size) note_seq(client, &newest);
    client->rest_size = end - at;
    if (client->rest_size) {
        client->rest = realloc(client->rest, FRAME_BYTES_MAX);
        if (client->rest_size > FRAME_BYTES_MAX || !client->rest) fail("no room for a frame");
        memcpy(client->rest, at, client->rest_size);
    }
}

/* Each client acknowledges once a second; their turns are spread over it. */
static void acknowledge(void) {
    char frame[1024];
    slice = (slice + 1) % ACK_SLICES;
    for (int i = slice; i < count; i += ACK_SLICES) {
        client_t *client = &clients[i];
        if (client->state != OPEN || !*client->seq) continue;
        const char *hole = strstr(ack_frame, "{seq}");
        int size = snprintf(frame, sizeof frame, "%.*s%s%s", (int)(hole - ack_frame), ack_frame,
                            client->seq, hole + 5);
        send_frame(client, TEXT, frame, size);
        *client->seq = 0;
    }
}

static void report(int64_t marked_ns, double marked_cpu_s) {
    printf("{\"deliveries\":%lu,\"bytes\":%lu,\"others\":%lu,\"closed\":%lu,\"close_code\":%d,"
           "\"seconds\":%.6f,\"cpu_s\":%.6f,", deliveries, bytes, others, closed, close_code, (now_ns() - marked_ns) / 1e9,
           cpu_s() - marked_cpu_s);
    print_samples();
    puts("}");
    fflush(stdout);
}

int main(int argc, char **argv) {
    port = number(argc, argv, "--port", NULL);
    count = number(argc, argv, "--clients", NULL);
    user = option(argc, argv, "--user", NULL);
    connect_frame = option(argc, argv, "--connect", NULL);
    ack_frame = option(argc, argv, "--ack", "");
    sample = number(argc, argv, "--sample", "16");
    pause_us = number(argc, argv, "--pause-us", "0");
    clients = calloc(count, sizeof *clients);
    epoll = epoll_create1(0);
    setvbuf(stdin, NULL, _IONBF, 0);
    const uint64_t commands = count, timer = count + 1;
    int ticks = metronome(1000000000 / ACK_SLICES);
    watch(epoll, 0, commands);
    watch(epoll, ticks, timer);
    while (started < count && started < OPENING) start_one();
    int64_t marked_ns = now_ns();
    double marked_cpu_s = cpu_s();
    for (;;) {
        struct epoll_event events[512];
        if (pause_us) usleep(pause_us);
        int ready = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            uint64_t key = events[i].data.u64;
            char line[32];
            if (key < commands) {
                on_readable(&clients[key]);
            } else if (key == timer) {
                if (rings(ticks) && *ack_frame) acknowledge();
            } else if (!read_line(line, sizeof line)) {
                return 0;
            } else if (line[0] == 'm') {
                deliveries = bytes = others = closed = sample_count = 0;
                marked_ns = now_ns();
                marked_cpu_s = cpu_s();
            } else {
                report(marked_ns, marked_cpu_s);
            }
        }
    }
}
