/*
 * The ways in which a loop waits: in a libuv loop, by polling first, by a select that
 * only looks now and then; and completions from inside the submission. Each with every
 * engine.
 *
 * Whoever isn't woken when he should be sleeps for minutes here, and the test fails by
 * its timeout.
 */
#include "core/block/loop_int.h"
#include "tests/block/block_test.h"

#define BLOCK 4096
#define LONG_NS 300000000000u

static char memory[BLOCK] __attribute__((aligned(BLOCK)));

/* posix-aio that polls has nothing that others could sleep on. */
static bool has_descriptor(const char *engine) { return !strstr(engine, "poll"); }

static struct loop *open_loop(const char *engine, struct loop_options o)
{
    struct loop *loop;

    o.engine = engine;
    o.depth = o.depth ? o.depth : 8;
    MUST(loop_create(&loop, test_env, &o, &test_err));
    return loop;
}

static int run(struct loop *loop, struct blk_file *file, enum aio_op op)
{
    struct iovec iov = {memory, BLOCK};
    struct aio aio = {.op = op, .file = file, .len = BLOCK, .iov = &iov, .iovcnt = 1};

    return aio_run(loop, &aio);
}

static bool worked;
static void work_fn(struct loop_work *w) { (void)w; }
static void work_done(struct loop_work *w)
{
    (void)w;
    worked = true;
}

/* Everything that ends a sleep: I/O, a helper's I/O and work, a timer behind a
 * filter. */
static void all_that_wakes(const char *engine, struct loop_options o)
{
    struct blk_file *file =
        test_open(test_path("wakes"), true, true, "delay:discard=1ms");
    struct loop *loop = open_loop(engine, o);
    struct loop_work work = {.fn = work_fn, .done = work_done};

    for (int i = 0; i < 5; i++) {
        memset(memory, 'a' + i, BLOCK);
        MUST(run(loop, file, AIO_WRITE));
        MUST(run(loop, file, AIO_ZERO));
        MUST(run(loop, file, AIO_WRITE));
        MUST(run(loop, file, AIO_FLUSH));
        memset(memory, 0, BLOCK);
        MUST(run(loop, file, AIO_READ));
        assert_int_equal(memory[BLOCK - 1], 'a' + i);
        MUST(run(loop, file, AIO_DISCARD));
        worked = false;
        loop_work(loop, &work);
        loop_run_until(loop, &worked);
    }
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* What has been reaped doesn't end later sleeps: there are few in a long wait. */
static void sleeps_are_sleeps(const char *engine, struct loop_options o)
{
    struct blk_file *file = test_open(test_path("calm"), true, true, "delay:read=30ms");
    struct loop *loop = open_loop(engine, o);
    struct loop_stats before, after;

    for (int i = 0; i < 3; i++)
        MUST(run(loop, file, AIO_WRITE));
    loop_get_stats(loop, &before);
    MUST(run(loop, file, AIO_READ));
    loop_get_stats(loop, &after);
    assert_true(after.slept - before.slept <= 20);
    loop_destroy(loop);
    MUST(blk_close(file));
}

static void nobody_spins(void **state)
{
    static const struct loop_options ways[] = {
        {.libuv = false},
        {.libuv = true},
        {.waiter = LOOP_WAIT_SELECT, .waiter_ns = LONG_NS}};

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++)
        for (unsigned w = 0; has_descriptor(test_engines[e]) && w < 3; w++)
            sleeps_are_sleeps(test_engines[e], ways[w]);
}

static void inside_libuv(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++)
        if (has_descriptor(test_engines[e]))
            all_that_wakes(test_engines[e], (struct loop_options){.libuv = true});
}

static void by_select(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++)
        if (has_descriptor(test_engines[e]))
            all_that_wakes(test_engines[e],
                           (struct loop_options){.waiter = LOOP_WAIT_SELECT,
                                                 .waiter_ns = LONG_NS});
}

