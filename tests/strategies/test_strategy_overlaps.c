/*
 * Requests that meet in one cluster, or in one slice of metadata, do not harm each
 * other: no byte that was acknowledged is lost, none turns up elsewhere.
 */
#include "tests/strategies/strategy_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fresh(struct world *w, const char *options, uint64_t size)
{
    shell("qemu-img create -q -f qcow2 -o %s top.qcow2 %llu", options,
          (unsigned long long)size);
    world_model(w, size);
    world_open(w);
}

static struct strategy_stats stats(struct world *w)
{
    struct strategy_stats s;
    w->strategy->stats(w->image, &s);
    return s;
}

static bool is_set(struct world *w, const char *what)
{
    return w->settings && strstr(w->settings, what);
}

/* Each copies what the other one writes, so one must wait for the other. */
static void two_allocate_one_cluster(void **state)
{
    struct world *w = *state;
    w->filters = "delay:data-write=20ms";
    fresh(w, "cluster_size=64k", MIB);
    struct job *a = job_start(w, GUEST_WRITE, 0, 10000, 1);
    struct job *b = job_start(w, GUEST_WRITE, 20000, 10000, 2);
    struct job *c = job_start(w, GUEST_WRITE, 40000, 10000, 3);
    assert_int_equal(job_end(a), 0);
    assert_int_equal(job_end(b), 0);
    assert_int_equal(job_end(c), 0);
    /* In the core, or before it: in the lock's own queue, or in that of all
     * requests. */
    bool queue = is_set(w, "lock=serialize") || is_set(w, "lock=entry");
    bool meet = !queue && !is_set(w, "freeze=whole");
    assert_int_equal(stats(w).top.overlap_waits > 0, meet);
    if (queue || meet)
        assert_true((queue ? stats(w).lock_waits : stats(w).wakeups) > 0);
}

/* The discard frees the cluster that a rewrite in flight is on its way to; what is then
 * allocated must not be that cluster, or the rewrite would land in it. */
static void discard_under_rewrite(void **state)
{
    struct world *w = *state;
    w->filters = "delay:data-write=2ms";
    fresh(w, "cluster_size=64k", MIB);
    for (int round = 0; round < 5; round++) {
        assert_int_equal(run(w, GUEST_WRITE, 0, 64 * KIB, 1), 0);
        assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
        struct job *rewrite = job_start(w, GUEST_WRITE, 0, 4096, 2);
        while (stats(w).top.discards == (uint64_t)round) { /* until it has met it */
            assert_int_equal(run(w, GUEST_DISCARD, 0, 64 * KIB, 0), 0);
            assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
        }
        struct job *other = job_start(w, GUEST_WRITE, 512 * KIB, 64 * KIB, 3);
        job_end(rewrite);
        assert_int_equal(job_end(other), 0);
        /* Rewrite and discard were in flight together: either may have come last. */
        struct job *look = job_start(w, GUEST_WRITE, 0, 64 * KIB, 4);
        assert_int_equal(job_end(look), 0);
        assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
        assert_int_equal(run(w, GUEST_DISCARD, 512 * KIB, 64 * KIB, 0), 0);
        memset(w->model + 512 * KIB, 0, 64 * KIB);
        assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
    }
}

/* Four cold reads whose metadata is in four slices. A lock kept across metadata I/O
 * makes them wait for each other, and so do a frozen queue and a loop that stands
 * still; else their reads overlap.
 * Told by virtual time, which is exact. */
static void cold_reads_wait_only_if_held(void **state)
{
    struct world *w = *state;
    const uint64_t delay_ns = 10000000, reach = 32 * KIB; /* of a slice */
    bool held = !strcmp(w->strategy->name, "freeze-thaw") ||
                is_set(w, "metadata=sync") ||
                (is_set(w, "hold=metadata") && /* reads don't share, or not all */
                 (!strcmp(w->strategy->name, "threadpool") ||
                  !(is_set(w, "lock=rwlock") || is_set(w, "lock=entry")))) ||
                is_set(w, "lock=big") || is_set(w, "lock=serialize");
    unsigned at_once = is_set(w, "workers=2") ? 2 : 4;
    if (!w->env->simulated)
        return;
    shell("qemu-img create -q -f qcow2 -o cluster_size=512 top.qcow2 1M");
    shell("qemu-io -c 'write -P 0x33 0 1M' top.qcow2");
    world_model(w, MIB);
    memset(w->model, 0x33, MIB);
    w->filters = "delay:metadata-read=10ms";
    world_open(w);
    struct job *jobs[4];
    uint64_t began_ns = env_now_ns(w->env);
    for (unsigned i = 0; i < 4; i++)
        jobs[i] = job_start(w, GUEST_READ, i * 2 * reach, 512, 0);
    run_all(w);
    uint64_t took_ns = env_now_ns(w->env) - began_ns;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(job_end(jobs[i]), 0);
    assert_int_equal(took_ns / delay_ns, held ? 4 : 4 / at_once);
    w->filters = NULL;
}

