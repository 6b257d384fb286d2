/*
 * Sync: makes durable what was committed, in order, one epoch at a time.
 *
 *     close epoch -> REFBLOCKS: write, barrier -> TABLES: write, barrier (if any)
 *                 -> MAPS: write, barrier (if any) -> durable -> reclaim limbo
 *
 * REFBLOCKS are refcount blocks; the barrier after them also covers guest data and
 * whole new tables, which were written before the epoch closed. TABLES are refcount
 * table entries and the header's pointer to the table; MAPS are L2 and L1 entries: an
 * L1 entry may be written beside its L2 table's entries, as the table itself, all zeros
 * or a copy, is durable since the first barrier.
 *
 * The first ticket to come leads: its calls hand out the writes and barriers. Who comes
 * before it closes the epoch has nothing to do but wait, who comes later waits for the
 * next epoch. A leader that ends half way leaves all state here; the next goes on.
 */
#include "core/qcow2/internal.h"

#include <stdlib.h>

enum { SYNC_RECLAIM = STAGES };

void poison(struct qcow2 *q)
{
    if (q->poisoned)
        return;
    q->poisoned = true;
    stat_add(&q->stats.poisoned);
}

static void wake_sync(struct qcow2 *q)
{
    wake_push(q, &q->sync_awaited, &q->sync_awaited);
}

static void close_epoch(struct qcow2 *q)
{
    for (int i = 0; i < STAGES; i++) {
        struct qcow2_slice *s;
        TAILQ_FOREACH (s, &q->dirty[i], dirty_link) {
            assert(!s->closing);
            s->dirty = false;
            s->closing = true;
            TAILQ_INSERT_TAIL(&q->closing[i], s, closing_link);
        }
        TAILQ_INIT(&q->dirty[i]);
    }
    q->closing_epoch = q->epoch++;
    q->sync_active = true;
    q->sync_stage = STAGE_REFBLOCKS;
    q->barrier_issued = q->barrier_done = false;
    stat_add(&q->stats.syncs);
}

static int wait_io(struct qcow2 *q, struct qcow2_need *need)
{
    q->sync_io_awaited = true;
    need->chan = &q->sync_inflight;
    return QCOW2_NEED_WAIT;
}

/* The stage's slices, then its barrier. 0: the stage is done. */
static int stage_step(struct qcow2 *q, struct qcow2_need *need)
{
    struct qcow2_slice *s = TAILQ_FIRST(&q->closing[q->sync_stage]);

    if (s) {
        TAILQ_REMOVE(&q->closing[q->sync_stage], s, closing_link);
        if (!s->shadow)
            slice_take_image(q, s);
        s->writing = true;
        q->end = max64(q->end, round_up(s->offset + q->slice_size, q->cluster));
        q->sync_inflight++;
        need->io = (struct qcow2_io){.op = QCOW2_WRITE,
                                     .offset = s->offset,
                                     .len = q->slice_size,
                                     .buf = s->shadow,
                                     .slice = s};
        return QCOW2_NEED_IO;
    }
    if (q->sync_inflight)
        return wait_io(q, need);
    if (!q->barrier_issued) {
        q->barrier_issued = true;
        q->sync_inflight++;
        stat_add(&q->stats.barriers);
        need->io = (struct qcow2_io){.op = QCOW2_FLUSH};
        return QCOW2_NEED_IO;
    }
    assert(q->barrier_done);
    return 0;
}

/* The next stage that has something to write. */
static void next_stage(struct qcow2 *q)
{
    q->barrier_issued = q->barrier_done = false;
    do {
        q->sync_stage++;
    } while (q->sync_stage < STAGES && TAILQ_EMPTY(&q->closing[q->sync_stage]));
    if (q->sync_stage == SYNC_RECLAIM) {
        q->durable = q->closing_epoch;
        wake_sync(q);
    }
}

