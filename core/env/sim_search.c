/*
 * What a search over schedules asks of the simulated world: to choose, to know what is
 * chosen from, to know whether it has been here before.
 */
#include "core/env/sim_int.h"

#include <stdlib.h>

/* --- choices ---------------------------------------------------------------------- */

unsigned sim_choose_kind(struct world *w, unsigned n, enum sim_kind kind, bool goes_on)
{
    unsigned i;

    assert(n > 0);
    if (n == 1)
        return 0;
    w->choice_at = (struct sim_choice){kind, w->current->id, goes_on};
    if (w->chooser)
        i = w->chooser(w->chooser_opaque, n);
    else
        i = (unsigned)(((unsigned __int128)splitmix_next(&w->choice) * n) >> 64);
    assert(i < n);
    note(w, i);
    return i;
}

unsigned sim_choose(struct env *env, unsigned n)
{
    struct world *w = world_of(env);
    unsigned i = sim_choose_kind(w, n, SIM_OTHER, false);

    if (n > 1)
        sim_mark(env, i);
    return i;
}

const struct sim_choice *sim_choice(struct env *env)
{
    return &world_of(env)->choice_at;
}

unsigned sim_option(struct env *env, unsigned i, const struct sim_event **event)
{
    struct world *w = world_of(env);
    const struct actor *a;

    *event = NULL;
    if (w->choice_at.kind == SIM_NEXT && i >= w->runnable_n) {
        *event = w->due[i - w->runnable_n];
        return 0;
    }
    if (w->choice_at.kind == SIM_NEXT)
        return w->runnable[i]->id;
    for (a = w->wake_from->head; i--; a = a->next)
        ;
    return a->id;
}

void sim_set_chooser(struct env *env, unsigned (*fn)(void *opaque, unsigned n),
                     void *opaque)
{
    struct world *w = world_of(env);

    w->chooser = fn;
    w->chooser_opaque = opaque;
}

void sim_set_watcher(struct env *env, void (*fn)(void *opaque, const struct sim_news *),
                     void *opaque)
{
    struct world *w = world_of(env);

    w->watcher = fn;
    w->watcher_opaque = opaque;
}

void sim_set_stuck(struct env *env, void (*fn)(void *opaque), void *opaque)
{
    struct world *w = world_of(env);

    w->stuck = fn;
    w->stuck_opaque = opaque;
}

/* --- history ---------------------------------------------------------------------- */

void sim_touch_part(struct env *env, const void *object, uint64_t part, bool write)
{
    struct world *w = world_of(env);

    if (w->history)
        history_touch(w->history, w->past, object, part, write);
}

void sim_mark(struct env *env, uint64_t what)
{
    struct world *w = world_of(env);

    if (w->history)
        *w->past = history_mix(*w->past, what);
}

void sim_name(struct env *env, const void *item)
{
    struct world *w = world_of(env);

    if (w->history)
        history_name(w->history, w->past, item);
}

void sim_push(struct env *env, const void *queue, const void *item)
{
    struct world *w = world_of(env);

    if (w->history)
        history_push(w->history, w->past, queue, item);
}

void sim_pop(struct env *env, const void *queue, const void *item)
{
    struct world *w = world_of(env);

    if (w->history)
        history_pop(w->history, w->past, queue, item);
}

bool sim_keep_history(struct env *env, bool keep)
{
    struct world *w = world_of(env);

    if (keep && !w->history) {
        w->history = malloc(sizeof(*w->history));
        if (!w->history || history_open(w->history) < 0) {
            free(w->history);
            w->history = NULL;
            return false;
        }
    } else if (!keep && w->history) {
        history_close(w->history);
        free(w->history);
        w->history = NULL;
    } else if (keep) {
        history_clear(w->history);
    }
    for (struct actor *a = w->all; a; a = a->all_next)
        a->past = a->id;
    w->past = &w->current->past;
    return true;
}

bool sim_history_kept(struct env *env) { return world_of(env)->history; }

/* In order of their numbers: `all` has the newest first. */
uint64_t sim_state_hash(struct env *env)
{
    struct world *w = world_of(env);
    uint64_t hash = w->history->queues;

    for (const struct actor *a = w->all; a; a = a->all_next)
        hash = history_mix(hash, a->past + (a->wait.what != NULL));
    return w->in_event ? history_mix(hash, w->event_past) : hash;
}

void sim_touch(struct env *env, const void *object) { touch(world_of(env), object); }
