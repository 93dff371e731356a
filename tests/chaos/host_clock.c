/* The host's wall clock, ahead by as many seconds as the file HOST_CLOCK holds (int64): for LD_PRELOAD.
 *
 * The monotonic clock stays as it is, as on a host whose clock is set.  Waits until a wall time are put in terms of the
 * kernel's clock, which nobody has set. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead_s;

__attribute__((constructor)) static void map_file(void) {
    const char *name = getenv("HOST_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, sizeof *ahead_s, PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) ahead_s = at;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *to) {
    int failed = (int)syscall(SYS_clock_gettime, id, to);
    if (!failed && ahead_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) to->tv_sec += *ahead_s;
    return failed;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *to = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

/* A condition may have been made for the monotonic clock, which counts from the start of the host. */
static clockid_t kernel_time(const struct timespec *until, struct timespec *then) {
    *then = *until;
    if (until->tv_sec < 1000000000) return CLOCK_MONOTONIC;
    if (ahead_s) then->tv_sec -= *ahead_s;
    return CLOCK_REALTIME;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    struct timespec then;
    clockid_t id = kernel_time(until, &then);
    return pthread_cond_clockwait(cond, mutex, id, &then);
}

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) { /* both are those of pthreads in glibc */
    int failed = pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until);
    return failed == ETIMEDOUT ? thrd_timedout : failed ? thrd_error : thrd_success;
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until) {
    struct timespec then;
    clockid_t id = kernel_time(until, &then);
    return pthread_mutex_clocklock(mutex, id, &then);
}

int sem_timedwait(sem_t *sem, const struct timespec *until) {
    struct timespec then;
    clockid_t id = kernel_time(until, &then);
    return sem_clockwait(sem, id, &then);
}
