/*
 * The locks of threadpool, each by itself: they exclude and share as they should, and
 * the queue hands over in the order of arrival, or lets newcomers pass.
 * ASYNCOW_SEED sets the first seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/env/sim.h"
#include "strategies/threadpool/model.h"

enum { THREADS = 6, ROUNDS = 20, SEEDS = 40 };

static uint64_t seed0 = 1;
static struct strategy_image image;
static struct tp_lock lock;
static struct actor {
    struct tp_request r;
    struct env_thread thread;
    uint64_t rng;
} actors[THREADS];
static unsigned sharing, alone, sharing_max;
static bool shares;
static char order[64];

struct kind {
    const struct tp_lock_ops *ops;
    bool shares, fair;
};
static const struct kind kinds[] = {
    {&tp_lock_mutex, false, false}, {&tp_lock_rwlock, true, false},
    {&tp_lock_queue, false, false}, {&tp_lock_queue, false, true},
    {&tp_lock_queue, true, false},  {&tp_lock_queue, true, true},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void start(struct env *env, const struct kind *kind)
{
    image.env = env;
    image.lock = kind->ops;
    image.shares = shares = kind->shares;
    image.fair = kind->fair;
    memset(&lock, 0, sizeof(lock));
    tp_lock_init(&lock, &image);
    sharing = alone = sharing_max = 0;
    order[0] = 0;
    for (int i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){.r = {.image = &image, .waits = &tp_waits_block},
                                   .rng = seed0 + (uint64_t)i};
        actors[i].r.waits->open(&actors[i].r);
    }
}

static void end(void)
{
    for (int i = 0; i < THREADS; i++)
        actors[i].r.waits->close(&actors[i].r);
    tp_lock_destroy(&lock);
}

/* --- who is inside with whom --- */

static struct env_mutex counting; /* of the three counters below */

static void count(unsigned *what, int by)
{
    env_mutex_lock(image.env, &counting);
    *what += (unsigned)by;
    assert_true(alone <= 1 && !(alone && sharing));
    if (sharing > sharing_max)
        sharing_max = sharing;
    env_mutex_unlock(image.env, &counting);
}

static void comes_and_goes(void *arg)
{
    struct actor *a = arg;
    for (int i = 0; i < ROUNDS; i++) {
        a->rng = a->rng * 6364136223846793005u + 1442695040888963407u;
        bool share = a->rng >> 62 && shares;
        if (share)
            lock.ops->shared(&lock, &a->r);
        else
            lock.ops->exclusive(&lock, &a->r);
        count(share ? &sharing : &alone, 1); /* others run here */
        count(share ? &sharing : &alone, -1);
        lock.ops->unlock(&lock);
    }
}

static unsigned crowd(struct env *env, const struct kind *kind)
{
    start(env, kind);
    env_mutex_init(&counting);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(
            env_thread_start(env, &actors[i].thread, comes_and_goes, &actors[i]), 0);
    for (int i = 0; i < THREADS; i++)
        env_thread_join(env, &actors[i].thread);
    env_mutex_destroy(&counting);
    end();
    env_destroy(env);
    return sharing_max;
}

static void one_is_alone_or_many_share(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        unsigned most = 0;
        for (uint64_t seed = seed0; seed < seed0 + SEEDS; seed++) {
            unsigned max = crowd(env_sim(seed), &kinds[k]);
            most = max > most ? max : most;
        }
        crowd(env_real(seed0), &kinds[k]); /* what TSan thinks of it */
        assert_int_equal(most > 1, kinds[k].shares);
    }
}

/* --- who is next --- */

struct nap {
    struct sim_event event;
    struct sim_gate gate;
};

static void ring(struct sim_event *event)
{
    struct nap *n = (struct nap *)event;
    sim_gate_open(image.env, &n->gate);
}

static void sleep_until(uint64_t ns)
{
    struct nap n = {.event = {.fn = ring}};
    sim_schedule(image.env, &n.event, ns);
    sim_gate_wait(image.env, &n.gate, "a nap");
}

static void note(const char *who) { strcat(order, who); }

static void reads_long(void *arg)
{
    lock.ops->shared(&lock, arg);
    note("r");
    sleep_until(30);
    lock.ops->unlock(&lock);
}

static void writes_at_10(void *arg)
{
    sleep_until(10);
    lock.ops->exclusive(&lock, arg);
    note("w");
    lock.ops->unlock(&lock);
}

static void reads_at_20(void *arg)
{
    sleep_until(20);
    lock.ops->shared(&lock, arg);
    note("R");
    lock.ops->unlock(&lock);
}

/* A reader comes while another reads and a writer waits. */
static void fair_reader_does_not_pass_a_writer(void **state)
{
    (void)state;
    static void (*const fn[])(void *) = {reads_long, writes_at_10, reads_at_20};
    for (int k = 4; k < KINDS; k++) {
        struct env *env = env_sim(seed0);
        start(env, &kinds[k]);
        for (int i = 0; i < 3; i++)
            env_thread_start(env, &actors[i].thread, fn[i], &actors[i].r);
        for (int i = 0; i < 3; i++)
            env_thread_join(env, &actors[i].thread);
        assert_string_equal(order, kinds[k].fair ? "rwR" : "rRw");
        assert_int_equal(lock.waits, kinds[k].fair ? 2 : 1);
        end();
        env_destroy(env);
    }
}

static void holds_and_comes_again(void *arg)
{
    lock.ops->exclusive(&lock, arg);
    sleep_until(30);
    lock.ops->unlock(&lock);
    lock.ops->exclusive(&lock, arg);
    note("a");
    lock.ops->unlock(&lock);
}

/* One waits while the holder gives the lock up and wants it again at once. */
static void newcomer_passes_only_if_barging(void **state)
{
    (void)state;
    for (int k = 2; k < 4; k++) {
        unsigned passed = 0;
        for (uint64_t seed = seed0; seed < seed0 + SEEDS; seed++) {
            struct env *env = env_sim(seed);
            start(env, &kinds[k]);
            env_thread_start(env, &actors[0].thread, holds_and_comes_again,
                             &actors[0].r);
            env_thread_start(env, &actors[1].thread, writes_at_10, &actors[1].r);
            for (int i = 0; i < 2; i++)
                env_thread_join(env, &actors[i].thread);
            passed += !strcmp(order, "aw");
            assert_int_equal(strlen(order), 2);
            end();
            env_destroy(env);
        }
        if (kinds[k].fair)
            assert_int_equal(passed, 0);
        else
            assert_in_range(passed, 1, SEEDS - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_is_alone_or_many_share),
        cmocka_unit_test(fair_reader_does_not_pass_a_writer),
        cmocka_unit_test(newcomer_passes_only_if_barging),
    };
    const char *given = getenv("ASYNCOW_SEED");
    seed0 = given ? strtoull(given, NULL, 0) : 1;
    printf("ASYNCOW_SEED=%llu\n", (unsigned long long)seed0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
