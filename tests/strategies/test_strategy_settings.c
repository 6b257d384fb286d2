/*
 * Each setting changes what it says, and nothing else does: where the loop stands
 * still, whom a frozen queue keeps out, who keeps a worker while it waits, who gets a
 * lock next. Told by virtual time, which is exact. What a lock is held across is in
 * test_strategy_overlaps.c.
 */
#include "tests/strategies/strategy_test.h"

#include <stdlib.h>
#include <string.h>

enum { MS = 1000000, REACH = 32 << 10 }; /* ns; guest bytes of a slice of L2 */

static bool has(const struct world *w, const char *setting)
{
    return w->settings && strstr(w->settings, setting);
}

static bool is(const struct world *w, const char *strategy)
{
    return !strcmp(w->strategy->name, strategy);
}

static struct strategy_stats stats(struct world *w)
{
    struct strategy_stats s;
    w->strategy->stats(w->image, &s);
    return s;
}

/* A full disk with many slices of L2; none is in memory yet. */
static void cold(struct world *w, const char *filters)
{
    shell("qemu-img create -q -f qcow2 -o cluster_size=512 top.qcow2 1M");
    shell("qemu-io -c 'write -P 0x33 0 1M' top.qcow2");
    world_model(w, MIB);
    memset(w->model, 0x33, MIB);
    w->filters = filters;
    world_open(w);
}

/* --- time --- */

struct alarm {
    struct loop_timer timer;
    struct env *env;
    bool rang;
    uint64_t rang_ns;
};

static void ring(struct loop_timer *timer)
{
    struct alarm *a = (struct alarm *)timer;
    a->rang = true;
    a->rang_ns = env_now_ns(a->env);
}

/* Rings `after` ns from now; rang_ns says when it could. */
static void arm(struct world *w, struct alarm *a, uint64_t after)
{
    *a = (struct alarm){.timer = {.fn = ring}, .env = w->env};
    loop_timer_arm(w->loop, &a->timer, env_now_ns(w->env) + after);
}

static void pass(struct world *w, uint64_t ns)
{
    struct alarm a;
    arm(w, &a, ns);
    loop_run_until(w->loop, &a.rang);
}

struct timed { /* a request that notes when it ended, and after how many others */
    struct guest_req g;
    struct world *w;
    struct iovec iov;
    char buf[512];
    uint64_t ended_ns;
    unsigned place;
};
static unsigned places;

static void timed_done(struct guest_req *g)
{
    struct timed *t = (struct timed *)g;
    assert_int_equal(g->result, 0);
    t->ended_ns = env_now_ns(t->w->env);
    t->place = places++;
    t->w->idle = --t->w->pending == 0;
}

static void start(struct world *w, struct timed *t, enum guest_op op, uint64_t offset,
                  uint64_t len)
{
    *t = (struct timed){.w = w, .iov = {t->buf, len}};
    t->g = (struct guest_req){.op = op,
                              .offset = offset,
                              .len = len,
                              .iov = &t->iov,
                              .iovcnt = 1,
                              .done = timed_done};
    memset(t->buf, 0x33, sizeof(t->buf));
    w->pending++;
    w->idle = false;
    w->strategy->submit(w->image, &t->g);
}

/* --- callbacks:metadata=sync --- */

/* The loop turns while metadata is on its way, unless it is synchronous; while data is,
 * always. */
static void loop_turns_during_io(void **state)
{
    struct world *w = *state;
    struct alarm a;
    struct timed t;
    cold(w, "delay:metadata-read=10ms,data-read=5ms");
    uint64_t began_ns = env_now_ns(w->env);
    arm(w, &a, MS);
    start(w, &t, GUEST_READ, 4 * REACH, 512);
    run_all(w);
    if (has(w, "metadata=sync"))
        assert_in_range(a.rang_ns - began_ns, 10 * MS, 11 * MS);
    else
        assert_int_equal(a.rang_ns - began_ns, MS);
    assert_in_range(t.ended_ns - began_ns, 15 * MS, 16 * MS);

    began_ns = env_now_ns(w->env);
    arm(w, &a, MS);
    start(w, &t, GUEST_READ, 4 * REACH + 512, 512); /* the same slice */
    run_all(w);
    assert_int_equal(a.rang_ns - began_ns, MS);
    assert_in_range(t.ended_ns - began_ns, 5 * MS, 6 * MS);
}

