/*
 * An aio's way down and up again.
 *
 *     aio_submit -> align.c -> filters -> aio_to_engine -> gathered | helped
 *     engine_complete -> (rest gathered again) -> completed -> aio_deliver -> done()
 *
 * Only here is it decided whether a transfer is over. Engines report what one system
 * call moved; the rest is submitted again, a read that meets the end of the file is
 * filled with zeros, and an interrupted or refused attempt is repeated.
 */
#include <errno.h>
#include <string.h>

#include "core/block/align.h"
#include "core/block/file.h"
#include "core/block/filter.h"
#include "core/block/hostio.h"
#include "core/block/loop_int.h"

static bool transfers(const struct aio *aio)
{
    return aio->op == AIO_READ || aio->op == AIO_WRITE;
}

/* ---- down ---- */

void aio_to_engine(struct loop *loop, struct aio *aio)
{
    file_count_io(aio->file, loop->slot, aio);
    aio->state = AIO_QUEUED;
    if (unlikely(loop->env->simulated))
        sim_name(loop->env, aio);
    if (likely(loop->ops->native & 1u << aio->op))
        aio_queue_push(&loop->gathered, aio);
    else
        aio_queue_push(&loop->helped, aio);
    if (unlikely(loop->inline_completion))
        loop_inline(loop);
}

void aio_below_align(struct loop *loop, struct aio *aio)
{
    if (likely(!aio->file->filters))
        aio_to_engine(loop, aio);
    else
        filter_submit(aio->file->filters, aio);
}

void aio_prepare(struct loop *loop, struct aio *aio)
{
    aio->loop = loop;
    aio->state = 0; /* not that of its last use: aio_run() would take it for done */
    aio->moved = 0;
    aio->arrival = 0;
    aio->flags = 0;
    aio->verdict = 0;
    loop->pending++;
}

void aio_submit(struct loop *loop, struct aio *aio)
{
    aio_prepare(loop, aio);
    if (aio->file->align > 1 && align_takes(loop, aio))
        return;
    aio_below_align(loop, aio);
}

/* ---- pieces ---- */

/* The rest of the vector's entry that moved ends in; or all entries after it, when it
 * ends between two. At most one piece more than there need be, and no copy of the
 * vector. */
size_t engine_piece_partial(struct aio *aio, const struct iovec **iov, int *cnt,
                            uint64_t *offset)
{
    struct iovec *own = (struct iovec *)(void *)aio->scratch;
    uint64_t skip = aio->moved, len = aio->len - aio->moved;
    int i = 0;

    *offset = aio->offset + aio->moved;
    if (!transfers(aio)) {
        *iov = NULL;
        *cnt = 0;
        return (size_t)len;
    }
    while (skip >= aio->iov[i].iov_len)
        skip -= aio->iov[i++].iov_len;
    if (skip == 0 && aio->limit >= len) {
        *iov = aio->iov + i;
        *cnt = aio->iovcnt - i;
        return (size_t)len;
    }
    own->iov_base = (char *)aio->iov[i].iov_base + skip;
    own->iov_len = aio->iov[i].iov_len - skip;
    if (own->iov_len > aio->limit)
        own->iov_len = (size_t)aio->limit;
    *iov = own;
    *cnt = 1;
    return own->iov_len;
}

/* A read that came back short: has it met the end of the file? A direct read that stops
 * off the block has; else the file's size tells. */
static bool at_end_of_file(struct aio *aio, int64_t moved)
{
    uint64_t end = aio->offset + aio->moved;

    return moved == 0 || end % aio->file->align != 0 || end >= blk_size(aio->file);
}

/* Takes one attempt's outcome into account. True: over, with aio->result set. */
static bool account(struct aio *aio, int64_t moved)
{
    if (moved == -EINTR || moved == -EAGAIN) {
        aio->flags |= AIO_RETRY;
        return false;
    }
    if (moved < 0 || !transfers(aio)) {
        aio->result = moved < 0 ? (int)moved : 0;
        return true;
    }
    aio->result = 0;
    aio->moved += (uint64_t)moved;
    if (aio->moved >= aio->len)
        return true;
    if (aio->verdict && (uint64_t)moved >= aio->limit)
        return true; /* torn: as far as it was to go */
    if (aio->flags & AIO_PARTIAL && aio->limit > (uint64_t)moved)
        aio->limit -= (uint64_t)moved;
    else
        aio->limit = UINT64_MAX;
    aio->flags |= AIO_PARTIAL;
    if (aio->op == AIO_READ && at_end_of_file(aio, moved)) {
        iov_zero(aio->iov, aio->iovcnt, (size_t)aio->moved,
                 (size_t)(aio->len - aio->moved));
        return true;
    }
    if (aio->op == AIO_WRITE && moved == 0) {
        aio->result = -ENOSPC;
        return true;
    }
    return false;
}

