/*
 * Events of the simulated world: a heap by time, and the list of those that are due, in
 * which order doesn't matter until one is chosen.
 */
#include "core/env/sim_int.h"

#include <stdlib.h>
#include <string.h>

void *sim_grown(void *array, unsigned n, unsigned *max, size_t size)
{
    if (n < *max)
        return array;
    *max = *max ? 2 * *max : 64;
    array = realloc(array, *max * size);
    if (!array)
        abort();
    return array;
}

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->seq < b->seq;
}

static void heap_set(struct world *w, unsigned slot, struct sim_event *ev)
{
    w->heap[slot] = ev;
    ev->slot = slot;
}

/* Puts ev where it belongs, slot being free: up towards the root, or down. */
static void heap_place(struct world *w, unsigned slot, struct sim_event *ev)
{
    while (slot > 1 && earlier(ev, w->heap[slot / 2])) {
        heap_set(w, slot, w->heap[slot / 2]);
        slot /= 2;
    }
    for (;;) {
        unsigned child = 2 * slot;
        if (child > w->heap_n)
            break;
        if (child < w->heap_n && earlier(w->heap[child + 1], w->heap[child]))
            child++;
        if (!earlier(w->heap[child], ev))
            break;
        heap_set(w, slot, w->heap[child]);
        slot = child;
    }
    heap_set(w, slot, ev);
}

static void heap_remove(struct world *w, struct sim_event *ev)
{
    unsigned slot = ev->slot;
    struct sim_event *last = w->heap[w->heap_n--];

    if (last != ev)
        heap_place(w, slot, last);
    ev->slot = 0;
}

struct sim_event *sim_due_remove(struct world *w, unsigned i)
{
    struct sim_event *ev = w->due[i];

    memmove(&w->due[i], &w->due[i + 1], (--w->due_n - i) * sizeof(*w->due));
    ev->slot = 0;
    return ev;
}

void sim_gather_due(struct world *w)
{
    while (w->heap_n && w->heap[1]->when_ns <= w->now_ns) {
        struct sim_event *ev = w->heap[1];
        heap_remove(w, ev);
        w->due = sim_grown(w->due, w->due_n, &w->due_max, sizeof(*w->due));
        w->due[w->due_n++] = ev;
        ev->slot = DUE;
    }
}

bool sim_cancel(struct env *env, struct sim_event *ev)
{
    struct world *w = world_of(env);

    if (!ev->slot)
        return false;
    touch(w, ev);
    if (ev->slot != DUE) {
        heap_remove(w, ev);
        return true;
    }
    for (unsigned i = 0; i < w->due_n; i++)
        if (w->due[i] == ev) {
            sim_due_remove(w, i);
            return true;
        }
    abort(); /* invariant 2 */
}

static void schedule(struct world *w, struct sim_event *ev, uint64_t when_ns)
{
    sim_cancel(&w->env, ev);
    ev->when_ns = when_ns;
    ev->seq = ++w->seq;
    tell(w, SIM_SCHEDULED, ev, NULL);
    w->heap = sim_grown(w->heap, w->heap_n + 1, &w->heap_max, sizeof(*w->heap));
    heap_place(w, ++w->heap_n, ev);
}

void sim_schedule(struct env *env, struct sim_event *ev, uint64_t when_ns)
{
    struct world *w = world_of(env);

    schedule(w, ev, when_ns);
    if (w->history)
        history_name(w->history, w->past, ev);
}

void sim_schedule_for(struct env *env, struct sim_event *ev, uint64_t when_ns,
                      const void *item)
{
    struct world *w = world_of(env);

    schedule(w, ev, when_ns);
    if (w->history)
        history_rename(w->history, item, ev);
}