static void blindly(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++)
        all_that_wakes(test_engines[e], (struct loop_options){.waiter = LOOP_WAIT_BLIND,
                                                              .waiter_ns = 100000});
}

static void by_polling(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++)
        all_that_wakes(test_engines[e], (struct loop_options){.poll_ns = 1000000});
}

static void all_at_once(void **state)
{
    struct loop_options o = {.libuv = true,
                             .poll_ns = 50000,
                             .inline_completion = true,
                             .waiter = LOOP_WAIT_SELECT,
                             .waiter_ns = LONG_NS};

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++)
        if (has_descriptor(test_engines[e]))
            all_that_wakes(test_engines[e], o);
}

static void what_cannot_be_is_said(void **state)
{
    struct loop_options o = {.engine = "posix-aio:completion=poll", .libuv = true};
    struct env *sim = env_sim(1);
    struct error err = {""};
    struct loop *loop;

    (void)state;
    assert_int_equal(loop_create(&loop, test_env, &o, &err), -EOPNOTSUPP);
    assert_non_null(strstr(err.msg, "completion=signal"));
    o.engine = "sim";
    err.msg[0] = '\0';
    assert_int_equal(loop_create(&loop, sim, &o, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "machine only"));
    env_destroy(sim);
}

/* ---- the waiter ---- */

/* The completion comes after a millisecond; who doesn't look until the bound is over
 * finds it then, and not before. */
static void who_waits_blindly_waits_for_the_bound(void **state)
{
    struct loop_options o = {.waiter = LOOP_WAIT_BLIND, .waiter_ns = 30000000};
    struct blk_file *file = test_open(test_path("blind"), false, true, NULL);
    struct loop *loop = open_loop("threads", o);
    struct loop_stats stats;
    uint64_t begin_ns;
    unsigned slept = 0;

    (void)state;
    for (int i = 0; i < 10; i++) { /* a worker may be done before we look first */
        begin_ns = env_now_ns(test_env);
        MUST(run(loop, file, AIO_WRITE));
        loop_get_stats(loop, &stats);
        if (stats.slept > slept)
            assert_true(env_now_ns(test_env) - begin_ns >= 30000000);
        slept = (unsigned)stats.slept;
    }
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* ---- polling ---- */

static void the_bound_adapts(void **state)
{
    uint64_t bound = 0, max = 50000;

    (void)state;
    bound = poll_adapt(bound, 10000, max);
    assert_int_equal(bound, 4000);
    bound = poll_adapt(bound, 10000, max);
    assert_int_equal(bound, 8000);
    bound = poll_adapt(bound, 10000, max);
    assert_int_equal(bound, 16000);
    assert_int_equal(poll_adapt(bound, 10000, max), 16000); /* it was enough */
    assert_int_equal(poll_adapt(32000, 40000, max), max);
    assert_int_equal(poll_adapt(max, 50001, max), 0); /* nothing would have been */
}

static struct loop_stats poll_some(const char *engine, uint64_t max_ns, unsigned rounds)
{
    struct blk_file *file = test_open(test_path("p"), false, true, "delay:read=200us");
    struct loop *loop = open_loop(engine, (struct loop_options){.poll_ns = max_ns});
    struct loop_stats stats = {0};

    for (unsigned i = 0; i < rounds && !stats.polled; i++) {
        MUST(run(loop, file, AIO_READ));
        loop_get_stats(loop, &stats);
    }
    loop_destroy(loop);
    MUST(blk_close(file));
    return stats;
}

/* However slow this machine is, the bound reaches what a read takes, if it may. */
static void polling_spares_the_sleep(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        assert_true(poll_some(test_engines[e], LONG_NS, 100).polled > 0);
        assert_int_equal(poll_some(test_engines[e], 0, 5).polled, 0);
    }
}

static bool posted;
static void had_post(struct loop_bh *bh)
{
    (void)bh;
    posted = true;
}

struct poster {
    struct env_thread thread;
    struct loop *loop;
    struct loop_bh bh;
};

static void posts_soon(void *arg)
{
    struct poster *p = arg;

    usleep(200);
    loop_post(p->loop, &p->bh);
}

