/*
 * Several threads' worth of coroutines in one OS thread, for the simulator.
 *
 * To a coroutine its thread is where co_yield() finally goes back to (the leader), who
 * runs now, and the list of those made ready. That is a world. A simulated thread has
 * one of its own, so that code in it may use coroutines as it would in a real thread,
 * and switching between simulated threads switches worlds, wherever in its coroutines
 * each of them is. The pool of stacks is common.
 */
#ifndef ASYNCOW_WORLD_H
#define ASYNCOW_WORLD_H
#include "core/coroutine/coroutine.h"

struct co_world {
    struct co *leader;  /* outside all coroutines: the thread's own flow of control */
    struct co *current; /* runs now, or ran last; leader: outside coroutines */
    struct co_queue ready;
    struct co_world *(*fn)(void *arg);
    void *arg;
};

/* A world whose first resumption runs fn(arg) on a pooled stack, outside coroutines.
 * When fn returns the world is over and the one it returned is resumed. 0 or
 * -ENOMEM. */
int co_world_create(struct co_world *, struct co_world *(*fn)(void *arg), void *arg);
/* Suspends the running world into save and resumes load. Returns when someone switches
 * to save. */
void co_world_switch(struct co_world *save, const struct co_world *load);

/* fn is called at each switch of this OS thread to a coroutine or from one, before it;
 * not at those between worlds. It must not switch. NULL: nothing is. What isn't watched
 * pays nothing for it. */
void co_watch_switches(void (*fn)(void *opaque), void *opaque);

#endif
