/*
 * Intent: what actors compute takes virtual time: as many at a time as there are CPUs, the
 * others wait; events happen meanwhile, at their own time; what an actor has done is seen
 * when it has paid; every kind of step is counted; and a world without costs is as before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/coroutine/coroutine.h"
#include "core/env/error.h"
#include "core/env/sim.h"

static struct env *env;
static struct env_mutex common;

static void start(uint64_t cpus)
{
    struct sim_costs c = {.cpus = cpus};

    env = env_sim(7);
    c.ns[SIM_TURN] = 1; /* so that there are any; nobody turns here */
    sim_set_costs(env, &c);
    env_mutex_init(&common);
}

static void stop(void)
{
    env_mutex_destroy(&common);
    env_destroy(env);
}

/* ---- CPUs ---- */

enum { THREADS = 4, ROUNDS = 10 };
static struct worker {
    struct env_thread thread;
    struct env_mutex mutex; /* its own */
    uint64_t end_ns;
} workers[THREADS];

static void computes(void *arg)
{
    struct worker *w = arg;

    for (int i = 0; i < ROUNDS; i++) {
        env_step(env, 1000);
        env_mutex_lock(env, &w->mutex);
        env_mutex_unlock(env, &w->mutex);
    }
    w->end_ns = env_now_ns(env);
}

