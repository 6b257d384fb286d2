/*
 * Snapshots while requests are in flight: each holds what was acknowledged before it
 * began and nothing submitted after it ended; apply replaces the disk between what came
 * before it and what comes after; and qemu-img check finds nothing.
 * ASYNCOW_SEED repeats a run.
 */
#include "tests/strategies/strategy_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- a load that remembers when it wrote what ---- */

enum {
    SECTOR = 512,
    BLOCK = 4096,
    BLOCKS = 1024,
    LANES = 12,
    WRITES = 1500,
    SNAPSHOTS = 5,
    SHARE = WRITES / (SNAPSHOTS + 1) /* of the writes, between two snapshots */
};

struct written { /* one block; stamp 0: zeros */
    uint64_t block, stamp, submitted, acked;
};
struct taken {
    char name[16];
    uint64_t begun, ended; /* when */
    bool live;
};
struct lane {
    struct guest_req g;
    struct load *load;
    struct iovec iov;
    uint64_t *buf;
    unsigned at; /* of its write */
    bool parked; /* till the snapshot is done */
};
struct load {
    struct world *w;
    uint64_t clock, random;
    struct written log[WRITES];
    unsigned logged, ended;
    bool busy[BLOCKS], idle;
    struct lane lane[LANES];
    unsigned active;
    struct guest_req snap; /* one at a time */
    struct taken taken[SNAPSHOTS];
    unsigned next, deleting; /* deleting: SNAPSHOTS: no */
    bool snapping;
    unsigned during; /* writes acknowledged while one was made */
};

static uint64_t draw(struct load *l, uint64_t n)
{
    l->random = l->random * 6364136223846793005u + 1442695040888963407u;
    return (l->random >> 33) % n;
}

static bool lane_next(struct lane *t)
{
    struct load *l = t->load;
    /* Threads may overtake a snapshot for long; all are to be taken under load. */
    t->parked = l->snapping && l->logged >= (l->next + 2) * SHARE;
    if (l->logged == WRITES || t->parked)
        return false;
    uint64_t block = draw(l, BLOCKS);
    while (l->busy[block])
        block = (block + 1) % BLOCKS;
    t->at = l->logged++;
    bool zero = draw(l, 8) == 0;
    struct written *e = &l->log[t->at];
    *e = (struct written){block, zero ? 0 : t->at + 1, ++l->clock, UINT64_MAX};
    for (unsigned i = 0; i < BLOCK / 8; i++)
        t->buf[i] = e->stamp;
    l->busy[block] = true;
    t->g.op = zero ? GUEST_ZERO : GUEST_WRITE;
    t->g.offset = block * BLOCK;
    t->g.len = BLOCK;
    l->active++;
    l->w->strategy->submit(l->w->image, &t->g);
    return true;
}

static void snap_start(struct load *l, enum guest_op op, struct taken *s)
{
    l->snap.op = op;
    l->snap.name = s->name;
    l->snapping = true;
    l->active++;
    if (op == GUEST_SNAPSHOT_CREATE)
        s->begun = ++l->clock;
    l->w->strategy->submit(l->w->image, &l->snap);
}

/* Creates one each so many writes, and deletes the one before the last. */
static void snap_next(struct load *l)
{
    if (l->snapping || l->next == SNAPSHOTS)
        return;
    if (l->ended >= (l->next + 1) * SHARE) {
        struct taken *s = &l->taken[l->next];
        snprintf(s->name, sizeof(s->name), "s%u", l->next);
        snap_start(l, GUEST_SNAPSHOT_CREATE, s);
    }
}

static void snap_done(struct guest_req *g)
{
    struct load *l = (struct load *)((char *)g - offsetof(struct load, snap));
    l->snapping = false;
    l->active--;
    if (g->result)
        fail_msg("snapshot %s: %s", g->name, strerror(-g->result));
    if (g->op == GUEST_SNAPSHOT_CREATE) {
        struct taken *s = &l->taken[l->next++];
        s->ended = ++l->clock;
        s->live = true;
        if (l->next == 3) {
            l->taken[0].live = false;
            snap_start(l, GUEST_SNAPSHOT_DELETE, &l->taken[0]);
        }
    }
    for (unsigned i = 0; i < LANES; i++)
        if (l->lane[i].parked)
            lane_next(&l->lane[i]);
    snap_next(l);
    l->idle = l->active == 0;
}