/* The guest writes into the block at which a direct file ends, so nothing may grow the
 * file meanwhile; the next request's metadata must. It waits, but not with the loop
 * standing still: the first could never end. */
static void loop_turns_while_a_block_is_taken(void **state)
{
    struct world *w = *state;
    struct alarm a;
    struct timed t[2];
    shell("qemu-img create -q -f qcow2 -o cluster_size=64k top.qcow2 1M");
    shell("qemu-io -c 'write -P 0x33 0 64k' top.qcow2");
    shell("truncate -s -100 top.qcow2");
    world_model(w, MIB);
    memset(w->model, 0x33, 64 * KIB);
    memset(w->model + 128 * KIB, 0x33, 512);
    w->direct = true;
    w->filters = "delay:data-write=10ms";
    world_open(w);
    uint64_t began_ns = env_now_ns(w->env);
    arm(w, &a, 5 * MS);
    start(w, &t[0], GUEST_WRITE, 64 * KIB - 150, 150);
    pass(w, 2 * MS); /* it has got there */
    start(w, &t[1], GUEST_WRITE, 128 * KIB, 512);
    run_all(w);
    assert_int_equal(a.rang_ns - began_ns, 5 * MS);
    assert_in_range(t[0].ended_ns - began_ns, 10 * MS, 11 * MS);
    assert_true(t[1].ended_ns > t[0].ended_ns);
}

/* --- freeze-thaw --- */

/* Two reads whose metadata is in memory go on side by side, unless the queue is frozen
 * for the whole of a request. */
static void data_overlaps_unless_frozen_for_all(void **state)
{
    struct world *w = *state;
    struct timed t[2];
    cold(w, "delay:data-read=10ms");
    assert_int_equal(run(w, GUEST_READ, 0, 2 * 512, 0), 0);
    uint64_t began_ns = env_now_ns(w->env);
    start(w, &t[0], GUEST_READ, 0, 512);
    start(w, &t[1], GUEST_READ, 512, 512);
    run_all(w);
    uint64_t took_ns = t[1].ended_ns - began_ns;
    assert_int_equal(took_ns / (10 * MS), has(w, "freeze=whole") ? 2 : 1);
}

/* Data that arrives while another request has the queue frozen for its metadata is told
 * at once, or at the thaw. (Under metadata=sync it can't arrive.) */
static void completion_waits_for_the_thaw_if_deferred(void **state)
{
    struct world *w = *state;
    struct timed warm, other;
    if (has(w, "freeze=whole") || has(w, "metadata=sync"))
        return;
    cold(w, "delay:data-read=2ms,metadata-read=10ms");
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
    uint64_t began_ns = env_now_ns(w->env);
    start(w, &warm, GUEST_READ, 0, 512);
    start(w, &other, GUEST_READ, 4 * REACH, 512);
    run_all(w);
    if (has(w, "completions=deferred"))
        assert_in_range(warm.ended_ns - began_ns, 10 * MS, 11 * MS);
    else
        assert_in_range(warm.ended_ns - began_ns, 2 * MS, 3 * MS);
    assert_in_range(other.ended_ns - began_ns, 12 * MS, 13 * MS);
}

/* --- threadpool:wait, with two workers --- */

