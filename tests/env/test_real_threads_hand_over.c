/*
 * Intent: on the machine, env's threads, locks and condition do what POSIX's do, clocks
 * go forward, any thread may draw random numbers, and each thread has coroutines of its
 * own.
 */
#include "core/coroutine/coroutine.h"
#include "core/env/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 4, ROUNDS = 2000 };
static struct env *env;
static struct env_mutex mutex;
static struct env_cond turn_changed;
static int turn;
static uint64_t total, drawn;

/* Round robin by a condition: the strictest hand-over there is. */
static void takes_turns(void *arg)
{
    int me = *(int *)arg;
    uint64_t sum = 0;

    for (int i = 0; i < ROUNDS; i++) {
        env_mutex_lock(env, &mutex);
        while (turn != me)
            env_cond_wait(env, &turn_changed, &mutex);
        turn = (me + 1) % THREADS;
        total++;
        env_cond_broadcast(env, &turn_changed);
        env_mutex_unlock(env, &mutex);
        sum |= env_random(env);
    }
    env_mutex_lock(env, &mutex);
    drawn |= sum;
    env_mutex_unlock(env, &mutex);
}

static void threads_take_turns(void **state)
{
    (void)state;
    struct env_thread t[THREADS];
    int id[THREADS];

    for (int i = 0; i < THREADS; i++) {
        id[i] = i;
        assert_int_equal(env_thread_start(env, &t[i], takes_turns, &id[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        env_thread_join(env, &t[i]);
    assert_int_equal(total, THREADS * ROUNDS);
    assert_true(drawn == UINT64_MAX); /* every bit came up */
}

/* Shared with all others at once, which only a shared side allows; then alone. */
static struct env_rwlock rwlock;
static unsigned inside_now;
static uint64_t alone_count;

static void shares_then_is_alone(void *arg)
{
    (void)arg;
    env_rwlock_shared(env, &rwlock);
    env_mutex_lock(env, &mutex);
    inside_now++;
    env_cond_broadcast(env, &turn_changed);
    while (inside_now < THREADS)
        env_cond_wait(env, &turn_changed, &mutex);
    env_mutex_unlock(env, &mutex);
    env_rwlock_unlock(env, &rwlock);
    for (int i = 0; i < ROUNDS; i++) {
        env_rwlock_exclusive(env, &rwlock);
        alone_count++; /* TSan sees it if another is there */
        env_rwlock_unlock(env, &rwlock);
    }
}

static void threads_share_or_are_alone(void **state)
{
    (void)state;
    struct env_thread t[THREADS];

    env_rwlock_init(&rwlock);
    for (int i = 0; i < THREADS; i++)
        env_thread_start(env, &t[i], shares_then_is_alone, NULL);
    for (int i = 0; i < THREADS; i++)
        env_thread_join(env, &t[i]);
    assert_int_equal(alone_count, THREADS * ROUNDS);
    env_rwlock_destroy(&rwlock);
}

static void counts(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        ++*(unsigned *)arg;
        co_wake(co_self());
        co_yield ();
    }
}

static void runs_coroutines(void *arg)
{
    assert_null(co_self());
    for (int i = 0; i < 10; i++)
        co_wake(co_create(counts, arg));
    while (co_run_ready())
        ;
}

static void threads_have_their_own_coroutines(void **state)
{
    (void)state;
    struct env_thread t[THREADS];
    unsigned n[THREADS] = {0};

    for (int i = 0; i < THREADS; i++)
        env_thread_start(env, &t[i], runs_coroutines, &n[i]);
    for (int i = 0; i < THREADS; i++) {
        env_thread_join(env, &t[i]);
        assert_int_equal(n[i], 10000);
    }
}

static void clock_goes_forward_and_steps_cost_nothing(void **state)
{
    (void)state;
    uint64_t before = env_now_ns(env);

    env_step(env, 3600000000000u);
    uint64_t after = env_now_ns(env);
    assert_true(after >= before && after - before < 3600000000000u);
}

static void random_repeats_by_seed(void **state)
{
    (void)state;
    struct env *a = env_real(7), *b = env_real(7), *c = env_real(8);

    for (int i = 0; i < 100; i++) {
        uint64_t x = env_random(a);
        assert_int_equal(x, env_random(b));
        assert_int_not_equal(x, env_random(c));
    }
    assert_int_equal(env_choose(a, 5), 0);
    env_destroy(a), env_destroy(b), env_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_take_turns),
        cmocka_unit_test(threads_share_or_are_alone),
        cmocka_unit_test(threads_have_their_own_coroutines),
        cmocka_unit_test(clock_goes_forward_and_steps_cost_nothing),
        cmocka_unit_test(random_repeats_by_seed),
    };
    env = env_real(1);
    env_mutex_init(&mutex);
    env_cond_init(&turn_changed);
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    env_cond_destroy(&turn_changed);
    env_mutex_destroy(&mutex);
    env_destroy(env);
    return ret;
}