static void lane_done(struct guest_req *g)
{
    struct lane *t = (struct lane *)g;
    struct load *l = t->load;
    assert_int_equal(g->result, 0);
    l->log[t->at].acked = ++l->clock;
    l->busy[l->log[t->at].block] = false;
    l->ended++;
    l->during += l->snapping;
    l->active--;
    lane_next(t);
    snap_next(l);
    l->idle = l->active == 0;
}

/* Whether the block may hold this in a snapshot: somebody wrote it before the end, and
 * nobody after that was acknowledged before the begin. Writes of a block never
 * overlap. */
static bool may_hold(const struct load *l, uint64_t block, uint64_t stamp,
                     const struct taken *s)
{
    bool may = stamp == 0; /* as the disk was at first */
    for (unsigned i = 0; i < l->logged; i++) {
        const struct written *e = &l->log[i];
        if (e->block != block)
            continue;
        if (e->acked < s->begun)
            may = e->stamp == stamp;
        else if (e->submitted < s->ended)
            may |= e->stamp == stamp;
    }
    return may;
}

/* Sector by sector: a write in flight may be there in parts. */
static void check_snapshot(const struct load *l, const struct taken *s)
{
    uint64_t sector[SECTOR / 8];
    shell("qemu-img convert -O raw -l snapshot.name=%s top.qcow2 s.raw", s->name);
    FILE *f = fopen("s.raw", "rb");
    assert_non_null(f);
    for (uint64_t at = 0; at < (uint64_t)BLOCKS * BLOCK; at += SECTOR) {
        assert_int_equal(fread(sector, 1, SECTOR, f), SECTOR);
        for (unsigned i = 1; i < SECTOR / 8; i++)
            if (sector[i] != sector[0])
                fail_msg("snapshot %s: the sector at %llu is torn", s->name,
                         (unsigned long long)at);
        if (!may_hold(l, at / BLOCK, sector[0], s))
            fail_msg("snapshot %s: write %llu at %llu", s->name,
                     (unsigned long long)sector[0], (unsigned long long)at);
    }
    fclose(f);
}

static struct load *load_new(struct world *w)
{
    const char *seed = getenv("ASYNCOW_SEED");
    struct load *l = calloc(1, sizeof(*l));
    l->w = w;
    l->random = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    printf("ASYNCOW_SEED=%llu\n", (unsigned long long)l->random);
    l->snap.done = snap_done;
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *t = &l->lane[i];
        t->load = l;
        t->buf = malloc(BLOCK);
        t->iov = (struct iovec){t->buf, BLOCK};
        t->g = (struct guest_req){.iov = &t->iov, .iovcnt = 1, .done = lane_done};
    }
    return l;
}

static void load_run(struct load *l)
{
    for (unsigned i = 0; i < LANES; i++)
        lane_next(&l->lane[i]);
    loop_run_until(l->w->loop, &l->idle);
    for (unsigned i = 0; i < l->logged; i++) /* in order, block by block */
        for (unsigned j = 0; j < BLOCK / 8; j++)
            memcpy(l->w->model + l->log[i].block * BLOCK + 8 * j, &l->log[i].stamp, 8);
}

static void load_free(struct load *l)
{
    for (unsigned i = 0; i < LANES; i++)
        free(l->lane[i].buf);
    free(l);
}

/* ---- the tests ---- */

static void fresh(struct world *w, const char *options, uint64_t size)
{
    shell("qemu-img create -q -f qcow2 -o %s top.qcow2 %llu", options,
          (unsigned long long)size);
    world_model(w, size);
    world_open(w);
}

static void under_load(struct world *w, const char *options)
{
    fresh(w, options, (uint64_t)BLOCKS * BLOCK);
    struct load *l = load_new(w);
    load_run(l);
    assert_int_equal(l->next, SNAPSHOTS);
    assert_true(l->during > 0); /* else the load never met a snapshot */
    world_verify(w);
    assert_int_equal(world_close(w), 0);
    unsigned live = 0;
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        if (l->taken[i].live) {
            check_snapshot(l, &l->taken[i]);
            live++;
        }
    }
    assert_int_equal(live, SNAPSHOTS - 1); /* one was deleted */
    load_free(l);
    world_open(w);
}

