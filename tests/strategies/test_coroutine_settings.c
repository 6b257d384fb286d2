/*
 * What each setting of coroutines changes: for a lock, which I/O it is kept across,
 * told by how long requests take beside each other in virtual time, which is exact; for
 * the others, what is made.
 *
 * Some I/O is slow, DELAY each; all else takes microseconds. What a scene measures is
 * how many of the slow ones came one after the other.
 */
#include "tests/strategies/strategy_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/coroutine/coroutine.h"

enum { DELAY_NS = 10000000 };
#define REACH (32 * KIB) /* guest bytes whose entries are in one slice, below */

static struct strategy_stats stats(struct world *w)
{
    struct strategy_stats s;
    w->strategy->stats(w->image, &s);
    return s;
}

/* Opens a disk of 1M full of data with many slices, or an empty one, as set. */
static void begin(struct world *w, const char *settings, bool full, const char *filters)
{
    shell("test -f kept || (qemu-img create -q -f qcow2 -o cluster_size=512 empty 1M &&"
          " cp empty kept && qemu-io -c 'write -P 0x33 0 1M' kept); cp %s top.qcow2",
          full ? "kept" : "empty");
    world_model(w, MIB);
    memset(w->model, full ? 0x33 : 0, MIB);
    w->settings = settings;
    w->filters = filters;
    world_open(w);
}

static void end(struct world *w)
{
    assert_int_equal(world_close(w), 0);
    w->filters = NULL;
}

static uint64_t slow_ones(struct world *w, uint64_t since_ns)
{
    return (env_now_ns(w->env) - since_ns) / DELAY_NS;
}

static uint64_t all_took(struct world *w, struct job **jobs, unsigned n)
{
    uint64_t since_ns = env_now_ns(w->env);
    run_all(w);
    uint64_t slow = slow_ones(w, since_ns);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(job_end(jobs[i]), 0);
    return slow;
}

/* ---- scenes ---- */

static uint64_t cold_reads(struct world *w)
{
    struct job *jobs[4];
    begin(w, w->settings, true, "delay:metadata-read=10ms");
    for (unsigned i = 0; i < 4; i++)
        jobs[i] = job_start(w, GUEST_READ, i * 2 * REACH, 512, 0);
    uint64_t slow = all_took(w, jobs, 4);
    end(w);
    return slow;
}

static uint64_t warm_data(struct world *w, enum guest_op op, const char *filters)
{
    struct job *jobs[4];
    begin(w, w->settings, true, filters);
    assert_int_equal(run(w, GUEST_READ, 0, 8 * KIB, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, 0, 8 * KIB, 1), 0); /* refcounts are cached */
    for (unsigned i = 0; i < 4; i++)
        jobs[i] = job_start(w, op, i * 512, 512, i);
    uint64_t slow = all_took(w, jobs, 4);
    end(w);
    return slow;
}

static uint64_t warm_reads(struct world *w)
{
    return warm_data(w, GUEST_READ, "delay:data-read=10ms");
}

static uint64_t rewrites(struct world *w)
{
    return warm_data(w, GUEST_WRITE, "delay:data-write=10ms");
}

/* How long a read whose mapping is cached takes, begun just after a cold request. */
static uint64_t read_beside(struct world *w, enum guest_op cold)
{
    begin(w, w->settings, true, "delay:metadata-read=10ms");
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
    struct job *other = job_start(w, cold, 4 * REACH, 512, 1);
    loop_turn(w->loop, false);
    uint64_t since_ns = env_now_ns(w->env);
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
    uint64_t slow = slow_ones(w, since_ns);
    assert_int_equal(job_end(other), 0);
    end(w);
    return slow;
}

static uint64_t read_beside_miss(struct world *w) { return read_beside(w, GUEST_READ); }
static uint64_t read_beside_plan(struct world *w)
{
    return read_beside(w, GUEST_WRITE);
}

/* Four writes, each of which copies the rest of a cluster that a snapshot shares. */
static uint64_t copies(struct world *w)
{
    struct job *jobs[4];
    shell("qemu-img create -q -f qcow2 -o cluster_size=64k top.qcow2 1M");
    shell(
        "qemu-io -c 'write -P 0x33 0 1M' top.qcow2; qemu-img snapshot -c s top.qcow2");
    world_model(w, MIB);
    memset(w->model, 0x33, MIB);
    w->filters = "delay:data-read=10ms";
    world_open(w);
    for (unsigned i = 0; i < 4; i++) /* at the cluster's start: one copy each */
        jobs[i] = job_start(w, GUEST_WRITE, i * 64 * KIB, 512, i);
    uint64_t slow = all_took(w, jobs, 4);
    end(w);
    return slow;
}

