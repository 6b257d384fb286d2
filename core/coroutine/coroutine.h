/*
 * Stackful coroutines, pooled, with a mutex, a shared/exclusive lock and a wait queue.
 *
 * A coroutine belongs to the OS thread that created it, or adopted it since. co_enter()
 * runs it until it yields or returns; co_yield() goes back to whoever entered it. A
 * coroutine that must not be entered at once (the waker is itself in a coroutine, or
 * holds something) is put on its thread's ready list with co_wake() and run by
 * co_run_ready(), which the event loop calls each turn after its callbacks, oldest
 * first. Other threads may wake it too: it runs on its own all the same.
 *
 * Four back ends: a hand-written switch (x86-64, AArch64), ucontext, sigaltstack, and a
 * thread per coroutine. -Dcoroutine_backend sets which one a program starts with,
 * co_set_backend() another. Stacks have a guard page, are cache-coloured, and pooled
 * per thread, last in first out: steady state maps and mallocs nothing.
 */
#ifndef ASYNCOW_COROUTINE_H
#define ASYNCOW_COROUTINE_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/env/env.h"

struct co;
struct error;

/* --- life and scheduling --- */

/* Ready to be entered for the first time. When fn returns the coroutine ends and its
 * stack goes back to the pool; asserts: it holds no lock then. NULL: out of memory. */
struct co *co_create(void (*fn)(void *arg), void *arg);
/* asserts: of this thread, not running, not ended, not ready, not asleep in a queue */
void co_enter(struct co *);
/* From now on it is this thread's to enter and wake. The caller's lock puts this after
 * its last yield. Code that runs in it must not keep what is a thread's (errno,
 * co_self() of its caller) across a yield. In the end it goes back to the thread that
 * created it, whose stack it has. asserts: not running, on no list, holds none of the
 * locks below */
void co_adopt(struct co *);
void co_yield (void);     /* asserts: in a coroutine */
struct co *co_self(void); /* NULL outside */
static inline bool co_in(void) { return co_self() != NULL; }
/* Entered by the next co_run_ready() of its thread; the running coroutine may wake
 * itself and yield. asserts: at most once until then. From another thread: its own must
 * have an inbox. It may be about to yield still. */
void co_wake(struct co *);
/* Runs those that are ready now, once each. false: there was none. Outside
 * coroutines. */
bool co_run_ready(void);
bool co_has_ready(void);

/* Where other threads put those of a thread that they wake; the loop has one. Zeroed but
 * for kick(), which is called in the waking thread when the inbox was empty: it has the
 * other one call co_open_inbox(). */
struct co_inbox {
    _Atomic(struct co *) newest;
    void (*kick)(struct co_inbox *);
};
void co_use_inbox(struct co_inbox *);  /* this thread's from now on; NULL: none */
struct co_inbox *co_inbox(void);       /* this thread's */
void co_open_inbox(struct co_inbox *); /* what is in it is ready: for its thread */

/* --- locks: lock.c. All first come, first served; zero-initialised is empty, free - */

struct co_queue { /* coroutines asleep, oldest first */
    struct co *head, *tail;
};
/* What a lock says of itself, when coroutines of several threads use it: held for a few
 * instructions. Such a lock's guard is set before its first use; else it is NULL. A
 * co_queue has none of its own: what its caller waits with guards it. */
struct co_guard {
    struct env *env;
    struct env_mutex mutex;
};
/* NULL: does nothing. Nobody yields in between, but in co_queue_wait_guarded(). */
static inline void co_guard_lock(struct co_guard *g)
{
    if (__builtin_expect(g != NULL, 0))
        env_mutex_lock(g->env, &g->mutex);
}
static inline void co_guard_unlock(struct co_guard *g)
{
    if (__builtin_expect(g != NULL, 0))
        env_mutex_unlock(g->env, &g->mutex);
}
struct co_mutex {
    struct co *owner;
    struct co_queue waiters;
    struct co_guard *guard;
};
/* true: it had to wait. asserts: in a coroutine, not the owner */
bool co_mutex_lock(struct co_mutex *);
bool co_mutex_trylock(struct co_mutex *); /* false: taken */
/* asserts: the owner. The oldest waiter is the owner from now on, and is woken. */
void co_mutex_unlock(struct co_mutex *);

/* Many share it, or one has it alone. Who waits isn't passed by anyone who came later,
 * of either kind. So do not lock shared what you hold shared: one who waits to be alone
 * would be between the two, for ever. */
struct co_rwlock {
    unsigned shared;  /* how many hold it so */
    struct co *owner; /* who has it alone */
    struct co_queue waiters;
    struct co_guard *guard;
};
/* true: it had to wait. asserts: in a coroutine, not the owner */
bool co_rwlock_shared(struct co_rwlock *);
bool co_rwlock_exclusive(struct co_rwlock *);
void co_rwlock_unlock(struct co_rwlock *); /* asserts: held */
/* From alone to shared; nobody else has it alone in between. */
void co_rwlock_downgrade(struct co_rwlock *);
/* From shared to alone. true: at once, nothing came between. false: others shared it
 * too; it was given up and taken anew, last in the queue: what was read may have
 * changed. */
bool co_rwlock_upgrade(struct co_rwlock *);

/* Sleeps at the tail of q. mutex may be NULL; else it is released in one step with
 * going to sleep and taken again before return. */
void co_queue_wait(struct co_queue *q, struct co_mutex *mutex);
/* The same with a guard, for who may not wait for a mutex. */
void co_queue_wait_guarded(struct co_queue *q, struct co_guard *);
bool co_queue_wake_one(struct co_queue *q); /* the oldest; false: nobody slept */
void co_queue_wake_all(struct co_queue *q);
static inline bool co_queue_empty(const struct co_queue *q) { return !q->head; }

/* --- stacks: stack.c --- */

/* How many idle stacks a thread keeps, this one from now on (it drains what is idle)
 * and others from their first coroutine on. More may stay while they are in use again
 * and again. 0: none, each coroutine maps its own. At first 1024. */
void co_pool_limit(unsigned stacks);
void co_pool_drain(void); /* unmaps this thread's idle stacks (before thread exit) */

struct co_usage {                             /* of this thread */
    unsigned stacks, stacks_max, stacks_idle; /* mapped now, at most, in the pool */
    size_t stack_bytes;                       /* of each */
    unsigned pool_limit;                      /* co_pool_limit(), whoever set it last */
};
void co_usage(struct co_usage *);
/* High-water marks: how deep a coroutine, and who had its stack before, went; and those
 * did whose stacks are in the pool. Bytes, whole pages. Asks the kernel; costs nothing
 * until then. */
size_t co_stack_used(const struct co *);
size_t co_stack_used_max(void);

/* --- back ends: backend.c --- */

/* "auto", "asm", "ucontext", "sigaltstack" or "thread", for this thread from now on and
 * others from their first coroutine on. 0; with err: -EINVAL no such name; -ENOTSUP it
 * can't work here; -EBUSY this thread has coroutines that haven't ended. */
int co_set_backend(const char *name, struct error *err);
const char *co_backend(void); /* this thread's */
/* The i-th there is; NULL: no more. summary may be NULL. */
const char *co_backend_name(unsigned i, const char **summary);

#endif
