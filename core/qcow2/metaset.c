/*
 * Which clusters hold L2 tables and refcount blocks: an open-addressing set of file
 * offsets. A guest write must never land on one of them, whatever an image says.
 */
#include "core/qcow2/internal.h"

#include <stdlib.h>

static uint64_t slot_of(const struct qcow2 *q, uint64_t offset)
{
    return ((offset >> q->cluster_bits) * 0x9e3779b97f4a7c15ull) & (q->metaset_cap - 1);
}

static void insert(struct qcow2 *q, uint64_t offset)
{
    uint64_t i = slot_of(q, offset);
    while (q->metaset[i] && q->metaset[i] != offset)
        i = (i + 1) & (q->metaset_cap - 1);
    if (!q->metaset[i])
        q->metaset_count++;
    q->metaset[i] = offset;
}

int metaset_room(struct qcow2 *q, uint64_t n)
{
    uint64_t *old = q->metaset, was = q->metaset_cap, cap = was ? was : 64;

    while ((q->metaset_count + n) * 2 > cap)
        cap *= 2;
    if (cap == was)
        return 0;
    uint64_t *mem = calloc(cap, sizeof(*mem));
    if (!mem)
        return -ENOMEM;
    q->metaset = mem;
    q->metaset_cap = cap;
    q->metaset_count = 0;
    for (uint64_t i = 0; i < was; i++) {
        if (old[i])
            insert(q, old[i]);
    }
    free(old);
    return 0;
}

void metaset_add(struct qcow2 *q, uint64_t offset)
{
    assert((q->metaset_count + 1) * 2 <= q->metaset_cap);
    insert(q, offset);
}

void metaset_remove(struct qcow2 *q, uint64_t offset)
{
    uint64_t mask = q->metaset_cap - 1, i, hole;

    if (!metaset_has(q, offset))
        return;
    i = slot_of(q, offset);
    while (q->metaset[i] != offset)
        i = (i + 1) & mask;
    q->metaset[i] = 0;
    q->metaset_count--;
    /* Close the gap: whoever was pushed past it moves back. */
    hole = i;
    for (i = (i + 1) & mask; q->metaset[i]; i = (i + 1) & mask) {
        uint64_t home = slot_of(q, q->metaset[i]);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            q->metaset[hole] = q->metaset[i];
            q->metaset[i] = 0;
            hole = i;
        }
    }
}

bool metaset_has(const struct qcow2 *q, uint64_t offset)
{
    assert(offset); /* the header's cluster is fixed */
    if (!q->metaset_cap)
        return false;
    uint64_t i = slot_of(q, offset);
    while (q->metaset[i] && q->metaset[i] != offset)
        i = (i + 1) & (q->metaset_cap - 1);
    return q->metaset[i] == offset;
}

static bool ranges_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return blen && a < b + blen && b < a + alen;
}

bool overlaps_fixed(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
    const struct qcow2_header *h = &q->header;
    uint64_t c = q->cluster;
    return ranges_overlap(offset, len, 0, c) ||
           ranges_overlap(offset, len, q->l1.offset, round_up(q->l1.entries * 8, c)) ||
           ranges_overlap(offset, len, q->reftable.offset,
                          round_up(q->reftable.entries * 8, c)) ||
           (h->nb_snapshots && ranges_overlap(offset, len, h->snapshots_offset, c));
}

bool overlaps_metadata(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
    uint64_t c = q->cluster;
    if (overlaps_fixed(q, offset, len))
        return true;
    for (uint64_t at = offset & ~(c - 1); at < offset + len; at += c) {
        if (metaset_has(q, at))
            return true;
    }
    return false;
}