/* A step of the active sync. 0: it has come further, or to its end. */
static int lead(struct qcow2 *q, struct qcow2_ticket *t, bool all,
                struct qcow2_need *need)
{
    q->leader = t;
    int ret =
        q->sync_stage < STAGES ? stage_step(q, need) : limbo_reclaim(q, all, need);
    if (ret)
        return ret;
    if (q->sync_stage < STAGES) {
        next_stage(q);
    } else {
        q->sync_active = false;
        q->leader = NULL;
        wake_sync(q);
    }
    return 0;
}

int sync_step(struct qcow2 *q, struct qcow2_ticket *t, bool all,
              struct qcow2_need *need)
{
    if (!t->epoch)
        t->epoch = q->epoch;
    for (;;) {
        if (q->poisoned)
            return -EIO;
        if (q->leader && q->leader != t) {
            if (q->durable >= t->epoch)
                return 0;
            stat_add(&q->stats.sync_joins);
            q->sync_awaited = true;
            need->chan = &q->sync_awaited;
            return QCOW2_NEED_WAIT;
        }
        if (!q->sync_active) {
            if (q->durable >= t->epoch)
                return 0;
            if (q->mk_ref.buf && q->mk_ref.owner != t && q->mk_ref.done) {
                q->mk_ref.awaited = true; /* a table moves between two syncs */
                need->chan = &q->mk_ref;
                return QCOW2_NEED_WAIT;
            }
            close_epoch(q);
        }
        int ret = lead(q, t, all, need);
        if (ret)
            return ret;
    }
}

int sync_end_active(struct qcow2 *q, struct qcow2_ticket *t, struct qcow2_need *need)
{
    while (q->sync_active) {
        if (q->poisoned)
            return -EIO;
        if (q->leader && q->leader != t) {
            q->sync_awaited = true;
            need->chan = &q->sync_awaited;
            return QCOW2_NEED_WAIT;
        }
        int ret = lead(q, t, false, need);
        if (ret)
            return ret;
    }
    return 0;
}

int owe_sync(struct qcow2 *q, struct qcow2_ticket *t, struct qcow2_need *need)
{
    if (t->step == STEP_START) {
        t->step = STEP_SYNC;
        stat_add(&q->stats.dirty_evictions);
        ticket_unpin(q, t, 0);
    }
    assert(t->step == STEP_SYNC);
    int ret = sync_step(q, t, false, need);
    if (!ret) {
        t->step = STEP_START;
        t->epoch = 0;
    }
    return ret;
}

void sync_ticket_end(struct qcow2 *q, struct qcow2_ticket *t)
{
    if (q->leader != t)
        return;
    q->leader = NULL;
    wake_sync(q);
}

int qcow2_sync(struct qcow2 *q, struct qcow2_ticket *t, struct qcow2_need *need)
{
    int ret = sync_step(q, t, false, need);
    if (ret <= 0) {
        sync_ticket_end(q, t);
        *t = (struct qcow2_ticket){0};
    }
    return ret;
}

static bool anything_dirty(const struct qcow2 *q)
{
    for (int i = 0; i < STAGES; i++) {
        if (!TAILQ_EMPTY(&q->dirty[i]))
            return true;
    }
    return q->limbo_len > 0;
}

int qcow2_close_sync(struct qcow2 *q, struct qcow2_ticket *t, struct qcow2_need *need)
{
    int ret;

    do {
        ret = sync_step(q, t, true, need);
        if (!ret)
            t->epoch = 0;
    } while (!ret && anything_dirty(q));
    if (ret <= 0) {
        sync_ticket_end(q, t);
        *t = (struct qcow2_ticket){0};
    }
    return ret;
}

int sync_io_done(struct qcow2 *q, const struct qcow2_io *io, int err)
{
    q->sync_inflight--;
    if (io->op == QCOW2_FLUSH)
        q->barrier_done = !err;
    else
        slice_written(q, io->slice, err != 0);
    if (err) {
        poison(q);
        wake_sync(q);
    }
    wake_push(q, &q->sync_inflight, &q->sync_io_awaited);
    return err;
}
