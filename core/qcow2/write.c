/*
 * Writes: plan, commit, abort.
 *
 *     plan:  start -> [L2 slice pinned] -> run chosen -> clusters reserved -> file
 *            grown -> planned (the caller copies and writes) -> commit | abort
 *
 * A plan is in place (the cluster is ours alone: nothing will change), or it changes
 * the L2 entries of whole clusters. Those are named on the in-flight list from
 * reservation to the end, and whoever would change the same entries waits for it and
 * then maps again.
 */
#include "core/qcow2/internal.h"

static uint64_t cluster_start(const struct qcow2 *q, uint64_t guest)
{
    return guest & ~(q->cluster - 1);
}

/* How a cluster that is written is treated; runs are of one treatment. */
enum treatment { IN_PLACE, CLEAR_ZERO, ALLOCATE };

static int treatment(const struct qcow2 *q, uint64_t entry, uint64_t *host)
{
    int type = entry_decode(q, entry, host);
    if (type < 0)
        return type;
    if (type == E_NORMAL && (entry & QCOW2_COPIED))
        return IN_PLACE;
    if (type == E_ZERO_ALLOC && (entry & QCOW2_COPIED))
        return CLEAR_ZERO;
    return ALLOCATE;
}

/* Bytes from guest that get the same treatment, in adjoining host clusters if they have
 * any, and whose old clusters fit in limbo's promise. */
static uint64_t same_run(const struct qcow2 *q, const struct qcow2_slice *s,
                         uint64_t guest, uint64_t len, int how, uint64_t host,
                         uint32_t *frees)
{
    uint64_t i = l2_index(q, guest), covered = q->cluster - (guest & (q->cluster - 1));
    uint64_t next, room = q->limbo_cap / 4;

    *frees = how == ALLOCATE ? limbo_cost(q, l2_entry(s, i)) : 0;
    for (uint64_t n = 1; covered < len && *frees < room; n++, covered += q->cluster) {
        uint64_t entry = l2_entry(s, i + n);
        if (treatment(q, entry, &next) != how ||
            (how != ALLOCATE && next != host + (n << q->cluster_bits)))
            break;
        if (how == ALLOCATE)
            *frees += limbo_cost(q, entry);
    }
    return min64(len, covered);
}

/* A rewrite in place trusts COPIED only after it saw each refcount, once a cluster as
 * long as the slice stays cached. One that is counted more than once, as a crash while
 * a snapshot was made leaves it, is copied like any that is shared: COPIED goes, and
 * -EAGAIN says to look at the entry again. */
static int verify_in_place(struct qcow2 *q, struct qcow2_slice *s, uint64_t guest,
                           uint64_t len, uint64_t host, struct qcow2_need *need)
{
    uint64_t i = l2_index(q, guest);
    uint64_t n =
        ((guest + len - 1) >> q->cluster_bits) - (guest >> q->cluster_bits) + 1;

    for (uint64_t k = 0; k < n; k++, i++) {
        struct qcow2_slice *r;
        uint64_t cluster = (host >> q->cluster_bits) + k;
        if (s->verified[i / 8] & 1 << i % 8)
            continue;
        int ret = refcount_slice_get(q, cluster, &r, need);
        if (ret)
            return ret;
        uint64_t count =
            qcow2_refcount_get(r->buf, refcount_index(q, cluster), q->order);
        if (!count || overlaps_metadata(q, cluster << q->cluster_bits, q->cluster))
            return corrupt(q, "cluster at offset", cluster << q->cluster_bits,
                           "COPIED is set, but its refcount is 0 or it is a table");
        if (count > 1) {
            slice_modify(q, s);
            qcow2_put_be64(s->buf + 8 * i, l2_entry(s, i) & ~QCOW2_COPIED);
            return -EAGAIN;
        }
        s->verified[i / 8] |= (uint8_t)(1 << i % 8);
        /* The file may have been cut short: the trim at close keeps what is written. */
        q->end = max64(q->end, (cluster + 1) << q->cluster_bits);
    }
    return 0;
}

static void count_source(struct qcow2 *q, const struct qcow2_extent *e, bool shared)
{
    switch (e->type) {
    case QCOW2_DATA:
        stat_add(shared ? &q->stats.cow_shared : &q->stats.cow_data);
        break;
    case QCOW2_HOLE:
        stat_add(&q->stats.cow_zero);
        break;
    case QCOW2_BACKING:
        stat_add(&q->stats.cow_backing);
        break;
    case QCOW2_COMPRESSED:
        stat_add(&q->stats.cow_compressed);
        break;
    }
}

