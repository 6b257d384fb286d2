/*
 * Asserts the invariants numbered in internal.h. For tests: its cost is the image's.
 */
#include "core/qcow2/internal.h"

static void verify_slices(const struct qcow2 *q, const struct qcow2_slice *s,
                          unsigned n, unsigned *busy, unsigned *shadows)
{
    for (unsigned i = 0; i < n; i++, s++) {
        if (s->dirty || s->closing || s->intents) {
            (*busy)++;
            assert(s->state == SLICE_VALID);
        }
        if (s->shadow)
            (*shadows)++;
        assert(!s->shadow || s->closing);
        assert(!s->writing || s->closing);
        assert(s->intents >= s->pins);
        if (!s->resident && (s->state == SLICE_VALID || s->state == SLICE_LOADING))
            assert(cache_find(q, s->offset) == s);
    }
}

static uint64_t refcount_in_memory(const struct qcow2 *q, uint64_t cluster, bool *known)
{
    uint64_t i = cluster >> q->ref_bits;
    uint64_t block = i < q->reftable.entries ? be64toh(q->reftable.entry[i]) : 0;
    uint64_t bits = (cluster & ((1ull << q->ref_bits) - 1)) << q->order;
    struct qcow2_slice *s =
        block ? cache_find(q, block + ((bits >> 3) & ~(q->slice_size - 1))) : NULL;
    *known = !block || (s && s->state == SLICE_VALID);
    return s && *known
               ? qcow2_refcount_get(s->buf, refcount_index(q, cluster), q->order)
               : 0;
}

static bool apart(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return !alen || !blen || a + alen <= b || b + blen <= a;
}

static void verify_tickets(const struct qcow2 *q)
{
    bool known;
    for (const struct qcow2_ticket *x = q->inflight_head; x; x = x->next) {
        for (uint64_t at = x->host; at < x->host + x->host_len; at += q->cluster)
            assert(refcount_in_memory(q, at >> q->cluster_bits, &known) == 0);
        for (uint64_t at = x->table; at < x->table + x->table_len; at += q->cluster)
            assert(refcount_in_memory(q, at >> q->cluster_bits, &known) == 0);
        assert(apart(x->host, x->host_len, x->table, x->table_len));
        for (const struct qcow2_ticket *y = x->next; y; y = y->next) {
            assert(apart(x->guest, x->guest_len, y->guest, y->guest_len));
            assert(apart(x->host, x->host_len, y->host, y->host_len));
            assert(apart(x->host, x->host_len, y->table, y->table_len));
            assert(apart(x->table, x->table_len, y->host, y->host_len));
            assert(apart(x->table, x->table_len, y->table, y->table_len));
        }
    }
}

/* Tables of a snapshot that is being deleted stay in the cache until they are free. */
static bool is_active_l2(const struct qcow2 *q, const struct qcow2_slice *s)
{
    uint64_t table = s->offset & ~(q->cluster - 1);

    if (s->state != SLICE_VALID || s->kind != SLICE_L2)
        return false;
    for (uint64_t i = 0; i < q->l1.entries; i++)
        if ((be64toh(q->l1.entry[i]) & QCOW2_OFFSET_MASK) == table)
            return true;
    return false;
}

static void verify_entries(const struct qcow2 *q, const struct qcow2_slice *s)
{
    for (uint64_t i = 0; i < q->slice_size / 8; i++) {
        uint64_t host;
        bool known;
        int type = entry_decode(q, l2_entry(s, i), &host);
        if (type != E_NORMAL && type != E_ZERO_ALLOC)
            continue;
        uint64_t count = refcount_in_memory(q, host >> q->cluster_bits, &known);
        assert(!known || count >= 1);
    }
}

void qcow2_verify(const struct qcow2 *q)
{
    unsigned busy = 0, shadows = 0;
    bool known;

    verify_slices(q, q->slots, q->nslots, &busy, &shadows);
    assert(busy == q->busy_slots); /* 2 */
    assert(busy <= q->nslots / 2);
    verify_slices(q, q->l1.slices, q->l1.nslices, &busy, &shadows);
    verify_slices(q, q->reftable.slices, q->reftable.nslices, &busy, &shadows);
    verify_slices(q, &q->header_slice, 1, &busy, &shadows);
    assert(busy == q->busy);
    assert(shadows + q->nshadow_free == q->nshadows); /* 1 */
    assert(q->nshadows >= q->busy);
    verify_tickets(q);                                           /* 3 */
    for (unsigned i = 0; i < q->limbo_len && !q->corrupt; i++) { /* 4 */
        const struct limbo *l = &q->limbo[(q->limbo_head + i) % q->limbo_cap];
        for (uint64_t c = l->first; c < l->first + l->count; c++) {
            uint64_t count = refcount_in_memory(q, c, &known);
            assert(!known || count >= 1);
        }
    }
    for (unsigned i = 0; q->opt.write && i < q->nslots && !q->corrupt; i++) /* 6 */
        if (is_active_l2(q, &q->slots[i]))
            verify_entries(q, &q->slots[i]);
    for (uint64_t i = 0; q->opt.write && i < q->l1.entries; i++) { /* 5 */
        uint64_t offset = be64toh(q->l1.entry[i]) & QCOW2_OFFSET_MASK;
        assert(!offset || (offset & (q->cluster - 1)) || metaset_has(q, offset));
    }
    for (uint64_t i = 0; q->opt.write && i < q->reftable.entries; i++) {
        uint64_t offset = be64toh(q->reftable.entry[i]);
        assert(!offset || (offset & (q->cluster - 1)) || metaset_has(q, offset));
    }
}
