/*
 * Walking the tree under an L1 table, for the operations of snapshot.c: every cluster
 * that an L2 entry owns, then the table's own. A walk stops at each need and goes on
 * from where it was (i: L1 entry, k: slice of the table, e: entry and cluster of it).
 */
#include "core/qcow2/snapshot.h"

static uint64_t refcount_max(const struct qcow2 *q)
{
    return q->order == 6 ? UINT64_MAX : (1ull << (1u << q->order)) - 1;
}

/* Will one more reference fit? A compressed cluster may get as many more as it has. */
int snapshot_visit_room(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t cluster,
                        bool compressed, struct qcow2_need *need)
{
    struct qcow2_slice *r;
    int ret = refcount_slice_get(q, cluster, &r, need);
    (void)s;
    if (ret)
        return ret;
    uint64_t count = qcow2_refcount_get(r->buf, refcount_index(q, cluster), q->order);
    if (!count)
        return corrupt(q, "cluster at offset", cluster << q->cluster_bits, UNCOUNTED);
    return count > refcount_max(q) - (compressed ? count : 1) ? -ERANGE : 0;
}

int snapshot_visit_raise(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t cluster,
                         bool compressed, struct qcow2_need *need)
{
    struct qcow2_slice *r;
    int ret = refcount_slice_get(q, cluster, &r, need);
    (void)s;
    (void)compressed;
    if (ret)
        return ret;
    uint64_t i = refcount_index(q, cluster);
    uint64_t count = qcow2_refcount_get(r->buf, i, q->order);
    if (!count || count == refcount_max(q))
        return corrupt(q, "cluster at offset", cluster << q->cluster_bits,
                       "its refcount cannot be raised");
    ret = slice_intend(q, r);
    if (ret)
        return ret;
    slice_modify(q, r);
    qcow2_refcount_set(r->buf, i, q->order, count + 1);
    slice_unintend(q, r);
    return 0;
}

int snapshot_visit_free(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t cluster,
                        bool compressed, struct qcow2_need *need)
{
    int ret = limbo_promise(q, &s->t, 1);
    (void)compressed;
    (void)need;
    if (ret)
        return ret;
    if (s->k == q->cluster >> q->slice_bits) /* the table itself: snapshot_walk() */
        limbo_push(q, &s->t, cluster, 1);
    else
        limbo_push_data(q, &s->t, cluster);
    limbo_unpromise(q, &s->t);
    return 0;
}

/* Every cluster that an L2 entry owns, one at a time; s->e counts entries, and for
 * those that own several clusters the high part counts clusters. */
static int visit_entry(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t entry,
                       snapshot_visit *fn, struct qcow2_need *need)
{
    uint64_t host, len = q->cluster;
    int type = entry_decode(q, entry, &host);

    if (type < 0)
        return corrupt(q, "L2 entry with the value", entry, ILLEGAL);
    if (type == E_COMPRESSED)
        qcow2_compressed_range(q->cluster_bits, entry, &host, &len);
    else if (type != E_NORMAL && type != E_ZERO_ALLOC)
        return 0;
    uint64_t first = host >> q->cluster_bits,
             last = (host + len - 1) >> q->cluster_bits;
    for (uint64_t c = first + (s->e >> 32); c <= last; c++) {
        int ret = fn(q, s, c, type == E_COMPRESSED, need);
        if (ret)
            return ret;
        s->e += 1ull << 32;
    }
    return 0;
}

/* Visits an entry that becomes shared. Its count and its COPIED change in one step:
 * this may be the last one, if the operation is given up. */
static int share_entry(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_slice *l2, uint64_t i, snapshot_visit *fn,
                       struct qcow2_need *need)
{
    uint64_t entry = l2_entry(l2, i);
    if (!(entry & QCOW2_COPIED))
        return visit_entry(q, s, entry, fn, need);
    int ret = slice_intend(q, l2);
    if (ret)
        return ret;
    ret = visit_entry(q, s, entry, fn, need);
    if (!ret) {
        slice_modify(q, l2);
        qcow2_put_be64(l2->buf + 8 * i, entry & ~QCOW2_COPIED);
        memset(l2->verified, 0, sizeof(l2->verified));
    }
    slice_unintend(q, l2);
    return ret;
}

/* The same for the table of entry i of the active L1. */
static int share_table(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t i,
                       snapshot_visit *fn, struct qcow2_need *need)
{
    uint64_t entry = be64toh(q->l1.entry[i]);
    struct qcow2_slice *slice = table_slice(q, &q->l1, i);
    int ret = slice_intend(q, slice);
    if (ret)
        return ret;
    ret = fn(q, s, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, false, need);
    if (!ret && (entry & QCOW2_COPIED)) {
        slice_modify(q, slice);
        q->l1.entry[i] = htobe64(entry & ~QCOW2_COPIED);
    }
    slice_unintend(q, slice);
    return ret;
}