/* Where the bytes guest..guest+len of one cluster come from when it is copied. */
static void cow_source(struct qcow2 *q, const struct qcow2_slice *s, uint64_t guest,
                       uint64_t len, bool reads_zeros, struct qcow2_extent *e)
{
    uint64_t entry = l2_entry(s, l2_index(q, guest)), host;

    *e = (struct qcow2_extent){.guest = guest};
    if (!len)
        return;
    e->len = len;
    switch (entry_decode(q, entry, &host)) {
    case E_NORMAL:
        e->type = QCOW2_DATA;
        e->host = host + (guest & (q->cluster - 1));
        break;
    case E_COMPRESSED:
        e->type = QCOW2_COMPRESSED;
        qcow2_compressed_range(q->cluster_bits, entry, &e->host, &e->host_len);
        e->cluster_skip = guest & (q->cluster - 1);
        break;
    case E_UNALLOCATED:
        e->type = q->backing ? QCOW2_BACKING : QCOW2_HOLE;
        break;
    default:
        e->type = QCOW2_HOLE;
    }
    if (e->type == QCOW2_HOLE && reads_zeros) {
        e->len = 0;
        stat_add(&q->stats.zero_skipped);
        return;
    }
    count_source(q, e, e->type == QCOW2_DATA && !(entry & QCOW2_COPIED));
}

/* The plan is made: tell the caller what to write, and hold it. */
static int planned(struct qcow2 *q, struct qcow2_write *w, uint64_t guest, uint64_t len,
                   uint64_t host_cluster, bool reads_zeros)
{
    const struct qcow2_slice *s = w->t.pin[0];
    uint64_t head = guest - cluster_start(q, guest);
    uint64_t end = guest + len, stop = round_up(end, q->cluster);

    w->guest = guest;
    w->len = len;
    w->host = host_cluster + head;
    w->t.phase = grace_enter(q);
    w->t.pinned = true;
    w->t.step = STEP_PLANNED;
    cow_source(q, s, cluster_start(q, guest), head, reads_zeros, &w->cow[0]);
    cow_source(q, s, end < stop ? end : end - 1, stop - end, reads_zeros, &w->cow[1]);
    return 0;
}

static int plan_in_place(struct qcow2 *q, struct qcow2_write *w, uint64_t guest,
                         uint64_t len, uint64_t host)
{
    ticket_unpin(q, &w->t, 0);
    w->allocates = false;
    w->t.in_place = true;
    w->guest = guest;
    w->len = len;
    w->host = host + (guest & (q->cluster - 1));
    w->cow[0].len = w->cow[1].len = 0;
    w->t.phase = grace_enter(q);
    w->t.pinned = true;
    w->t.step = STEP_PLANNED;
    return 0;
}

static void take_place(struct qcow2 *q, struct qcow2_write *w, uint64_t guest,
                       uint64_t len)
{
    w->t.guest = cluster_start(q, guest);
    w->t.guest_len = round_up(guest + len, q->cluster) - w->t.guest;
    w->allocates = true;
    inflight_add(q, &w->t);
}

static int plan_allocate(struct qcow2 *q, struct qcow2_write *w, uint64_t guest,
                         uint64_t len, uint32_t frees, struct qcow2_need *need)
{
    struct qcow2_ticket *t = &w->t;
    uint64_t start = cluster_start(q, guest);
    uint64_t want = (round_up(guest + len, q->cluster) - start) >> q->cluster_bits;
    int ret = frees > t->limbo ? limbo_promise(q, t, frees - t->limbo) : 0;

    if (ret)
        return ret;
    ret = alloc_clusters(q, t, want, &t->host, &t->host_len, need);
    if (ret)
        return ret;
    t->reads_zeros = take_virgin(q, t->host, t->host_len);
    w->guest = guest;
    w->len = min64(len, start + t->host_len - guest);
    take_place(q, w, guest, w->len);
    t->step = STEP_RESERVED;
    return 0;
}