/* Another thread's work is waited for like I/O, if the loop was told of it. */
static uint64_t polled_for_posts(uint64_t poll_ns, uint64_t expect_ns, unsigned rounds)
{
    struct loop *loop = open_loop("sync", (struct loop_options){.poll_ns = poll_ns});
    struct poster p = {.loop = loop, .bh = {.fn = had_post}};
    struct loop_stats stats = {0};

    for (unsigned i = 0; i < rounds && !stats.polled; i++) {
        posted = false;
        if (expect_ns)
            loop_expect_post(loop, expect_ns);
        assert_int_equal(env_thread_start(test_env, &p.thread, posts_soon, &p), 0);
        loop_run_until(loop, &posted);
        env_thread_join(test_env, &p.thread);
        if (expect_ns)
            loop_had_post(loop);
        loop_get_stats(loop, &stats);
    }
    loop_destroy(loop);
    return stats.polled;
}

static void posts_are_polled_for_if_expected(void **state)
{
    (void)state;
    assert_true(polled_for_posts(0, LONG_NS, 100) > 0);
    assert_int_equal(polled_for_posts(LONG_NS, 0, 5), 0);
}

/* ---- completions inside the submission ---- */

static struct loop *chain_loop;
static unsigned chain_left, nested, deepest, done_inside;
static bool submitting;

static void chain(struct aio *aio)
{
    assert_int_equal(aio->result, 0);
    done_inside += submitting;
    if (!chain_left)
        return;
    chain_left--;
    if (++nested > deepest)
        deepest = nested;
    aio_submit(chain_loop, aio);
    nested--;
}

/* Several chains of I/Os, each of which is submitted by the completion of the last. */
static void run_chains(const char *engine, bool inline_completion)
{
    struct loop_options o = {.depth = 64, .inline_completion = inline_completion};
    struct blk_file *file = test_open(test_path("chain"), false, true, NULL);
    struct iovec iov = {memory, BLOCK};
    struct aio aio[4];
    struct loop_stats stats;

    chain_loop = open_loop(engine, o);
    chain_left = 2000;
    nested = deepest = done_inside = 0;
    for (int i = 0; i < 4; i++) {
        aio[i] = (struct aio){.op = AIO_WRITE,
                              .file = file,
                              .len = BLOCK,
                              .iov = &iov,
                              .iovcnt = 1,
                              .done = chain};
        submitting = true;
        aio_submit(chain_loop, &aio[i]);
        submitting = false;
    }
    while (chain_left || chain_loop->pending)
        loop_turn(chain_loop, true);
    loop_get_stats(chain_loop, &stats);
    assert_int_equal(stats.inline_deepest <= LOOP_INLINE_MAX, true);
    if (!inline_completion) {
        assert_int_equal(done_inside, 0);
        assert_int_equal(deepest, 1);
        assert_int_equal(stats.inlined, 0);
    } else {
        assert_true(deepest <= LOOP_INLINE_MAX + 1);
    }
    loop_destroy(chain_loop);
    MUST(blk_close(file));
}

static void inline_is_bounded(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        run_chains(test_engines[e], false);
        run_chains(test_engines[e], true);
    }
    run_chains("sync", true); /* it has always completed by then */
    assert_true(done_inside > 0);
    assert_int_equal(deepest, LOOP_INLINE_MAX + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_spins),
        cmocka_unit_test(inside_libuv),
        cmocka_unit_test(by_select),
        cmocka_unit_test(blindly),
        cmocka_unit_test(by_polling),
        cmocka_unit_test(all_at_once),
        cmocka_unit_test(what_cannot_be_is_said),
        cmocka_unit_test(who_waits_blindly_waits_for_the_bound),
        cmocka_unit_test(the_bound_adapts),
        cmocka_unit_test(polling_spares_the_sleep),
        cmocka_unit_test(posts_are_polled_for_if_expected),
        cmocka_unit_test(inline_is_bounded),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
