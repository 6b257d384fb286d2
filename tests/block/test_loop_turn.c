/*
 * The loop alone: order of timers, bottom halves, posts from threads that wake a
 * sleeping loop, nested turns, work on helpers, the turn probe. With every engine's way
 * to sleep.
 */
#include <pthread.h>

#include "tests/block/block_test.h"

static unsigned order[64], count;

struct numbered_timer {
    struct loop_timer timer;
    unsigned number;
};
static void timer_fn(struct loop_timer *t)
{
    order[count++] = ((struct numbered_timer *)t)->number;
}

static void timers_fire_in_order(void **state)
{
    static const unsigned delay_ms[] = {5, 1, 3, 1, 9, 2};

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct loop *loop = test_loop(test_engines[e], 4);
        struct numbered_timer t[6] = {0};
        uint64_t now_ns = env_now_ns(test_env);

        count = 0;
        for (unsigned i = 0; i < 6; i++) {
            t[i].timer.fn = timer_fn;
            t[i].number = i;
            loop_timer_arm(loop, &t[i].timer, now_ns + delay_ms[i] * 1000000u);
        }
        loop_timer_cancel(loop, &t[4].timer);
        loop_timer_arm(loop, &t[2].timer, now_ns + 7000000u);
        while (count < 5)
            loop_turn(loop, true);
        assert_true(env_now_ns(test_env) - now_ns >= 7000000u);
        assert_true(env_now_ns(test_env) - now_ns < 5000000000u);
        assert_int_equal(order[0], 1);
        assert_int_equal(order[1], 3);
        assert_int_equal(order[2], 5);
        assert_int_equal(order[3], 0);
        assert_int_equal(order[4], 2);
        loop_destroy(loop);
    }
}

static void many_timers_keep_the_heap(void **state)
{
    enum { N = 500 };
    static struct numbered_timer t[N];
    struct loop *loop = test_loop("sync", 4);
    uint64_t rng = test_seed();

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct loop_timer *one = &t[test_random(&rng) % N].timer;
        one->fn = timer_fn;
        if (test_random(&rng) % 3)
            loop_timer_arm(loop, one, UINT64_MAX / 2 + test_random(&rng) % 1000);
        else
            loop_timer_cancel(loop, one);
    }
    for (int i = 0; i < N; i++)
        loop_timer_cancel(loop, &t[i].timer);
    loop_destroy(loop); /* asserts that the heap is empty */
}

/* ---- bottom halves ---- */

struct numbered_bh {
    struct loop_bh bh;
    struct loop *loop;
    unsigned number, again;
};
static void bh_fn(struct loop_bh *bh)
{
    struct numbered_bh *n = (struct numbered_bh *)bh;

    order[count++] = n->number;
    if (n->again--)
        loop_defer(n->loop, bh);
}

