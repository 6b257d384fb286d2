/*
 * A node's lock, as `lock` and `mutex` ask for it.
 *
 * The machine's own mutex and shared/exclusive lock: whoever comes when it is free
 * takes it, past those who were there before (barging). And one of ours, a queue under
 * a mutex that is held for a few instructions: a request that has to wait says so and
 * waits the way it waits for everything (pool.c), so it can give its worker up. When it
 * hands over (fair), the next in line holds the lock before it runs, and nobody passes
 * who waits.
 */
#include "strategies/threadpool/model.h"

#include <assert.h>

/* --- the machine's ---------------------------------------------------------------- */

/* Only to count who finds it held. */
static void look(struct tp_lock *l)
{
    if (atomic_load_explicit(&l->held, memory_order_relaxed))
        atomic_fetch_add_explicit(&l->waits, 1, memory_order_relaxed);
}

static void set_held(struct tp_lock *l, bool held)
{
    atomic_store_explicit(&l->held, held, memory_order_relaxed);
}

static void mutex_lock(struct tp_lock *l, struct tp_request *r)
{
    look(l);
    env_mutex_lock(r->image->env, &l->mutex);
    set_held(l, true);
}

static void mutex_unlock(struct tp_lock *l)
{
    set_held(l, false);
    env_mutex_unlock(l->env, &l->mutex);
}

static void rwlock_exclusive(struct tp_lock *l, struct tp_request *r)
{
    look(l);
    env_rwlock_exclusive(r->image->env, &l->rwlock);
    set_held(l, true);
}

static void rwlock_shared(struct tp_lock *l, struct tp_request *r)
{
    look(l);
    env_rwlock_shared(r->image->env, &l->rwlock);
}

static void rwlock_unlock(struct tp_lock *l)
{
    set_held(l, false); /* nobody shares it with one who is alone */
    env_rwlock_unlock(l->env, &l->rwlock);
}

/* --- the queue -------------------------------------------------------------------- */

/* Under l->mutex, as the next two. */
static bool is_free(const struct tp_lock *l, bool shared)
{
    return !l->alone && (shared || l->sharing == 0);
}

static void grant(struct tp_lock *l, bool shared)
{
    if (shared)
        l->sharing++;
    else
        l->alone = true;
}

/* Whom to wake now: with hand-over they hold the lock, else they try again. */
static struct tp_queue leave(struct tp_lock *l)
{
    struct tp_queue woken = {NULL, NULL};
    struct tp_request *r;
    if (l->alone)
        l->alone = false;
    else
        l->sharing--;
    while ((r = l->waiting.head) && is_free(l, r->shares)) {
        tp_queue_push(&woken, tp_queue_pop(&l->waiting));
        if (l->fair)
            grant(l, r->shares);
        else if (!r->shares)
            break; /* there is no use for more */
    }
    return woken;
}

static void queue_lock(struct tp_lock *l, struct tp_request *r, bool shared)
{
    bool waits = false;
    env_mutex_lock(l->env, &l->mutex);
    while (!is_free(l, shared) || (l->fair && l->waiting.head)) {
        atomic_fetch_add_explicit(&l->waits, !waits, memory_order_relaxed);
        waits = true;
        r->shares = shared;
        tp_queue_push(&l->waiting, r);
        env_mutex_unlock(l->env, &l->mutex);
        r->waits->wait(r);
        if (l->fair)
            return; /* handed over */
        env_mutex_lock(l->env, &l->mutex);
    }
    grant(l, shared);
    env_mutex_unlock(l->env, &l->mutex);
}

static void queue_exclusive(struct tp_lock *l, struct tp_request *r)
{
    queue_lock(l, r, false);
}

static void queue_shared(struct tp_lock *l, struct tp_request *r)
{
    queue_lock(l, r, l->shares);
}

static void queue_unlock(struct tp_lock *l)
{
    struct tp_request *r;
    env_mutex_lock(l->env, &l->mutex);
    struct tp_queue woken = leave(l);
    env_mutex_unlock(l->env, &l->mutex);
    while ((r = tp_queue_pop(&woken)))
        r->waits->wake(r);
}

/* --- */

const struct tp_lock_ops tp_lock_mutex = {mutex_lock, mutex_lock, mutex_unlock},
                         tp_lock_rwlock = {rwlock_exclusive, rwlock_shared,
                                           rwlock_unlock},
                         tp_lock_queue = {queue_exclusive, queue_shared, queue_unlock};

void tp_lock_init(struct tp_lock *l, const struct strategy_image *image)
{
    l->ops = image->lock;
    l->env = image->env;
    l->shares = image->shares;
    l->fair = image->fair;
    env_mutex_init(&l->mutex);
    env_rwlock_init(&l->rwlock);
}

void tp_lock_destroy(struct tp_lock *l)
{
    assert(!l->alone && !l->sharing && !l->waiting.head);
    env_mutex_destroy(&l->mutex);
    env_rwlock_destroy(&l->rwlock);
}

void tp_lock_touch(struct tp_lock *l)
{
    if (l->ops == &tp_lock_rwlock)
        env_touch(l->env, &l->rwlock);
    else
        env_touch(l->env, &l->mutex);
}

/* --- sections of a node ----------------------------------------------------------- */

void tp_begin_shared(struct tp_request *r, struct node *node)
{
    atomic_fetch_add_explicit(&r->image->locks, 1, memory_order_relaxed);
    node->guard->lock.ops->shared(&node->guard->lock, r);
}

/* Nothing has changed, so there is nobody to wake. */
void tp_end_shared(struct node *node)
{
    node->guard->lock.ops->unlock(&node->guard->lock);
}

void tp_upgrade(struct tp_request *r, struct node *node)
{
    struct tp_lock *l = &node->guard->lock;
    if (!l->shares)
        return;
    l->ops->unlock(l);
    tp_begin(r, node);
}