/* The slice s->k of the table of L1 entry s->i. */
static int walk_slice(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t table,
                      snapshot_visit *fn, bool share, struct qcow2_need *need)
{
    while ((s->e & UINT32_MAX) < q->slice_size / 8) {
        struct qcow2_slice *l2;
        uint64_t i = s->e & UINT32_MAX;
        int ret = slice_get(q, SLICE_L2, table + (s->k << q->slice_bits), &l2, need);
        if (ret)
            return ret;
        /* l2 may go only when this needs, and then it is fetched again. */
        ret = share ? share_entry(q, s, l2, i, fn, need)
                    : visit_entry(q, s, l2_entry(l2, i), fn, need);
        if (ret)
            return ret;
        s->e = i + 1;
    }
    s->e = 0;
    return 0;
}

/* One L2 table a call; the table's own cluster last. */
int snapshot_walk(struct qcow2 *q, struct qcow2_snapshot *s, snapshot_visit *fn,
                  bool share, struct qcow2_need *need)
{
    while (s->i < s->l1_entries) {
        uint64_t entry = qcow2_be64(s->buf + 8 * s->i),
                 table = entry & QCOW2_OFFSET_MASK;
        int ret;
        s->tables_left = s->l1_entries - s->i;
        if (!entry) {
            s->i++;
            continue;
        }
        if ((entry & QCOW2_L1_RESERVED) || (table & (q->cluster - 1)) || !table)
            return corrupt(q, "L1 entry", s->i, ILLEGAL);
        while (s->k < q->cluster >> q->slice_bits) {
            ret = walk_slice(q, s, table, fn, share, need);
            if (ret)
                return ret;
            s->k++;
        }
        ret = share && s->op == QCOW2_SNAPSHOT_CREATE
                  ? share_table(q, s, s->i, fn, need)
                  : fn(q, s, table >> q->cluster_bits, false, need);
        if (ret)
            return ret;
        s->k = s->e = 0;
        s->i++;
        s->walk_again = true;
        return 0;
    }
    s->i = 0;
    return 0;
}

static int refcount_is_one(struct qcow2 *q, uint64_t host, bool *one,
                           struct qcow2_need *need)
{
    struct qcow2_slice *r;
    uint64_t cluster = host >> q->cluster_bits;
    int ret = refcount_slice_get(q, cluster, &r, need);
    if (!ret)
        *one = qcow2_refcount_get(r->buf, refcount_index(q, cluster), q->order) == 1;
    return ret;
}

static int set_copied(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_slice *l2,
                      uint64_t i, struct qcow2_need *need)
{
    uint64_t entry = l2_entry(l2, i), host;
    int type = entry_decode(q, entry, &host);
    bool one = false;

    (void)s;
    if ((type != E_NORMAL && type != E_ZERO_ALLOC) || (entry & QCOW2_COPIED))
        return 0;
    int ret = refcount_is_one(q, host, &one, need);
    if (ret || !one)
        return ret;
    ret = slice_intend(q, l2);
    if (ret)
        return ret;
    slice_modify(q, l2);
    qcow2_put_be64(l2->buf + 8 * i, entry | QCOW2_COPIED);
    slice_unintend(q, l2);
    return 0;
}

static int set_copied_in_table(struct qcow2 *q, struct qcow2_snapshot *s,
                               uint64_t table, struct qcow2_need *need)
{
    for (; s->k < q->cluster >> q->slice_bits; s->k++, s->e = 0) {
        for (; s->e < q->slice_size / 8; s->e++) {
            struct qcow2_slice *l2;
            int ret =
                slice_get(q, SLICE_L2, table + (s->k << q->slice_bits), &l2, need);
            if (!ret)
                ret = set_copied(q, s, l2, s->e, need);
            if (ret)
                return ret;
        }
    }
    return 0;
}

/* COPIED where the active tree is alone again: tables that are shared still hold no
 * cluster that is not, as their clusters are counted once a path. */
int snapshot_set_copied(struct qcow2 *q, struct qcow2_snapshot *s,
                        struct qcow2_need *need)
{
    for (; s->i < q->l1.entries; s->i++, s->k = 0, s->e = 0) {
        uint64_t entry = be64toh(q->l1.entry[s->i]), table = entry & QCOW2_OFFSET_MASK;
        struct qcow2_slice *l1s = table_slice(q, &q->l1, s->i);
        bool one = false;
        int ret;
        if (!table)
            continue;
        s->tables_left = q->l1.entries - s->i;
        ret = refcount_is_one(q, table, &one, need);
        if (!ret && one)
            ret = set_copied_in_table(q, s, table, need);
        if (!ret && one && !(entry & QCOW2_COPIED)) {
            ret = slice_intend(q, l1s);
            if (!ret) {
                slice_modify(q, l1s);
                q->l1.entry[s->i] = htobe64(entry | QCOW2_COPIED);
                slice_unintend(q, l1s);
            }
        }
        if (ret)
            return ret;
    }
    s->i = 0;
    return 0;
}
