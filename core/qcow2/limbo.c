/*
 * Limbo: what becomes of freed clusters.
 *
 * A cluster is freed when a pointer to it is removed. Its refcount stays up in memory,
 * so nobody can allocate it, until three things have happened, in this order:
 *   1. the removal is durable (the entry's epoch is);
 *   2. every request that may have read the pointer has ended (its grace period);
 *   3. if the count falls to 0, the cluster is punched out of the file.
 * Then the count is lowered in memory; the disk learns of it with some later sync. So a
 * decrement is never on the disk before the pointer's removal, and neither a late read
 * or rewrite nor the punch can meet a new owner.
 *
 * Grace periods: readers enter the current generation's counter and leave it again. A
 * cluster freed in generation g is out of sight for whoever enters later; those who
 * entered in g or before are gone when the generation is g + 2, as it moves on only
 * when the counter it will reuse has fallen to zero. Unlike pins by cluster this costs
 * one increment a request whatever its size, and a stream of new readers can't delay
 * it.
 *
 * Entries are in order of epoch. The ring is bounded: verbs promise themselves room
 * before they change anything, and sync when there is none.
 */
#include "core/qcow2/internal.h"

uint8_t grace_enter(const struct qcow2 *cq)
{
    struct qcow2 *q = (struct qcow2 *)cq; /* the counter is shared by design */
    uint8_t phase = q->generation & 1;
    atomic_fetch_add_explicit(&q->readers[phase], 1, memory_order_relaxed);
    return phase;
}

void grace_leave(const struct qcow2 *cq, uint8_t phase)
{
    struct qcow2 *q = (struct qcow2 *)cq;
    unsigned before = atomic_fetch_sub(&q->readers[phase], 1);
    assert(before > 0);
    (void)before;
}

static bool grace_passed(struct qcow2 *q, uint64_t generation)
{
    while (q->generation < generation + 2) {
        unsigned other = (q->generation + 1) & 1;
        if (atomic_load(&q->readers[other]))
            return false;
        q->generation++;
    }
    return true;
}

int limbo_promise(struct qcow2 *q, struct qcow2_ticket *t, uint32_t n)
{
    /* The last one is for a refcount table that moves: those who hold all the others
     * may be waiting for just that. */
    uint32_t spare = t != &q->mk_ref.limbo;
    if (q->limbo_len + q->limbo_promised + n + spare > q->limbo_cap || qcow2_inject()) {
        stat_add(&q->stats.limbo_full);
        return -EBUSY;
    }
    q->limbo_promised += n;
    t->limbo += n;
    return 0;
}

void limbo_unpromise(struct qcow2 *q, struct qcow2_ticket *t)
{
    q->limbo_promised -= t->limbo;
    t->limbo = 0;
}

static void push(struct qcow2 *q, struct qcow2_ticket *t, uint64_t first,
                 uint64_t count, bool data)
{
    assert(t->limbo);
    stat_add(&q->stats.limbo_entries);
    if (q->limbo_len) {
        struct limbo *last =
            &q->limbo[(q->limbo_head + q->limbo_len - 1) % q->limbo_cap];
        if (last->epoch == q->epoch && last->generation == q->generation &&
            last->data == data && last->first + last->count == first) {
            last->count += count;
            return;
        }
    }
    q->limbo[(q->limbo_head + q->limbo_len++) % q->limbo_cap] =
        (struct limbo){.first = first,
                       .count = count,
                       .epoch = q->epoch,
                       .generation = q->generation,
                       .data = data};
    t->limbo--;
    q->limbo_promised--;
}

void limbo_push(struct qcow2 *q, struct qcow2_ticket *t, uint64_t first, uint64_t count)
{
    push(q, t, first, count, false);
}

void limbo_push_data(struct qcow2 *q, struct qcow2_ticket *t, uint64_t cluster)
{
    push(q, t, cluster, 1, true);
}

uint32_t limbo_cost(const struct qcow2 *q, uint64_t entry)
{
    uint64_t host;
    int type = entry_decode(q, entry, &host);
    return type == E_NORMAL || type == E_ZERO_ALLOC || type == E_COMPRESSED;
}

void limbo_push_entry(struct qcow2 *q, struct qcow2_ticket *t, uint64_t entry)
{
    uint64_t host, len = q->cluster;
    int type = entry_decode(q, entry, &host);
    if (type == E_COMPRESSED)
        qcow2_compressed_range(q->cluster_bits, entry, &host, &len);
    else if (type != E_NORMAL && type != E_ZERO_ALLOC)
        return;
    uint64_t first = host >> q->cluster_bits;
    push(q, t, first, ((host + len - 1) >> q->cluster_bits) - first + 1, true);
}

/* False: something else uses the cluster, whatever its refcount says: the image is
 * wrong, and a cluster too many in use does less harm than one too few. */
