/*
 * The only file that waits, with what it is made of: for a node's lock (tp_begin;
 * lock.c), asleep for another request (tp_sleep; pool.c), or for its own I/O (owed,
 * transfer). The worker blocks, or is given up.
 */
#include "strategies/threadpool/model.h"

#include <errno.h>

/* The exclusive section of a node: tp_begin() to tp_end(). */
void tp_begin(struct tp_request *r, struct node *node)
{
    atomic_fetch_add_explicit(&r->image->locks, 1, memory_order_relaxed);
    node->guard->lock.ops->exclusive(&node->guard->lock, r);
}

void tp_end(struct node *node)
{
    tp_wake_sleepers(node);
    node->guard->lock.ops->unlock(&node->guard->lock);
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
    *node->guard->end_asleep = r;
    node->guard->end_asleep = &r->next;
    /* With r among them: readers let go without the lock, so the news can be what r
     * waits for. If it is old, r just asks again. */
    tp_end(node);
    r->waits->wait(r);
    tp_begin(r, node);
}

/* Oldest channel first, oldest sleeper first. Who then gets the lock first, `mutex`
 * says. */
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
            r->waits->wake(r);
        }
        node->guard->end_asleep = at;
    }
}

static int io(struct tp_request *r)
{
    r->aio.done = NULL;
    return r->waits->io(r);
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
        tp_begin(r, node);
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

/* r->compressed into r->buf.cluster, right here: this thread is there to be kept
 * busy. */
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
    tp_finish(from_member(bh, struct tp_request, finished));
}

/* Bottom half of the request's home, posted from here. A post needs no lock, and wakes
 * the loop only if it sleeps: a busy pool does so once for many. */
void tp_defer(struct tp_request *r)
{
    r->finished.fn = deferred;
    loop_post(r->home->guests.loop, &r->finished);
}

/* The loop is another thread's: it turns anyway. */
void tp_pause(struct tp_request *r, struct node *node)
{
    tp_end(node);
    tp_begin(r, node);
}
