/*
 * The only file that waits: it yields. Who yields here is entered again by a completion
 * (co_enter, from the loop) or by another request's co_end() (co_wake, so that the
 * waker runs on undisturbed).
 *
 * "In one step": who sleeps is on the list of sleepers before the lock is given back,
 * so co_sleep() misses no wake-up, be it from another thread before the yield.
 */
#include "strategies/coroutines/model.h"

#include <errno.h>

/* What the section is for other threads; nobody yields in here. */
static void enter_verbs(struct node *node)
{
    if (node->image->several)
        env_mutex_lock(node->image->env, &node->guard->verbs);
}

static void leave_verbs(struct node *node)
{
    if (node->image->several)
        env_mutex_unlock(node->image->env, &node->guard->verbs);
}

/* The exclusive section of a node: co_begin() to co_end(). Locks that are a whole
 * call's are held already. */
void co_begin(struct co_request *r, struct node *node)
{
    const struct co_lock *lock = node->image->lock;
    if (lock->begin)
        lock->begin(r, node);
    enter_verbs(node);
}

void co_end(struct node *node)
{
    const struct co_lock *lock = node->image->lock;
    co_wake_sleepers(node);
    leave_verbs(node);
    if (lock->end)
        lock->end(node);
}

/* Before and after a wait; node: in whose section, or NULL. */
static void give(struct co_request *r, struct node *node, enum co_wait why)
{
    const struct co_lock *lock = r->image->lock;
    if (why & r->image->keeps) {
        if (node)
            leave_verbs(node);
        return;
    }
    if (node)
        co_end(node);
    if (lock->give)
        lock->give(r, why);
}

static void take(struct co_request *r, struct node *node, enum co_wait why)
{
    const struct co_lock *lock = r->image->lock;
    if (why & r->image->keeps) {
        if (!lock->calls || why != CO_WAIT_DATA) {
            if (node)
                enter_verbs(node);
            return;
        }
        lock->give(r, why); /* others' calls come between data and completion */
    }
    if (lock->take)
        lock->take(r, why);
    if (node)
        co_begin(r, node);
}

int co_settle(struct co_request *r, struct node *node, int verdict)
{
    int ret = 0;
    if (verdict == QCOW2_NEED_WAIT)
        co_sleep(r, node);
    else
        ret = co_owed(r, node);
    return ret == 0 && r->cancelled ? -ECANCELED : ret;
}

/* A sleeper gives every lock back: else whom it waits for could never come to an
 * end. */
void co_sleep(struct co_request *r, struct node *node)
{
    co_wake_sleepers(node); /* before r lies down, or it would be woken for old news */
    r->chan = r->need.chan;
    r->next = NULL;
    *node->guard->end_asleep = r;
    node->guard->end_asleep = &r->next;
    give(r, node, 0);
    co_yield ();
    take(r, node, 0);
}

/* Oldest channel first, oldest sleeper first. */
void co_wake_sleepers(struct node *node)
{
    qcow2_chan chan;
    while ((chan = qcow2_wake(node->core))) {
        struct co_request **at = &node->guard->asleep, *r;
        while ((r = *at)) {
            if (r->chan != chan) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            node->guard->wakeups++;
            co_wake(r->co);
        }
        node->guard->end_asleep = at;
    }
}

static void io_done(struct aio *aio)
{
    co_enter(from_member(aio, struct co_request, aio)->co);
}

static int io(struct co_request *r)
{
    r->aio.done = io_done;
    aio_submit(r->home->guests.loop, &r->aio);
    co_yield ();
    return r->aio.result;
}

/* Does the host I/O in r->need and reports it. Never cancelled: the core needs to know
 * what became of it, and others may wait for the same slice. */
int co_owed(struct co_request *r, struct node *node)
{
    const struct qcow2_io *owed = &r->need.io;
    bool more = true;
    void *copy = NULL;
    int ret = 0;
    give(r, node, CO_WAIT_METADATA);
    if (owed->op == QCOW2_COPY) {
        copy = host_buf_get(&r->buf.copy, owed->len);
        ret = copy ? 0 : -ENOMEM;
        co_count(&r->home->counts.bytes_copied, owed->len);
    }
    for (unsigned step = 0; ret == 0 && more; step++) {
        more = host_owed(&r->aio, &r->iov, owed, node->file, copy, step);
        ret = io(r);
    }
    take(r, node, CO_WAIT_METADATA);
    return qcow2_io_done(node->core, owed, ret);
}

/* Is the aio the guest's data, or something that has to be read for that? */
static enum co_wait transferred(const struct co_request *r)
{
    if (r->aio.metadata)
        return CO_WAIT_METADATA;
    if (r->aio.op != AIO_READ)
        return CO_WAIT_DATA;
    bool copies = r->guest->op != GUEST_READ;
    bool expands = r->aio.iov->iov_base == r->buf.compressed.p;
    return copies || expands ? CO_WAIT_COPY : CO_WAIT_DATA;
}

int co_transfer(struct co_request *r)
{
    enum co_wait why = transferred(r);
    bool metadata = r->aio.metadata; /* a driver's; never cancelled half way */
    if (r->cancelled && !metadata)
        return -ECANCELED;
    give(r, NULL, why);
    r->transfers = !metadata;
    int ret = io(r);
    r->transfers = false;
    take(r, NULL, why);
    return ret;
}

struct expansion {
    struct host_expand x;
    struct co *co;
};

static void expanded(struct loop_work *work)
{
    co_enter(((struct expansion *)work)->co);
}

/* r->compressed into r->buf.cluster, on a helper thread: the loop goes on meanwhile. */
int co_decompress(struct co_request *r, const struct where *where)
{
    struct expansion e = {
        .x = {.work = {.fn = host_expand, .done = expanded},
              .how = qcow2_compression(where->node->core),
              .in = r->buf.compressed.p,
              .in_len = where->ext.host_len,
              .out = r->buf.cluster.p,
              .out_len = qcow2_cluster_size(where->node->core)},
        .co = r->co,
    };
    give(r, NULL, CO_WAIT_COPY);
    loop_work(r->home->guests.loop, &e.x.work);
    co_yield ();
    take(r, NULL, CO_WAIT_COPY);
    return e.x.result;
}

static void deferred(struct loop_bh *bh)
{
    co_finish(from_member(bh, struct co_request, bh));
}

/* Bottom half: the guest is told from a coming turn of the request's loop. */
void co_defer(struct co_request *r)
{
    r->bh.fn = deferred;
    loop_defer(r->home->guests.loop, &r->bh);
}

static void paused(struct loop_bh *bh)
{
    co_enter(from_member(bh, struct co_request, bh)->co);
}

void co_pause(struct co_request *r, struct node *node)
{
    give(r, node, CO_WAIT_TABLE);
    r->bh.fn = paused;
    loop_defer(r->home->guests.loop, &r->bh);
    co_yield ();
    take(r, node, CO_WAIT_TABLE);
}
