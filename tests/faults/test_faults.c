/*
 * Every host I/O of a fixed workload fails in turn: once, or from then on for ever, short or
 * torn; of two requests every two; and under a module that asks before it allocates
 * (nomem.c) each of its allocations. Nothing is lost that was promised: trial.h.
 *
 * A first run counts them. Arguments are key=value; see parse(). The last line printed is
 * "stats {...}".
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/faults/trial.h"

static struct test test;

static void tell_trial(int sig)
{
    (void)sig;
    fprintf(stderr, "in the trial \"only=%s\"\n", test.trial);
}

/* ---- which I/O, and how ---- */

struct way {
    const char *name;
    int error, action;
    uint64_t times;
    unsigned ops; /* 1 << AIO_...; 0: all kinds counted together */
    unsigned stride;
};
#define TRANSFERS (1u << AIO_READ | 1u << AIO_WRITE)
#define SPACE (1u << AIO_WRITE | 1u << AIO_ZERO | 1u << AIO_GROW)
#define EVERY ((1u << AIO_OPS) - 1)
static const struct way ways[] = {
    {"eio-once", -EIO, FAULT_FAIL, 1, EVERY, 1},
    {"eio-forever", -EIO, FAULT_FAIL, UINT64_MAX, 0, 3},
    {"enospc-once", -ENOSPC, FAULT_FAIL, 1, SPACE, 3},
    {"enospc-forever", -ENOSPC, FAULT_FAIL, UINT64_MAX, SPACE, 5},
    {"short", 0, FAULT_SHORT, 1, TRANSFERS, 5},
    {"torn", -EIO, FAULT_TORN, 1, TRANSFERS, 3},
    {"eagain-once", -EAGAIN, FAULT_FAIL, 1, EVERY, 5},
    {"eagain-forever", -EAGAIN, FAULT_FAIL, UINT64_MAX, 0, 9},
};

/* plan in words: t->trial */
static bool trial(struct test *t, const struct plan *plan, bool broken_at_close)
{
    if (t->only && strcmp(t->only, t->trial))
        return true;
    return trial_run(t, plan, broken_at_close);
}

static bool trial_of(struct test *t, const struct way *w, unsigned kinds, uint64_t n)
{
    struct plan plan = {.io[0] = {.kinds = kinds,
                                  .n = n,
                                  .times = w->times,
                                  .error = w->error,
                                  .action = w->action}};

    snprintf(t->trial, sizeof(t->trial), "%s,%x,%" PRIu64, w->name, kinds, n);
    return trial(t, &plan, n % 2);
}

static void each_of(struct test *t, const struct way *w, unsigned kinds, uint64_t count)
{
    unsigned step = w->stride * t->stride;

    /* Strided, it begins elsewhere for each seed. */
    for (uint64_t n = 1 + t->seed % step; n <= count; n += step)
        if (!trial_of(t, w, kinds, n) && n < count / 4) {
            fprintf(stderr, "in the trial \"only=%s\": the I/O never came\n", t->trial);
            abort();
        }
}

static void each_way(struct test *t, const struct way *w)
{
    uint64_t before = t->trials, all = 0;

    for (int kind = 0; kind < KINDS; kind++) {
        all += t->count[kind];
        if (w->ops & 1u << kind % KIND_METADATA_SHIFT)
            each_of(t, w, 1u << kind, t->count[kind]);
    }
    if (!w->ops)
        each_of(t, w, ~0u, all);
    printf("  %-15s %4" PRIu64 " trials\n", w->name, t->trials - before);
    fflush(stdout);
}

/* ---- two of them ---- */

static const struct {
    const char *name;
    struct fault_plan io[2];
} pairs[] = {
    {"eio-eio", {{.error = -EIO}, {.error = -EIO}}},
    {"enospc-eio", {{.error = -ENOSPC}, {.error = -EIO}}},
    {"short-eio", {{.action = FAULT_SHORT}, {.error = -EIO}}},
    {"eagain-enospc", {{.error = -EAGAIN}, {.error = -ENOSPC}}},
    {"short-short", {{.action = FAULT_SHORT}, {.action = FAULT_SHORT}}},
    {"torn-eagain", {{.error = -EIO, .action = FAULT_TORN}, {.error = -EAGAIN}}},
};
enum { PAIRS = sizeof(pairs) / sizeof(*pairs), PAIR_STRIDE = 8 };

static bool trial_of_two(struct test *t, unsigned how, unsigned round, uint64_t k,
                         uint64_t j)
{
    struct plan plan = {.io = {pairs[how].io[0], pairs[how].io[1]}};

    for (int i = 0; i < 2; i++) {
        plan.io[i].kinds = ~(unsigned)SILENT;
        plan.io[i].times = 1;
    }
    plan.io[0].n = k;
    plan.io[1].n = j;
    snprintf(t->trial, sizeof(t->trial), "%s,%u,%" PRIu64 ",%" PRIu64, pairs[how].name,
             round, k, j);
    return trial(t, &plan, false);
}

