/*
 * Taking back an operation of snapshot.c that failed half way: what it allocated is
 * free again, what it counted up is counted down. Only before the header leads to it;
 * afterwards the operation has happened.
 *
 * All of it goes through limbo like any other free. Nothing on the disk ever led there,
 * so there is nothing to wait for but the next sync.
 */
#include "core/qcow2/snapshot.h"

void snapshot_linked(struct qcow2_snapshot *s)
{
    s->linked = true;
    s->runs = 0;
    s->raised.i = s->raised.k = s->raised.e = 0;
}

bool snapshot_has_raised(const struct qcow2_snapshot *s)
{
    return s->raised.i || s->raised.k || s->raised.e;
}

/* Has the walk come to where the one that raised stopped? (Entries, the low part of e,
 * go before the clusters of one entry.) */
static bool reached(const struct qcow2_snapshot *s)
{
    uint32_t entry = (uint32_t)s->e, last = (uint32_t)s->raised.e;
    if (s->i != s->raised.i)
        return s->i > s->raised.i;
    if (s->k != s->raised.k)
        return s->k > s->raised.k;
    return entry != last ? entry > last : s->e >= s->raised.e;
}

static int visit_lower(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t cluster,
                       bool compressed, struct qcow2_need *need)
{
    return reached(s) ? -ESTALE : snapshot_visit_free(q, s, cluster, compressed, need);
}

int snapshot_undo_raised(struct qcow2 *q, struct qcow2_snapshot *s,
                         struct qcow2_need *need)
{
    if (!snapshot_has_raised(s))
        return 0;
    int ret = snapshot_walk(q, s, visit_lower, false, need);
    if (ret != -ESTALE)
        return ret;
    s->i = s->k = s->e = 0;
    return 0;
}

int snapshot_undo_runs(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_need *need)
{
    (void)need;
    while (s->runs) {
        int ret = limbo_promise(q, &s->t, 1);
        if (ret)
            return ret;
        s->runs--;
        limbo_push(q, &s->t, s->run[s->runs].offset >> q->cluster_bits,
                   s->run[s->runs].clusters);
        limbo_unpromise(q, &s->t);
    }
    return 0;
}