/* --- a crowd ---------------------------------------------------------------------- */

enum { CROWD = 24, CELL = 1000 };

static uint64_t seed;

static unsigned draw(unsigned n) /* xorshift64* */
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (unsigned)((seed * 2685821657736338717u >> 33) % n);
}

static bool taken(struct job **jobs, uint64_t offset, uint64_t len)
{
    for (int i = 0; i < CROWD; i++)
        if (jobs[i] && jobs[i]->g.offset < offset + len &&
            offset < jobs[i]->g.offset + jobs[i]->g.len)
            return true;
    return false;
}

/* Starts something on bytes that nobody else in flight touches; NULL: none found. */
static struct job *join(struct world *w, struct job **jobs, unsigned n,
                        uint64_t cluster)
{
    static const enum guest_op ops[] = {GUEST_WRITE, GUEST_WRITE,   GUEST_WRITE,
                                        GUEST_READ,  GUEST_READ,    GUEST_ZERO,
                                        GUEST_ZERO,  GUEST_DISCARD, GUEST_FLUSH};
    enum guest_op op = ops[draw(sizeof(ops) / sizeof(*ops))];
    uint64_t offset = draw((unsigned)w->size - 1), len = 1 + draw(3 * CELL);
    if (draw(8) == 0)
        len = 1 + draw((unsigned)cluster * 6);
    if (op == GUEST_DISCARD) { /* whole clusters: what then is read is certain */
        offset -= offset % cluster;
        len = cluster * (1 + draw(4));
    }
    if (op == GUEST_FLUSH)
        offset = len = 0;
    if (len > w->size - offset)
        len = w->size - offset;
    if (op == GUEST_DISCARD && (len % cluster || len == 0))
        return NULL;
    return taken(jobs, offset, len) ? NULL : job_start(w, op, offset, len, n);
}

static void leave(struct world *w, struct job *j)
{
    struct guest_req g = j->g;
    assert_int_equal(job_end(j), 0);
    if (g.op == GUEST_DISCARD)
        memset(w->model + g.offset, 0, g.len);
}

static void crowd(struct world *w, uint64_t cluster, unsigned count)
{
    struct job *jobs[CROWD] = {NULL};
    const char *given = getenv("ASYNCOW_SEED");
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)getpid() * 7919 + 1;
    printf("ASYNCOW_SEED=%llu\n", (unsigned long long)seed);
    for (unsigned n = 0; n < count; n++) {
        struct job **j = &jobs[draw(CROWD)];
        if (*j)
            leave(w, *j);
        *j = NULL;
        *j = join(w, jobs, n, cluster);
    }
    for (int i = 0; i < CROWD; i++)
        if (jobs[i])
            leave(w, jobs[i]);
    assert_false(stats(w).poisoned);
    world_verify(w);
}

static void crowd_small_clusters(void **state)
{
    struct world *w = *state;
    w->cache = 0; /* as small as it goes: slices come and go */
    fresh(w, "cluster_size=512,refcount_bits=16", 2 * MIB);
    crowd(w, 512, 1500);
}

static void crowd_through(void **state)
{
    struct world *w = *state;
    w->through = true;
    fresh(w, "cluster_size=4k", MIB);
    crowd(w, 4096, 1500);
}

static void crowd_few_clusters(void **state)
{
    struct world *w = *state;
    w->filters = "delay:data-write=uniform(1us,50us),metadata-write=uniform(1us,100us)";
    fresh(w, "cluster_size=64k", 512 * KIB);
    crowd(w, 64 * KIB, 1500);
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {
    T(two_allocate_one_cluster),
    T(discard_under_rewrite),
    T(cold_reads_wait_only_if_held),
    T(crowd_small_clusters),
    T(crowd_through),
    T(crowd_few_clusters),
};
TEST_MAIN(tests)