/* ---- up ---- */

void aio_finish(struct aio *aio, int result)
{
    struct loop *loop = aio->loop;

    aio->result = result;
    aio->state = 0; /* nothing to cancel any more */
    aio_queue_push(&loop->completed, aio);
    if (unlikely(loop->env->simulated)) {
        sim_push(loop->env, &loop->completed, aio);
        sim_gate_open(loop->env, &loop->gate);
    }
}

static void again(struct loop *loop, struct aio *aio)
{
    /* In front: it has waited once. */
    aio->state = AIO_QUEUED;
    aio->next = loop->gathered.head;
    if (!loop->gathered.head)
        loop->gathered.tail = aio;
    loop->gathered.head = aio;
    if (unlikely(loop->env->simulated))
        sim_gate_open(loop->env, &loop->gate);
}

/* The kernel lacks this op on this file: hostio_run() knows other ways. */
static bool wants_helper(const struct aio *aio, int64_t moved)
{
    return (moved == -EOPNOTSUPP || moved == -EINVAL) && aio->op >= AIO_FLUSH &&
           aio->state != AIO_HELPED && !aio->loop->env->simulated;
}

static __attribute__((noinline)) void complete_slow(struct aio *aio, int64_t moved)
{
    struct loop *loop = aio->loop;

    if (wants_helper(aio, moved))
        aio_queue_push(&loop->helped, aio);
    else if (account(aio, moved))
        aio_finish(aio, aio->verdict ? aio->verdict : aio->result);
    else
        again(loop, aio);
}

void engine_complete(struct aio *aio, int64_t moved)
{
    struct loop *loop = aio->loop;

    if (unlikely((uint64_t)moved != aio->len || aio->flags & AIO_PARTIAL ||
                 loop->env->simulated)) {
        complete_slow(aio, moved);
        return;
    }
    aio->result = 0;
    aio_queue_push(&loop->completed, aio);
}

static void delivered(struct aio *aio)
{
    if (unlikely(aio->loop->env->simulated)) {
        sim_pop(aio->loop->env, &aio->loop->completed, aio);
        sim_charge(aio->loop->env, SIM_COMPLETE, 1);
    }
    if (unlikely(aio->flags & (AIO_COUNTED | AIO_TRACKED)))
        align_leave(aio);
    aio->state = AIO_DONE;
    aio->loop->pending--;
}

unsigned aio_deliver(struct loop *loop)
{
    struct aio *aio;
    unsigned ran = 0;

    while ((aio = aio_queue_pop(&loop->completed))) {
        delivered(aio);
        ran++;
        if (aio->done)
            aio->done(aio);
    }
    return ran;
}

/* ---- waiting, cancelling ---- */

/* In a thread that may block, an engine that blocks needs no turn. */
static bool run_here(struct loop *loop, struct aio *aio)
{
    int64_t moved;

    if (!loop->ops->run || loop->gathered.head || aio->file->filters)
        return false;
    file_count_io(aio->file, loop->slot, aio);
    do
        moved = loop->ops->run(loop->engine, aio);
    while (!account(aio, moved));
    delivered(aio);
    return true;
}

static int run(struct loop *loop, struct aio *aio, bool waits)
{
    assert(!aio->done);
    aio_prepare(loop, aio);
    if (aio->file->align == 1 || !align_takes(loop, aio)) {
        if (run_here(loop, aio))
            return aio->result;
        aio_below_align(loop, aio);
    } else if (!waits && aio->state == AIO_WAITS) {
        aio_cancel(aio); /* no effect if its way has become free meanwhile */
    }
    while (*(volatile uint8_t *)&aio->state != AIO_DONE)
        loop_wait_turn(loop);
    return aio->result;
}

int aio_run(struct loop *loop, struct aio *aio) { return run(loop, aio, true); }

int aio_run_now(struct loop *loop, struct aio *aio) { return run(loop, aio, false); }

static bool unqueue(struct aio_queue *q, struct aio *aio)
{
    struct aio **at = &q->head, *prev = NULL;

    for (; *at && *at != aio; at = &(*at)->next)
        prev = *at;
    if (!*at)
        return false;
    *at = aio->next;
    if (q->tail == aio)
        q->tail = prev;
    return true;
}

void aio_cancel(struct aio *aio)
{
    struct loop *loop = aio->loop;

    switch (aio->state) {
    case AIO_QUEUED:
        if (unqueue(&loop->gathered, aio) || unqueue(&loop->helped, aio))
            aio_finish(aio, -ECANCELED);
        else if (loop->ops->cancel)
            loop->ops->cancel(loop->engine, aio);
        break;
    case AIO_DELAYED:
        loop_timer_cancel(loop, &aio->timer);
        aio_finish(aio, -ECANCELED);
        break;
    case AIO_WAITS:
        align_cancel(aio);
        break;
    default:
        break;
    }
}
