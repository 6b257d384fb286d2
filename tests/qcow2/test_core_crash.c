/*
 * Crashes: wherever a random workload stands, every image that a crash may leave then
 * is free of corruption for us (and, of a sample, for QEMU); what a flush covered reads
 * back, of all else each sector is old or new, and a snapshot that was made is there
 * and holds what it held. ASYNCOW_SEED repeats a run; arguments: [images [config]], how
 * many different images there must be.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/qcow2/guest.h"

enum { SNAPSHOTS = 4 };

struct run {
    struct guest g; /* first: it is what tasks get */
    struct expect expect;
    struct expect_snapshot snapshot[SNAPSHOTS];
};
static struct crash_tally tally;
static struct qcow2_stats sum;
static unsigned died; /* requests, with their I/O in flight */

static void point(struct world *w)
{
    struct run *r = w->opaque;
    crash_point(w->crash, &r->expect);
}

/* ---- snapshots that come and go meanwhile ---- */

static void make_snapshot(struct task *t, struct run *r, unsigned i)
{
    struct expect_snapshot *s = &r->snapshot[i];
    char name[8];

    snprintf(name, sizeof(name), "c%u", i);
    expect_begin(s, name, &r->g.m);
    r->expect.in_snapshot = true;
    int ret = guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, s->name);
    r->expect.in_snapshot = false;
    if (ret) {
        assert(ret == -ERANGE);
        return;
    }
    expect_made(s, &r->g.m);
    crash_promised(t->w->crash);
}

static void drop_snapshot(struct task *t, struct run *r, unsigned i)
{
    r->snapshot[i].must = false;
    r->expect.in_snapshot = true;
    if (guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, r->snapshot[i].name))
        abort();
    r->expect.in_snapshot = false;
}

/* The first task makes and drops snapshots, the others are guests. */
static void with_snapshots(struct task *t)
{
    struct run *r = t->arg;

    if (t != t->w->tasks) {
        guest_work(t);
        return;
    }
    for (unsigned i = r->expect.nsnapshots; i < SNAPSHOTS; i++) {
        for (uint64_t n = world_random(t->w, 30); n; n--)
            world_pause(t);
        r->expect.nsnapshots = i + 1;
        make_snapshot(t, r, i);
        for (uint64_t n = world_random(t->w, 30); n; n--)
            world_pause(t);
        if (r->snapshot[i].must && world_random(t->w, 3))
            drop_snapshot(t, r, i);
    }
}

/* The one that was there from the beginning. */
static void expect_first_snapshot(struct run *r, struct inspect *in)
{
    if (!r->g.config->snapshot)
        return;
    r->snapshot[0] = (struct expect_snapshot){
        .name = "one", .bytes = malloc(r->g.size), .must = true};
    inspect_read(in, "one", r->snapshot[0].bytes, r->g.size);
    r->expect.nsnapshots = 1;
}

/* ---- one workload ---- */

static void shape(struct guest *g, struct world *w)
{
    static const unsigned most[] = {2, 8, 8, 40}, flushes[] = {3, 5, 10, 30};

    g->ops = 4 + (unsigned)world_random(w, 10);
    g->most = most[world_random(w, 4)];
    g->flushes = flushes[world_random(w, 4)];
}

static void workload(const struct config *c, uint64_t seed)
{
    /* Subsets by the ten thousand for some, many workloads for all. */
    struct crash_options o = {.exhaust = seed % 4 ? 9 : 16,
                              .samples = 60,
                              .qemu_every = 5000,
                              .budget = 12000,
                              .seed = seed};
    struct run r = {.expect.snapshots = r.snapshot};
    struct world w;

    guest_init(&r.g, c, &w, seed);
    r.expect.model = &r.g.m;
    struct inspect *in = inspect_new(w.backing, w.backing_size);
    w.crash = crash_new(in, w.file, w.size, &o, &tally);
    expect_first_snapshot(&r, in);
    w.after_step = point;
    w.opaque = &r;
    shape(&r.g, &w);
    bool snapshots = seed % 3 == 0 && !strstr(c->options, "refcount_bits=1");
    guest_run(&r.g, &w, guest_open, 1);
    w.verify = false;
    w.deaths = seed % 5 == 2 ? 16 : 0;
    guest_run(&r.g, &w, snapshots ? with_snapshots : guest_work,
              1 + snapshots + (unsigned)world_random(&w, 4));
    guest_run(&r.g, &w, guest_close, 1);
    r.expect.no_leaks = !c->full;
    inspect_set(in, w.file, w.size);
    if (!inspect_look(in, &r.expect))
        abort();
    for (size_t i = 0; i < sizeof(sum) / sizeof(uint64_t); i++)
        ((uint64_t *)&sum)[i] += ((uint64_t *)&r.g.totals)[i];
    died += w.died;
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        expect_free(&r.snapshot[i]);
    crash_free(w.crash);
    inspect_free(in);
    guest_free(&r.g, &w);
}

static unsigned taken(const char *name, uint64_t n) /* 1: it was */
{
    printf("  %-16s %" PRIu64 "\n", name, n);
    return n != 0;
}

static bool rare_paths(void)
{
    return taken("sampled", tally.sampled) & taken("torn", tally.torn) &
           taken("mended", tally.mended) & taken("asked", tally.asked) &
           taken("new_refblocks", sum.new_refblocks) &
           taken("table_moves", sum.table_moves) & taken("new_l2", sum.new_l2) &
           taken("l2_copies", sum.l2_copies) & taken("limbo_reuse", sum.limbo_reuse) &
           taken("punches", sum.punches) & taken("cow_shared", sum.cow_shared) &
           taken("cow_backing", sum.cow_backing) &
           taken("cow_compressed", sum.cow_compressed) & taken("grows", sum.grows) &
           taken("sync_joins", sum.sync_joins) &
           taken("shadow_copies", sum.shadow_copies) &
           taken("snapshots", sum.snapshots) & taken("died", died);
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    uint64_t images = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, n = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    guest_dir();
    for (; tally.images < images && n < 100 + images / 100; n++) {
        const struct config *c = &small_configs[n % nsmall];
        uint64_t before = tally.images;
        if (argc > 2 && strcmp(argv[2], c->name))
            continue;
        if (getenv("ASYNCOW_VERBOSE"))
            printf("%s, workload %" PRIu64 "\n", c->name, n);
        workload(c, seed + n);
        if (getenv("ASYNCOW_VERBOSE"))
            printf("  %" PRIu64 " images\n", tally.images - before);
    }
    guest_done();
    crash_tell(&tally, "the core");
    if (tally.images < images) {
        printf("%" PRIu64 " workloads are too few for %" PRIu64 " images\n", n, images);
        return 1;
    }
    /* Fewer images need not have been everywhere. */
    return rare_paths() || images < 500000 ? 0 : 1;
}
