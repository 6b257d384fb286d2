/*
 * Direct files take whole blocks only; callers may ask for anything.
 *
 * What isn't aligned goes through a bounce buffer (bounce.c). A write that covers part
 * of a block reads the block, changes it and writes it back, so no other change of that
 * block may be in flight meanwhile: the part that isn't ours would be lost. Such
 * requests are *exclusive* over their blocks; all other changes (aligned writes,
 * zeroes, discards, growth) are *shared*. Reads need no order, as a rewrite leaves the
 * bytes around it as they are.
 *
 * As long as nobody is exclusive, a shared one is only counted (one atomic addition in
 * its loop's own cache line), and reads pay nothing. The first exclusive request turns
 * tracking `on`; then every change is listed under the lock, and the exclusive one
 * starts when those counted before have left (`draining`). A shared one adds to the
 * counter before it looks at `on`, the exclusive one sets `on` before it sums the
 * counters up, both sequentially consistent. After a calm time tracking goes off again.
 *
 * The listed are `active` or `waiting`, first come first served: one waits while
 * anything active, or waiting before it, conflicts (overlaps, and one of the two is
 * exclusive).
 *
 * A partial block at the end of the file is written whole and cut off again: so an
 * exclusive request that reaches beyond the end excludes everything from its first
 * block to infinity, or the cut could take somebody's growth away.
 */
#include "core/block/align.h"

#include <errno.h>

#define CALM 4096 /* shared requests since the last exclusive one */

static uint64_t first_of(const struct aio *aio)
{
    return block_down(aio->offset, aio->file->align);
}

static uint64_t beyond(const struct aio *aio)
{
    return aio->flags & AIO_TAIL ? UINT64_MAX
                                 : block_up(aio_end(aio), aio->file->align);
}

static bool conflict(const struct aio *a, const struct aio *b)
{
    return (a->flags | b->flags) & AIO_EXCLUSIVE && first_of(a) < beyond(b) &&
           first_of(b) < beyond(a);
}

static bool offset_aligned(const struct aio *aio)
{
    return ((aio->offset | aio->len) & (aio->file->align - 1)) == 0;
}

static bool memory_aligned(const struct aio *aio)
{
    uintptr_t all = 0;
    size_t lens = 0;

    for (int i = 0; i < aio->iovcnt; i++) {
        all |= (uintptr_t)aio->iov[i].iov_base;
        lens |= aio->iov[i].iov_len;
    }
    return (all & (aio->file->mem_align - 1)) == 0 &&
           (lens & (aio->file->align - 1)) == 0;
}

/* ---- who may be in flight with whom ---- */

static bool counted_ones(const struct blk_file *f)
{
    for (int i = 0; i < LOOP_SLOTS; i++)
        if (atomic_load(&f->shards[i].writers))
            return true;
    return false;
}

static bool blocked(const struct blk_track *t, const struct aio *aio)
{
    const struct aio *other;

    if (t->draining && aio->flags & AIO_EXCLUSIVE)
        return true;
    for (other = t->active; other; other = other->track_next)
        if (conflict(aio, other))
            return true;
    for (other = t->waiting_head; other && other != aio; other = other->track_next)
        if (conflict(aio, other))
            return true;
    return false;
}

static void activate(struct blk_track *t, struct aio *aio)
{
    aio->align = NULL;
    aio->track_prev = NULL;
    aio->track_next = t->active;
    if (t->active)
        t->active->track_prev = aio;
    t->active = aio;
}

static void deactivate(struct blk_track *t, struct aio *aio)
{
    if (aio->track_prev)
        aio->track_prev->track_next = aio->track_next;
    else
        t->active = aio->track_next;
    if (aio->track_next)
        aio->track_next->track_prev = aio->track_prev;
}

static void queue(struct blk_track *t, struct aio *aio)
{
    aio->align = t; /* under the lock: it waits */
    aio->track_next = NULL;
    aio->track_prev = t->waiting_tail;
    if (t->waiting_tail)
        t->waiting_tail->track_next = aio;
    else
        t->waiting_head = aio;
    t->waiting_tail = aio;
}

static void unqueue(struct blk_track *t, struct aio *aio)
{
    if (aio->track_prev)
        aio->track_prev->track_next = aio->track_next;
    else
        t->waiting_head = aio->track_next;
    if (aio->track_next)
        aio->track_next->track_prev = aio->track_prev;
    else
        t->waiting_tail = aio->track_prev;
}

static void admitted(struct loop_bh *bh);

/* Lock held. Those whose way is free go on, each in its own loop. */
static void admit(struct blk_file *f)
{
    struct blk_track *t = &f->track;
    struct aio *aio, *next;

    if (t->draining && !counted_ones(f))
        t->draining = false;
    for (aio = t->waiting_head; aio; aio = next) {
        next = aio->track_next;
        if (blocked(t, aio))
            continue;
        unqueue(t, aio);
        activate(t, aio);
        aio->bh.fn = admitted;
        loop_post(aio->loop, &aio->bh);
    }
}

