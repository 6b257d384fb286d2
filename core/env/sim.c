/*
 * The simulated world: actors, the clock, the scheduler.
 *
 * Invariants:
 *  1. Exactly one actor is current. Every other one is either on the runnable list or
 *     waits, with wait.what set, in a queue or at a gate whose owner will put it back.
 *  2. An event is idle (slot 0), in the heap (slot: its index), or in the due list.
 *  3. Control changes hands in pick_next() only, and every choice goes through
 *     sim_choose_kind().
 *  4. What an actor or event learns of another goes through touch(), a wake-up, or a
 *     queue that its owner announces (sim_push): then the history is complete.
 *
 * A thread mutex isn't handed over: unlock wakes one waiter, and whoever the scheduler
 * runs first takes it, as with POSIX. So every order that a machine allows can come.
 *
 * Choices are laid out so that a chooser that always says 0 is the plainest schedule:
 * the current actor goes on until it waits, then the one that has been runnable
 * longest, then events in the order they were scheduled.
 */
#include "core/env/sim_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fire(struct world *w, struct sim_event *ev)
{
    note(w, w->now_ns);
    assert(!w->in_event);
    tell(w, SIM_FIRES, ev, NULL);
    w->in_event = true;
    if (w->history) {
        w->event_past = history_of(w->history, ev);
        w->past = &w->event_past;
    }
    ev->fn(ev);
    w->past = &w->current->past;
    w->in_event = false;
}

/* --- the scheduler ---------------------------------------------------------------- */

static void print_actor(const struct actor *a)
{
    if (a->thread)
        fprintf(stderr, "thread %u", a->id);
    else
        fprintf(stderr, "the root");
}

__attribute__((noreturn, cold)) static void deadlock(struct world *w)
{
    if (w->stuck)
        w->stuck(w->stuck_opaque);
    fprintf(stderr,
            "simulation: deadlock at %" PRIu64 " ns: nothing can run, nothing is "
            "scheduled, and\n",
            w->now_ns);
    for (struct actor *a = w->all; a; a = a->all_next) {
        fprintf(stderr, "  ");
        print_actor(a);
        if (!a->wait.what) {
            fprintf(stderr, " has ended\n");
            continue;
        }
        fprintf(stderr, " waits for %s %p", a->wait.what, a->wait.on);
        if (!strcmp(a->wait.what, "mutex")) {
            fprintf(stderr, ", held by ");
            print_actor(((const struct env_mutex *)a->wait.on)->owner);
        }
        fprintf(stderr, "\n");
    }
    abort();
}

static void make_runnable(struct world *w, struct actor *a)
{
    a->wait.what = NULL;
    w->runnable =
        sim_grown(w->runnable, w->runnable_n, &w->runnable_max, sizeof(struct actor *));
    w->runnable[w->runnable_n++] = a;
}

/* Lets events happen until an actor is picked; that one is current. goes_on: the one
 * that is, which could. */
static struct actor *pick_next(struct world *w, bool goes_on)
{
    for (;; goes_on = false) {
        sim_gather_due(w);
        unsigned can_run = may_run(w), n = can_run + w->due_n;
        if (n == 0) {
            if (!w->heap_n)
                deadlock(w);
            w->now_ns = w->heap[1]->when_ns;
            continue;
        }
        unsigned i = sim_choose_kind(w, n, SIM_NEXT, goes_on);
        if (i >= can_run) {
            fire(w, sim_due_remove(w, i - can_run));
            continue;
        }
        struct actor *a = w->runnable[i];
        memmove(&w->runnable[i], &w->runnable[i + 1],
                (--w->runnable_n - i) * sizeof(struct actor *));
        w->current = a;
        w->past = &a->past;
        tell(w, SIM_RUNS, NULL, NULL);
        return a;
    }
}

static void switch_from(struct world *w, struct actor *self, bool goes_on)
{
    assert(!w->in_event); /* events may not wait */
    struct actor *next = pick_next(w, goes_on);

    if (next != self)
        co_world_switch(&self->world, &next->world);
}

