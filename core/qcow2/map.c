/*
 * Where guest bytes are: L1 and L2 look-up, and the extents they make.
 * Specification: "L1/L2 tables", "Cluster mapping".
 */
#include "core/qcow2/internal.h"

int entry_decode(const struct qcow2 *q, uint64_t entry, uint64_t *host)
{
    *host = 0;
    if (entry & QCOW2_COMPRESSED_FLAG) {
        uint64_t len;
        if (entry & QCOW2_COPIED)
            return -EIO;
        qcow2_compressed_range(q->cluster_bits, entry, host, &len);
        if (*host == 0 || *host + len > QCOW2_MAX_HOST_OFFSET)
            return -EIO;
        return E_COMPRESSED;
    }
    *host = entry & QCOW2_OFFSET_MASK;
    if ((entry & QCOW2_L2_RESERVED) || (*host & (q->cluster - 1)))
        return -EIO;
    if (entry & QCOW2_ZERO_FLAG) {
        if (q->header.version < 3)
            return -EIO;
        return *host ? E_ZERO_ALLOC : E_ZERO;
    }
    if (!*host)
        return entry & QCOW2_COPIED ? -EIO : E_UNALLOCATED;
    return E_NORMAL;
}

int corrupt(struct qcow2 *q, const char *what, uint64_t value, const char *problem)
{
    stat_add(&q->stats.corruptions);
    if (!q->complaint.what)
        q->complaint = (struct qcow2_complaint){what, problem, value};
    if (!q->corrupt && q->opt.write) {
        q->corrupt = true;
        if (q->header.version >= 3 && !q->poisoned &&
            !slice_intend(q, &q->header_slice)) {
            slice_modify(q, &q->header_slice);
            q->header.incompat |= QCOW2_INCOMPAT_CORRUPT;
            qcow2_put_be64(q->header_buf + QCOW2_H_INCOMPAT, q->header.incompat);
            slice_unintend(q, &q->header_slice);
        }
    }
    return -EIO;
}

uint64_t l2_index(const struct qcow2 *q, uint64_t guest)
{
    return (guest >> q->cluster_bits) & ((q->slice_size / 8) - 1);
}

uint64_t l2_slice_reach(const struct qcow2 *q, uint64_t guest, uint64_t len)
{
    uint64_t span = (q->slice_size / 8) << q->cluster_bits;
    return min64(len, span - (guest & (span - 1)));
}

int l2_slice_offset(const struct qcow2 *q, uint64_t guest, uint64_t *offset)
{
    uint64_t cluster = guest >> q->cluster_bits;
    uint64_t i = cluster >> q->l2_bits;
    assert(i < q->l1.entries); /* it covers the disk: the header's invariant */
    uint64_t entry = be64toh(q->l1.entry[i]), table = entry & QCOW2_OFFSET_MASK;

    *offset = 0;
    if (!entry)
        return 0;
    if ((entry & QCOW2_L1_RESERVED) || (table & (q->cluster - 1)) || !table)
        return -EIO;
    uint64_t in_table = (cluster & ((1ull << q->l2_bits) - 1)) * 8;
    *offset = table + (in_table & ~(q->slice_size - 1));
    return 0;
}

static enum qcow2_type type_of(const struct qcow2 *q, int entry_type)
{
    switch (entry_type) {
    case E_NORMAL:
        return QCOW2_DATA;
    case E_COMPRESSED:
        return QCOW2_COMPRESSED;
    case E_UNALLOCATED:
        return q->backing ? QCOW2_BACKING : QCOW2_HOLE;
    default:
        return QCOW2_HOLE;
    }
}

/* The extent that begins at guest, from a slice in memory. */
static int extent_from_slice(const struct qcow2 *q, const struct qcow2_slice *s,
                             uint64_t guest, uint64_t len, struct qcow2_extent *e)
{
    uint64_t i = l2_index(q, guest), skip = guest & (q->cluster - 1);
    uint64_t entry = l2_entry(s, i), host, next;
    int type = entry_decode(q, entry, &host);

    if (type < 0)
        return type;
    e->type = type_of(q, type);
    e->guest = guest;
    e->host = e->host_len = e->cluster_skip = 0;
    uint64_t covered = q->cluster - skip;
    if (e->type == QCOW2_COMPRESSED) {
        qcow2_compressed_range(q->cluster_bits, entry, &e->host, &e->host_len);
        e->cluster_skip = skip;
        e->len = min64(len, covered);
        return 0;
    }
    if (e->type == QCOW2_DATA)
        e->host = host + skip;
    /* While the next cluster continues this one; a bad entry ends it and is found when
     * somebody asks for it. */
    while (covered < len) {
        int t = entry_decode(q, l2_entry(s, ++i), &next);
        if (t < 0 || type_of(q, t) != e->type)
            break;
        if (e->type == QCOW2_DATA && next != e->host + covered)
            break;
        covered += q->cluster;
    }
    e->len = min64(len, covered);
    return 0;
}

static void pin_extent(const struct qcow2 *q, struct qcow2_extent *e)
{
    e->pinned = e->type == QCOW2_DATA || e->type == QCOW2_COMPRESSED;
    if (e->pinned)
        e->phase = grace_enter(q);
}

static void extent_unallocated(const struct qcow2 *q, uint64_t guest, uint64_t len,
                               struct qcow2_extent *e)
{
    *e = (struct qcow2_extent){
        .type = type_of(q, E_UNALLOCATED), .guest = guest, .len = len};
}

int qcow2_peek(const struct qcow2 *q, uint64_t guest, uint64_t len,
               struct qcow2_extent *e)
{
    uint64_t offset;

    if (l2_slice_offset(q, guest, &offset))
        return -EAGAIN;
    len = l2_slice_reach(q, guest, len);
    if (!offset) {
        extent_unallocated(q, guest, len, e);
        return 0;
    }
    struct qcow2_slice *s = cache_find(q, offset);
    if (!s || s->state != SLICE_VALID || s->kind != SLICE_L2 ||
        extent_from_slice(q, s, guest, len, e))
        return -EAGAIN;
    __atomic_store_n(&s->used, 1, __ATOMIC_RELAXED);
    stat_add(&q->stats.l2_hits);
    pin_extent(q, e);
    return 0;
}

int qcow2_map(struct qcow2 *q, struct qcow2_ticket *t, uint64_t guest, uint64_t len,
              struct qcow2_extent *e, struct qcow2_need *need)
{
    struct qcow2_slice *s;
    uint64_t offset;
    int ret;

    (void)t;
    assert(len && guest < q->header.size && len <= q->header.size - guest);
    if (l2_slice_offset(q, guest, &offset))
        return corrupt(q, "L1 entry of guest offset", guest, ILLEGAL);
    len = l2_slice_reach(q, guest, len);
    if (!offset) {
        extent_unallocated(q, guest, len, e);
        return 0;
    }
    ret = slice_get(q, SLICE_L2, offset, &s, need);
    if (ret)
        return ret;
    if (extent_from_slice(q, s, guest, len, e))
        return corrupt(q, "L2 entry of guest offset", guest, ILLEGAL);
    pin_extent(q, e);
    return 0;
}

bool qcow2_unmap(const struct qcow2 *q, struct qcow2_extent *e)
{
    if (!e->pinned)
        return false;
    e->pinned = false;
    grace_leave(q, e->phase);
    return atomic_load(&q->grace_awaited);
}
