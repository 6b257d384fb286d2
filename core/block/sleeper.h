/*
 * Sleeping without a file descriptor: a futex, for engines whose kernel side has
 * nothing to wait for (sync, threads) and for idle workers. The real machine only; the
 * simulated world has its own gates.
 */
#ifndef ASYNCOW_SLEEPER_H
#define ASYNCOW_SLEEPER_H
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Sleeps while *word == seen, at most timeout_ns (UINT64_MAX: no limit). May wake
 * early. */
static inline void futex_sleep(atomic_uint *word, unsigned seen, uint64_t timeout_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                          .tv_nsec = (long)(timeout_ns % 1000000000u)};

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen,
            timeout_ns == UINT64_MAX ? NULL : &ts, NULL, 0);
}

static inline void futex_wake(atomic_uint *word, unsigned n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* One sleeper, any number of wakers; a wake-up that comes early is kept. */
struct sleeper {
    atomic_uint woken;
};
static inline void sleeper_wait(struct sleeper *s, uint64_t timeout_ns)
{
    if (!atomic_exchange(&s->woken, 0) && timeout_ns) {
        futex_sleep(&s->woken, 0, timeout_ns);
        atomic_exchange(&s->woken, 0);
    }
}
static inline void sleeper_wake(struct sleeper *s)
{
    if (!atomic_exchange(&s->woken, 1))
        futex_wake(&s->woken, 1);
}

#endif
