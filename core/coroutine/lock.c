/*
 * Mutex, shared/exclusive lock, wait queue. All hand over first come, first served.
 *
 * Whoever gives a lock up makes the next one its holder before that one runs, so nobody
 * can slip in between: a waiter that is woken has the lock. Who waits is never passed
 * by one that came later, of either kind; so nobody starves, and a stream of readers
 * lets the writer in that came before the last of them.
 *
 * Between threads the same, with a guard around what a lock says of itself. Who goes to
 * sleep gives the guard back first: should the wake-up come before the yield, it waits
 * in the inbox of the very thread that is about to yield.
 */
#include "core/coroutine/internal.h"

/* Sleeps at the end of q until somebody wakes this one; gives the guard back. */
static void sleep_in(struct co_queue *q, struct co *self, struct co_guard *g)
{
    co_queue_push(q, self);
    co_guard_unlock(g);
    co_yield ();
}

/* --- mutex ------------------------------------------------------------------------ */

bool co_mutex_lock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self);
    co_guard_lock(m->guard);
    assert(m->owner != self);
    self->held++;
    if (!m->owner) {
        m->owner = self;
        co_guard_unlock(m->guard);
        return false;
    }
    sleep_in(&m->waiters, self, m->guard);
    assert(m->owner == self);
    return true;
}

bool co_mutex_trylock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self);
    co_guard_lock(m->guard);
    assert(m->owner != self);
    bool got = !m->owner;
    if (got) {
        self->held++;
        m->owner = self;
    }
    co_guard_unlock(m->guard);
    return got;
}

void co_mutex_unlock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self);
    co_guard_lock(m->guard);
    assert(m->owner == self);
    self->held--;
    struct co *next = m->owner = co_queue_pop(&m->waiters);
    co_guard_unlock(m->guard);
    if (next)
        co_wake(next);
}

/* --- shared/exclusive ------------------------------------------------------------- */

/* Lets in who is next: one that wants to be alone, or all in a row that don't. */
static void rwlock_admit(struct co_rwlock *l)
{
    struct co *co;

    while ((co = l->waiters.head) && !l->owner && !(co->exclusive && l->shared)) {
        co_queue_pop(&l->waiters);
        if (co->exclusive)
            l->owner = co;
        else
            l->shared++;
        co_wake(co);
    }
}

static bool rwlock_wait(struct co_rwlock *l, struct co *self, bool exclusive)
{
    self->exclusive = exclusive;
    sleep_in(&l->waiters, self, l->guard);
    assert(!exclusive || l->owner == self);
    return true;
}

bool co_rwlock_shared(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self);
    co_guard_lock(l->guard);
    assert(l->owner != self);
    self->held++;
    if (l->owner || l->waiters.head)
        return rwlock_wait(l, self, false);
    l->shared++;
    co_guard_unlock(l->guard);
    return false;
}

bool co_rwlock_exclusive(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self);
    co_guard_lock(l->guard);
    assert(l->owner != self);
    self->held++;
    if (l->owner || l->shared)
        return rwlock_wait(l, self, true);
    assert(!l->waiters.head); /* nobody waits for a lock that is free */
    l->owner = self;
    co_guard_unlock(l->guard);
    return false;
}

void co_rwlock_unlock(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self && self->held);
    co_guard_lock(l->guard);
    assert(l->owner ? l->owner == self : l->shared > 0);
    self->held--;
    if (l->owner)
        l->owner = NULL;
    else
        l->shared--;
    rwlock_admit(l);
    co_guard_unlock(l->guard);
}

void co_rwlock_downgrade(struct co_rwlock *l)
{
    assert(co_self());
    co_guard_lock(l->guard);
    assert(l->owner == co_self());
    l->owner = NULL;
    l->shared = 1;
    rwlock_admit(l);
    co_guard_unlock(l->guard);
}

bool co_rwlock_upgrade(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self && self->held);
    co_guard_lock(l->guard);
    assert(!l->owner && l->shared > 0);
    l->shared--;
    if (!l->shared) { /* alone: those who wait have waited for this one anyway */
        l->owner = self;
        co_guard_unlock(l->guard);
        return true;
    }
    return !rwlock_wait(l, self, true);
}

/* --- queue ------------------------------------------------------------------------ */

void co_queue_wait(struct co_queue *q, struct co_mutex *mutex)
{
    struct co *self = co_self();

    assert(self);
    co_queue_push(q, self);
    if (mutex)
        co_mutex_unlock(mutex);
    co_yield ();
    if (mutex)
        co_mutex_lock(mutex);
}

void co_queue_wait_guarded(struct co_queue *q, struct co_guard *g)
{
    struct co *self = co_self();

    assert(self);
    sleep_in(q, self, g);
    co_guard_lock(g);
}

bool co_queue_wake_one(struct co_queue *q)
{
    struct co *co = co_queue_pop(q);

    if (co)
        co_wake(co);
    return co != NULL;
}

void co_queue_wake_all(struct co_queue *q)
{
    while (co_queue_wake_one(q))
        ;
}