void sim_make_runnable(struct world *w, struct actor *a) { make_runnable(w, a); }
void sim_switch_from(struct world *w, struct actor *self)
{
    switch_from(w, self, false);
}

static bool alone(struct world *w)
{
    return !w->runnable_n && !w->due_n &&
           (!w->heap_n || w->heap[1]->when_ns > w->now_ns);
}

/* The current actor could go on: it comes first in the choice. */
static void give_way(struct world *w)
{
    struct actor *self = w->current;

    if (alone(w))
        return;
    make_runnable(w, self);
    memmove(&w->runnable[1], &w->runnable[0],
            (w->runnable_n - 1) * sizeof(struct actor *));
    w->runnable[0] = self;
    switch_from(w, self, true);
}

/* A scheduling point that the actor's own program has, whatever the others do. */
static void point(struct world *w)
{
    if (w->history) /* how far it is */
        *w->past = history_mix(*w->past, POINT);
    pay(w);
    give_way(w);
}

/* The current actor waits, awake; whoever ends the wait has been told of it. */
static void wait_awake(struct world *w, const char *what, const void *on)
{
    struct actor *self = w->current;

    self->wait.what = what;
    self->wait.on = on;
    tell(w, SIM_WAITS, NULL, what);
    switch_from(w, self, false);
}

/* The same, asleep. */
static void block(struct world *w, const char *what, const void *on)
{
    wait_awake(w, what, on);
    charge(w, SIM_HANDOVER);
}

static void queue_push(struct env_queue *q, struct actor *a)
{
    a->next = NULL;
    if (q->tail)
        ((struct actor *)q->tail)->next = a;
    else
        q->head = a;
    q->tail = a;
}

/* Any of those that wait may be the one to go on. told: it learns what the waker knows;
 * else it only gets to try again what it tried. */
static void wake_any(struct world *w, struct env_queue *q, bool told)
{
    struct actor *a, *prev = NULL;
    unsigned n = 0;

    for (a = q->head; a; a = a->next)
        n++;
    if (!n)
        return;
    a = q->head;
    w->wake_from = q;
    for (unsigned i = sim_choose_kind(w, n, SIM_WAKE, false); i--; a = a->next)
        prev = a;
    charge(w, SIM_WAKES);
    if (told)
        history_join(&a->past, *w->past);
    if (prev)
        prev->next = a->next;
    else
        q->head = a->next;
    if (q->tail == a)
        q->tail = prev;
    make_runnable(w, a);
}

static void wake_all(struct world *w, struct env_queue *q, bool told)
{
    for (struct actor *a = q->head, *next; a; a = next) {
        next = a->next;
        charge(w, SIM_WAKES);
        if (told)
            history_join(&a->past, *w->past);
        make_runnable(w, a);
    }
    q->head = q->tail = NULL;
}

/* --- gates and polling ------------------------------------------------------------ */

void sim_gate_wait(struct env *env, struct sim_gate *g, const char *what)
{
    struct world *w = world_of(env);

    pay(w);
    if (g->open) /* a point, but one that another order may not have */
        give_way(w);
    while (!g->open) {
        assert(!g->waiter);
        g->waiter = w->current;
        wait_awake(w, what, g);
        if (w->now_ns >= g->awake_until_ns)
            charge(w, SIM_HANDOVER);
    }
    g->open = false;
}

void sim_gate_open(struct env *env, struct sim_gate *g)
{
    struct world *w = world_of(env);
    struct actor *a = g->waiter;

    g->open = true;
    g->waiter = NULL;
    if (!a)
        return;
    if (!w->in_event && w->now_ns >= g->awake_until_ns)
        charge(w, SIM_WAKES);
    make_runnable(w, a);
}

void sim_poll(struct env *env)
{
    struct world *w = world_of(env);

    pay(w);
    w->now_ns += SIM_POLL_NS;
    if (alone(w))
        return;
    make_runnable(w, w->current); /* last in the choice: a poll gives way */
    switch_from(w, w->current, false);
}

