/*
 * Inside the simulated world; core/env only. sim.c: actors and the scheduler;
 * sim_event.c: what happens when; sim_cost.c: CPU time; sim_search.c: choices and what a search over them
 * wants to know.
 */
#ifndef ASYNCOW_SIM_INT_H
#define ASYNCOW_SIM_INT_H
#include "core/coroutine/world.h"
#include "core/env/history.h"
#include "core/env/random.h"
#include "core/env/sim.h"

#include <assert.h>

struct actor {
    struct co_world world;
    struct env_thread *thread; /* NULL: the root */
    struct world *in;
    unsigned id;           /* 0: the root; threads in order of their start */
    unsigned held;         /* mutexes and locks */
    uint64_t debt_ns;      /* CPU used, not yet paid for */
    struct sim_event paid; /* when it will be */
    uint64_t past;         /* history.h; as long as it is kept */
    bool done;
    struct env_queue joiners;
    struct actor *next;     /* in the queue that it waits in */
    struct actor *all_next; /* of all that live */
    struct {
        const char *what;
        const void *on;
    } wait; /* what NULL: it doesn't */
};

struct world {
    struct env env;
    uint64_t now_ns, seq, trace;
    uint64_t random, choice, latency; /* streams */
    unsigned (*chooser)(void *opaque, unsigned n);
    void *chooser_opaque;
    struct sim_choice choice_at; /* for the chooser */
    const struct env_queue *wake_from;
    void (*stuck)(void *opaque);
    void *stuck_opaque;
    void (*watcher)(void *opaque, const struct sim_news *);
    void *watcher_opaque;
    struct history *history;    /* NULL: not kept */
    uint64_t event_past, *past; /* past: whose steps these are */
    struct actor root, *current, *all;
    unsigned ids;
    bool in_event;
    struct actor **runnable;
    struct sim_event **heap,
        **due; /* heap[1..]: by time, then by order of scheduling */
    unsigned runnable_n, heap_n, due_n;
    unsigned runnable_max, heap_max, due_max;
    struct sim_slot files, devices;

    struct sim_costs costs; /* sim_cost.c */
    bool costly;            /* any of them */
    struct sim_usage usage;
    unsigned computing; /* actors that pay */
};

#define DUE UINT32_MAX /* slot of an event that is due */
#define POINT 1        /* in a past */

static inline struct world *world_of(struct env *env)
{
    assert(env->simulated);
    return (struct world *)env;
}

static inline void note(struct world *w, uint64_t what)
{
    w->trace = splitmix_mix(w->trace + SPLITMIX_GAMMA + what);
}

static inline void tell(struct world *w, int what, const struct sim_event *event,
                        const char *waits_for)
{
    if (__builtin_expect(w->watcher != NULL, 0))
        w->watcher(w->watcher_opaque,
                   &(struct sim_news){what, w->current->id, event, waits_for});
}

/* The running actor, or the event that fires, touches it. */
static inline void touch(struct world *w, const void *object)
{
    if (__builtin_expect(w->history != NULL, 0))
        history_touch(w->history, w->past, object, 0, true);
}

/* Room for one more. Out of memory ends the simulation: it has no meaning then. */
void *sim_grown(void *array, unsigned n, unsigned *max, size_t size);

/* sim.c, for sim_cost.c */
void sim_make_runnable(struct world *, struct actor *);
void sim_switch_from(struct world *, struct actor *self);

/* sim_cost.c. What an actor does is seen by others when it has paid for it. */
void sim_pay_debt(struct world *);
static inline void pay(struct world *w)
{
    if (__builtin_expect(w->current->debt_ns != 0, 0))
        sim_pay_debt(w);
}
static inline void charge(struct world *w, enum sim_step step)
{
    if (__builtin_expect(w->costly, 0))
        sim_charge(&w->env, step, 1);
}
/* Actors that may be picked: one more needs a CPU. */
static inline unsigned may_run(const struct world *w)
{
    return w->costs.cpus && w->computing >= w->costs.cpus ? 0 : w->runnable_n;
}

/* sim_event.c: what is scheduled becomes due; the i-th of those due is taken out. */
void sim_gather_due(struct world *);
struct sim_event *sim_due_remove(struct world *, unsigned i);

/* sim_search.c: one of n. goes_on: see struct sim_choice. */
unsigned sim_choose_kind(struct world *, unsigned n, enum sim_kind, bool goes_on);
unsigned sim_choose(struct env *, unsigned n);
void sim_touch(struct env *, const void *object);

#endif
