/*
 * Discard and write-zeroes: guest clusters that read zeros by metadata alone.
 *
 * A cluster without backing becomes unallocated, one over a backing file gets the zero
 * flag. Version 2 has no zero flag: over a backing file it can't tell zeros from what
 * lies below, so discard leaves it alone and write-zeroes writes data; but for what a
 * disk is about to lose (QCOW2_RESIZE_BEGIN).
 */
#include "core/qcow2/internal.h"

void qcow2_cancel(struct qcow2 *q, struct qcow2_ticket *t) { ticket_end(q, t); }

/* Up to the end of the disk counts as up to the end of its last cluster. */
static uint64_t whole_end(const struct qcow2 *q, uint64_t end)
{
    return end == q->header.size ? round_up(end, q->cluster) : end;
}

/* Whether unallocated would show something else, if not to us: the file below may not
 * have been opened. Where a disk of version 2 is about to end nobody minds. */
static bool lies_over_another(const struct qcow2 *q, uint64_t guest)
{
    return q->header.has_backing && (q->header.version > 2 || guest < q->cut);
}

/* What lies in the first cluster, when it is not covered whole. */
static int zero_part(struct qcow2 *q, uint64_t guest, uint64_t len, uint64_t *done,
                     enum qcow2_part *part, struct qcow2_need *need)
{
    struct qcow2_extent e;
    uint64_t in_cluster = q->cluster - (guest & (q->cluster - 1));
    int ret = qcow2_map(q, NULL, guest, min64(len, in_cluster), &e, need);

    if (ret)
        return ret;
    *done = e.len;
    *part = e.type == QCOW2_HOLE ? QCOW2_PART_DONE : QCOW2_PART_WRITE;
    (void)qcow2_unmap(q, &e);
    return 0;
}

/* Entry i becomes zero; false: it is already. */
static bool zero_entry(bool over_another, uint64_t entry, uint64_t *zeroed)
{
    *zeroed = over_another ? QCOW2_ZERO_FLAG : 0;
    return entry != *zeroed && !(entry == QCOW2_ZERO_FLAG && !over_another);
}

/* Clusters from entry i that limbo has room for, and what they need of it. */
static uint64_t zero_run(const struct qcow2 *q, const struct qcow2_slice *s,
                         bool over_another, uint64_t i, uint64_t n, uint32_t *frees,
                         bool *changes)
{
    uint64_t k, zeroed;
    *frees = 0;
    *changes = false;
    for (k = 0; k < n && *frees < q->limbo_cap / 4; k++) {
        *frees += limbo_cost(q, l2_entry(s, i + k));
        *changes |= zero_entry(over_another, l2_entry(s, i + k), &zeroed);
    }
    return k;
}

static int zero_clusters(struct qcow2 *q, struct qcow2_ticket *t, uint64_t guest,
                         uint64_t n, uint64_t *done, struct qcow2_need *need)
{
    struct qcow2_slice *s;
    uint64_t offset, host, zeroed;
    uint32_t frees;
    bool changes, over_another = lies_over_another(q, guest);

    int ret = inflight_overlap(q, t, guest, n << q->cluster_bits, need);
    if (ret)
        return ret;
    if (l2_slice_offset(q, guest, &offset))
        return corrupt(q, "L1 entry of guest offset", guest, ILLEGAL);
    if (!offset && !over_another) {
        *done = n << q->cluster_bits;
        return 0;
    }
    ret = l2_get_for_write(q, t, guest, &s, need);
    if (ret)
        return ret;
    uint64_t i = l2_index(q, guest);
    for (uint64_t k = 0; k < n; k++) {
        if (entry_decode(q, l2_entry(s, i + k), &host) < 0)
            return corrupt(q, "L2 entry of guest offset",
                           guest + (k << q->cluster_bits), ILLEGAL);
    }
    n = zero_run(q, s, over_another, i, n, &frees, &changes);
    ret = frees > t->limbo ? limbo_promise(q, t, frees - t->limbo) : 0;
    if (ret)
        return ret;
    if (changes) {
        slice_modify(q, s);
        stat_add(&q->stats.discards);
        if (atomic_load(&q->readers[0]) || atomic_load(&q->readers[1]))
            stat_add(&q->stats.discard_under_io);
    }
    for (uint64_t k = 0; k < n; k++) {
        uint64_t entry = l2_entry(s, i + k);
        if (!zero_entry(over_another, entry, &zeroed))
            continue;
        limbo_push_entry(q, t, entry);
        qcow2_put_be64(s->buf + 8 * (i + k), zeroed);
        s->verified[(i + k) / 8] &= (uint8_t) ~(1 << (i + k) % 8);
    }
    *done = n << q->cluster_bits;
    return 0;
}

int qcow2_zero(struct qcow2 *q, struct qcow2_ticket *t, uint64_t guest, uint64_t len,
               uint64_t *done, enum qcow2_part *part, struct qcow2_need *need)
{
    uint64_t want = len;
    int ret;

    assert(len && guest < q->header.size && len <= q->header.size - guest);
    len = l2_slice_reach(q, guest, whole_end(q, guest + len) - guest);
    *part = QCOW2_PART_DONE;
    *done = 0;
    do {
        ret = writable(q);
        if (!ret)
            ret = gate_enter(q, t, need);
        if (!ret && t->step == STEP_SYNC)
            ret = owe_sync(q, t, need);
        if (ret)
            break;
        if ((guest & (q->cluster - 1)) || len < q->cluster) {
            ret = zero_part(q, guest, min64(len, want), done, part, need);
        } else if (q->header.version < 3 && lies_over_another(q, guest)) {
            *done = len & ~(q->cluster - 1);
            *part = QCOW2_PART_WRITE;
        } else {
            ret = zero_clusters(q, t, guest, len >> q->cluster_bits, done, need);
        }
        if (ret == -EBUSY) {
            ret = owe_sync(q, t, need);
            if (!ret)
                ret = -EAGAIN; /* room again: once more */
        }
    } while (ret == -EAGAIN);
    if (ret <= 0)
        ticket_end(q, t);
    *done = min64(*done, want);
    return ret;
}

int qcow2_discard(struct qcow2 *q, struct qcow2_ticket *t, uint64_t guest, uint64_t len,
                  uint64_t *done, struct qcow2_need *need)
{
    enum qcow2_part part;
    uint64_t skip = guest & (q->cluster - 1);

    bool ignored = q->header.version < 3 && lies_over_another(q, guest);

    if (skip || whole_end(q, guest + len) - guest < q->cluster || ignored) {
        int ret = writable(q);
        *done = min64(len, ignored ? len : q->cluster - skip);
        if (ret)
            ticket_end(q, t);
        return ret;
    }
    return qcow2_zero(q, t, guest, len, done, &part, need);
}
