/*
 * Every host I/O of a fixed workload fails in turn: once, or from then on for ever,
 * short or torn, and nothing is lost that was promised.
 *
 * A first run counts the I/Os of each kind. Then, for each, the same run with that one
 * failing, on a fresh copy of the image in the simulator (so it is the same run):
 *  1. the error reaches the caller, with its code or as the -EIO of a poisoned image; a
 *     short transfer reaches nobody;
 *  2. before closing, every acknowledged byte reads back;
 *  3. the image has no corruption for QEMU or for us; leaks are allowed;
 *  4. opened again, every flushed byte reads back, and what was not flushed is old or
 *     new;
 *  5. that image can be written to and closes well.
 *
 * Arguments are key=value; see parse(). The last line printed is "stats {...}".
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/block/filter.h"
#include "tests/differential/load.h"

enum { HANG_SECONDS = 30, KINDS = 2 * KIND_METADATA_SHIFT };

struct test {
    struct disk_options o;
    const char *image;
    uint8_t *template, *base;
    uint64_t template_size, size;
    uint64_t seed;
    unsigned ops, stride, qemu_every;
    bool fill, cancels;
    const char *only; /* the words of one trial */

    char trial[160]; /* in words, to be told and repeated */
    uint64_t count[KINDS];
    uint64_t trials, hit;
    struct strategy_stats sum;
};
static struct test test;

static void tell_trial(int sig)
{
    (void)sig;
    fprintf(stderr, "in the trial \"only=%s\"\n", test.trial);
}

static void copy_image(const struct test *t)
{
    FILE *f = fopen(t->image, "wb");
    assert(f);
    size_t put = fwrite(t->template, 1, t->template_size, f);
    assert(put == t->template_size);
    fclose(f);
}

static void load_start(struct test *t, struct load *l)
{
    uint8_t *base = malloc(t->size);
    assert(base);
    memcpy(base, t->base, t->size);
    *l = (struct load){.rng = t->seed,
                       .max_len = 32 << 10,
                       .in_flight_max = 8,
                       .fill = t->fill,
                       .cancels = t->cancels};
    load_init(l, base, t->size, true);
    load_watch(l, HANG_SECONDS);
}

static void check_image(const struct test *t, const struct load *l, bool leaks_too)
{
    uint64_t leaks;

    if (disk_check(t->image, &leaks) || (leaks && leaks_too))
        load_fail(l, NULL, "the image is not consistent");
    if (!t->qemu_every || t->trials % t->qemu_every)
        return;
    char command[512];
    snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s > %s.log 2>&1",
             t->image, t->image);
    int status = system(command);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code != 0 && (code != 3 || leaks_too)) { /* 3: leaks alone */
        fprintf(stderr, "%s: status %d\n", command, code);
        load_fail(l, NULL, "QEMU finds the image not consistent");
    }
}

