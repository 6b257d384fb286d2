/*
 * The disk gets another size. Phases of an operation under the gate, like a snapshot's
 * (snapshot.c): quiet, sync, copy the L1 table to a larger one where the disk needs it,
 * sync, header, sync, free the old one. A crash leaks clusters, no more.
 */
#include "core/qcow2/snapshot.h"

#include <stdlib.h>

static uint64_t l1_bytes(uint64_t entries) { return round_up(entries * 8, SLICE_MAX); }

int qcow2_resizable(const struct qcow2 *q, uint64_t size)
{
    uint64_t entries = snapshot_entries_for(q, size);

    if (q->header.version < 3 && q->header.nb_snapshots)
        return -ENOTSUP;
    if (entries > QCOW2_MAX_L1_BYTES / 8 ||
        (entries > q->l1.entries && !snapshot_run_fits(q, l1_bytes(entries))))
        return -EFBIG;
    return 0;
}

int resize_larger_l1(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    uint64_t entries = snapshot_entries_for(q, s->size), len = l1_bytes(entries);
    int ret = qcow2_resizable(q, s->size);

    (void)need;
    if (ret || entries <= q->l1.entries)
        return ret;
    if (posix_memalign((void **)&s->buf, SLICE_MAX, len))
        return -ENOMEM;
    memset(s->buf, 0, len);
    memcpy(s->buf, q->l1.entry, q->l1.entries * 8);
    s->old_offset = q->l1.offset;
    s->old_clusters = round_up(q->l1.entries * 8, q->cluster) >> q->cluster_bits;
    s->l1_entries = entries;
    return 0;
}

int resize_write_l1(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    return s->buf ? snapshot_write_l1(q, s, need) : 0;
}

int resize_header(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    struct qcow2_header old = q->header;
    struct table larger, smaller = q->l1;
    int ret = 0;

    (void)need;
    if (s->buf) {
        ret = table_init(q, &larger, SLICE_L1, s->l1_offset, s->l1_entries);
        if (ret)
            return ret;
        memcpy(larger.entry, s->buf, s->l1_entries * 8);
        q->header.l1_offset = s->l1_offset;
        q->header.l1_size = (uint32_t)s->l1_entries;
    }
    q->header.size = s->size;
    ret = snapshot_header_change(q);
    if (ret)
        q->header = old;
    else if (s->buf)
        q->l1 = larger;
    if (s->buf)
        table_free(ret ? &larger : &smaller); /* clean since the sync */
    return ret;
}