/* Lock held. Is the end of the file in aio's last block, or may it come to be there? While
 * somebody's tail has been written and not been cut off yet, the size says nothing. */
static bool at_tail(const struct blk_file *f, const struct aio *aio)
{
    const struct aio *other;

    if (!f->regular)
        return false;
    if (block_up(aio_end(aio), f->align) > blk_size(f))
        return true;
    for (other = f->track.active; other; other = other->track_next)
        if (other->flags & AIO_TAIL)
            return true;
    for (other = f->track.waiting_head; other; other = other->track_next)
        if (other->flags & AIO_TAIL)
            return true;
    return false;
}

static bool any_exclusive(const struct blk_track *t)
{
    const struct aio *aio;

    for (aio = t->active; aio; aio = aio->track_next)
        if (aio->flags & AIO_EXCLUSIVE)
            return true;
    return t->waiting_head;
}

/* False: it waits. */
static bool enter_tracked(struct aio *aio)
{
    struct blk_file *f = aio->file;
    struct blk_track *t = &f->track;
    bool go;

    aio->flags |= AIO_TRACKED;
    env_mutex_lock(f->env, &t->lock);
    if (aio->flags & AIO_EXCLUSIVE) {
        if (at_tail(f, aio))
            aio->flags |= AIO_TAIL;
        t->since_rmw = 0;
        if (!atomic_load(&t->on)) {
            atomic_store(&t->on, true);
            t->draining = true;
        }
    } else if (++t->since_rmw > CALM && !any_exclusive(t)) {
        atomic_store(&t->on, false);
    }
    admit(f);
    go = !blocked(t, aio);
    if (go) {
        activate(t, aio);
    } else {
        aio->state = AIO_WAITS;
        queue(t, aio);
    }
    env_mutex_unlock(f->env, &t->lock);
    return go;
}

static bool enter_shared(struct loop *loop, struct aio *aio)
{
    struct blk_file *f = aio->file;
    atomic_uint *writers = &f->shards[loop->slot].writers;

    atomic_fetch_add(writers, 1);
    if (likely(!atomic_load(&f->track.on))) {
        aio->flags |= AIO_COUNTED;
        return true;
    }
    atomic_fetch_sub(writers, 1);
    return enter_tracked(aio);
}

static bool enter_exclusive(struct aio *aio)
{
    aio->flags |= AIO_EXCLUSIVE;
    return enter_tracked(aio);
}

void align_leave(struct aio *aio)
{
    struct blk_file *f = aio->file;
    struct blk_track *t = &f->track;

    if (aio->flags & AIO_COUNTED) {
        atomic_fetch_sub(&f->shards[aio->loop->slot].writers, 1);
        if (likely(!atomic_load(&t->on)))
            return;
    }
    env_mutex_lock(f->env, &t->lock);
    if (aio->flags & AIO_TRACKED)
        deactivate(t, aio);
    admit(f);
    env_mutex_unlock(f->env, &t->lock);
}

void align_cancel(struct aio *aio)
{
    struct blk_file *f = aio->file;
    struct blk_track *t = &f->track;
    bool waits;

    env_mutex_lock(f->env, &t->lock);
    waits = aio->align;
    if (waits) {
        unqueue(t, aio);
        admit(f);
    }
    env_mutex_unlock(f->env, &t->lock);
    if (!waits)
        return; /* on its way */
    aio->flags &= (uint8_t)~AIO_TRACKED;
    aio_finish(aio, -ECANCELED);
}

/* ---- entry ---- */

static bool must_bounce(const struct aio *aio)
{
    switch (aio->op) {
    case AIO_READ:
    case AIO_WRITE:
        return !offset_aligned(aio) || !memory_aligned(aio);
    case AIO_ZERO:
        return !offset_aligned(aio);
    case AIO_DISCARD: /* file systems take any range */
        return !offset_aligned(aio) && !aio->file->regular;
    default:
        return false;
    }
}

static void go_on(struct aio *aio)
{
    if (must_bounce(aio))
        bounce_start(aio);
    else
        aio_below_align(aio->loop, aio);
}

static void admitted(struct loop_bh *bh) { go_on(aio_of_bh(bh)); }

bool align_takes(struct loop *loop, struct aio *aio)
{
    bool bounce, free_way;

    if (aio->op == AIO_FLUSH)
        return false;
    bounce = must_bounce(aio);
    if (aio->op == AIO_READ)
        free_way = true;
    else if (bounce && aio->op != AIO_DISCARD && !offset_aligned(aio))
        free_way = enter_exclusive(aio);
    else
        free_way = enter_shared(loop, aio);
    if (!free_way)
        return true;
    if (bounce)
        bounce_start(aio);
    return bounce;
}