static uint64_t all_compute(uint64_t cpus)
{
    uint64_t end = 0;

    start(cpus);
    for (int i = 0; i < THREADS; i++) {
        env_mutex_init(&workers[i].mutex);
        assert_int_equal(
            env_thread_start(env, &workers[i].thread, computes, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        env_thread_join(env, &workers[i].thread);
        env_mutex_destroy(&workers[i].mutex);
        if (workers[i].end_ns > end)
            end = workers[i].end_ns;
    }
    struct sim_usage u;
    sim_get_usage(env, &u);
    assert_int_equal(u.cpu_ns, THREADS * ROUNDS * 1000);
    assert_int_equal(u.steps[SIM_LOCK], THREADS * ROUNDS);
    stop();
    return end;
}

static void as_many_compute_as_there_are_cpus(void **state)
{
    (void)state;
    assert_int_equal(all_compute(1), THREADS * ROUNDS * 1000);
    /* Who gets a CPU is drawn, so that in the end one may be idle. */
    assert_in_range(all_compute(2), THREADS * ROUNDS * 500, THREADS * ROUNDS * 750);
    assert_int_equal(all_compute(4), ROUNDS * 1000);
    assert_int_equal(all_compute(0), ROUNDS * 1000); /* any number */
}

/* ---- events ---- */

static uint64_t rang_ns;
static void rings(struct sim_event *ev)
{
    (void)ev;
    rang_ns = env_now_ns(env);
}

static void events_come_at_their_own_time(void **state)
{
    struct sim_event ev = {.fn = rings};
    (void)state;

    start(1);
    sim_schedule(env, &ev, 400);
    rang_ns = 0;
    env_step(env, 1000);
    assert_int_equal(env_now_ns(env), 1000); /* it has computed so long itself */
    assert_int_equal(rang_ns, 0);            /* nobody comes in between */
    sim_pay(env);
    assert_int_equal(rang_ns, 400);
    assert_int_equal(env_now_ns(env), 1000);
    stop();
}

/* ---- what others see ---- */

static uint64_t set_ns, seen_ns;
static bool flag, waiting;
static struct env_cond cond;

static void sets(void *arg)
{
    (void)arg;
    for (bool others = false; !others;) {
        env_mutex_lock(env, &common);
        others = flag = waiting;
        env_mutex_unlock(env, &common);
    }
    env_step(env, 5000); /* before it tells */
    env_cond_signal(env, &cond);
    set_ns = env_now_ns(env);
}

static void waits(void *arg)
{
    (void)arg;
    env_mutex_lock(env, &common);
    waiting = true;
    while (!flag)
        env_cond_wait(env, &cond, &common);
    env_mutex_unlock(env, &common);
    seen_ns = env_now_ns(env);
}

/* The condition is left to look at. */
static void one_waits_for_the_other(void)
{
    struct env_thread a, b;

    env_cond_init(&cond);
    flag = waiting = false;
    assert_int_equal(env_thread_start(env, &a, waits, NULL), 0);
    assert_int_equal(env_thread_start(env, &b, sets, NULL), 0);
    env_thread_join(env, &a);
    env_thread_join(env, &b);
}

static void what_was_done_is_seen_when_it_is_paid_for(void **state)
{
    struct sim_costs c = {.cpus = 4};
    (void)state;

    start(4);
    c.ns[SIM_WAKES] = 30;
    c.ns[SIM_HANDOVER] = 200;
    sim_set_costs(env, &c);
    one_waits_for_the_other();
    assert_in_range(set_ns, 5000, 6000);
    assert_in_range(seen_ns, 5200, 6500); /* the switch to it takes 200 */
    struct sim_usage u;
    sim_get_usage(env, &u);
    assert_true(u.steps[SIM_WAKES] > 0);
    assert_true(u.steps[SIM_HANDOVER] > 0);
    assert_int_equal(u.cpu_ns,
                     5000 + 30 * u.steps[SIM_WAKES] + 200 * u.steps[SIM_HANDOVER]);
    env_cond_destroy(&cond);
    stop();
}

/* ---- coroutines ---- */

static void yields(void *arg)
{
    (void)arg;
    co_yield ();
}

static uint64_t switches(uint64_t cost_ns)
{
    struct sim_costs c = {.cpus = 1};
    struct sim_usage u;

    c.ns[SIM_COROUTINE] = cost_ns;
    sim_set_costs(env, &c);
    uint64_t begin = env_now_ns(env);
    struct co *co = co_create(yields, NULL);
    co_enter(co);
    co_enter(co);
    assert_int_equal(env_now_ns(env) - begin, 4 * cost_ns); /* in, out, in, out */
    sim_get_usage(env, &u);
    return u.steps[SIM_COROUTINE];
}

static void switches_of_a_back_end(const char *name)
{
    struct error err = {""};

    if (co_set_backend(name, &err) < 0)
        return; /* it can't work here */
    start(1);
    assert_int_equal(switches(5), 4);
    assert_int_equal(switches(0), 4); /* not any more */
    assert_int_equal(switches(7), 8);
    stop();
    start(2); /* nor are those between simulated threads */
    struct sim_costs c = {.cpus = 2};
    c.ns[SIM_COROUTINE] = 1000;
    sim_set_costs(env, &c);
    one_waits_for_the_other();
    struct sim_usage u;
    sim_get_usage(env, &u);
    assert_int_equal(u.steps[SIM_COROUTINE], 0);
    env_cond_destroy(&cond);
    stop();
}

static void switches_are_counted(void **state)
{
    const char *name;
    (void)state;

    for (unsigned i = 0; (name = co_backend_name(i, NULL)); i++)
        switches_of_a_back_end(name);
    assert_int_equal(co_set_backend("auto", NULL), 0);
}

static void without_costs_nothing_is_kept(void **state)
{
    struct sim_usage u;
    (void)state;

    env = env_sim(7);
    assert_false(sim_costs_set(env));
    sim_charge(env, SIM_SUBMIT, 10);
    sim_get_usage(env, &u);
    assert_int_equal(u.steps[SIM_SUBMIT], 0);
    assert_int_equal(env_now_ns(env), 0);
    env_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_compute_as_there_are_cpus),
        cmocka_unit_test(events_come_at_their_own_time),
        cmocka_unit_test(what_was_done_is_seen_when_it_is_paid_for),
        cmocka_unit_test(switches_are_counted),
        cmocka_unit_test(without_costs_nothing_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
