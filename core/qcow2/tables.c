/*
 * Making tables: refcount blocks, L2 tables, and a refcount table that moves.
 *
 * All follow one pattern: reserve, have the whole table written (zeros or a copy), then
 * link it in memory. The write is done before the link, the link is before the epoch's
 * close, so the epoch's first barrier makes the whole table durable before any pointer
 * to it is written. At most one refcount structure and one L2 table are in the making
 * at a time.
 */
#include "core/qcow2/internal.h"

#include <stdlib.h>

/* ---- one maker at a time ---- */

int maker_take(struct maker *m, struct qcow2_ticket *t, struct qcow2_need *need)
{
    if (m->owner == t && !m->orphan)
        return 0;
    if (m->owner) {
        m->awaited = true;
        need->chan = m;
        return QCOW2_NEED_WAIT;
    }
    m->owner = t;
    m->issued = m->done = m->orphan = false;
    return 0;
}

void maker_release(struct qcow2 *q, struct maker *m)
{
    free(m->buf);
    m->buf = NULL;
    m->owner = NULL;
    limbo_unpromise(q, &m->limbo);
    m->issued = m->done = m->orphan = false;
    m->clusters = 0;
    wake_push(q, m, &m->awaited);
}

int maker_io_done(struct qcow2 *q, struct maker *m, int err)
{
    m->issued = false;
    m->done = !err;
    if (m->orphan)
        maker_release(q, m);
    return err;
}

void maker_ticket_end(struct qcow2 *q, struct maker *m, struct qcow2_ticket *t)
{
    if (m->owner != t || m->orphan)
        return;
    if (m->issued)
        m->orphan = true;
    else
        maker_release(q, m);
}

static int need_zero(struct maker *m, uint64_t offset, uint64_t len,
                     struct qcow2_need *need)
{
    m->issued = true;
    m->offset = offset;
    need->io = (struct qcow2_io){.op = QCOW2_ZERO, .offset = offset, .len = len};
    return QCOW2_NEED_IO;
}

/* Room for n more slots to become busy at once, so that linking can't stop half way. */
static bool room_for_busy(const struct qcow2 *q, unsigned n)
{
    return q->busy_slots + n <= q->nslots / 2 && !qcow2_inject();
}

/* A refcount block for the range of cluster, in the first cluster of that range, where
 * it counts itself. */
int refblock_make(struct qcow2 *q, struct qcow2_ticket *t, uint64_t cluster,
                  struct qcow2_need *need)
{
    struct maker *m = &q->mk_ref;
    uint64_t i = cluster >> q->ref_bits, first = i << q->ref_bits;
    uint64_t offset = first << q->cluster_bits;
    struct qcow2_slice *rt = table_slice(q, &q->reftable, i), *s;
    int ret = maker_take(m, t, need);

    if (ret)
        return ret;
    if (be64toh(q->reftable.entry[i])) { /* somebody was faster */
        maker_release(q, m);
        return 0;
    }
    if (overlaps_metadata(q, offset, q->cluster))
        return corrupt(q, "cluster at offset", offset, UNCOUNTED);
    if (!room_for_busy(q, 1))
        return -EBUSY;
    if (!m->done || m->offset != offset) {
        ret = alloc_grow(q, t, offset + q->cluster, need);
        if (ret)
            return ret;
        if (!take_virgin(q, offset, q->cluster) || q->grow_off)
            return need_zero(m, offset, q->cluster, need);
    }
    ret = metaset_room(q, 1);
    if (ret)
        return ret;
    ret = slice_intend(q, rt);
    if (ret)
        return ret;
    slice_drop(q, offset, q->cluster);
    s = slice_make(q, SLICE_REFBLOCK, offset);
    ret = slice_intend(q, s);
    if (ret) {
        slice_unintend(q, rt);
        return ret;
    }
    metaset_add(q, offset);
    count_up(q, s, first);
    slice_unintend(q, s);
    slice_modify(q, rt);
    q->reftable.entry[i] = htobe64(offset);
    slice_unintend(q, rt);
    q->end = max64(q->end, offset + q->cluster);
    stat_add(&q->stats.new_refblocks);
    maker_release(q, m);
    return 0;
}

/* What the moved table is to look like: its blocks, then itself, at the first cluster
 * beyond what the old one could count. */
