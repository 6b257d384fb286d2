/*
 * The only file that waits: the worker blocks. On a mutex (tp_begin), on a condition
 * variable of its own (tp_sleep), or in its own loop for its own I/O (owed, transfer).
 *
 * "In one step": env_cond_wait() gives the lock back and sleeps at once, so tp_sleep()
 * misses no wake-up.
 */
#include "strategies/threadpool/model.h"

#include <errno.h>

static void lock(struct node *node)
{
    bool waits = atomic_load_explicit(&node->guard->held, memory_order_relaxed);
    env_mutex_lock(node->image->env, &node->guard->lock);
    atomic_store_explicit(&node->guard->held, true, memory_order_relaxed);
    node->image->lock_waits += waits;
}

static void unlock(struct node *node)
{
    atomic_store_explicit(&node->guard->held, false, memory_order_relaxed);
    env_mutex_unlock(node->image->env, &node->guard->lock);
}

/* The exclusive section of a node: tp_begin() to tp_end(). */
void tp_begin(struct node *node) { lock(node); }

void tp_end(struct node *node)
{
    tp_wake_sleepers(node);
    unlock(node);
}

int tp_settle(struct tp_request *r, struct node *node, int verdict)
{
    int ret = 0;
    if (verdict == QCOW2_NEED_WAIT)
        tp_sleep(r, node);
    else
        ret = tp_owed(r, node);
    env_touch(r->image->env, &r->cancelled);
    return ret == 0 && r->cancelled ? -ECANCELED : ret;
}

/* Whatever `hold` says, a sleeper gives the lock back: else whom it waits for could
 * never come to an end. */
void tp_sleep(struct tp_request *r, struct node *node)
{
    r->chan = r->need.chan;
    r->next = NULL;
    r->awake = false;
    *node->guard->end_asleep = r;
    node->guard->end_asleep = &r->next;
    /* With r among them: readers let go without the lock, so the news can be what r waits
     * for. If it is old, r just asks again. */
    tp_wake_sleepers(node);
    atomic_store_explicit(&node->guard->held, false, memory_order_relaxed);
    while (!r->awake)
        env_cond_wait(node->image->env, &r->wakeup, &node->guard->lock);
    atomic_store_explicit(&node->guard->held, true, memory_order_relaxed);
}

/* Oldest channel first, oldest sleeper first. Who then gets the mutex first is up to
 * the system: threads barge. */
void tp_wake_sleepers(struct node *node)
{
    qcow2_chan chan;
    while ((chan = qcow2_wake(node->core))) {
        struct tp_request **at = &node->guard->asleep, *r;
        while ((r = *at)) {
            if (r->chan != chan) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            node->image->wakeups++;
            r->awake = true;
            env_cond_signal(node->image->env, &r->wakeup);
        }
        node->guard->end_asleep = at;
    }
}

static int io(struct tp_request *r)
{
    r->aio.done = NULL;
    return aio_run(r->worker->loop, &r->aio);
}

/* Does the host I/O in r->need and reports it. Never cancelled: the core needs to know
 * what became of it, and others may wait for the same slice. */
int tp_owed(struct tp_request *r, struct node *node)
{
    const struct qcow2_io *owed = &r->need.io;
    bool hold = r->image->hold, more = true;
    void *copy = NULL;
    int ret = 0;
    if (!hold)
        tp_end(node);
    if (owed->op == QCOW2_COPY) {
        copy = host_buf_get(&r->buf.copy, owed->len);
        ret = copy ? 0 : -ENOMEM;
        r->image->bytes_copied += owed->len;
    }
    for (unsigned step = 0; ret == 0 && more; step++) {
        more = host_owed(&r->aio, &r->iov, owed, node->file, copy, step);
        ret = io(r);
    }
    if (!hold)
        tp_begin(node);
    return qcow2_io_done(node->core, owed, ret);
}

/* Guest data, without the lock. */
int tp_transfer(struct tp_request *r)
{
    env_touch(r->image->env, &r->cancelled);
    if (r->cancelled)
        return -ECANCELED;
    r->transfers = true;
    int ret = io(r);
    r->transfers = false;
    return ret;
}

/* r->compressed into r->buf.cluster, right here: this thread is there to be kept busy. */
int tp_decompress(struct tp_request *r, const struct where *where)
{
    struct host_expand x = {
        .how = qcow2_compression(where->node->core),
        .in = r->buf.compressed.p,
        .in_len = where->ext.host_len,
        .out = r->buf.cluster.p,
        .out_len = qcow2_cluster_size(where->node->core),
    };
    host_expand(&x.work);
    return x.result;
}

static void deferred(struct loop_bh *bh)
{
    struct strategy_image *image = from_member(bh, struct strategy_image, tell);
    env_mutex_lock(image->env, &image->pool_lock);
    struct tp_request *r = image->finished, *next;
    image->finished = NULL;
    image->end_finished = &image->finished;
    image->telling = false; /* what comes from here on posts anew */
    env_mutex_unlock(image->env, &image->pool_lock);
    for (; r; r = next) {
        next = r->next; /* finish gives the slot away */
        tp_finish(r);
    }
}

/* Bottom half on the submitter's loop, posted from here. One takes all that has
 * gathered until it runs. */
void tp_defer(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    env_mutex_lock(image->env, &image->pool_lock);
    bool post = !image->telling;
    image->telling = true;
    r->worker = NULL;
    r->next = NULL;
    *image->end_finished = r;
    image->end_finished = &r->next;
    env_mutex_unlock(image->env, &image->pool_lock);
    if (post) {
        image->tell.fn = deferred;
        loop_post(image->loop, &image->tell);
    }
}

/* The loop is another thread's: it turns anyway. */
void tp_pause(struct tp_request *r, struct node *node)
{
    (void)r;
    tp_end(node);
    tp_begin(node);
}