/* One writes, one waits for it: is a third that needs neither served meanwhile? */
static void waiting_for_another_gives_the_worker_up_if_parked(void **state)
{
    struct world *w = *state;
    struct timed t[3];
    if (!has(w, "workers=2"))
        return;
    shell("qemu-img create -q -f qcow2 -o cluster_size=64k top.qcow2 1M");
    shell("qemu-io -c 'write -P 0x33 512k 64k' top.qcow2");
    world_model(w, MIB);
    memset(w->model, 0x33, 1024);
    memset(w->model + 512 * KIB, 0x33, 64 * KIB);
    w->filters = "delay:data-write=10ms";
    world_open(w);
    assert_int_equal(run(w, GUEST_READ, 512 * KIB, 512, 0), 0);
    uint64_t began_ns = env_now_ns(w->env);
    start(w, &t[0], GUEST_WRITE, 0, 512);
    start(w, &t[1], GUEST_WRITE, 512, 512);
    while (stats(w).top.overlap_waits == 0)
        pass(w, 1000);
    start(w, &t[2], GUEST_READ, 512 * KIB, 512);
    run_all(w);
    uint64_t took_ns = t[2].ended_ns - began_ns;
    if (has(w, "wait=park"))
        assert_in_range(took_ns, 0, MS);
    else
        assert_in_range(took_ns, 10 * MS, 11 * MS);
    assert_true(t[1].ended_ns - began_ns >= 20 * MS);
}

/* One has the lock across its metadata I/O, one waits for the lock: the third is empty
 * and needs no lock, but a worker. */
static void waiting_for_the_lock_gives_the_worker_up_if_parked(void **state)
{
    struct world *w = *state;
    struct timed t[3];
    if (!has(w, "workers=2") || !has(w, "hold=metadata"))
        return;
    cold(w, "delay:metadata-read=10ms");
    uint64_t began_ns = env_now_ns(w->env);
    start(w, &t[0], GUEST_READ, 2 * REACH, 512);
    start(w, &t[1], GUEST_READ, 4 * REACH, 512);
    pass(w, MS);
    start(w, &t[2], GUEST_READ, 0, 0);
    run_all(w);
    uint64_t took_ns = t[2].ended_ns - began_ns;
    if (has(w, "wait=park"))
        assert_in_range(took_ns, MS, 2 * MS);
    else
        assert_in_range(took_ns, 10 * MS, 11 * MS);
    assert_in_range(t[1].ended_ns - t[0].ended_ns, 10 * MS, 11 * MS);
}

/* --- threadpool:mutex, for one who keeps it across metadata I/O --- */

/* The first has the lock for long; those who come meanwhile, one after the other, get
 * it in that order if it is fair. If not, the scheduler picks any. */
static bool in_order_of_arrival(struct world *w, unsigned round)
{
    enum { ALL = 5 };
    struct timed t[ALL];
    bool in_order = true;
    places = 0;
    for (unsigned i = 0; i < ALL; i++) {
        start(w, &t[i], GUEST_READ, (round * ALL + i) * REACH, 512);
        pass(w, MS);
    }
    assert_int_equal(places, 0); /* nobody's metadata has come yet */
    run_all(w);
    for (unsigned i = 0; i < ALL; i++)
        in_order &= t[i].place == i;
    return in_order;
}

static void fair_lock_goes_in_order_of_arrival(void **state)
{
    struct world *w = *state;
    enum { ROUNDS = 6 };
    unsigned in_order = 0;
    if (!is(w, "threadpool") || !has(w, "hold=metadata") || has(w, "workers=2"))
        return;
    cold(w, "delay:metadata-read=10ms");
    for (unsigned round = 0; round < ROUNDS; round++)
        in_order += in_order_of_arrival(w, round);
    if (has(w, "mutex=fair"))
        assert_int_equal(in_order, ROUNDS);
    else if (!has(w, "wait=park")) /* there only one who comes at the moment passes */
        assert_true(in_order < ROUNDS);
}

/* --- threadpool:lock --- */

static const struct env_ops *real_ops;
static unsigned shared, exclusive;