static int reftable_build(struct qcow2 *q, struct maker *m)
{
    uint64_t per_block = 1ull << q->ref_bits, old = q->reftable.entries;
    uint64_t want = old + old / 2 + 1, blocks = 1, clusters;

    m->offset = (old << q->ref_bits) << q->cluster_bits;
    for (;;) {
        want = round_up(max64(want, old + blocks) * 8, q->cluster) / 8;
        clusters = (want * 8) >> q->cluster_bits;
        if (blocks * per_block >= blocks + clusters)
            break;
        blocks++;
    }
    if (want * 8 > QCOW2_MAX_REFTABLE_BYTES)
        return -EFBIG;
    m->blocks = blocks;
    m->clusters = clusters;
    m->entries = want;
    if (posix_memalign((void **)&m->buf, SLICE_MAX,
                       (blocks + clusters) << q->cluster_bits))
        return -ENOMEM;
    memset(m->buf, 0, (blocks + clusters) << q->cluster_bits);
    for (uint64_t c = 0; c < blocks + clusters; c++)
        qcow2_refcount_set(m->buf, c, q->order,
                           1); /* blocks adjoin, so do their counts */
    uint8_t *table = m->buf + (blocks << q->cluster_bits);
    memcpy(table, q->reftable.entry, old * 8);
    for (uint64_t b = 0; b < blocks; b++)
        qcow2_put_be64(table + (old + b) * 8, m->offset + (b << q->cluster_bits));
    return 0;
}

/* Drops what the old table still owed the disk: the new one has it. No sync is
 * active. */
static void reftable_forget(struct qcow2 *q)
{
    for (unsigned i = 0; i < q->reftable.nslices; i++) {
        struct qcow2_slice *s = &q->reftable.slices[i];
        assert(!s->closing && !s->intents);
        if (s->dirty) {
            TAILQ_REMOVE(&q->dirty[STAGE_TABLES], s, dirty_link);
            s->dirty = false;
            q->busy--;
        }
    }
    table_free(&q->reftable);
}

static int reftable_link(struct qcow2 *q)
{
    struct maker *m = &q->mk_ref;
    uint64_t old = q->reftable.offset;
    uint64_t old_clusters = q->header.reftable_clusters;
    uint8_t *contents = m->buf + (m->blocks << q->cluster_bits);
    struct table table;
    int ret = metaset_room(q, m->blocks);

    if (!ret)
        ret = slice_intend(q, &q->header_slice);
    if (ret)
        return ret;
    uint64_t offset = m->offset + (m->blocks << q->cluster_bits);
    ret = table_init(q, &table, SLICE_REFTABLE, offset, m->entries);
    if (ret) {
        slice_unintend(q, &q->header_slice);
        return ret;
    }
    memcpy(table.entry, contents, m->entries * 8);
    for (uint64_t b = 0; b < m->blocks; b++)
        metaset_add(q, m->offset + (b << q->cluster_bits));
    slice_drop(q, m->offset, (m->blocks + m->clusters) << q->cluster_bits);
    reftable_forget(q);
    q->reftable = table;
    q->header.reftable_offset = offset;
    q->header.reftable_clusters = (uint32_t)m->clusters;
    slice_modify(q, &q->header_slice);
    qcow2_put_be64(q->header_buf + QCOW2_H_REFTABLE_OFFSET, offset);
    qcow2_put_be32(q->header_buf + QCOW2_H_REFTABLE_CLUSTERS, (uint32_t)m->clusters);
    slice_unintend(q, &q->header_slice);
    limbo_push(q, &m->limbo, old >> q->cluster_bits, old_clusters);
    q->end = max64(q->end, offset + (m->clusters << q->cluster_bits));
    stat_add(&q->stats.table_moves);
    return 0;
}

/* The refcount table is full: a larger one, elsewhere. */
int reftable_move(struct qcow2 *q, struct qcow2_ticket *t, struct qcow2_need *need)
{
    struct maker *m = &q->mk_ref;
    uint64_t entries = q->reftable.entries, len;
    int ret = maker_take(m, t, need);

    if (ret)
        return ret;
    if (q->reftable.entries != entries || (q->cursor >> q->ref_bits) < entries) {
        maker_release(q, m); /* moved while we waited, or space came free */
        return 0;
    }
    if (!m->buf) {
        ret = limbo_promise(q, &m->limbo, 1); /* for the old table */
        if (ret)
            return ret;
        ret = reftable_build(q, m);
        if (ret)
            return ret;
        if (overlaps_metadata(q, m->offset,
                              (m->blocks + m->clusters) << q->cluster_bits))
            return corrupt(q, "cluster at offset", m->offset, UNCOUNTED);
        m->done = false;
    }
    len = (m->blocks + m->clusters) << q->cluster_bits;
    if (!m->done) {
        ret = alloc_grow(q, t, m->offset + len, need);
        if (ret)
            return ret;
        take_virgin(q, m->offset, len);
        m->issued = true;
        need->io = (struct qcow2_io){
            .op = QCOW2_WRITE, .offset = m->offset, .len = len, .buf = m->buf};
        return QCOW2_NEED_IO;
    }
    /* The active one writes the old table, the next waits for us (sync.c). Its leader
     * may have failed or been cancelled, and all others wait for us: then we lead
     * it. */
    ret = sync_end_active(q, t, need);
    if (ret)
        return ret;
    ret = reftable_link(q);
    if (ret)
        return ret;
    maker_release(q, m);
    return 0;
}