/* Two allocating writes beside each other: how many more slow ones than alone before
 * the first is done. A completion that is a call of its own queues behind the other's
 * data. */
static uint64_t completion(struct world *w)
{
    begin(w, w->settings, false, "delay:data-write=10ms");
    struct job *a = job_start(w, GUEST_WRITE, 0, 512, 1);
    struct job *b = job_start(w, GUEST_WRITE, 512, 512, 2);
    uint64_t since_ns = env_now_ns(w->env);
    assert_int_equal(job_end(a), 0);
    uint64_t slow = slow_ones(w, since_ns);
    assert_int_equal(job_end(b), 0);
    end(w);
    return slow - 1;
}

/* A read that comes while a snapshot of many tables is being made: 1 if it has to wait
 * for the end. */
static uint64_t read_beside_snapshot(struct world *w)
{
    begin(w, w->settings, true, NULL);
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
    w->name = "one";
    struct job *snapshot = job_start(w, GUEST_SNAPSHOT_CREATE, 0, 0, 0);
    struct job *read = job_start(w, GUEST_READ, 0, 512, 0);
    assert_int_equal(job_end(read), 0);
    uint64_t waited = snapshot->done;
    assert_int_equal(job_end(snapshot), 0);
    end(w);
    return waited;
}

/* A read, mapping cached, of a cluster whose allocating write is on its way. */
static uint64_t read_of_own(struct world *w)
{
    begin(w, w->settings, false, "delay:data-write=10ms");
    assert_int_equal(run(w, GUEST_WRITE, 4 * KIB, 512, 1), 0);
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
    struct job *write = job_start(w, GUEST_WRITE, 0, 512, 2);
    loop_turn(w->loop, false);
    uint64_t since_ns = env_now_ns(w->env);
    struct job *read = job_start(w, GUEST_READ, 0, 512, 0);
    loop_run_until(w->loop, &read->done);
    uint64_t slow = slow_ones(w, since_ns);
    assert_int_equal(job_end(write), 0);
    assert_int_equal(read->g.result,
                     0); /* before the write or after it: either is right */
    free(read->buf);
    free(read);
    end(w);
    return slow;
}

static const struct scene {
    const char *name;
    uint64_t (*play)(struct world *);
} scenes[] = {
    {"cold reads", cold_reads},
    {"warm reads", warm_reads},
    {"rewrites", rewrites},
    {"a read beside a miss", read_beside_miss},
    {"a read beside a plan", read_beside_plan},
    {"copies", copies},
    {"a completion", completion},
    {"a read beside a snapshot", read_beside_snapshot},
    {"a read of what is being written", read_of_own},
};
enum { SCENES = sizeof(scenes) / sizeof(*scenes) };

static const struct {
    const char *settings;
    uint64_t slow[SCENES];
} locks[] = {
    /* clang-format off */
    /* one after the other:  cold warm rew. miss plan copies compl. snapshot own */
    {"lock=none",            {1,   1,   1,   0,   0,   1,   0,   0,       0}},
    {"lock=comutex",         {1,   1,   1,   0,   0,   1,   0,   0,       0}},
    {"hold=metadata",        {4,   1,   1,   1,   2,   1,   0,   0,       0}},
    {"lock=serialize",       {4,   4,   4,   1,   2,   4,   0,   1,       1}},
    {"lock=big",             {4,   1,   1,   1,   2,   4,   0,   1,       0}},
    {"lock=big-held",        {4,   4,   4,   1,   2,   4,   1,   1,       1}},
    {"lock=rwlock",          {1,   1,   1,   0,   0,   4,   0,   0,       0}},
    {"lock=rwlock,hold=metadata",
                             {1,   1,   1,   0,   2,   4,   0,   1,       0}},
    {"lock=entry",           {1,   1,   1,   0,   0,   1,   0,   0,       1}},
    {"lock=entry,hold=metadata",
                             {1,   1,   1,   0,   0,   1,   0,   1,       1}},
    /* The path without a coroutine gets past no lock. */
    {"fastpath=on,hold=metadata",
                             {4,   1,   1,   1,   2,   1,   0,   0,       0}},
    {"fastpath=on,lock=big", {4,   1,   1,   1,   2,   4,   0,   1,       0}},
    {"fastpath=on,lock=rwlock,hold=metadata",
                             {1,   1,   1,   0,   2,   4,   0,   1,       0}},
    {"fastpath=on,lock=entry,hold=metadata",
                             {1,   1,   1,   0,   0,   1,   0,   1,       1}},
    /* clang-format on */
};

