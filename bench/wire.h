/* What the load programs share: clocks, samples, TCP on loopback, and WebSocket frames.
 *
 * Only as much of RFC 6455 as a well-behaved server needs on the other side: the key of a frame to
 * the server is zero, which leaves the payload as it is. Nothing of JSON is understood; frames are
 * told apart by how their text begins.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };
enum { READ_BYTES = 1 << 18, FRAME_BYTES_MAX = 1 << 16, STAMP_DIGITS = 16 };

static void fail(const char *what, ...) {
    va_list arguments;
    va_start(arguments, what);
    vfprintf(stderr, what, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Latencies, in microseconds; what is beyond the bound is counted and not kept. */
enum { SAMPLES_MAX = 1 << 21 };
static double *samples;
static size_t sample_count;

static void add_sample(int64_t sent_ns, int64_t now) {
    if (!samples && !(samples = malloc(SAMPLES_MAX * sizeof *samples))) fail("no memory");
    if (sample_count < SAMPLES_MAX) samples[sample_count++] = (now - sent_ns) / 1e3;
}

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Prints `"p50_us":…,"p99_us":…,"max_us":…,"samples":…`, and forgets the samples. */
static void print_samples(void) {
    qsort(samples, sample_count, sizeof *samples, by_value);
    double p50 = 0, p99 = 0, most = 0;
    if (sample_count) {
        p50 = samples[(size_t)((sample_count - 1) * 0.50 + 0.5)];
        p99 = samples[(size_t)((sample_count - 1) * 0.99 + 0.5)];
        most = samples[sample_count - 1];
    }
    printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"samples\":%zu", p50, p99, most,
           sample_count);
    sample_count = 0;
}

/* Connects to 127.0.0.1:port from 127.0.1.x, so that no address has many connections. */
static int dial(int port, int number) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    from.sin_addr.s_addr = htonl(0x7f000101 + number % 200);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) fail("no socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (bind(fd, (void *)&from, sizeof from)) fail("no source address: %s", strerror(errno));
    if (connect(fd, (void *)&to, sizeof to)) fail("cannot connect: %s", strerror(errno));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

/* Everything that is sent from here is small, so a socket that does not take it is broken. */
static void send_all(int fd, const void *data, size_t size) {
    for (const char *at = data; size;) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) continue;
        if (sent <= 0) fail("cannot send: %s", strerror(errno));
        at += sent;
        size -= sent;
    }
}

static void send_handshake(int fd, int port, const char *user) {
    char request[512];
    int size = snprintf(request, sizeof request,
                        "GET /v1/connect?user=%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                        "Sec-WebSocket-Protocol: onward.v1.json\r\n\r\n",
                        user, port);
    send_all(fd, request, size);
}

/* Writes a frame with this payload; `masked`: to a server. Returns its size. */
static size_t put_frame(char *out, int opcode, int masked, const char *payload, size_t size) {
    unsigned char *at = (unsigned char *)out;
    *at++ = 0x80 | opcode;
    if (size < 126) {
        *at++ = masked << 7 | size;
    } else {
        *at++ = masked << 7 | 126;
        *at++ = size >> 8;
        *at++ = size & 255;
    }
    if (masked) {
        memset(at, 0, 4);
        at += 4;
    }
    memmove(at, payload, size);
    return (char *)at + size - out;
}

typedef struct {
    int opcode;
    char *payload;
    size_t size;
} frame_t;

/* Takes the next frame of a server off [*at, end); 0 if it is not complete. */
static int next_frame(char **at, char *end, frame_t *frame) {
    unsigned char *head = (unsigned char *)*at;
    size_t left = end - *at, header = 2;
    if (left < 2) return 0;
    frame->opcode = head[0] & 15;
    frame->size = head[1] & 127;
    if (frame->size == 126) {
        if (left < 4) return 0;
        header = 4;
        frame->size = head[2] << 8 | head[3];
    } else if (frame->size == 127) {
        fail("a frame is larger than this program expects");
    }
    if (left < header + frame->size) return 0;
    frame->payload = *at + header;
    *at += header + frame->size;
    return 1;
}

static int begins(const frame_t *frame, const char *text) {
    size_t size = strlen(text);
    return frame->size >= size && !memcmp(frame->payload, text, size);
}

/* Copies `text`, with every `{i}` replaced by `number`. */
static size_t fill_in(char *out, size_t room, const char *text, int number) {
    char *at = out;
    while (*text) {
        if (at + 16 > out + room) fail("a template is too long");
        if (!strncmp(text, "{i}", 3)) {
            at += sprintf(at, "%d", number);
            text += 3;
        } else {
            *at++ = *text++;
        }
    }
    *at = 0;
    return at - out;
}

/* When the message was published: `t=` and nanoseconds of the monotonic clock; 0: not told. */
static int64_t stamp_of(const frame_t *frame) {
    char *found = memmem(frame->payload, frame->size, "t=", 2);
    if (!found || found + 2 + STAMP_DIGITS > frame->payload + frame->size) return 0;
    return strtoll(found + 2, NULL, 10);
}

static const char *option(int count, char **values, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < count; i += 2)
        if (!strcmp(values[i], name)) return values[i + 1];
    if (!otherwise) fail("%s is missing", name);
    return otherwise;
}

static int number(int count, char **values, const char *name, const char *otherwise) {
    return atoi(option(count, values, name, otherwise));
}

/* Rings every `period_ns`; a read of it tells how often it rang since the last. */
static int metronome(int64_t period_ns) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct timespec period = {period_ns / 1000000000, period_ns % 1000000000};
    struct itimerspec times = {period, period};
    if (fd < 0 || timerfd_settime(fd, 0, &times, NULL)) fail("no timer: %s", strerror(errno));
    return fd;
}

static uint64_t rings(int fd) {
    uint64_t count = 0;
    return read(fd, &count, sizeof count) == sizeof count ? count : 0;
}

static void watch(int epoll, int fd, uint64_t key) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = key};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll: %s", strerror(errno));
}

/* A line of standard input; 0 at its end. */
static int read_line(char *line, int room) {
    return fgets(line, room, stdin) != NULL;
}