/* ---- L2 tables ---- */

static int l2_link(struct qcow2 *q, struct qcow2_ticket *t, uint64_t i, uint64_t slice,
                   bool zeroed)
{
    struct qcow2_slice *l1s = table_slice(q, &q->l1, i);
    uint64_t old = be64toh(q->l1.entry[i]) & QCOW2_OFFSET_MASK;
    int ret = metaset_room(q, 1);
    if (!ret)
        ret = slice_intend(q, l1s);
    if (ret)
        return ret;
    metaset_add(q, t->table);
    slice_drop(q, t->table, t->table_len);
    use_space(q, t, t->table, t->table_len);
    slice_modify(q, l1s);
    q->l1.entry[i] = htobe64(t->table | QCOW2_COPIED);
    slice_unintend(q, l1s);
    if (zeroed)
        slice_make(q, SLICE_L2, t->table + slice);
    if (old) {
        limbo_push(q, t, old >> q->cluster_bits, 1);
        stat_add(&q->stats.l2_copies);
    } else {
        stat_add(&q->stats.new_l2);
    }
    return 0;
}

/* A table of our own for L1 entry i: fresh, or a copy of a shared one. */
static int l2_make(struct qcow2 *q, struct qcow2_ticket *t, uint64_t i, uint64_t slice,
                   struct qcow2_need *need)
{
    struct maker *m = &q->mk_l2;
    uint64_t entry = be64toh(q->l1.entry[i]), old = entry & QCOW2_OFFSET_MASK;
    int ret = maker_take(m, t, need);

    if (ret)
        return ret;
    if (entry & QCOW2_COPIED) {
        maker_release(q, m);
        return 0;
    }
    if (!t->table_len) {
        /* The copy is made on the disk. A snapshot given up half way may have changed
         * the table without having shared it: that has to be there first. */
        if (old && !slice_droppable(q, old, q->cluster))
            return -EBUSY;
        if (old && !t->limbo) {
            ret = limbo_promise(q, t, 1);
            if (ret)
                return ret;
        }
        ret = alloc_clusters(q, t, 1, &t->table, &t->table_len, need);
        if (ret)
            return ret;
        inflight_add(q, t);
    }
    if (!m->done) {
        ret = alloc_grow(q, t, t->table + t->table_len, need);
        if (ret)
            return ret;
        bool zeros = take_virgin(q, t->table, t->table_len) && !q->grow_off;
        if (old) {
            m->issued = true;
            m->offset = t->table;
            need->io = (struct qcow2_io){
                .op = QCOW2_COPY, .offset = t->table, .from = old, .len = q->cluster};
            return QCOW2_NEED_IO;
        }
        if (!zeros)
            return need_zero(m, t->table, t->table_len, need);
    }
    ret = l2_link(q, t, i, slice, !old);
    if (ret)
        return ret;
    maker_release(q, m);
    inflight_remove(q, t);
    t->table = t->table_len = 0;
    ticket_unpin(q, t, 1);
    limbo_unpromise(q, t);
    return 0;
}

int l2_get_for_write(struct qcow2 *q, struct qcow2_ticket *t, uint64_t guest,
                     struct qcow2_slice **out, struct qcow2_need *need)
{
    uint64_t cluster = guest >> q->cluster_bits, i = cluster >> q->l2_bits, offset;
    uint64_t slice =
        ((cluster & ((1ull << q->l2_bits) - 1)) * 8) & ~(q->slice_size - 1);
    int ret;

    if (l2_slice_offset(q, guest, &offset))
        return corrupt(q, "L1 entry of guest offset", guest, ILLEGAL);
    while (!(be64toh(q->l1.entry[i]) & QCOW2_COPIED)) {
        ret = l2_make(q, t, i, slice, need);
        if (ret)
            return ret;
    }
    offset = (be64toh(q->l1.entry[i]) & QCOW2_OFFSET_MASK) + slice;
    if (!is_countable(q, offset))
        return corrupt(q, "L2 table at offset", offset - slice, UNCOUNTED);
    ret = slice_get(q, SLICE_L2, offset, out, need);
    if (ret)
        return ret;
    return ticket_pin(q, t, 0, *out);
}
