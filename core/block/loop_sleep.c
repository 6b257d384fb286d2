/*
 * How a loop sleeps: in the engine's wait, outside it (a libuv loop, ppoll), or on the
 * simulator's gate; and who waits for one thing, as he was told to.
 *
 * Busy polling: before a loop sleeps it looks for completions for a while, which spares
 * the sleep and the wake-up where the device is quick, and costs CPU where it is not.
 *
 * So the bound adapts, as QEMU's does: a wait that a longer bound would have covered
 * doubles it, up to the maximum; one that no allowed bound would have covered sets it
 * back to nothing.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "core/block/outside.h"
#include "core/env/spot.h"

#define WAITER_NS 1000000  /* the bound of a waiter that only looks now and then */
#define REFUSED_NS 1000000 /* until an engine that refused I/O is asked again */
#define START_NS 4000      /* the first bound of polling */

/* ---- set-up ---- */

int sleep_set_up(struct loop *loop, const struct loop_options *o, struct error *err)
{
    int ret = 0;

    loop->waiter = o->waiter;
    loop->waiter_ns = o->waiter_ns ? o->waiter_ns : WAITER_NS;
    loop->poll_max_ns = o->poll_ns;
    loop->inline_completion = o->inline_completion;
    loop->inline_left = loop->depth;
    loop->outside_always = o->libuv;
    if (!o->libuv && o->waiter != LOOP_WAIT_SELECT)
        return 0;
    loop->outside = calloc(1, sizeof(*loop->outside));
    ret = loop->outside ? outside_open(loop->outside, loop, o->libuv, err) : -ENOMEM;
    if (ret < 0)
        free(loop->outside);
    return ret;
}

void sleep_close(struct loop *loop)
{
    if (loop->outside)
        outside_close(loop->outside);
    free(loop->outside);
}

/* ---- polling ---- */

uint64_t poll_adapt(uint64_t bound_ns, uint64_t waited_ns, uint64_t max_ns)
{
    if (waited_ns <= bound_ns)
        return bound_ns;
    if (waited_ns > max_ns)
        return 0;
    bound_ns = bound_ns ? 2 * bound_ns : START_NS;
    return bound_ns < max_ns ? bound_ns : max_ns;
}

void loop_expect_post(struct loop *loop, uint64_t poll_ns)
{
    loop->expected++;
    if (poll_ns > loop->expected_ns)
        loop->expected_ns = poll_ns;
}

void loop_had_post(struct loop *loop)
{
    assert(loop->expected > 0);
    if (!--loop->expected)
        loop->expected_ns = 0;
}

/* Has something happened before the bound was over? What is posted shows by itself; the
 * time in which others will post is not for the bound that adapts to say: a wake-up
 * takes longer than what they do, and a wait that slept says nothing of it. */
static bool poll_first(struct loop *loop, uint64_t timeout_ns)
{
    uint64_t bound_ns = loop->pending ? loop->stats.poll_bound_ns : 0;
    uint64_t begin_ns = env_now_ns(loop->env), waited_ns = 0;

    if (bound_ns < loop->expected_ns)
        bound_ns = loop->expected_ns;
    if (!bound_ns)
        return false;
    if (timeout_ns < bound_ns)
        bound_ns = timeout_ns;
    do {
        if (loop->pending)
            loop->ops->wait(loop->engine, 0);
        else
            env_relax(waited_ns);
        if (loop_ready(loop))
            return true;
        waited_ns = env_now_ns(loop->env) - begin_ns;
    } while (waited_ns < bound_ns);
    return timeout_ns == bound_ns; /* a timer is due */
}

/* ---- sleeping ---- */

void sleep_wake(struct loop *loop, int how)
{
    if (how == SLEEPS_OUTSIDE)
        outside_wake(loop->outside);
    else
        loop->ops->wake(loop->engine);
}

/* By default Linux lets a sleep end 50 us late, to save wake-ups. */
static void want_exact_timers(void)
{
    static _Thread_local bool asked;

    if (!asked)
        prctl(PR_SET_TIMERSLACK, 1);
    asked = true;
}