static void count_shared(struct env *env, struct env_rwlock *l)
{
    shared++;
    real_ops->rwlock_shared(env, l);
}

static void count_exclusive(struct env *env, struct env_rwlock *l)
{
    exclusive++;
    real_ops->rwlock_exclusive(env, l);
}

/* A cached read takes the shared side and no other. (That of the machine; the queue
 * that fair and park have is in test_threadpool_lock.c.) */
static void cached_read_shares_the_lock(void **state)
{
    struct world *w = *state;
    if (!is(w, "threadpool") || has(w, "mutex=fair") || has(w, "wait=park"))
        return;
    cold(w, NULL);
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
    real_ops = w->env->ops;
    struct env_ops counting = *real_ops;
    counting.rwlock_shared = count_shared;
    counting.rwlock_exclusive = count_exclusive;
    w->env->ops = &counting;
    shared = exclusive = 0;
    assert_int_equal(run(w, GUEST_READ, 512, 512, 0), 0);
    assert_int_equal(shared, has(w, "lock=rwlock") ? 1 : 0);
    assert_int_equal(exclusive, 0);
    assert_int_equal(run(w, GUEST_READ, 4 * REACH, 512, 0), 0); /* not cached */
    assert_int_equal(exclusive > 0, has(w, "lock=rwlock"));
    w->env->ops = real_ops;
}

/* --- threadpool:idle --- */

static unsigned signals;

static void count_signal(struct env *env, struct env_cond *c)
{
    signals++;
    real_ops->cond_signal(env, c);
}

static unsigned one_cpu(struct env *env)
{
    (void)env;
    return 1;
}

/* How many are woken for a request that comes `after` ns of nothing to do. */
static unsigned woken_after(struct world *w, uint64_t after)
{
    pass(w, after);
    signals = 0;
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
    return signals;
}

static void open_counting(struct world *w, struct env_ops *counting, bool alone)
{
    real_ops = w->env->ops;
    *counting = *real_ops;
    counting->cond_signal = count_signal;
    if (alone)
        counting->cpus = one_cpu;
    w->env->ops = counting;
    cold(w, NULL);
    assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
}

/* A worker that has been without work for less than spin-us takes it without being
 * woken. (Its last request was over, and it had time to look for another.) */
static void worker_without_work_is_awake_for_a_while_if_it_spins(void **state)
{
    struct world *w = *state;
    struct env_ops counting;
    if (!is(w, "threadpool"))
        return;
    open_counting(w, &counting, false);
    uint64_t bound = !has(w, "idle=spin") ? 0 : has(w, "spin-us=2000") ? 2 * MS : 50000;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(woken_after(w, bound + 1000), 1);
        assert_int_equal(woken_after(w, 1000), bound ? 0 : 1);
        assert_int_equal(woken_after(w, bound ? bound - 1000 : 0), bound ? 0 : 1);
    }
    w->env->ops = real_ops;
}

/* It would only keep the one CPU from those who have something to do. */
static void nobody_spins_on_one_cpu(void **state)
{
    struct world *w = *state;
    struct env_ops counting;
    if (!is(w, "threadpool"))
        return;
    open_counting(w, &counting, true);
    assert_int_equal(woken_after(w, 1000), 1);
    w->env->ops = real_ops;
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {
    T(loop_turns_during_io),
    T(loop_turns_while_a_block_is_taken),
    T(data_overlaps_unless_frozen_for_all),
    T(completion_waits_for_the_thaw_if_deferred),
    T(waiting_for_another_gives_the_worker_up_if_parked),
    T(waiting_for_the_lock_gives_the_worker_up_if_parked),
    T(fair_lock_goes_in_order_of_arrival),
    T(cached_read_shares_the_lock),
    T(worker_without_work_is_awake_for_a_while_if_it_spins),
    T(nobody_spins_on_one_cpu),
};
TEST_MAIN(tests)