static void what_a_lock_is_kept_across(void **state)
{
    struct world *w = *state;
    unsigned wrong = 0;
    for (unsigned i = 0; i < sizeof(locks) / sizeof(*locks); i++) {
        for (unsigned j = 0; j < SCENES; j++) {
            w->settings = locks[i].settings;
            uint64_t slow = scenes[j].play(w);
            if (slow == locks[i].slow[j])
                continue;
            print_error("%s: %s: %llu one after the other, %llu expected\n",
                        locks[i].settings, scenes[j].name, (unsigned long long)slow,
                        (unsigned long long)locks[i].slow[j]);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

/* lock=none is not a mutex that happens to be free. */
static void none_takes_no_lock(void **state)
{
    struct world *w = *state;
    static const char *const settings[] = {"lock=none", "lock=comutex"};
    for (unsigned i = 0; i < 2; i++) {
        begin(w, settings[i], false, NULL);
        assert_int_equal(run(w, GUEST_WRITE, 0, 512, 1), 0);
        assert_int_equal(stats(w).locks > 0, i);
        end(w);
    }
}

/* Two cold reads of one cluster: with hold=metadata the second queues at the entry,
 * else in the core, for the slice. */
static void entry_holds_the_entry(void **state)
{
    struct world *w = *state;
    static const char *const settings[] = {"lock=entry", "lock=entry,hold=metadata"};
    for (unsigned i = 0; i < 2; i++) {
        begin(w, settings[i], true, "delay:metadata-read=10ms");
        struct job *a = job_start(w, GUEST_READ, 0, 512, 0);
        struct job *b = job_start(w, GUEST_READ, 0, 512, 0);
        assert_int_equal(job_end(a), 0);
        assert_int_equal(job_end(b), 0);
        assert_int_equal(stats(w).top.slice_waits > 0, !i);
        assert_int_equal(stats(w).lock_waits > 0, i);
        end(w);
    }
}

/* ---- fastpath ---- */

static uint64_t coroutines(struct world *w, enum guest_op op, uint64_t at, uint64_t len)
{
    uint64_t before = stats(w).coroutines;
    assert_int_equal(run(w, op, at, len, 7), 0);
    return stats(w).coroutines - before;
}

/* All locks that let the setting be: the path must look at each. */
static void a_cached_mapping_takes_no_coroutine(void **state)
{
    struct world *w = *state;
    static const char *const with[] = {"comutex", "big", "rwlock", "entry", "none"};
    char settings[64];
    for (unsigned i = 0; i < 2 * sizeof(with) / sizeof(*with); i++) {
        bool fast = i % 2;
        snprintf(settings, sizeof(settings), "lock=%s,fastpath=%s", with[i / 2],
                 fast ? "on" : "off");
        begin(w, settings, true, NULL);
        assert_int_equal(coroutines(w, GUEST_READ, 0, 512), 1); /* a miss */
        assert_int_equal(coroutines(w, GUEST_READ, 0, 512), !fast);
        assert_int_equal(coroutines(w, GUEST_READ, 100, 4000), !fast);
        assert_int_equal(coroutines(w, GUEST_WRITE, 0, 512), 1); /* refcounts missed */
        assert_int_equal(coroutines(w, GUEST_WRITE, 0, 512), !fast);
        assert_int_equal(coroutines(w, GUEST_DISCARD, 0, 512), 1);
        memset(w->model, 0, 512);
        assert_int_equal(coroutines(w, GUEST_READ, 0, 512), !fast); /* a hole */
        assert_int_equal(coroutines(w, GUEST_WRITE, 0, 512), 1);    /* allocates */
        assert_int_equal(coroutines(w, GUEST_FLUSH, 0, 0), 1);
        end(w);
    }
}

static void raw_takes_no_coroutine(void **state)
{
    struct world *w = *state;
    static const enum guest_op ops[] = {GUEST_WRITE, GUEST_READ, GUEST_ZERO,
                                        GUEST_FLUSH};
    w->format = "raw";
    for (int fast = 0; fast < 2; fast++) {
        shell("qemu-img create -q -f raw top.raw 1M");
        world_model(w, MIB);
        w->settings = fast ? "fastpath=on" : "fastpath=off";
        world_open(w);
        for (unsigned i = 0; i < sizeof(ops) / sizeof(*ops); i++)
            assert_int_equal(coroutines(w, ops[i], 512, 4096), !fast);
        world_verify(w);
        assert_int_equal(world_close(w), 0);
    }
}

/* What is on its way without a coroutine can be cancelled, and fails, as any other. */
static void a_fast_request_ends_early_too(void **state)
{
    struct world *w = *state;
    begin(w, "fastpath=on", true, "delay:data-read=10ms,data-write=10ms");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
        assert_int_equal(run(w, GUEST_WRITE, 0, 512, 3), 0);
    }
    enum guest_op ops[] = {GUEST_READ, GUEST_WRITE};
    for (int i = 0; i < 2; i++) {
        uint64_t before = stats(w).coroutines;
        struct job *j = job_start(w, ops[i], 0, 512, 3); /* the bytes that are there */
        loop_turn(w->loop, false);
        w->strategy->cancel(w->image, &j->g);
        int ret = job_end(j);
        assert_true(ret == -ECANCELED || ret == 0);
        assert_int_equal(stats(w).coroutines, before);
    }
    end(w);
}

/* ---- backend, pool ---- */

static void the_back_end_is_the_one_asked_for(void **state)
{
    struct world *w = *state;
    const char *before = co_backend(), *name;
    char settings[64];
    for (unsigned i = 0; (name = co_backend_name(i, NULL)); i++) {
        struct error err = {""};
        if (co_set_backend(name, &err) < 0)
            continue; /* not under this sanitizer; not on this machine */
        assert_int_equal(co_set_backend(before, &err), 0);
        snprintf(settings, sizeof(settings), "backend=%s", name);
        begin(w, settings, false, NULL);
        assert_string_equal(co_backend(), name);
        assert_int_equal(coroutines(w, GUEST_WRITE, 0, 5000), 1);
        end(w);
        assert_string_equal(co_backend(), before);
    }
}

/* How many stacks stay after eight requests were in flight together. */
static void the_pool_keeps_what_it_may(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *settings;
        unsigned least, most;
    } pools[] = {{"pool=0", 0, 1}, {"pool=3", 1, 3}, {"pool=100", 8, 100}};
    struct co_usage usage, before;
    co_usage(&before);
    for (unsigned i = 0; i < sizeof(pools) / sizeof(*pools); i++) {
        begin(w, pools[i].settings, true, "delay:data-read=10ms");
        struct job *jobs[8];
        for (unsigned j = 0; j < 8; j++)
            jobs[j] = job_start(w, GUEST_READ, j * 512, 512, 0);
        all_took(w, jobs, 8);
        for (int turns = 0; turns < 3000; turns++) /* it gives back late, and slowly */
            loop_turn(w->loop, false);
        co_usage(&usage);
        assert_in_range(usage.stacks_idle, pools[i].least, pools[i].most);
        end(w);
        co_usage(&usage);
        assert_int_equal(usage.pool_limit, before.pool_limit);
    }
}

/* ---- what does not go together ---- */

static void contradictions_are_refused(void **state)
{
    struct world *w = *state;
    static const char *const both[][2] = {
        {"lock=tiny", "serialize|big"},
        {"hold=none,lock=big", "hold"},
        {"hold=none,lock=serialize", "hold"},
        {"hold=metadata,lock=none", "hold"},
        {"fastpath=on,lock=serialize", "fastpath"},
        {"fastpath=on,lock=big-held", "fastpath"},
        {"backend=goto", "asm|ucontext|sigaltstack|thread"},
        {"pool=-1", "0..1000000"},
    };
    begin(w, NULL, false, NULL);
    end(w);
    for (unsigned i = 0; i < sizeof(both) / sizeof(*both); i++) {
        struct error err = {""};
        struct strategy_image *image;
        struct strategy_options so = {
            .loop = w->loop, .engine = &w->engine, .settings = both[i][0], .depth = 1};
        assert_int_equal(w->strategy->open(&image, &so, &err), -EINVAL);
        if (!strstr(err.msg, both[i][1]))
            fail_msg("%s: %s", both[i][0], err.msg);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {
    T(what_a_lock_is_kept_across),
    T(none_takes_no_lock),
    T(entry_holds_the_entry),
    T(a_cached_mapping_takes_no_coroutine),
    T(raw_takes_no_coroutine),
    T(a_fast_request_ends_early_too),
    T(the_back_end_is_the_one_asked_for),
    T(the_pool_keeps_what_it_may),
    T(contradictions_are_refused),
};
TEST_MAIN(tests)
