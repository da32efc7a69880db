/* Sets the time of day wrong for one process: LD_PRELOAD this, and let FAULT_CLOCK name a file of
 * eight bytes, the nanoseconds by which it is ahead. They may change at any time. Clocks that count
 * since the boot are left alone, as a kernel leaves them. Whatever waits until a time of day waits
 * for the machine's own: what the process asks for is set back first. (libfaketime does much the same,
 * but knows no futex: a process with gRPC in it hangs after a jump.) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
/* No machine has been up for so long: a time beyond it is one of day. */
#define TIME_OF_DAY_S 1000000000LL

static volatile long long none = 0;
static volatile long long *ahead = &none;
static long (*next_syscall)(long, ...);
static int (*next_clock_gettime)(clockid_t, struct timespec *);
static int (*next_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*next_sem)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *found = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
        if (found != MAP_FAILED) ahead = found;
        close(file);
    }
    next_syscall = dlsym(RTLD_NEXT, "syscall");
    next_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    next_sem = dlsym(RTLD_NEXT, "sem_timedwait");
    next_cond = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next_cond) next_cond = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
}

static struct timespec moved(const struct timespec *t, long long by) {
    long long all = (long long)t->tv_sec * SECOND + t->tv_nsec + by;
    return (struct timespec){all / SECOND, all % SECOND};
}

/* The machine's time for a time of the process. */
static const struct timespec *set_back(const struct timespec *t, struct timespec *own) {
    if (!t || t->tv_sec < TIME_OF_DAY_S) return t;
    *own = moved(t, -*ahead);
    return own;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    if (!next_clock_gettime) begin();
    int result = next_clock_gettime(id, t);
    if (!result && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) *t = moved(t, *ahead);
    return result;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
    struct timespec t;
    (void)tz;
    clock_gettime(CLOCK_REALTIME, &t);
    tv->tv_sec = t.tv_sec;
    tv->tv_usec = t.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (where) *where = t.tv_sec;
    return t.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m,
                           const struct timespec *restrict t) {
    struct timespec own;
    return next_cond(c, m, set_back(t, &own));
}

int sem_timedwait(sem_t *restrict s, const struct timespec *restrict t) {
    struct timespec own;
    return next_sem(s, set_back(t, &own));
}

long syscall(long number, ...) {
    long a[6];
    struct timespec own;
    va_list rest;
    va_start(rest, number);
    for (int n = 0; n < 6; n++) a[n] = va_arg(rest, long);
    va_end(rest);
    if (!next_syscall) begin();
    if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME))
        a[3] = (long)set_back((const struct timespec *)a[3], &own);
    return next_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