/* Until the next timer is due. */
static uint64_t time_left(struct loop *loop)
{
    uint64_t left_ns = UINT64_MAX;

    if (loop->heap_len) {
        uint64_t next_ns = timer_next_ns(loop), now_ns = env_now_ns(loop->env);
        want_exact_timers();
        left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    }
    if (loop->gathered.head && loop->engine->inflight == 0 && left_ns > REFUSED_NS)
        left_ns = REFUSED_NS; /* nothing of ours will wake us */
    return left_ns;
}

static void sleep_for(struct loop *loop, uint64_t timeout_ns, bool outside)
{
    atomic_store(&loop->sleeping, outside ? SLEEPS_OUTSIDE : SLEEPS);
    if (atomic_load(&loop->posted))
        timeout_ns = 0;
    if (outside)
        outside_sleep(loop->outside, loop, timeout_ns);
    else
        loop->ops->wait(loop->engine, timeout_ns);
    atomic_store_explicit(&loop->sleeping, 0, memory_order_relaxed);
}

/* Sleeps for as long as nothing happens and no timer is due. */
static void sleep_real(struct loop *loop)
{
    bool adapts = unlikely(loop->poll_max_ns) && loop->pending;
    bool polls = adapts || unlikely(loop->expected_ns);
    uint64_t begin_ns = adapts ? env_now_ns(loop->env) : 0;

    if (polls && poll_first(loop, time_left(loop))) {
        loop->stats.polled++;
        return;
    }
    loop->stats.slept++;
    sleep_for(loop, time_left(loop), loop->outside_always);
    if (adapts)
        loop->stats.poll_bound_ns =
            poll_adapt(loop->stats.poll_bound_ns, env_now_ns(loop->env) - begin_ns,
                       loop->poll_max_ns);
}

static void alarm_rings(struct sim_event *ev)
{
    struct loop *loop = (struct loop *)((char *)ev - offsetof(struct loop, alarm));

    sim_gate_open(loop->env, &loop->gate);
}

static void sleep_sim(struct loop *loop)
{
    loop->alarm.fn = alarm_rings;
    if (loop->heap_len)
        sim_schedule(loop->env, &loop->alarm, timer_next_ns(loop));
    loop->gate.awake_until_ns =
        loop->expected_ns ? env_now_ns(loop->env) + loop->expected_ns : 0;
    sim_gate_wait(loop->env, &loop->gate, "loop_turn");
    sim_cancel(loop->env, &loop->alarm);
}

void sleep_step(struct loop *loop, bool block)
{
    bool sleep = block && !loop_ready(loop), hook = sleep && loop->sleep_hook;

    if (unlikely(hook))
        loop->sleep_hook(loop->sleep_opaque, true);
    if (loop->env->simulated) {
        if (!sleep)
            sim_poll(loop->env);
        else if (!loop->heap_len || timer_next_ns(loop) > env_now_ns(loop->env))
            sleep_sim(loop);
    } else if (sleep) {
        sleep_real(loop);
    } else {
        loop->ops->wait(loop->engine, 0);
    }
    if (unlikely(hook))
        loop->sleep_hook(loop->sleep_opaque, false);
}

/* ---- who waits for one thing ---- */

void loop_wait_turn(struct loop *loop)
{
    uint64_t bound_ns = loop->waiter_ns, left_ns;
    struct timespec ts = {.tv_sec = (time_t)(bound_ns / 1000000000u),
                          .tv_nsec = (long)(bound_ns % 1000000000u)};

    if (likely(loop->waiter == LOOP_WAIT_EVENT)) {
        loop_turn(loop, true);
        return;
    }
    if (loop_turn(loop, false) || loop_ready(loop))
        return;
    loop->stats.slept++;
    if (loop->sleep_hook)
        loop->sleep_hook(loop->sleep_opaque, true);
    left_ns = time_left(loop);
    if (loop->waiter == LOOP_WAIT_SELECT)
        sleep_for(loop, left_ns < bound_ns ? left_ns : bound_ns, true);
    else
        ppoll(NULL, 0, &ts, NULL); /* whatever happens meanwhile */
    if (loop->sleep_hook)
        loop->sleep_hook(loop->sleep_opaque, false);
}
