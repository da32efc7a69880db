/* The floor: the least that writing the same frames to the same subscribers costs on this machine.
 *
 * One `send` per frame and client, on a clock, with nothing else: no log, no order to keep, nobody
 * slow. Options: --port, --clients, --bytes (of a frame's text), --rate (frames a second to each
 * client), --burst (frames in one write). It sends from the moment that all are connected until
 * its standard input ends.
 */
#include "wire.h"

static int *fds;
static uint64_t unsent;

static void accept_one(int listener, int at) {
    static const char switched[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    static const char connected[] = "{\"id\":\"c\",\"connected\":{}}";
    char text[FRAME_BYTES_MAX];
    int fd = fds[at] = accept(listener, NULL, NULL);
    if (fd < 0) fail("cannot accept: %s", strerror(errno));
    if (recv(fd, text, sizeof text, 0) <= 0) fail("no handshake");
    send_all(fd, switched, sizeof switched - 1);
    if (recv(fd, text, sizeof text, 0) <= 0) fail("no connect frame");
    send_all(fd, text, put_frame(text, TEXT, 0, connected, sizeof connected - 1));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static size_t make(char *out, size_t bytes, int burst) {
    char text[FRAME_BYTES_MAX], *at = out;
    memset(text, '.', bytes);
    size_t head = sprintf(text, "{\"message\":{\"text\":\"t=%016lld", (long long)now_ns());
    text[head] = '.';
    for (int i = 0; i < burst; i++) at += put_frame(at, TEXT, 0, text, bytes);
    return at - out;
}

int main(int argc, char **argv) {
    static char frames[FRAME_BYTES_MAX * 4];
    int count = number(argc, argv, "--clients", NULL), burst = number(argc, argv, "--burst", "1");
    int rate = number(argc, argv, "--rate", NULL), bytes = number(argc, argv, "--bytes", NULL);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1, buffer = 128 * 1024;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons(number(argc, argv, "--port", NULL));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096))
        fail("cannot listen: %s", strerror(errno));
    if (bytes < 64 || (size_t)burst * (bytes + 4) > sizeof frames) fail("--bytes or --burst");
    puts("listening");
    fflush(stdout);
    fds = calloc(count, sizeof *fds);
    for (int i = 0; i < count; i++) accept_one(listener, i);
    int ticks = metronome(1000000000LL * burst / rate), epoll = epoll_create1(0);
    watch(epoll, 0, 0);
    watch(epoll, ticks, 1);
    for (;;) {
        struct epoll_event event;
        char line[32];
        if (epoll_wait(epoll, &event, 1, -1) < 1) continue;
        if (event.data.u64 == 0) {
            if (!read_line(line, sizeof line)) break;
        } else if (rings(ticks)) {
            size_t size = make(frames, bytes, burst);
            for (int i = 0; i < count; i++)
                if (send(fds[i], frames, size, MSG_NOSIGNAL) != (ssize_t)size) unsent++;
        }
    }
    fprintf(stderr, "{\"unsent\":%lu}\n", unsent);
    return 0;
}