static void bottom_halves_keep_order(void **state)
{
    struct loop *loop = test_loop("sync", 4);
    struct numbered_bh n[3] = {{{bh_fn, NULL}, loop, 0, 1},
                               {{bh_fn, NULL}, loop, 1, 0},
                               {{bh_fn, NULL}, loop, 2, 0}};

    (void)state;
    count = 0;
    for (int i = 0; i < 3; i++)
        loop_defer(loop, &n[i].bh);
    assert_int_equal(loop_turn(loop, true), 3); /* 0 deferred itself to the next turn */
    assert_int_equal(loop_turn(loop, true), 1);
    assert_int_equal(count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(order[i], i % 3);
    loop_destroy(loop);
}

static bool inner_ran;
static struct loop *nest_loop;
static void inner(struct loop_bh *bh)
{
    (void)bh;
    inner_ran = true;
}
static void outer(struct loop_bh *bh)
{
    (void)bh;
    loop_run_until(nest_loop, &inner_ran);
}

static void turns_nest(void **state)
{
    struct loop_bh a = {outer, NULL}, b = {inner, NULL};

    (void)state;
    nest_loop = test_loop("io_uring", 4);
    inner_ran = false;
    loop_defer(nest_loop, &a);
    loop_defer(nest_loop, &b);
    loop_turn(nest_loop, true);
    assert_true(inner_ran);
    loop_destroy(nest_loop);
}

/* ---- posts ---- */

#define POSTERS 4
#define POSTS 2000
struct poster {
    struct loop *loop;
    struct numbered_bh bhs[POSTS];
};
static unsigned long posted_sum;
static unsigned posted_count, last_seen[POSTERS];
static struct poster posters[POSTERS];

static void posted(struct loop_bh *bh)
{
    struct numbered_bh *n = (struct numbered_bh *)bh;
    unsigned p = n->number / POSTS, i = n->number % POSTS;

    assert_int_equal(last_seen[p], i); /* each thread's own come in its order */
    last_seen[p] = i + 1;
    posted_sum += n->number;
    posted_count++;
}

static void *post_all(void *opaque)
{
    struct poster *p = opaque;

    for (unsigned i = 0; i < POSTS; i++) {
        p->bhs[i].bh.fn = posted;
        p->bhs[i].number = (unsigned)(p - posters) * POSTS + i;
        loop_post(p->loop, &p->bhs[i].bh);
        if (i % 500 == 0)
            usleep(300); /* so that the loop falls asleep in between */
    }
    return NULL;
}

static void posts_arrive_once_and_wake(void **state)
{
    unsigned long n = POSTERS * POSTS;

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        pthread_t threads[POSTERS];
        struct loop *loop = test_loop(test_engines[e], 4);

        posted_sum = posted_count = 0;
        memset(last_seen, 0, sizeof(last_seen));
        for (int i = 0; i < POSTERS; i++) {
            posters[i].loop = loop;
            assert_int_equal(pthread_create(&threads[i], NULL, post_all, &posters[i]),
                             0);
        }
        while (posted_count < n)
            loop_turn(loop, true);
        for (int i = 0; i < POSTERS; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(posted_sum, n * (n - 1) / 2);
        loop_destroy(loop);
    }
}

/* ---- helpers ---- */

struct job {
    struct loop_work work;
    pthread_t ran_on;
    unsigned value;
};
static void job_fn(struct loop_work *w)
{
    struct job *j = (struct job *)w;

    j->ran_on = pthread_self();
    j->value *= 2;
}
static void job_done(struct loop_work *w)
{
    assert_int_equal(((struct job *)w)->value % 2, 0);
    count++;
}

static void work_runs_elsewhere(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct loop *loop = test_loop(test_engines[e], 4);
        struct job jobs[20];

        count = 0;
        for (unsigned i = 0; i < 20; i++) {
            jobs[i].work.fn = job_fn;
            jobs[i].work.done = job_done;
            jobs[i].value = i;
            loop_work(loop, &jobs[i].work);
        }
        while (count < 20)
            loop_turn(loop, true);
        for (unsigned i = 0; i < 20; i++) {
            assert_int_equal(jobs[i].value, 2 * i);
            assert_false(pthread_equal(jobs[i].ran_on, pthread_self()));
        }
        loop_destroy(loop);
    }
}

/* ---- the probe ---- */

static uint64_t busy_ns_max;
static void probe(void *opaque, uint64_t busy_ns)
{
    (void)opaque;
    if (busy_ns > busy_ns_max)
        busy_ns_max = busy_ns;
}
static void busy(struct loop_bh *bh)
{
    uint64_t until_ns = env_now_ns(test_env) + 20000000u;

    (void)bh;
    while (env_now_ns(test_env) < until_ns)
        ;
}

static void probe_sees_a_stall_and_no_sleep(void **state)
{
    struct loop *loop = test_loop("linux-aio", 4);
    struct numbered_timer sleep = {{.fn = timer_fn}, 0};
    struct loop_bh stall = {busy, NULL};

    (void)state;
    busy_ns_max = 0;
    count = 0;
    loop_set_turn_probe(loop, probe, NULL);
    loop_timer_arm(loop, &sleep.timer, env_now_ns(test_env) + 400000000u);
    while (!count)
        loop_turn(loop, true);
    loop_turn(loop, false);
    assert_true(busy_ns_max < 300000000u); /* 400 ms of sleep don't count */
    loop_defer(loop, &stall);
    loop_turn(loop, true);
    loop_turn(loop, false);
    assert_true(busy_ns_max >= 20000000u);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(many_timers_keep_the_heap),
        cmocka_unit_test(bottom_halves_keep_order),
        cmocka_unit_test(turns_nest),
        cmocka_unit_test(posts_arrive_once_and_wake),
        cmocka_unit_test(work_runs_elsewhere),
        cmocka_unit_test(probe_sees_a_stall_and_no_sleep),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