static void large_clusters(void **state) { under_load(*state, "cluster_size=64k"); }

/* Many tables: the operation pauses and waits often. */
static void small_clusters(void **state)
{
    struct world *w = *state;
    w->cache = 64 * KIB;
    under_load(w, "cluster_size=512");
}

static void written_through(void **state)
{
    struct world *w = *state;
    w->through = true;
    under_load(w, "cluster_size=4k");
}

/* What comes before an apply ends first and is lost, what comes after it stays. */
static void apply_goes_alone(void **state)
{
    struct world *w = *state;
    fresh(w, "cluster_size=64k", 4 * MIB);
    assert_int_equal(run(w, GUEST_WRITE, 0, 2 * MIB, 1), 0);
    w->name = "kept";
    assert_int_equal(run(w, GUEST_SNAPSHOT_CREATE, 0, 0, 0), 0);
    uint8_t *kept = malloc(w->size);
    memcpy(kept, w->model, w->size);
    for (int round = 0; round < 3; round++) {
        struct job *before[6], *after[6];
        for (unsigned i = 0; i < 6; i++)
            before[i] = job_start(w, GUEST_WRITE, i * 300 * KIB, 100 * KIB, 10 + i);
        struct job *apply = job_start(w, GUEST_SNAPSHOT_APPLY, 0, 0, 0);
        for (unsigned i = 0; i < 6; i++)
            after[i] = job_start(w, GUEST_WRITE, i * 400 * KIB, 90 * KIB, 20 + i);
        run_all(w);
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(job_end(before[i]), 0);
        assert_int_equal(job_end(apply), 0);
        memcpy(w->model, kept, w->size);
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(job_end(after[i]), 0);
        world_verify(w);
    }
    assert_int_equal(run(w, GUEST_SNAPSHOT_DELETE, 0, 0, 0), 0);
    free(kept);
}

/* What can't be done says so, and the disk goes on. */
static void refusals(void **state)
{
    struct world *w = *state;
    fresh(w, "refcount_bits=1", MIB);
    assert_int_equal(run(w, GUEST_WRITE, 5000, 100 * KIB, 1), 0);
    w->name = "nope";
    assert_int_equal(run(w, GUEST_SNAPSHOT_APPLY, 0, 0, 0), -ENOENT);
    assert_int_equal(run(w, GUEST_SNAPSHOT_DELETE, 0, 0, 0), -ENOENT);
    assert_int_equal(run(w, GUEST_SNAPSHOT_CREATE, 0, 0, 0), -ERANGE);
    assert_int_equal(run(w, GUEST_WRITE, 7000, 200 * KIB, 2), 0);
    world_verify(w);
    assert_int_equal(world_close(w), 0);
    w->format = "raw";
    shell("qemu-img create -q -f raw top.raw 1M");
    world_model(w, MIB);
    world_open(w);
    assert_int_equal(run(w, GUEST_SNAPSHOT_CREATE, 0, 0, 0), -ENOTSUP);
}

/* Half a snapshot would leak: once begun it goes on to its end. */
static void cancel_comes_too_late(void **state)
{
    struct world *w = *state;
    fresh(w, "cluster_size=4k", 4 * MIB);
    assert_int_equal(run(w, GUEST_WRITE, 0, MIB, 1), 0);
    w->name = "s";
    struct job *j = job_start(w, GUEST_SNAPSHOT_CREATE, 0, 0, 0);
    loop_turn(w->loop, false);
    if (!j->done)
        w->strategy->cancel(w->image, &j->g);
    assert_int_equal(job_end(j), 0);
    assert_int_equal(run(w, GUEST_WRITE, 100, MIB, 2), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {
    T(large_clusters),   T(small_clusters), T(written_through),
    T(apply_goes_alone), T(refusals),       T(cancel_comes_too_late),
};
TEST_MAIN(tests)
