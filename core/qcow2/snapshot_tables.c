/*
 * The tables that a snapshot operation or a resize writes, and the header that leads to
 * them. A table gets adjoining clusters, counted before it is written.
 */
#include "core/qcow2/snapshot.h"

uint64_t snapshot_entries_for(const struct qcow2 *q, uint64_t size)
{
    unsigned per_l1 = q->cluster_bits + q->l2_bits;
    return (size >> per_l1) + !!(size & ((1ull << per_l1) - 1));
}

/* Could be found among free ones: alloc_clusters() looks into one slice of refcounts at
 * a time, and a block that is one slice counts itself first. */
static bool is_short(const struct qcow2 *q, uint64_t n)
{
    return n + (q->slice_size == q->cluster) <= q->slice_size * 8 >> q->order;
}

static int find_run(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t n,
                    uint64_t *offset, struct qcow2_need *need)
{
    uint64_t at, len = 0;

    for (;;) {
        int ret = alloc_clusters(q, &s->t, n, &at, &len, need);
        if (ret)
            return ret;
        if (len == n << q->cluster_bits)
            break;
        ticket_unpin(q, &s->t, 1); /* too short: the search goes on behind it */
    }
    take_virgin(q, at, len);
    slice_drop(q, at, len);
    use_space(q, &s->t, at, len);
    ticket_unpin(q, &s->t, 1);
    alloc_ticket_end(q, &s->t);
    *offset = at;
    return 0;
}

/* n adjoining clusters, counted at once: a crash leaks them. */
static int take_run(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t n,
                    uint64_t *offset, struct qcow2_need *need)
{
    int ret = is_short(q, n) ? find_run(q, s, n, offset, need)
                             : alloc_long_run(q, &s->t, n, offset, need);
    if (ret)
        return ret;
    s->run[s->runs].offset = *offset;
    s->run[s->runs++].clusters = n;
    return 0;
}

int snapshot_write_new(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_need *need)
{
    uint64_t n = round_up(max64(s->buf_len, 1), q->cluster) >> q->cluster_bits;
    if (s->new_clusters) /* written */
        return 0;
    int ret = take_run(q, s, n, &s->new_offset, need);
    if (ret)
        return ret;
    s->new_clusters = n;
    need->io = (struct qcow2_io){
        .op = QCOW2_WRITE, .offset = s->new_offset, .len = s->buf_len, .buf = s->buf};
    return QCOW2_NEED_IO;
}

int snapshot_write_l1(struct qcow2 *q, struct qcow2_snapshot *s,
                      struct qcow2_need *need)
{
    s->buf_len = max64(round_up(s->l1_entries * 8, 512), 512);
    int ret = snapshot_write_new(q, s, need);
    if (ret)
        return ret;
    s->l1_offset = s->new_offset;
    s->new_clusters = 0;
    return 0;
}

int snapshot_header_change(struct qcow2 *q)
{
    int ret = slice_intend(q, &q->header_slice);
    if (ret)
        return ret;
    slice_modify(q, &q->header_slice);
    qcow2_put_be32(q->header_buf + QCOW2_H_NB_SNAPSHOTS, q->header.nb_snapshots);
    qcow2_put_be64(q->header_buf + QCOW2_H_SNAPSHOTS_OFFSET,
                   q->header.snapshots_offset);
    qcow2_put_be32(q->header_buf + QCOW2_H_L1_SIZE, q->header.l1_size);
    qcow2_put_be64(q->header_buf + QCOW2_H_L1_OFFSET, q->header.l1_offset);
    qcow2_put_be64(q->header_buf + QCOW2_H_SIZE, q->size_on_disk);
    slice_unintend(q, &q->header_slice);
    return 0;
}