/* --- mutexes, locks and conditions ------------------------------------------------ */

static void take(struct world *w, struct env_mutex *m)
{
    assert(m->owner != w->current);
    while (m->owner) {
        queue_push(&m->waiters, w->current);
        block(w, "mutex", m);
    }
    m->owner = w->current;
    w->current->held++;
    touch(w, m);
}

static void drop(struct world *w, struct env_mutex *m)
{
    assert(m->owner == w->current);
    m->owner = NULL;
    w->current->held--;
    touch(w, m);
    wake_any(w, &m->waiters, false);
}

static void sim_mutex_lock(struct env *env, struct env_mutex *m)
{
    struct world *w = world_of(env);

    charge(w, SIM_LOCK);
    point(w);
    take(w, m);
}

static void sim_mutex_unlock(struct env *env, struct env_mutex *m)
{
    struct world *w = world_of(env);

    pay(w);
    drop(w, m);
    point(w);
}

static void sim_rwlock_shared(struct env *env, struct env_rwlock *l)
{
    struct world *w = world_of(env);

    charge(w, SIM_LOCK);
    point(w);
    assert(l->owner != w->current);
    while (l->owner) {
        queue_push(&l->waiters, w->current);
        block(w, "shared lock", l);
    }
    l->shared++;
    w->current->held++;
    sim_touch_part(env, l, 0, false); /* those who share it don't see each other */
}

static void sim_rwlock_exclusive(struct env *env, struct env_rwlock *l)
{
    struct world *w = world_of(env);

    charge(w, SIM_LOCK);
    point(w);
    assert(l->owner != w->current);
    while (l->owner || l->shared) {
        queue_push(&l->waiters, w->current);
        block(w, "exclusive lock", l);
    }
    l->owner = w->current;
    w->current->held++;
    touch(w, l);
}

/* Not handed over, as a mutex isn't: all that wait may try. */
static void sim_rwlock_unlock(struct env *env, struct env_rwlock *l)
{
    struct world *w = world_of(env);

    assert(l->owner ? l->owner == w->current && !l->shared : l->shared > 0);
    pay(w);
    sim_touch_part(env, l, 0, l->owner);
    if (l->owner)
        l->owner = NULL;
    else
        l->shared--;
    w->current->held--;
    if (!l->shared)
        wake_all(w, &l->waiters, false);
    point(w);
}

static void sim_cond_wait(struct env *env, struct env_cond *c, struct env_mutex *m)
{
    struct world *w = world_of(env);

    pay(w);
    touch(w, c);
    queue_push(&c->waiters, w->current);
    drop(w, m);
    block(w, "condition", c);
    take(w, m);
}

static void sim_cond_signal(struct env *env, struct env_cond *c)
{
    struct world *w = world_of(env);

    pay(w);
    touch(w, c);
    wake_any(w, &c->waiters, true);
    point(w);
}

static void sim_cond_broadcast(struct env *env, struct env_cond *c)
{
    struct world *w = world_of(env);

    pay(w);
    touch(w, c);
    wake_all(w, &c->waiters, true);
    point(w);
}

/* --- threads ---------------------------------------------------------------------- */

static struct co_world *actor_main(void *opaque)
{
    struct actor *self = opaque;
    struct world *w = (struct world *)self->thread->env;

    self->thread->fn(self->thread->arg);
    assert(!self->held);
    pay(w);
    note(w, self->id);
    touch(w, self);
    self->done = true;
    wake_all(w, &self->joiners, true);
    return &pick_next(w, false)->world;
}

static int sim_thread_start(struct env *env, struct env_thread *t)
{
    struct world *w = world_of(env);
    struct actor *a = calloc(1, sizeof(*a));

    if (!a)
        return -ENOMEM;
    a->thread = t;
    a->in = w;
    a->id = w->all == &w->root ? w->ids = 1 : ++w->ids;
    a->past = history_mix(*w->past, a->id);
    int ret = co_world_create(&a->world, actor_main, a);
    if (ret < 0) {
        free(a);
        return ret;
    }
    a->all_next = w->all;
    w->all = a;
    t->actor = a;
    make_runnable(w, a);
    point(w);
    return 0;
}

