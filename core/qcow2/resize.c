/*
 * The disk gets another size. Phases of operations under the gate, like a snapshot's
 * (snapshot.c): quiet, sync, copy the L1 table to a larger one where the disk needs it,
 * sync, header, sync, free the old one. A crash leaks clusters, no more.
 *
 * QCOW2_RESIZE_BEGIN does all of it but the size, which in memory alone grows: so the
 * part to come can be made to read zeros, and that be durable, before QCOW2_RESIZE lets
 * anybody see it. An L1 table larger than the disk needs is as legal as a cluster past
 * its end.
 */
#include "core/qcow2/snapshot.h"

#include <stdlib.h>

int resize_larger_l1(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    uint64_t entries = snapshot_entries_for(q, s->size), len;

    (void)need;
    if (q->header.version < 3 && q->header.nb_snapshots)
        return -ENOTSUP;
    if (entries > QCOW2_MAX_L1_BYTES / 8)
        return -EFBIG;
    if (entries <= q->l1.entries)
        return 0;
    len = round_up(entries * 8, SLICE_MAX);
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
    uint64_t old_size = q->size_on_disk;
    struct table larger, smaller = q->l1;
    int ret = 0;

    (void)need;
    if (s->op == QCOW2_RESIZE_BEGIN && !s->buf)
        return 0;
    if (s->buf) {
        ret = table_init(q, &larger, SLICE_L1, s->l1_offset, s->l1_entries);
        if (ret)
            return ret;
        memcpy(larger.entry, s->buf, s->l1_entries * 8);
        q->header.l1_offset = s->l1_offset;
        q->header.l1_size = (uint32_t)s->l1_entries;
    }
    if (s->op == QCOW2_RESIZE)
        q->header.size = q->size_on_disk = s->size;
    ret = snapshot_header_change(q);
    if (ret) {
        q->header = old;
        q->size_on_disk = old_size;
    } else {
        q->cut = UINT64_MAX;
        snapshot_linked(s);
    }
    if (!ret && s->buf)
        q->l1 = larger;
    if (s->buf)
        table_free(ret ? &larger : &smaller); /* clean since the sync */
    return ret;
}

int resize_open(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    (void)need;
    if (s->size < q->header.size)
        q->cut = s->size;
    q->header.size = max64(q->header.size, s->size);
    return 0;
}