/* Reserved: all that can be missing is space in the file. */
static int plan_reserved(struct qcow2 *q, struct qcow2_write *w,
                         struct qcow2_need *need)
{
    struct qcow2_ticket *t = &w->t;
    int ret = alloc_grow(q, t, t->host + t->host_len, need);
    if (ret)
        return ret;
    return planned(q, w, w->guest, w->len, t->host, t->reads_zeros);
}

static int plan_start(struct qcow2 *q, uint64_t guest, uint64_t len,
                      struct qcow2_write *w, struct qcow2_need *need)
{
    struct qcow2_ticket *t = &w->t;
    struct qcow2_slice *s;
    uint64_t host;
    uint32_t frees;

    len = l2_slice_reach(q, guest, len);
    int ret = inflight_overlap(q, t, guest, 1, need);
    if (ret)
        return ret;
    ret = l2_get_for_write(q, t, guest, &s, need);
    if (ret)
        return ret;
    int how = treatment(q, l2_entry(s, l2_index(q, guest)), &host);
    if (how < 0)
        return corrupt(q, "L2 entry of guest offset", guest, ILLEGAL);
    len = same_run(q, s, guest, len, how, host, &frees);
    /* The first cluster is nobody's (above); stop before one that is somebody's. */
    for (struct qcow2_ticket *x = q->inflight_head; x; x = x->next) {
        if (x != t && x->guest_len && x->guest > guest && x->guest < guest + len)
            len = x->guest - guest;
    }
    if (how == ALLOCATE)
        return plan_allocate(q, w, guest, len, frees, need);
    ret = verify_in_place(q, s, guest, len, host, need);
    if (ret)
        return ret == -EAGAIN ? 0 : ret; /* the plan starts again */
    if (how == IN_PLACE)
        return plan_in_place(q, w, guest, len, host);
    take_place(q, w, guest, len);
    return planned(q, w, guest, len, host, false);
}

int qcow2_plan(struct qcow2 *q, uint64_t guest, uint64_t len, struct qcow2_write *w,
               struct qcow2_need *need)
{
    struct qcow2_ticket *t = &w->t;
    int ret;

    assert(len && guest < q->header.size && len <= q->header.size - guest);
    assert(t->step != STEP_PLANNED);
    do {
        ret = writable(q);
        if (!ret)
            ret = gate_enter(q, t, need);
        if (!ret && t->step == STEP_SYNC)
            ret = owe_sync(q, t, need);
        if (!ret && t->step == STEP_START)
            ret = plan_start(q, guest, len, w, need);
        if (!ret && t->step == STEP_RESERVED)
            ret = plan_reserved(q, w, need);
        if (ret == -EBUSY)
            ret = owe_sync(q, t, need);
    } while (ret == 0 && t->step != STEP_PLANNED);
    if (ret < 0)
        qcow2_abort(q, w);
    else if (!ret)
        alloc_ticket_end(q, t);
    return ret;
}

static void commit_entry(struct qcow2 *q, struct qcow2_ticket *t, uint64_t k)
{
    struct qcow2_slice *s = t->pin[0];
    uint64_t i = l2_index(q, t->guest) + k, entry = l2_entry(s, i);

    if (t->host_len) {
        limbo_push_entry(q, t, entry);
        entry = (t->host + (k << q->cluster_bits)) | QCOW2_COPIED;
    } else {
        entry &= ~QCOW2_ZERO_FLAG;
    }
    qcow2_put_be64(s->buf + 8 * i, entry);
    s->verified[i / 8] |= (uint8_t)(1 << i % 8);
}

void qcow2_commit(struct qcow2 *q, struct qcow2_write *w)
{
    struct qcow2_ticket *t = &w->t;

    assert(t->step == STEP_PLANNED);
    if (!t->in_place) {
        uint64_t n = t->guest_len >> q->cluster_bits;
        slice_modify(q, t->pin[0]);
        for (uint64_t k = 0; k < n; k++)
            commit_entry(q, t, k);
        if (t->host_len)
            use_space(q, t, t->host, n << q->cluster_bits);
        stat_add(&q->stats.commits);
    }
    ticket_end(q, &w->t);
}

void qcow2_abort(struct qcow2 *q, struct qcow2_write *w)
{
    if (w->t.step == STEP_PLANNED && !w->t.in_place)
        stat_add(&q->stats.aborts);
    if (w->t.host_len) /* free again, though it reads as zeros no more */
        q->cursor = min64(q->cursor, w->t.host >> q->cluster_bits);
    ticket_end(q, &w->t);
}
