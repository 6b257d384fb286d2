/*
 * The only file that would wait: it stores a continuation and returns to the loop.
 *
 * A continuation is called from a completion, which is fresh from the loop, or from a
 * bottom half where calling it at once would re-enter: a sleeper is not run inside the
 * section of the request that woke it, and whatever is ready without any I/O (a hole)
 * does not call on and on, one stack frame deeper each time.
 *
 * metadata=sync is the exception: what a verb owes is done while the caller waits, and
 * the loop with it.
 */
#include "strategies/callbacks/model.h"

#include <errno.h>

/* The exclusive section of a node: cb_begin() to cb_end(). No lock: an assertion. */
void cb_begin(struct node *node)
{
    assert(!node->guard->inside);
    node->guard->inside = true;
}

void cb_end(struct node *node)
{
    cb_wake_sleepers(node);
    node->guard->inside = false;
}

void cb_settle(struct cb_request *r, struct node *node, int verdict, cb_then *again)
{
    r->node = node;
    r->again = again;
    if (verdict == QCOW2_NEED_WAIT)
        cb_sleep(r, node);
    else
        cb_owed(r, node);
}

static void settled(struct cb_request *r, int ret)
{
    r->again(r, ret == 0 && r->cancelled ? -ECANCELED : ret);
}

void cb_sleep(struct cb_request *r, struct node *node)
{
    r->chan = r->need.chan;
    r->next = NULL;
    *node->guard->end_asleep = r;
    node->guard->end_asleep = &r->next;
}

/* Oldest channel first, oldest sleeper first. */
void cb_wake_sleepers(struct node *node)
{
    qcow2_chan chan;
    while ((chan = qcow2_wake(node->core))) {
        struct cb_request **at = &node->guard->asleep, *r;
        while ((r = *at)) {
            if (r->chan != chan) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            node->image->stats.wakeups++;
            cb_defer(r, settled, 0);
        }
        node->guard->end_asleep = at;
    }
}

/* What the core has to know of the I/O it was owed. */
static int owed_over(struct cb_request *r, int ret)
{
    cb_begin(r->node);
    ret = qcow2_io_done(r->node->core, &r->need.io, ret);
    cb_end(r->node);
    return ret;
}

/* Fills r->aio with its next step; false: there is none. */
static bool owed_step(struct cb_request *r)
{
    const struct qcow2_io *owed = &r->need.io;
    if (r->step == 1u + (owed->op == QCOW2_COPY))
        return false;
    host_owed(&r->aio, &r->iov, owed, r->node->file, r->buf.copy.p, r->step++);
    return true;
}

/* --- metadata=async --- */

static void owed_next(struct cb_request *r, int ret);

static void owed_done(struct aio *aio)
{
    owed_next(from_member(aio, struct cb_request, aio), aio->result);
}

/* Submits the next step of what is owed; after the last, or an error, reports. */
static void owed_next(struct cb_request *r, int ret)
{
    if (ret == 0 && owed_step(r)) {
        r->aio.done = owed_done;
        aio_submit(r->image->loop, &r->aio);
    } else {
        settled(r, owed_over(r, ret));
    }
}

static void pause_a_turn(struct cb_request *r) { cb_defer(r, settled, 0); }

const struct cb_metadata cb_metadata_async = {owed_next, pause_a_turn};

/* --- metadata=sync --- */

/* Goes on at once. The verb may owe again and again: then it is repeated from here, not
 * one stack frame deeper each time. */
static void settled_at_once(struct cb_request *r, int ret)
{
    r->settled = true;
    r->settled_ret = ret;
    if (r->repeating)
        return;
    r->repeating = true;
    while (r->settled) {
        r->settled = false;
        settled(r, r->settled_ret);
    }
    r->repeating = false;
}

/* Here the loop stands still. Not for an I/O that must wait until an unaligned write of
 * the guest's has left its blocks: only the loop could bring that to an end. */
static void owed_at_once(struct cb_request *r, int ret)
{
    while (ret == 0 && owed_step(r)) {
        r->aio.done = NULL;
        ret = aio_run_now(r->image->metadata_loop, &r->aio);
        if (ret == -ECANCELED) {
            r->aio.done = owed_done;
            aio_submit(r->image->loop, &r->aio);
            return;
        }
    }
    settled_at_once(r, owed_over(r, ret));
}

static void pause_not(struct cb_request *r) { settled_at_once(r, 0); }

const struct cb_metadata cb_metadata_sync = {owed_at_once, pause_not};

/* --- */

/* Does the host I/O in r->need and reports it. Never cancelled: the core needs to know
 * what became of it, and others may wait for the same slice. */
void cb_owed(struct cb_request *r, struct node *node)
{
    const struct qcow2_io *owed = &r->need.io;
    int ret = 0;
    r->node = node;
    r->step = 0;
    if (owed->op == QCOW2_COPY) {
        ret = host_buf_get(&r->buf.copy, owed->len) ? 0 : -ENOMEM;
        r->image->stats.bytes_copied += owed->len;
    }
    r->image->metadata->owed(r, ret);
}

static void transfer_done(struct aio *aio)
{
    struct cb_request *r = from_member(aio, struct cb_request, aio);
    r->transfers = false;
    r->io_then(r, aio->result);
}

/* Guest data. */
void cb_transfer(struct cb_request *r, cb_then *then)
{
    if (r->cancelled) {
        cb_defer(r, then, -ECANCELED);
        return;
    }
    r->io_then = then;
    r->transfers = true;
    r->aio.done = transfer_done;
    aio_submit(r->image->loop, &r->aio);
}

static void expanded(struct loop_work *work)
{
    struct cb_request *r = from_member(work, struct cb_request, expand.work);
    r->expand_then(r, r->expand.result);
}

/* r->compressed into r->buf.cluster, on a helper thread: the loop goes on meanwhile. */
void cb_decompress(struct cb_request *r, const struct where *where, cb_then *then)
{
    r->expand = (struct host_expand){
        .work = {.fn = host_expand, .done = expanded},
        .how = qcow2_compression(where->node->core),
        .in = r->buf.compressed.p,
        .in_len = where->ext.host_len,
        .out = r->buf.cluster.p,
        .out_len = qcow2_cluster_size(where->node->core),
    };
    r->expand_then = then;
    loop_work(r->image->loop, &r->expand.work);
}

static void deferred(struct loop_bh *bh)
{
    struct cb_request *r = from_member(bh, struct cb_request, bh);
    r->bh_then(r, r->bh_ret);
}

/* Bottom half: then(r, ret) from a coming turn of the loop. */
void cb_defer(struct cb_request *r, cb_then *then, int ret)
{
    r->bh.fn = deferred;
    r->bh_then = then;
    r->bh_ret = ret;
    loop_defer(r->image->loop, &r->bh);
}

void cb_pause(struct cb_request *r, struct node *node, cb_then *again)
{
    r->node = node;
    r->again = again;
    r->image->metadata->pause(r);
}
