/*
 * Every host I/O and every allocation of a workload fails in turn: once, or from then
 * on; or two of them, every pair there is. Nobody hangs, somebody hears of it, reads
 * that succeed are right; afterwards the image has no corruption, everything flushed is
 * there and the rest is old or new; and it can be opened and written to again.
 *
 * Linked with --wrap for the allocator: while the core runs, its allocations are
 * counted and fail; those of the test itself (compiled to call the real one) never do.
 * ASYNCOW_SEED repeats a run; arguments: [stride [config [words]]],
 * the words of the trial that failed, or some of them.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/qcow2/guest.h"
#include "tests/qcow2/memory.h"

struct fault {
    const char *name;
    int error, also; /* also: of the j-th */
    bool forever, torn, allocation;
    uint64_t k, j; /* the k-th and the j-th; j 0: that one only */
};
struct seen { /* of a run without faults */
    uint64_t ios, allocations;
};
static const struct fault ways[] = {
    {.name = "eio once", .error = -EIO},
    {.name = "enospc once, torn", .error = -ENOSPC, .torn = true},
    {.name = "eagain once", .error = -EAGAIN},
    {.name = "eio for ever", .error = -EIO, .forever = true},
    {.name = "enospc for ever", .error = -ENOSPC, .forever = true},
    {.name = "no memory once", .error = -ENOMEM, .allocation = true},
    {.name = "no memory for ever",
     .error = -ENOMEM,
     .allocation = true,
     .forever = true},
};
/* Short transfers never get here: who does the I/O goes on with the rest. */
static const struct fault pairs[] = {
    {.name = "a pair: eio, eio", .error = -EIO, .also = -EIO},
    {.name = "a pair: enospc, eio; torn", .error = -ENOSPC, .also = -EIO, .torn = true},
    {.name = "a pair: eagain, enospc", .error = -EAGAIN, .also = -ENOSPC},
    {.name = "a pair: eio, eagain; torn", .error = -EIO, .also = -EAGAIN, .torn = true},
};
static uint64_t trials, hits, poisoned;
static struct inspect *in;
static char now[128];    /* the trial, in words */
static const char *only; /* those whose words have this; NULL: all */

static void tell_trial(int sig)
{
    fprintf(stderr, "after %" PRIu64 " trials: %s in the trial: %s\n", trials,
            sig == SIGALRM ? "it hangs" : "it failed", now);
    signal(SIGABRT, SIG_DFL);
    if (sig == SIGALRM)
        abort();
}

/* ---- the workload ---- */

static void armed(struct task *t)
{
    memory.on = true;
    guest_work(t);
}

static void opens(struct task *t)
{
    struct guest *g = t->arg;
    memory.on = true;
    int ret = world_open(t->w, t, DEPTH + 2, 0, t->w->rng & 1 << 20);
    memory.on = false;
    if (ret)
        g->errors++;
}

static void closes(struct task *t)
{
    memory.on = true;
    guest_close(t);
}

/* The first one makes a snapshot and drops it, the others are guests. */
static void snapshots(struct task *t)
{
    struct guest *g = t->arg;
    if (t != t->w->tasks) {
        armed(t);
        return;
    }
    memory.on = true;
    int ret = guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, "s");
    g->errors += ret && ret != -ERANGE;
    if (!ret)
        ret = guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, "s");
    g->errors += ret && ret != -ERANGE;
}

static void run(struct guest *g, struct world *w, void (*fn)(struct task *), unsigned n)
{
    guest_run(g, w, fn, n);
    memory.on = false;
}

static void arm(struct world *w, const struct fault *f)
{
    memory.n = memory.failures = memory.fail_at = 0;
    w->fail_at = 0;
    w->fail_err = f->error;
    w->fail_forever = memory.forever = f->forever;
    w->fail_torn = f->torn;
    w->also_at = f->j;
    w->also_err = f->also;
    *(f->allocation ? &memory.fail_at : &w->fail_at) = f->k;
}

static void disarm(struct world *w) { w->fail_at = w->also_at = memory.fail_at = 0; }

