/*
 * fastpath=on: a request that has nothing to wait for but its data does without a
 * coroutine. Bonzini's proposal of 2012, for raw images; and for a read or an overwrite
 * of one extent whose mapping is cached.
 *
 * Whatever else turns up (a miss, an allocation, a lock that is taken, a second extent)
 * is left to the coroutine, as if nothing had been tried. Nobody is there to hold a
 * lock across the data, so locks that are kept there refuse the setting; to look the
 * mapping up none is taken either: it is free, and nobody else runs meanwhile. Where
 * other loops do, it is refused.
 */
#include "strategies/coroutines/model.h"

/* Outside any coroutine, from the loop: the guest may be told at once. */
static void data_done(struct aio *aio)
{
    struct co_request *r = from_member(aio, struct co_request, aio);
    struct node *top = r->image->nodes;
    r->transfers = false;
    r->result = aio->result;
    if (top->core && r->guest->op == GUEST_WRITE) {
        if (r->result < 0)
            qcow2_abort(top->core, &r->fast.write);
        else
            qcow2_commit(top->core, &r->fast.write);
        co_wake_sleepers(top);
    } else if (top->core && qcow2_unmap(top->core, &r->fast.extent)) {
        co_wake_sleepers(top);
    }
    co_finish(r);
}

static bool transfer(struct co_request *r)
{
    r->transfers = true;
    r->aio.done = data_done;
    aio_submit(r->home->guests.loop, &r->aio);
    return true;
}

static bool end(struct co_request *r, int ret)
{
    r->result = ret;
    co_defer(r); /* done() must not come from inside submit() */
    return true;
}

static bool read_extent(struct co_request *r)
{
    const struct guest_req *g = r->guest;
    if (r->fast.extent.type == QCOW2_HOLE) {
        iov_zero(g->iov, g->iovcnt, 0, g->len);
        if (qcow2_unmap(r->image->nodes->core, &r->fast.extent))
            co_wake_sleepers(r->image->nodes);
        return end(r, 0);
    }
    host_data(&r->aio, AIO_READ, r->image->nodes->file, r->fast.extent.host, g->len,
              g->iov, g->iovcnt);
    return transfer(r);
}

/* In place only: what allocates has metadata to write, and maybe bytes to copy. */
static bool overwrite(struct co_request *r)
{
    struct node *top = r->image->nodes;
    const struct guest_req *g = r->guest;
    r->fast.write = (struct qcow2_write){0};
    int ret = qcow2_plan(top->core, g->offset, g->len, &r->fast.write, &r->need);
    r->fast.owes = ret == QCOW2_NEED_IO;
    if (r->fast.owes)
        return false;
    if (ret != 0 || r->fast.write.allocates || r->fast.write.len < g->len) {
        qcow2_abort(top->core, &r->fast.write);
        co_wake_sleepers(top);
        return false;
    }
    host_data(&r->aio, AIO_WRITE, top->file, r->fast.write.host, g->len, g->iov,
              g->iovcnt);
    return transfer(r);
}

/* I/O that the core has asked for must be done: others may wait for it already. */
void co_pay(struct co_request *r)
{
    struct node *top = r->image->nodes;
    r->fast.owes = false;
    co_begin(r, top);
    co_owed(r, top); /* should it fail, the way from the start finds out */
    qcow2_abort(top->core, &r->fast.write);
    co_end(top);
}

bool co_fast(struct co_request *r)
{
    struct strategy_image *image = r->image;
    struct node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (!image->fast || image->driver || r->home->guests.state != GUESTS_RUNNING)
        return false;
    int ret = guest_check(g, top->end, image->writable, !top->core);
    if (ret < 0 || guest_is_empty(g))
        return end(r, ret);
    if (!top->core) {
        host_raw(&r->aio, g, top->file);
        return transfer(r);
    }
    if (g->op > GUEST_WRITE || !image->lock->is_free(r) ||
        qcow2_peek(top->core, g->offset, g->len, &r->fast.extent) != 0)
        return false;
    bool data = r->fast.extent.type == QCOW2_DATA;
    bool hole = r->fast.extent.type == QCOW2_HOLE;
    bool whole = r->fast.extent.len == g->len;
    if (g->op == GUEST_READ && whole && (data || hole))
        return read_extent(r);
    if (qcow2_unmap(top->core, &r->fast.extent))
        co_wake_sleepers(top);
    return g->op == GUEST_WRITE && whole && data && overwrite(r);
}
