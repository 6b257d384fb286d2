/*
 * Intent: what is put into a spot is taken, once and with all that was done before it;
 * who waits there longer than he wants to leaves with nothing. In simulated time both
 * are as exact as who is picked to run next.
 */
#include "core/env/spot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ROUNDS = 20000 };

static struct env *env;
static struct env_spot there, back;
static unsigned value; /* guarded by being handed over */

static void answers(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned *v = env_spot_take(env, &there, ENV_SPOT_FOR_EVER);
        *v += 1;
        env_spot_put(env, &back, v);
    }
}

static void nothing_is_lost_between_threads(void **state)
{
    struct env_thread t;

    (void)state;
    env = env_real(1);
    value = 0;
    assert_int_equal(env_thread_start(env, &t, answers, NULL), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_int_equal(value, i);
        env_spot_put(env, &there, &value);
        if (i % 64)
            assert_ptr_equal(env_spot_take(env, &back, ENV_SPOT_FOR_EVER), &value);
        else /* an empty hand now and then */
            while (!env_spot_take(env, &back, 100))
                ;
    }
    env_thread_join(env, &t);
    assert_int_equal(value, ROUNDS);
    assert_null(env_spot_take(env, &there, 1));
    env_destroy(env);
}

static uint64_t left_ns;
static void *got;

static void waits_a_while(void *arg)
{
    got = env_spot_take(env, &there, *(uint64_t *)arg);
    left_ns = env_now_ns(env);
}

static void nothing(struct sim_event *ev) { (void)ev; }

/* The root puts something there at 30 us, or not. */
static void round_of(uint64_t ns, bool puts)
{
    struct env_thread t;
    struct sim_event ev = {.fn = nothing};

    there = (struct env_spot){.item = NULL};
    env = env_sim(1);
    assert_int_equal(env_thread_start(env, &t, waits_a_while, &ns), 0);
    sim_schedule(env, &ev, 30000);
    while (sim_scheduled(&ev))
        sim_poll(env);
    assert_in_range(env_now_ns(env), 30000, 31000);
    if (puts)
        env_spot_put(env, &there, &value);
    env_thread_join(env, &t);
    env_destroy(env);
}

static void simulated_time_is_exact(void **state)
{
    (void)state;
    round_of(20000, false);
    assert_null(got);
    assert_in_range(left_ns, 20000, 21000);
    round_of(50000, true);
    assert_ptr_equal(got, &value);
    assert_in_range(left_ns, 30000, 31000);
    round_of(50000, false);
    assert_null(got);
    assert_in_range(left_ns, 50000, 51000);
    round_of(ENV_SPOT_FOR_EVER, true);
    assert_ptr_equal(got, &value);
}

/* The model says what a wake-up costs: none is needed here. */
static void nobody_is_woken_in_simulated_time(void **state)
{
    uint64_t ns = 50000;
    struct sim_costs costs = {.ns = {[SIM_WAKES] = 1000, [SIM_HANDOVER] = 9000}};
    struct sim_usage usage;
    struct sim_event ev = {.fn = nothing};
    struct env_thread t;

    (void)state;
    got = NULL;
    there = (struct env_spot){.item = NULL};
    env = env_sim(1);
    sim_set_costs(env, &costs);
    assert_int_equal(env_thread_start(env, &t, waits_a_while, &ns), 0);
    sim_schedule(env, &ev, 30000);
    while (sim_scheduled(&ev))
        sim_poll(env);
    env_spot_put(env, &there, &value);
    while (!got)
        sim_poll(env);
    sim_get_usage(env, &usage);
    assert_int_equal(usage.steps[SIM_WAKES] + usage.steps[SIM_HANDOVER], 0);
    env_thread_join(env, &t);
    env_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(simulated_time_is_exact),
        cmocka_unit_test(nobody_is_woken_in_simulated_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
