/*
 * What steps cost: CPU time of simulated actors (sim.h).
 *
 * An actor that runs takes no time; what it used is its debt. When it pays, it is one of
 * those that compute until that is over. As many actors as there are CPUs do so at a time;
 * while all are taken none that could run is picked. So nothing is pre-empted between two
 * scheduling points, and which of those that wait for a CPU gets it is a choice like any.
 */
#include "core/env/sim_int.h"

#include <stddef.h>

const char *const sim_step_names[SIM_STEPS] = {"request", "turn",     "batch",
                                               "submit",  "complete", "coroutine",
                                               "lock",    "wake",     "handover"};

static void paid(struct sim_event *ev)
{
    struct actor *a = (struct actor *)((char *)ev - offsetof(struct actor, paid));
    struct world *w = a->in;

    w->computing--;
    sim_make_runnable(w, a);
}

void sim_pay_debt(struct world *w)
{
    struct actor *self = w->current;
    uint64_t until_ns = w->now_ns + self->debt_ns;

    assert(!w->in_event);
    self->debt_ns = 0;
    bool others =
        w->runnable_n && !(w->costs.cpus && w->computing + 1 >= w->costs.cpus);
    if (!others && !w->due_n && (!w->heap_n || w->heap[1]->when_ns > until_ns)) {
        w->now_ns = until_ns; /* nothing happens meanwhile */
        return;
    }
    w->computing++;
    self->paid.fn = paid;
    sim_schedule(&w->env, &self->paid, until_ns);
    self->wait.what = "the CPU";
    self->wait.on = self;
    tell(w, SIM_WAITS, NULL, self->wait.what);
    sim_switch_from(w, self);
}

void sim_pay(struct env *env)
{
    struct world *w = world_of(env);

    if (!w->in_event)
        pay(w);
}

void sim_charge(struct env *env, enum sim_step step, uint64_t n)
{
    struct world *w = world_of(env);

    if (!w->costly || w->in_event)
        return;
    w->usage.steps[step] += n;
    env_step(env, n * w->costs.ns[step]);
}

static void switched(void *opaque) { sim_charge(opaque, SIM_COROUTINE, 1); }

void sim_set_costs(struct env *env, const struct sim_costs *costs)
{
    struct world *w = world_of(env);

    w->costs = *costs;
    w->costly = false;
    for (int i = 0; i < SIM_STEPS; i++)
        w->costly |= costs->ns[i] > 0;
    co_watch_switches(w->costly ? switched : NULL, env);
}

bool sim_costs_set(struct env *env) { return world_of(env)->costly; }
void sim_get_usage(struct env *env, struct sim_usage *u) { *u = world_of(env)->usage; }
