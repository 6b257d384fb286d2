/*
 * Prints what a switch, a pooled life cycle and nesting cost; asserts nothing. Not a test:
 * run it by hand, pinned, on an idle machine.
 */
#include "core/coroutine/coroutine.h"

#include <stdint.h>
#include <stdio.h>
#include <time.h>

static double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return 1e9 * (double)ts.tv_sec + (double)ts.tv_nsec;
}

static void yields(void *arg)
{
    for (uint64_t n = *(uint64_t *)arg; n--;)
        co_yield ();
}

static void nothing(void *arg) { (void)arg; }

static void nests(void *arg)
{
    unsigned depth = *(unsigned *)arg;

    if (depth--)
        co_enter(co_create(nests, &depth));
}

int main(void)
{
    uint64_t n = 20000000;

    for (int trial = 0; trial < 3; trial++) {
        struct co *co = co_create(yields, &n);
        double t0 = now_ns();
        for (uint64_t i = 0; i <= n; i++)
            co_enter(co);
        double t1 = now_ns();
        for (uint64_t i = 0; i < n; i++)
            co_enter(co_create(nothing, NULL));
        double t2 = now_ns();
        for (unsigned i = 0; i < 2000; i++) {
            unsigned depth = 1000;
            nests(&depth);
        }
        double t3 = now_ns();
        printf("switch %.2f ns, pooled life cycle %.2f ns, nested 1000 deep %.2f ns "
               "each\n",
               (t1 - t0) / (double)(2 * n), (t2 - t1) / (double)n, (t3 - t2) / 2e6);
    }
    return 0;
}
