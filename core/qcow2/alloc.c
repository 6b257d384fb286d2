/*
 * Space: who is in flight, finding free clusters, growing the file.
 *
 * A cluster is reserved by being named in a ticket on the in-flight list; its refcount
 * rises when it is used (commit, or a new table's link: tables.c).
 */
#include "core/qcow2/internal.h"

/* ---- tickets in flight ---- */

void inflight_add(struct qcow2 *q, struct qcow2_ticket *t)
{
    t->next = NULL;
    t->prev = q->inflight_tail;
    *(q->inflight_tail ? &q->inflight_tail->next : &q->inflight_head) = t;
    q->inflight_tail = t;
    q->ninflight++;
    t->kind = 1;
}

void inflight_remove(struct qcow2 *q, struct qcow2_ticket *t)
{
    if (!t->kind)
        return;
    *(t->prev ? &t->prev->next : &q->inflight_head) = t->next;
    *(t->next ? &t->next->prev : &q->inflight_tail) = t->prev;
    q->ninflight--;
    t->kind = 0;
    wake_push(q, t, &t->awaited);
}

int inflight_overlap(struct qcow2 *q, const struct qcow2_ticket *t, uint64_t guest,
                     uint64_t len, struct qcow2_need *need)
{
    for (struct qcow2_ticket *x = q->inflight_head; x; x = x->next) {
        if (x == t || !x->guest_len || guest >= x->guest + x->guest_len ||
            x->guest >= guest + len)
            continue;
        x->awaited = true;
        stat_add(&q->stats.overlap_waits);
        need->chan = x;
        return QCOW2_NEED_WAIT;
    }
    return 0;
}

/* The end of a reservation that covers cluster, or 0. */
static uint64_t reserved_until(const struct qcow2 *q, uint64_t offset)
{
    const struct maker *m = &q->mk_l2;
    if (m->orphan && offset - m->offset < q->cluster) /* being written to still */
        return m->offset + q->cluster;
    for (const struct qcow2_ticket *x = q->inflight_head; x; x = x->next) {
        if (offset - x->host < x->host_len)
            return x->host + x->host_len;
        if (offset - x->table < x->table_len)
            return x->table + x->table_len;
    }
    return 0;
}

/* ---- refcounts ---- */

uint64_t refcount_index(const struct qcow2 *q, uint64_t cluster)
{
    return cluster & ((q->slice_size * 8 >> q->order) - 1);
}

bool is_countable(const struct qcow2 *q, uint64_t offset)
{
    uint64_t i = offset >> q->cluster_bits >> q->ref_bits;
    return i < q->reftable.entries && q->reftable.entry[i];
}

static int refblock_offset(struct qcow2 *q, uint64_t cluster, uint64_t *offset)
{
    uint64_t i = cluster >> q->ref_bits;
    uint64_t entry = i < q->reftable.entries ? be64toh(q->reftable.entry[i]) : 0;

    *offset = entry;
    if ((entry & (q->cluster - 1)) || entry > QCOW2_MAX_HOST_OFFSET)
        return corrupt(q, "refcount table entry", i, ILLEGAL);
    if (entry && !is_countable(q, entry))
        return corrupt(q, "refcount block at offset", entry, UNCOUNTED);
    return 0;
}

static uint64_t slice_of_refcount(const struct qcow2 *q, uint64_t block,
                                  uint64_t cluster)
{
    uint64_t bits = (cluster & ((1ull << q->ref_bits) - 1)) << q->order;
    return block + ((bits >> 3) & ~(q->slice_size - 1));
}

/* The slice that counts cluster; -EIO: no block counts it, though somebody refers to
 * it. */
int refcount_slice_get(struct qcow2 *q, uint64_t cluster, struct qcow2_slice **s,
                       struct qcow2_need *need)
{
    uint64_t block = 0;
    int ret = refblock_offset(q, cluster, &block);
    if (ret)
        return ret;
    if (!block)
        return corrupt(q, "cluster at offset", cluster << q->cluster_bits, UNCOUNTED);
    return slice_get(q, SLICE_REFBLOCK, slice_of_refcount(q, block, cluster), s, need);
}

void count_up(struct qcow2 *q, struct qcow2_slice *s, uint64_t cluster)
{
    uint64_t i = refcount_index(q, cluster);
    assert(qcow2_refcount_get(s->buf, i, q->order) == 0);
    slice_modify(q, s);
    qcow2_refcount_set(s->buf, i, q->order, 1);
}

/* The reserved run is used: refcounts 1. Its slice is pin[1]. */
void use_space(struct qcow2 *q, struct qcow2_ticket *t, uint64_t offset, uint64_t len)
{
    for (uint64_t at = offset; at < offset + len; at += q->cluster)
        count_up(q, t->pin[1], at >> q->cluster_bits);
    q->end = max64(q->end, offset + len);
}

/* Was this space never submitted to by anyone, so that it reads zeros? Not any more. */
bool take_virgin(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    bool zeros = q->opt.regular && offset >= q->virgin;
    q->virgin = max64(q->virgin, offset + len);
    return zeros;
}

/* ---- finding free clusters ---- */

