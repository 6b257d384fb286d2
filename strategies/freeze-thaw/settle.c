/*
 * The only file that waits: a phase's coroutine yields, frozen or not.
 *
 * Why there is no deadlock: a frozen phase waits only for I/O of its own request. What
 * it needs of another one it awaits thawed (ft_sleep), and that request's completion
 * needs no turn to commit. With completions=deferred it needs the thaw, which the
 * sleeper has given it.
 */
#include "strategies/freeze-thaw/model.h"

#include <errno.h>

/* --- freezing --- */

/* Freezes for r. Who finds the queue frozen is handed the freeze when its turn
 * comes. */
static void freeze(struct ft_request *r)
{
    struct strategy_image *image = r->image;
    image->stats.locks++;
    if (image->frozen) {
        image->stats.lock_waits++;
        co_queue_wait(&image->turns, NULL);
    }
    image->frozen = true;
    image->freezer = r;
}

static void admit_later(struct loop_bh *bh)
{
    struct strategy_image *image = from_member(bh, struct strategy_image, admit_bh);
    image->admits_later = false;
    ft_admit(image);
}

static void thawed(struct strategy_image *image)
{
    if (co_queue_wake_one(&image->turns))
        return; /* frozen still, by whom it woke */
    image->frozen = false;
    if (image->guests.queue.head && !image->admitting && !image->admits_later) {
        /* Not from in here: requests are not started on another request's stack. */
        image->admits_later = true;
        image->admit_bh.fn = admit_later;
        loop_defer(image->loop, &image->admit_bh);
    }
}

static void complete(struct ft_request *r)
{
    r->transfers = false;
    if (r->io_then)
        r->io_then(r, r->aio.result);
    else
        co_enter(r->co);
}

/* What completed meanwhile comes before the next freeze, in its order; not on the stack
 * of the request that thaws. */
static void complete_held(struct loop_bh *bh)
{
    struct strategy_image *image = from_member(bh, struct strategy_image, held_bh);
    struct ft_request *r;
    while ((r = image->held)) {
        image->held = r->next;
        complete(r);
    }
    thawed(image);
}

static void thaw(struct strategy_image *image)
{
    image->freezer = NULL;
    if (!image->held) {
        thawed(image);
        return;
    }
    image->held_bh.fn = complete_held;
    loop_defer(image->loop, &image->held_bh);
}

/* --- completions=free|deferred: data has come or gone, whoever has frozen the queue  */

static void complete_deferred(struct ft_request *r)
{
    struct strategy_image *image = r->image;
    if (!image->frozen || image->freezer == r) {
        complete(r);
        return;
    }
    if (!image->held)
        image->end_held = &image->held;
    r->next = NULL;
    *image->end_held = r;
    image->end_held = &r->next;
}

const struct ft_completions ft_completions_free = {complete},
                            ft_completions_deferred = {complete_deferred};

/* --- freeze=metadata|whole: from where to where --- */

static void thaw_now(struct ft_request *r) { thaw(r->image); }

static void not_yet(struct ft_request *r) { (void)r; }

static void freeze_once(struct ft_request *r)
{
    if (r->image->freezer != r)
        freeze(r);
}

static void thaw_at_last(struct ft_request *r)
{
    if (r->image->freezer == r)
        thaw(r->image);
}

const struct ft_freeze ft_freeze_metadata = {freeze, thaw_now, not_yet},
                       ft_freeze_whole = {freeze_once, not_yet, thaw_at_last};

/* Freeze. */
void ft_begin(struct ft_request *r, struct node *node)
{
    (void)node; /* one freeze for the whole chain */
    r->image->freeze->begin(r);
}

/* Thaw. */
void ft_end(struct ft_request *r, struct node *node)
{
    ft_wake_sleepers(node);
    r->image->freeze->end(r);
}

/* --- */

int ft_settle(struct ft_request *r, struct node *node, int verdict)
{
    int ret = 0;
    if (verdict == QCOW2_NEED_WAIT)
        ft_sleep(r, node);
    else
        ret = ft_owed(r, node);
    return ret == 0 && r->cancelled ? -ECANCELED : ret;
}

