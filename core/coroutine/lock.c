/*
 * Mutex, shared/exclusive lock, wait queue. All hand over first come, first served.
 *
 * Whoever gives a lock up makes the next one its holder before that one runs, so nobody
 * can slip in between: a waiter that is woken has the lock. Who waits is never passed
 * by one that came later, of either kind; so nobody starves, and a stream of readers
 * lets the writer in that came before the last of them.
 */
#include "core/coroutine/internal.h"

/* Sleeps at the end of q until somebody wakes this one. */
static void sleep_in(struct co_queue *q, struct co *self)
{
    co_queue_push(q, self);
    co_yield ();
}

/* --- mutex ------------------------------------------------------------------------ */

void co_mutex_lock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self && m->owner != self);
    self->held++;
    if (!m->owner) {
        m->owner = self;
        return;
    }
    sleep_in(&m->waiters, self);
    assert(m->owner == self);
}

bool co_mutex_trylock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self && m->owner != self);
    if (m->owner)
        return false;
    self->held++;
    m->owner = self;
    return true;
}

void co_mutex_unlock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self && m->owner == self);
    self->held--;
    m->owner = co_queue_pop(&m->waiters);
    if (m->owner)
        co_wake(m->owner);
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

static void rwlock_wait(struct co_rwlock *l, struct co *self, bool exclusive)
{
    self->exclusive = exclusive;
    sleep_in(&l->waiters, self);
    assert(exclusive ? l->owner == self : l->shared > 0);
}

void co_rwlock_shared(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self && l->owner != self);
    self->held++;
    if (l->owner || l->waiters.head)
        rwlock_wait(l, self, false);
    else
        l->shared++;
}

void co_rwlock_exclusive(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self && l->owner != self);
    self->held++;
    if (l->owner || l->shared) {
        rwlock_wait(l, self, true);
    } else {
        assert(!l->waiters.head); /* nobody waits for a lock that is free */
        l->owner = self;
    }
}

void co_rwlock_unlock(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self && self->held && (l->owner ? l->owner == self : l->shared > 0));
    self->held--;
    if (l->owner)
        l->owner = NULL;
    else
        l->shared--;
    rwlock_admit(l);
}

void co_rwlock_downgrade(struct co_rwlock *l)
{
    assert(co_self() && l->owner == co_self());
    l->owner = NULL;
    l->shared = 1;
    rwlock_admit(l);
}

bool co_rwlock_upgrade(struct co_rwlock *l)
{
    struct co *self = co_self();

    assert(self && self->held && !l->owner && l->shared > 0);
    l->shared--;
    if (!l->shared) { /* alone: those who wait have waited for this one anyway */
        l->owner = self;
        return true;
    }
    rwlock_wait(l, self, true);
    return false;
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