static void sim_thread_join(struct env *env, struct env_thread *t)
{
    struct world *w = world_of(env);
    struct actor *a = t->actor, **p;

    assert(a && a != w->current);
    pay(w);
    if (!a->done) {
        queue_push(&a->joiners, w->current);
        block(w, "the end of thread", (const void *)(uintptr_t)a->id);
    }
    assert(a->done);
    touch(w, a);
    for (p = &w->all; *p != a; p = &(*p)->all_next)
        ;
    *p = a->all_next;
    free(a);
    t->actor = NULL;
}

bool sim_in_thread(struct env *env)
{
    struct world *w = world_of(env);

    return w->current != &w->root;
}

/* --- the rest --------------------------------------------------------------------- */

/* An actor is ahead of the world by what it hasn't paid for; events aren't. */
static uint64_t sim_now_ns(struct env *env)
{
    const struct world *w = world_of(env);

    return w->now_ns + (w->in_event ? 0 : w->current->debt_ns);
}
static uint64_t sim_env_random(struct env *env)
{
    return splitmix_next(&world_of(env)->random);
}
static unsigned sim_cpus(struct env *env)
{
    uint64_t cpus = world_of(env)->costs.cpus;

    return cpus && cpus < SIM_CPUS ? (unsigned)cpus : SIM_CPUS;
}
uint64_t sim_random(struct env *env) { return splitmix_next(&world_of(env)->latency); }
uint64_t sim_trace_hash(struct env *env) { return world_of(env)->trace; }
struct sim_slot *sim_files(struct env *env) { return &world_of(env)->files; }
struct sim_slot *sim_devices(struct env *env) { return &world_of(env)->devices; }

/* Nobody is disturbed before the next scheduling point. */
static void sim_step(struct env *env, uint64_t cost_ns)
{
    struct world *w = world_of(env);

    assert(!w->in_event);
    w->current->debt_ns += cost_ns;
    w->usage.cpu_ns += cost_ns;
}

unsigned sim_threads(struct env *env)
{
    unsigned n = 0;

    for (const struct actor *a = world_of(env)->all; a; a = a->all_next)
        n += a->thread != NULL;
    return n;
}

static void sim_destroy(struct env *env)
{
    struct world *w = world_of(env);

    assert(w->current == &w->root);
    assert(w->all == &w->root && !w->root.all_next); /* all threads are joined */
    sim_set_costs(env, &(struct sim_costs){.cpus = 0});
    if (w->devices.free)
        w->devices.free(w->devices.data);
    if (w->files.free)
        w->files.free(w->files.data);
    sim_keep_history(env, false);
    free(w->runnable);
    free(w->heap);
    free(w->due);
    free(w);
}

static const struct env_ops sim_ops = {
    .name = "sim",
    .now_ns = sim_now_ns,
    .realtime_ns = sim_now_ns,
    .random = sim_env_random,
    .choose = sim_choose,
    .cpus = sim_cpus,
    .thread_start = sim_thread_start,
    .thread_join = sim_thread_join,
    .mutex_lock = sim_mutex_lock,
    .mutex_unlock = sim_mutex_unlock,
    .rwlock_shared = sim_rwlock_shared,
    .rwlock_exclusive = sim_rwlock_exclusive,
    .rwlock_unlock = sim_rwlock_unlock,
    .cond_wait = sim_cond_wait,
    .cond_signal = sim_cond_signal,
    .cond_broadcast = sim_cond_broadcast,
    .step = sim_step,
    .touch = sim_touch,
    .destroy = sim_destroy,
};

struct env *env_sim(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    w->env.ops = &sim_ops;
    w->env.simulated = true;
    w->random = splitmix_next(&seed);
    w->choice = splitmix_next(&seed);
    w->latency = splitmix_next(&seed);
    w->current = w->all = &w->root;
    w->root.in = w;
    w->past = &w->root.past;
    return &w->env;
}