void ft_sleep(struct ft_request *r, struct node *node)
{
    ft_wake_sleepers(node); /* before r lies down, or it would be woken for old news */
    r->chan = r->need.chan;
    r->next = NULL;
    *node->guard->end_asleep = r;
    node->guard->end_asleep = &r->next;
    thaw(r->image);
    co_yield ();
    freeze(r);
}

/* Oldest channel first, oldest sleeper first. */
void ft_wake_sleepers(struct node *node)
{
    qcow2_chan chan;
    while ((chan = qcow2_wake(node->core))) {
        struct ft_request **at = &node->guard->asleep, *r;
        while ((r = *at)) {
            if (r->chan != chan) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            node->image->stats.wakeups++;
            co_wake(r->co);
        }
        node->guard->end_asleep = at;
    }
}

static void io_done(struct aio *aio)
{
    struct ft_request *r = from_member(aio, struct ft_request, aio);
    if (r->transfers)
        r->image->completions->arrive(r);
    else
        complete(r);
}

static int io(struct ft_request *r, bool transfers, ft_then *then)
{
    r->transfers = transfers;
    r->io_then = then;
    r->aio.done = io_done;
    aio_submit(r->image->loop, &r->aio);
    if (then)
        return 0;
    co_yield ();
    return r->aio.result;
}

/* Does the host I/O in r->need and reports it; the queue stays frozen. Never cancelled:
 * the core needs to know what became of it, and others may wait for the same slice. */
int ft_owed(struct ft_request *r, struct node *node)
{
    const struct qcow2_io *owed = &r->need.io;
    bool more = true;
    void *copy = NULL;
    int ret = 0;
    if (owed->op == QCOW2_COPY) {
        copy = host_buf_get(&r->buf.copy, owed->len);
        ret = copy ? 0 : -ENOMEM;
        r->image->stats.bytes_copied += owed->len;
    }
    for (unsigned step = 0; ret == 0 && more; step++) {
        more = host_owed(&r->aio, &r->iov, owed, node->file, copy, step);
        ret = io(r, false, NULL);
    }
    return qcow2_io_done(node->core, owed, ret);
}

/* Guest data, thawed. */
int ft_transfer(struct ft_request *r, ft_then *then)
{
    if (r->cancelled)
        return -ECANCELED;
    return io(r, true, then);
}

struct expansion {
    struct host_expand x;
    struct ft_request *r;
};

static void expanded(struct loop_work *work)
{
    struct ft_request *r = ((struct expansion *)work)->r;
    r->image->completions->arrive(r);
}

/* r->compressed into r->buf.cluster, on a helper thread: the loop goes on meanwhile. */
int ft_decompress(struct ft_request *r, const struct where *where)
{
    struct expansion e = {
        .x = {.work = {.fn = host_expand, .done = expanded},
              .how = qcow2_compression(where->node->core),
              .in = r->buf.compressed.p,
              .in_len = where->ext.host_len,
              .out = r->buf.cluster.p,
              .out_len = qcow2_cluster_size(where->node->core)},
        .r = r,
    };
    loop_work(r->image->loop, &e.x.work);
    co_yield ();
    return e.x.result;
}

static void deferred(struct loop_bh *bh)
{
    struct ft_request *r = from_member(bh, struct ft_request, bh);
    ft_finish(r, r->result);
}

/* Bottom half: a request whose coroutine got to its end finishes outside of it. */
void ft_defer(struct ft_request *r)
{
    r->bh.fn = deferred;
    loop_defer(r->image->loop, &r->bh);
}

static void paused(struct loop_bh *bh)
{
    co_enter(from_member(bh, struct ft_request, bh)->co);
}

void ft_pause(struct ft_request *r, struct node *node)
{
    ft_wake_sleepers(node);
    r->bh.fn = paused;
    loop_defer(r->image->loop, &r->bh);
    co_yield ();
}
