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

static double least(double a, double b) { return a < b ? a : b; }

int main(int argc, char **argv)
{
    enum { TRIALS = 50, NESTED = 1000 };
    uint64_t n = 400000;
    if (co_set_backend(argc > 1 ? argv[1] : "auto", NULL) < 0)
        return 2;
    double enter_ns = 1e9, life_ns = 1e9, nested_ns = 1e9;

    for (int trial = 0; trial < TRIALS; trial++) {
        struct co *co = co_create(yields, &n);
        double t0 = now_ns();
        for (uint64_t i = 0; i <= n; i++)
            co_enter(co);
        double t1 = now_ns();
        for (uint64_t i = 0; i < n; i++)
            co_enter(co_create(nothing, NULL));
        double t2 = now_ns();
        for (unsigned i = 0; i < n / NESTED; i++) {
            unsigned depth = NESTED;
            nests(&depth);
        }
        double t3 = now_ns();
        enter_ns = least(enter_ns, (t1 - t0) / (double)n);
        life_ns = least(life_ns, (t2 - t1) / (double)n);
        nested_ns = least(nested_ns, (t3 - t2) / (double)n);
    }
    printf("least of %d: switch %.2f ns, pooled life cycle %.2f ns, %d deep %.2f ns "
           "each\n",
           TRIALS, enter_ns / 2, life_ns, NESTED, nested_ns);
    return 0;
}