/* What the image promised is there, and it is as good as new. */
static void reopen(struct test *t, struct load *l)
{
    struct disk_options o = t->o;
    struct strategy_stats stats;
    struct disk d;
    struct error err = {""};

    o.filters = NULL;
    if (disk_open(&d, &o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        load_fail(l, NULL, "the image does not open again");
    }
    l->faulty = l->fill = false;
    l->m.torn = true; /* what an earlier failure left may be anything between */
    load_attach(l, &d);
    load_read_all(l);
    load_run(l, t->ops / 8);
    if (disk_close(&d, &stats))
        load_fail(l, NULL, "the image opened again does not close");
    disk_stats_add(&t->sum, &stats);
    check_image(t, l, false);
}

/* Only errors that the fault explains, and one if it hit what somebody waits for. */
static void judge_error(const struct test *t, const struct load *l,
                        const struct fault_plan *plan, int opened, int closed,
                        const struct strategy_stats *stats)
{
    int first = opened ? opened : l->errors ? l->error : closed;
    unsigned errors = l->errors + (opened < 0) + (closed < 0);
    unsigned silent = 1u << AIO_DISCARD | 1u << AIO_GROW; /* nobody's loss */

    silent |= silent << KIND_METADATA_SHIFT;
    if (plan->action == FAULT_SHORT && errors)
        load_fail(l, NULL, "a short transfer became an error");
    if (plan->action != FAULT_SHORT && !(plan->kinds & silent) && !errors &&
        !t->cancels)
        load_fail(l, NULL, "the error reached nobody");
    if (first && first != plan->error && first != -EIO) {
        fprintf(stderr, "%s, injected: %s\n", strerror(-first), strerror(-plan->error));
        load_fail(l, NULL, "the error is another one");
    }
    if (!opened && closed && !stats->poisoned && plan->times == 1 && l->errors)
        load_fail(l, NULL, "close failed, though the image is not poisoned");
    unsigned data = 1u << AIO_READ | 1u << AIO_WRITE;
    if (!(plan->kinds & ~data) && plan->times == 1 && errors > 1)
        load_fail(l, NULL, "one failed transfer of data failed more than one request");
}

/* One run of the workload. plan NULL: nothing fails. Returns whether the fault hit. */
static bool run(struct test *t, const struct fault_plan *plan, bool broken_at_close)
{
    struct load l;
    struct disk d;
    struct strategy_stats stats = {0};
    struct error err = {""};
    int closed = 0;

    copy_image(t);
    load_start(t, &l);
    l.faulty = plan && plan->action != FAULT_SHORT;
    l.m.torn = plan && plan->action == FAULT_TORN;
    if (disk_open_files(&d, &t->o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        load_fail(&l, NULL, "the image does not open");
    }
    struct filter *filter = blk_filter(d.top->file, "fault");
    if (plan)
        fault_arm(filter, plan);
    int opened = disk_open_image(&d, &t->o, &err);
    if (!opened) {
        load_attach(&l, &d);
        load_run(&l, t->ops);
    }
    bool hit = fault_hits(filter) > 0;
    if (plan && hit) {
        struct fault_plan again = *plan;
        again.n = 0;
        fault_arm(filter, &again);
        unsigned errors = l.errors;
        if (!opened)
            load_read_all(&l);
        if (l.errors > errors)
            load_fail(&l, NULL, "reads fail though nothing does any more");
        again.n = broken_at_close && plan->times > 1;
        fault_arm(filter, &again);
    }
    if (!opened)
        closed = disk_close_image(&d, &stats);
    hit = fault_hits(filter) > 0;
    for (int kind = 0; !plan && kind < KINDS; kind++)
        t->count[kind] = fault_passed(filter, 1u << kind);
    if (disk_close_files(&d))
        load_fail(&l, NULL, "the files do not close");
    disk_stats_add(&t->sum, &stats);
    if (!hit && (opened || closed || l.errors))
        load_fail(&l, NULL, "an error without a cause");
    if (hit)
        judge_error(t, &l, plan, opened, closed, &stats);
    if (!closed && !opened)
        model_flushed(&l.m, l.m.clock);
    model_crashed(&l.m);
    check_image(t, &l, !hit);
    reopen(t, &l);
    load_free(&l);
    t->trials++;
    t->hit += hit;
    return hit;
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
};

static bool trial(struct test *t, const struct way *w, unsigned kinds, uint64_t n)
{
    struct fault_plan plan = {.kinds = kinds,
                              .n = n,
                              .times = w->times,
                              .error = w->error,
                              .action = w->action};

    snprintf(t->trial, sizeof(t->trial), "%s,%x,%" PRIu64, w->name, kinds, n);
    if (t->only && strcmp(t->only, t->trial))
        return true;
    return run(t, &plan, n % 2);
}

static void each_of(struct test *t, const struct way *w, unsigned kinds, uint64_t count)
{
    unsigned step = w->stride * t->stride;

    /* Strided, it begins elsewhere for each seed. */
    for (uint64_t n = 1 + t->seed % step; n <= count; n += step)
        if (!trial(t, w, kinds, n) && n < count / 4) {
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
        .o = {.engine = "sim", .filters = "fault", .depth = 8, .punch = true},
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
    run(t, NULL, false);
    for (int kind = 0; kind < KINDS; kind++)
        if (t->count[kind])
            printf("  %" PRIu64 " of kind %d", t->count[kind], kind);
    printf("\n");
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
        each_way(t, &ways[i]);
    printf("%" PRIu64 " trials, %" PRIu64 " hit\n", t->trials, t->hit);
    disk_stats_print(&t->sum);
    free(t->template);
    free(t->base);
    return 0;
}
