/*
 * Stackful coroutines, pooled, with a mutex and a wait queue.
 *
 * A coroutine belongs to the OS thread that created it. co_enter() runs it until it
 * yields or returns; co_yield() goes back to whoever entered it. A coroutine that must
 * not be entered at once (the waker is itself in a coroutine, or holds something) is put
 * on the thread's ready list with co_wake() and run by co_run_ready(), which the event
 * loop calls each turn after its callbacks, oldest first.
 *
 * Back ends: a hand-written switch for x86-64 and a portable one (ucontext), chosen at
 * build time with -Dcoroutine_backend=asm|ucontext. Stacks are mapped with a guard page, cache-
 * coloured, and pooled per thread, last in first out: steady state maps and mallocs
 * nothing. Sanitizer fibre annotations in both back ends.
 */
#ifndef ASYNCOW_COROUTINE_H
#define ASYNCOW_COROUTINE_H
#include <stdbool.h>
#include <stddef.h>

struct co;

/* Ready to be entered for the first time. When fn returns the coroutine ends and its
 * stack goes back to the pool. NULL: out of memory. */
struct co *co_create(void (*fn)(void *arg), void *arg);
/* asserts: of this thread, not running, not ended, not ready, not asleep in a queue */
void co_enter(struct co *);
void co_yield (void);     /* asserts: in a coroutine */
struct co *co_self(void); /* NULL outside */
static inline bool co_in(void) { return co_self() != NULL; }
/* Entered by the next co_run_ready() of this thread; the running coroutine may wake itself
 * and yield. asserts: at most once until then. */
void co_wake(struct co *);
/* Runs those that are ready now, once each. false: there was none. Outside coroutines. */
bool co_run_ready(void);
bool co_has_ready(void);
void co_pool_drain(void); /* unmaps this thread's idle stacks (before thread exit) */

struct co_queue { /* coroutines asleep, oldest first; zero-initialised is empty */
    struct co *head, *tail;
};
struct
    co_mutex { /* zero-initialised is unlocked; hand-over is first come, first served */
    struct co *owner;
    struct co_queue waiters;
};
void co_mutex_lock(struct co_mutex *); /* asserts: in a coroutine, not the owner */
void co_mutex_unlock(
    struct co_mutex *); /* asserts: the owner; wakes the oldest waiter */
/* Sleeps at the tail of q. mutex may be NULL; else it is released in one step with going
 * to sleep and taken again before return. */
void co_queue_wait(struct co_queue *q, struct co_mutex *mutex);
bool co_queue_wake_one(struct co_queue *q); /* false: nobody slept */
void co_queue_wake_all(struct co_queue *q);
static inline bool co_queue_empty(const struct co_queue *q) { return !q->head; }

#endif