/* What is on the disk is as good as promised, and goes on to be of use. */
static void afterwards(struct guest *g, struct world *w, bool in_snapshot)
{
    struct expect e = {.model = &g->m, .in_snapshot = in_snapshot};

    inspect_set(in, w->file, w->size);
    if (!inspect_look(in, &e))
        abort();
    disarm(w);
    if (in_snapshot) /* a deletion that failed may need the repair that was just tried */
        return;
    model_crashed(&g->m);
    g->may_fail = false;
    g->ops = 6;
    guest_run(g, w, guest_open, 1);
    w->verify = false;
    guest_run(g, w, guest_work, 3);
    guest_run(g, w, guest_close, 1);
    inspect_set(in, w->file, w->size);
    if (!inspect_look(in, &e))
        abort();
}

static struct seen trial(const struct config *c, uint64_t seed, const struct fault *f)
{
    bool with_snapshots = seed % 2 && c->snapshot;
    struct guest g;
    struct world w;
    struct seen seen = {0};

    snprintf(now, sizeof(now), "%s seed %" PRIu64 ", %s k=%" PRIu64 " j=%" PRIu64,
             c->name, seed, f->name, f->k, f->j);
    if (only && f->k && f->k != UINT64_MAX && !strstr(now, only))
        return seen;
    alarm(120);
    guest_init(&g, c, &w, seed);
    g.may_fail = true;
    g.ops = f->j ? 1 : 8;
    g.most = 24;
    g.flushes = 6;
    arm(&w, f);
    run(&g, &w, opens, 1);
    w.verify = w.q && trials % 16 == 0;
    if (w.q) {
        run(&g, &w, with_snapshots ? snapshots : armed, f->j ? 2 : 4);
        unsigned errors = g.errors;
        if (!f->forever) { /* reads go on, and show what was acknowledged */
            disarm(&w);
            run(&g, &w, guest_work, 4);
        }
        g.errors = errors;
        w.verify = false;
        run(&g, &w, closes, 1);
    }
    seen = (struct seen){w.ios, memory.n};
    poisoned += g.totals.poisoned;
    bool loud = w.failures > w.silent;
    bool hit = w.failures || memory.failures;
    if (loud && !g.errors) {
        fprintf(stderr, "the error reached nobody\n");
        abort();
    }
    if (!hit && g.errors) {
        fprintf(stderr, "an error without a cause\n");
        abort();
    }
    afterwards(&g, &w, with_snapshots);
    guest_free(&g, &w);
    trials++;
    hits += hit;
    return seen;
}

static void every_one(const struct config *c, uint64_t seed, uint64_t stride)
{
    struct fault none = {.name = "nothing fails"};
    struct seen all = trial(c, seed, &none);

    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
        struct fault f = ways[i];
        uint64_t n = f.allocation ? all.allocations : all.ios;
        for (f.k = 1 + seed % stride; f.k <= n; f.k += stride)
            trial(c, seed, &f);
    }
}

/* Two requests, and all pairs of their I/Os. */
static void every_pair(const struct config *c, const struct fault *how, uint64_t seed,
                       uint64_t stride)
{
    struct fault f = *how;

    f.k = f.j = UINT64_MAX;
    uint64_t n = trial(c, seed, &f).ios, skip = 0;

    for (f.k = 1; f.k <= n; f.k++)
        for (f.j = f.k + 1; f.j <= n + 8; f.j++)
            if (skip++ % stride == 0)
                trial(c, seed, &f);
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    uint64_t stride = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;

    only = argc > 3 ? argv[3] : NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    signal(SIGABRT, tell_trial);
    signal(SIGALRM, tell_trial);
    guest_dir();
    for (unsigned i = 0; i < nsmall; i++) {
        const struct config *c = &small_configs[i];
        struct guest g;
        struct world w;
        uint64_t before = trials;
        if (argc > 2 && strcmp(argv[2], c->name))
            continue;
        guest_init(&g, c, &w, seed);
        in = inspect_new(w.backing, w.backing_size);
        guest_free(&g, &w);
        every_one(c, seed + i, stride); /* with snapshots and without */
        every_one(c, seed + i + 1, stride);
        uint64_t ones = trials;
        for (unsigned k = 0; k < sizeof(pairs) / sizeof(*pairs); k++)
            every_pair(c, &pairs[k], seed + i + 100 * k, stride);
        inspect_free(in);
        printf("%s: %" PRIu64 " single faults, %" PRIu64 " pairs\n", c->name,
               ones - before, trials - ones);
    }
    guest_done();
    printf("%" PRIu64 " trials, %" PRIu64 " hit, %" PRIu64 " images poisoned\n", trials,
           hits, poisoned);
    return hits && poisoned ? 0 : 1;
}
