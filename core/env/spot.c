/* Spots: spot.h. The two worlds differ in how one waits, and in nothing else. */
#include "core/env/spot.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>

static void time_is_up(struct sim_event *ev)
{
    struct env_spot *s =
        (struct env_spot *)((char *)ev - offsetof(struct env_spot, alarm));

    sim_gate_open(s->env, &s->gate);
}

static void wait_sim(struct env *env, struct env_spot *s, uint64_t ns)
{
    s->env = env;
    s->gate.awake_until_ns = UINT64_MAX;
    s->alarm.fn = time_is_up;
    if (ns != ENV_SPOT_FOR_EVER)
        sim_schedule(env, &s->alarm, env_now_ns(env) + ns);
    while (!atomic_load(&s->item)) {
        sim_gate_wait(env, &s->gate, "spot");
        if (!sim_scheduled(&s->alarm) && ns != ENV_SPOT_FOR_EVER)
            break;
    }
    sim_cancel(env, &s->alarm);
    env_touch(env, s);
}

static void wait_real(struct env *env, struct env_spot *s, uint64_t ns)
{
    uint64_t began_ns = env_now_ns(env), waited_ns = 0;

    while (!atomic_load_explicit(&s->item, memory_order_acquire) && waited_ns < ns) {
        env_relax(waited_ns);
        waited_ns = env_now_ns(env) - began_ns;
    }
}

void *env_spot_take(struct env *env, struct env_spot *s, uint64_t ns)
{
    if (env->simulated)
        wait_sim(env, s, ns);
    else
        wait_real(env, s, ns);
    void *item = atomic_load_explicit(&s->item, memory_order_acquire);
    if (item)
        atomic_store_explicit(&s->item, NULL, memory_order_relaxed);
    return item;
}

void env_spot_put(struct env *env, struct env_spot *s, void *item)
{
    assert(item && !atomic_load_explicit(&s->item, memory_order_relaxed));
    env_touch(env, s);
    atomic_store_explicit(&s->item, item, memory_order_release);
    if (env->simulated)
        sim_gate_open(env, &s->gate);
}