/* First free run in slice s from cluster at on: its start and length, at most want. */
static uint64_t free_run(const struct qcow2 *q, const struct qcow2_slice *s,
                         uint64_t at, uint64_t want, uint64_t *start)
{
    uint64_t per_slice = q->slice_size * 8 >> q->order;
    uint64_t stop = (at | (per_slice - 1)) + 1, n = 0;

    for (; at < stop && n < want; at++) {
        uint64_t until = 0;
        if (qcow2_refcount_get(s->buf, refcount_index(q, at), q->order) == 0) {
            until = reserved_until(q, at << q->cluster_bits);
            if (!until) {
                if (!n++)
                    *start = at;
                continue;
            }
        }
        if (n)
            break;
        if (until)
            at = (until >> q->cluster_bits) - 1;
    }
    return n;
}

int alloc_clusters(struct qcow2 *q, struct qcow2_ticket *t, uint64_t want,
                   uint64_t *offset, uint64_t *len, struct qcow2_need *need)
{
    uint64_t per_slice = q->slice_size * 8 >> q->order, block = 0, start = 0;
    struct qcow2_slice *s;
    int ret;

    for (;;) {
        uint64_t at = q->cursor;
        if (at >= QCOW2_MAX_HOST_OFFSET >> q->cluster_bits)
            return -EFBIG;
        if (at >> q->ref_bits >= q->reftable.entries) {
            ret = reftable_move(q, t, need);
            if (ret)
                return ret;
            continue;
        }
        ret = refblock_offset(q, at, &block);
        if (ret)
            return ret;
        if (!block) {
            ret = refblock_make(q, t, at, need);
            if (ret)
                return ret;
            continue;
        }
        ret = slice_get(q, SLICE_REFBLOCK, slice_of_refcount(q, block, at), &s, need);
        if (ret)
            return ret;
        uint64_t n = free_run(q, s, at, want, &start);
        if (!n) {
            if (q->cursor == at)
                q->cursor = (at | (per_slice - 1)) + 1;
            continue;
        }
        if (overlaps_metadata(q, start << q->cluster_bits, n << q->cluster_bits))
            return corrupt(q, "cluster at offset", start << q->cluster_bits,
                           "a table is there and its refcount is 0");
        ret = ticket_pin(q, t, 1, s);
        if (ret)
            return ret;
        if (start << q->cluster_bits < q->end)
            stat_add(&q->stats.limbo_reuse);
        q->cursor = start + n;
        *offset = start << q->cluster_bits;
        *len = n << q->cluster_bits;
        return 0;
    }
}

/* ---- the file's size ---- */

int alloc_grow(struct qcow2 *q, struct qcow2_ticket *t, uint64_t end,
               struct qcow2_need *need)
{
    if (q->grow_off)
        return 0;
    bool enough = end <= q->grown;
    if (q->grower && (q->grower != t || q->grow_orphan)) {
        if (enough)
            return 0;
        q->grow_awaited = true;
        stat_add(&q->stats.grow_waits);
        need->chan = &q->grower;
        return QCOW2_NEED_WAIT;
    }
    /* Ahead of need: whoever comes when half a step is left extends it, others go
     * on. */
    if (enough && q->grown - end >= q->opt.grow / 2)
        return 0;
    q->grower = t;
    stat_add(&q->stats.grows);
    need->io = (struct qcow2_io){.op = QCOW2_GROW,
                                 .offset = q->grown,
                                 .len = q->opt.grow + (enough ? 0 : end - q->grown)};
    return QCOW2_NEED_IO;
}

static int grow_done(struct qcow2 *q, const struct qcow2_io *io, int err)
{
    if (err)
        q->grow_off = true; /* writes extend the file, or fail, as they come */
    else
        q->grown = io->offset + io->len;
    q->grower = NULL;
    q->grow_orphan = false;
    wake_push(q, &q->grower, &q->grow_awaited);
    return 0;
}

/* ---- ends ---- */

int alloc_io_done(struct qcow2 *q, const struct qcow2_io *io, int err)
{
    if (io->op == QCOW2_GROW)
        return grow_done(q, io, err);
    struct maker *m =
        q->mk_ref.issued && q->mk_ref.offset == io->offset ? &q->mk_ref : &q->mk_l2;
    assert(m->issued && m->offset == io->offset);
    return maker_io_done(q, m, err);
}

void alloc_ticket_end(struct qcow2 *q, struct qcow2_ticket *t)
{
    maker_ticket_end(q, &q->mk_ref, t);
    maker_ticket_end(q, &q->mk_l2, t);
    if (q->grower == t && !q->grow_orphan)
        q->grow_orphan = true; /* its I/O is in flight: grow_done() ends it */
}

/* Whatever the ticket still holds goes back; it may be used again. */
void ticket_end(struct qcow2 *q, struct qcow2_ticket *t)
{
    for (unsigned i = 0; i < QCOW2_PINS; i++)
        ticket_unpin(q, t, i);
    limbo_unpromise(q, t);
    if (t->pinned)
        grace_leave(q, t->phase);
    alloc_ticket_end(q, t);
    sync_ticket_end(q, t);
    inflight_remove(q, t);
    gate_leave(q, t);
    *t = (struct qcow2_ticket){0};
}
