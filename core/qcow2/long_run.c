/*
 * Adjoining clusters, more than one refcount block counts: for the L1 tables of large
 * disks with small clusters.
 *
 * They can't be found among free ones, where each block lies at the head of the range
 * that it counts. So they are made like a refcount table that moves (tables.c), beyond
 * all that is counted: new blocks first, the run right behind them, both counted when
 * the blocks are written, which is before the refcount table leads to them. A crash
 * leaks the run; the blocks are of use to others.
 */
#include "core/qcow2/internal.h"

#include <stdlib.h>

/* The first range that no block counts, nor any behind it. */
static uint64_t first_uncounted(const struct qcow2 *q)
{
    uint64_t i = q->reftable.entries;

    while (i > 0 && !q->reftable.entry[i - 1])
        i--;
    return i;
}

/* As large as it needs to be; its own blocks then lie behind all others. */
static int larger_reftable(struct qcow2 *q, struct qcow2_ticket *t,
                           struct qcow2_need *need)
{
    uint64_t cursor = q->cursor;

    q->cursor = q->reftable.entries << q->ref_bits; /* as if all before were taken */
    int ret = reftable_move(q, t, need);
    q->cursor = min64(q->cursor, cursor);
    return ret;
}

static int build(struct qcow2 *q, struct maker *m, uint64_t first, uint64_t blocks,
                 uint64_t n)
{
    m->offset = (first << q->ref_bits) << q->cluster_bits;
    m->entries = first;
    m->blocks = blocks;
    m->clusters = n;
    m->done = false;
    if (m->offset + ((blocks + n) << q->cluster_bits) > QCOW2_MAX_HOST_OFFSET)
        return -EFBIG;
    if (overlaps_metadata(q, m->offset, (blocks + n) << q->cluster_bits))
        return corrupt(q, "cluster at offset", m->offset, UNCOUNTED);
    if (posix_memalign((void **)&m->buf, SLICE_MAX, blocks << q->cluster_bits))
        return -ENOMEM;
    memset(m->buf, 0, blocks << q->cluster_bits);
    for (uint64_t c = 0; c < blocks + n; c++) /* blocks adjoin, so do their counts */
        qcow2_refcount_set(m->buf, c, q->order, 1);
    return 0;
}

/* All or nothing. */
static int link_blocks(struct qcow2 *q, const struct maker *m)
{
    uint64_t i, end = m->entries + m->blocks;
    int ret = metaset_room(q, m->blocks);

    for (i = m->entries; !ret && i < end; i += !ret)
        ret = slice_intend(q, table_slice(q, &q->reftable, i));
    for (uint64_t k = m->entries; !ret && k < end; k++) {
        uint64_t offset = m->offset + ((k - m->entries) << q->cluster_bits);
        slice_modify(q, table_slice(q, &q->reftable, k));
        q->reftable.entry[k] = htobe64(offset);
        metaset_add(q, offset);
        stat_add(&q->stats.new_refblocks);
    }
    while (i-- > m->entries)
        slice_unintend(q, table_slice(q, &q->reftable, i));
    return ret;
}

int alloc_long_run(struct qcow2 *q, struct qcow2_ticket *t, uint64_t n,
                   uint64_t *offset, struct qcow2_need *need)
{
    struct maker *m = &q->mk_ref;
    uint64_t blocks = 1, first, len;

    while (blocks << q->ref_bits < blocks + n)
        blocks++;
    for (;;) {
        int ret = maker_take(m, t, need);
        if (ret)
            return ret;
        first = first_uncounted(q);
        if (m->buf && m->entries == first && m->clusters == n && m->blocks == blocks)
            break;
        if (m->buf || first + blocks > q->reftable.entries)
            ret = larger_reftable(q, t, need);
        else if (!(ret = build(q, m, first, blocks, n)))
            break;
        if (ret)
            return ret;
    }
    len = (blocks + n) << q->cluster_bits;
    if (!m->done) {
        int ret = alloc_grow(q, t, m->offset + len, need);
        if (ret)
            return ret;
        take_virgin(q, m->offset, len);
        m->issued = true;
        need->io = (struct qcow2_io){.op = QCOW2_WRITE,
                                     .offset = m->offset,
                                     .len = blocks << q->cluster_bits,
                                     .buf = m->buf};
        return QCOW2_NEED_IO;
    }
    slice_drop(q, m->offset, len);
    int ret = link_blocks(q, m);
    if (ret)
        return ret;
    *offset = m->offset + (blocks << q->cluster_bits);
    q->end = max64(q->end, m->offset + len);
    maker_release(q, m);
    return 0;
}