static bool releasable(const struct qcow2 *q, const struct limbo *l, uint64_t cluster)
{
    uint64_t offset = cluster << q->cluster_bits;

    return !overlaps_fixed(q, offset, q->cluster) &&
           !(l->data && metaset_has(q, offset)) &&
           slice_droppable(q, offset, q->cluster);
}

static void lower(struct qcow2 *q, struct qcow2_slice *s, uint64_t cluster,
                  uint64_t count)
{
    slice_modify(q, s);
    qcow2_refcount_set(s->buf, refcount_index(q, cluster), q->order, count - 1);
    if (count > 1)
        return;
    metaset_remove(q, cluster << q->cluster_bits);
    slice_drop(q, cluster << q->cluster_bits, q->cluster);
    q->cursor = min64(q->cursor, cluster);
}

/* How many clusters at the head of l are in slice s with refcount 1. */
static uint64_t last_references(const struct qcow2 *q, const struct qcow2_slice *s,
                                const struct limbo *l)
{
    uint64_t per_slice = q->slice_size * 8 >> q->order, n = 0;
    uint64_t i = refcount_index(q, l->first);
    while (n < l->count && i + n < per_slice &&
           qcow2_refcount_get(s->buf, i + n, q->order) == 1 &&
           releasable(q, l, l->first + n))
        n++;
    return n;
}

/* Frees the clusters at the head of entry l, as far as one slice goes. */
static int release_some(struct qcow2 *q, struct limbo *l, struct qcow2_need *need)
{
    struct qcow2_slice *s;
    int ret = refcount_slice_get(q, l->first, &s, need);
    if (ret)
        return ret;
    uint64_t n = last_references(q, s, l);
    if (n && q->opt.punch && !q->punch_count) {
        q->punch_first = l->first;
        q->punch_count = n;
        q->punching = true;
        stat_add(&q->stats.punches);
        need->io = (struct qcow2_io){.op = QCOW2_PUNCH,
                                     .offset = l->first << q->cluster_bits,
                                     .len = n << q->cluster_bits};
        return QCOW2_NEED_IO;
    }
    if (q->punch_count) {
        assert(q->punch_first == l->first);
        n = q->punch_count;
    }
    ret = slice_intend(q, s);
    if (ret)
        return ret;
    if (!n) {
        uint64_t count =
            qcow2_refcount_get(s->buf, refcount_index(q, l->first), q->order);
        if (!count || (count == 1 && !releasable(q, l, l->first))) {
            slice_unintend(q, s);
            l->first++; /* freed twice, or in use: the image was wrong before */
            l->count--;
            return corrupt(q, "cluster at offset", (l->first - 1) << q->cluster_bits,
                           "freed once more than it was used");
        }
        lower(q, s, l->first, count);
        n = 1;
    } else {
        for (uint64_t i = 0; i < n; i++) {
            if (releasable(q, l, l->first + i)) /* still, after the punch */
                lower(q, s, l->first + i, 1);
            else
                (void)corrupt(q, "cluster at offset", (l->first + i) << q->cluster_bits,
                              "freed while a table is in it");
        }
    }
    slice_unintend(q, s);
    q->punch_count = 0;
    l->first += n;
    l->count -= n;
    return 0;
}

/* Frees what may be freed; all: waits for readers rather than leave it for later. The
 * caller is the sync's leader, so there is one at a time. 0: nothing more to do now. */
int limbo_reclaim(struct qcow2 *q, bool all, struct qcow2_need *need)
{
    if (q->punching) { /* the last leader's, in flight still */
        q->sync_io_awaited = true;
        need->chan = &q->sync_inflight;
        return QCOW2_NEED_WAIT;
    }
    if (q->corrupt) { /* what the counts say is worth nothing: leak it */
        q->limbo_len = 0;
        q->punch_count = 0;
    }
    while (q->limbo_len) {
        struct limbo *l = &q->limbo[q->limbo_head];
        if (l->epoch > q->durable)
            return 0;
        if (!grace_passed(q, l->generation)) {
            if (!all && q->limbo_len + q->limbo_promised < q->limbo_cap * 3 / 4)
                return 0;
            stat_add(&q->stats.grace_waits);
            atomic_store(&q->grace_awaited, true);
            if (grace_passed(q, l->generation)) /* the last one left just now */
                continue;
            need->chan = &q->grace_awaited;
            return QCOW2_NEED_WAIT;
        }
        int ret = release_some(q, l, need);
        if (!l->count) { /* also when its last one was an error */
            q->limbo_head = (q->limbo_head + 1) % q->limbo_cap;
            q->limbo_len--;
        }
        if (ret == -EBUSY)
            return 0; /* too much is dirty; the next sync goes on */
        if (ret)
            return ret;
    }
    return 0;
}

/* The hole may or may not be there: the cluster is free either way. */
void limbo_io_done(struct qcow2 *q)
{
    q->punching = false;
    wake_push(q, &q->sync_inflight, &q->sync_io_awaited);
}