/* The k-th I/O fails, and of those that come after it the (j - k)-th. Which of the ways is
 * tried on which pair changes with the seed. */
static void each_pair(struct test *t)
{
    uint64_t before = t->trials, all = 0, i = t->seed, seed = t->seed;
    uint64_t step = PAIR_STRIDE * t->stride;

    t->ops = 2;
    for (unsigned round = 0; round < PAIRS; round++) {
        t->seed = t->o.seed = seed + round;
        snprintf(t->trial, sizeof(t->trial), "nothing fails");
        trial_run(t, NULL, false);
        all = 0;
        for (int kind = 0; kind < KINDS; kind++)
            all += 1u << kind & SILENT ? 0 : t->count[kind];
        for (uint64_t k = 1; k < all; k++)
            for (uint64_t j = k; j < all + 2; j++, i++) /* counted without the k-th */
                if (i % step == 0)
                    trial_of_two(t, (unsigned)(i / step % PAIRS), round, k, j);
    }
    printf("  %-15s %4" PRIu64 " trials\n", "pairs", t->trials - before);
}

/* ---- memory ---- */

static void each_allocation(struct test *t)
{
    uint64_t all = t->allocations;

    for (int for_ever = 0; for_ever < 2; for_ever++)
        for (uint64_t n = 1 + t->seed % t->stride; n <= all; n += t->stride) {
            struct plan plan = {.allocation = n, .for_ever = for_ever};
            snprintf(t->trial, sizeof(t->trial), "no memory%s,%" PRIu64,
                     for_ever ? " for ever" : "", n);
            trial(t, &plan, n % 2);
        }
    printf("  %-15s %4" PRIu64 " trials of %" PRIu64 " allocations\n", "no memory",
           t->trials - 1, all);
}

/* ---- what is asked for ---- */

static const char *value(const char *arg, const char *key)
{
    size_t n = strlen(key);
    return !strncmp(arg, key, n) && arg[n] == '=' ? arg + n + 1 : NULL;
}

static void parse(struct test *t, const char *arg)
{
    const char *v;

    if ((v = value(arg, "template"))) /* the image to begin with */
        t->template = load_file(v, &t->template_size);
    else if ((v = value(arg, "model"))) /* what is in it, raw */
        t->base = load_file(v, &t->size);
    else if ((v = value(arg, "image"))) /* a copy is made here for each trial */
        t->image = t->o.path = v;
    else if ((v = value(arg, "strategy")))
        t->o.strategy = v;
    else if ((v = value(arg, "engine"))) /* sim; with others no two runs are the same */
        t->o.engine = v;
    else if ((v = value(arg, "settings")))
        t->o.settings = v;
    else if ((v = value(arg, "through")))
        t->o.through = *v == '1';
    else if ((v = value(arg, "grow")))
        t->o.grow = strtoull(v, NULL, 0);
    else if ((v = value(arg, "cache")))
        t->o.cache = strtoull(v, NULL, 0);
    else if ((v = value(arg, "depth")))
        t->o.depth = (unsigned)atoi(v);
    else if ((v = value(arg, "fill")))
        t->fill = *v == '1';
    else if ((v = value(arg, "cancels")))
        t->cancels = *v == '1';
    else if ((v = value(arg, "ops")))
        t->ops = (unsigned)atoi(v);
    else if ((v = value(arg, "stride"))) /* each so many I/Os, not each */
        t->stride = (unsigned)atoi(v);
    else if ((v = value(arg, "qemu_every"))) /* how often qemu-img checks as well */
        t->qemu_every = (unsigned)atoi(v);
    else if ((v = value(arg, "seed")))
        t->seed = t->o.seed = strtoull(v, NULL, 0);
    else if ((v = value(arg, "only")))
        t->only = v;
    else {
        fprintf(stderr, "test_faults: unknown argument %s\n", arg);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct test *t = &test;

    *t = (struct test){
        .o = {.engine = "sim", .filters = "fault;fault", .depth = 8, .punch = true},
        .ops = 80,
        .stride = 1};
    for (int i = 1; i < argc; i++)
        parse(t, argv[i]);
    if (!t->template || !t->base || !t->image || !t->o.strategy) {
        fprintf(stderr,
                "test_faults: template=, model=, image= and strategy= are needed\n");
        return 2;
    }
    signal(SIGABRT, tell_trial);
    snprintf(t->trial, sizeof(t->trial), "nothing fails");
    t->afterwards = t->ops / 8;
    trial_run(t, NULL, false);
    for (int kind = 0; kind < KINDS; kind++)
        if (t->count[kind])
            printf("  %" PRIu64 " of kind %d", t->count[kind], kind);
    printf("\n");
    for (size_t i = 0; !t->allocations && i < sizeof(ways) / sizeof(*ways); i++)
        each_way(t, &ways[i]);
    if (t->allocations)
        each_allocation(t);
    else if (!t->cancels)
        each_pair(t);
    printf("%" PRIu64 " trials, %" PRIu64 " hit\n", t->trials, t->hit);
    disk_stats_print(&t->sum);
    free(t->template);
    free(t->base);
    return 0;
}
