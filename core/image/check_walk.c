/*
 * Check: who refers to which cluster. Formats: "Cluster mapping", "Snapshots",
 * "Bitmaps".
 *
 * A table shared by many (snapshots) is read once and counts for as many, so time is
 * bounded by the size of the file whatever the tables say, as long as no two overlap;
 * where they must (more tables than file), the walk stops.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/image/bitmaps.h"
#include "core/image/check_int.h"
#include "core/image/snapshots.h"

enum { PIECE = 4096, ASTRAY_MAX = 256 }; /* entries read at once; misaligned tables */

int check_ref(struct check *c, uint64_t offset, uint64_t len, uint64_t weight,
              bool *inside)
{
    uint64_t end;

    *inside = true;
    if (!len)
        return 0;
    if (__builtin_add_overflow(offset, len, &end) ||
        (end > c->file_size && end - c->file_size >= c->cluster)) {
        *inside = false;
        check_corrupt(c, weight,
                      "region 0x%" PRIx64 " of 0x%" PRIx64
                      " bytes exceeds the end of the file by a cluster or more",
                      offset, len);
        return 0;
    }
    for (uint64_t k = offset / c->cluster; k <= (end - 1) / c->cluster; k++) {
        uint64_t sum = counts_get(&c->refs, k) + weight;
        if (sum > c->refcount_max) {
            check_corrupt(c, sum - c->refcount_max,
                          "cluster %" PRIu64 ": more references than a refcount of %u "
                          "bits can count",
                          k, 1u << c->h.refcount_order);
            sum = c->refcount_max;
        }
        int r = counts_set(&c->refs, k, sum > COUNT_MAX ? COUNT_MAX : (uint32_t)sum);
        if (r < 0)
            return error_set(c->err, r, "out of memory");
        if (k >= c->clusters)
            c->clusters = k + 1;
    }
    return 0;
}

uint64_t check_hole_at(struct check *c, uint64_t offset, uint64_t len)
{
    return blk_is_data(c->file, offset, &len) ? 0 : len;
}

int check_each_l1(struct check *c, const struct check_l1 *l1, check_l1_fn *fn)
{
    uint64_t piece[PIECE];
    int r = 0;

    for (uint32_t i = 0, n; !r && i < l1->entries; i += n) {
        uint64_t at = l1->offset + 8ull * i;
        n = (uint32_t)(check_hole_at(c, at, 8ull * (l1->entries - i)) / 8);
        if (n)
            continue;
        n = l1->entries - i < PIECE ? l1->entries - i : PIECE;
        r = blk_pread(c->file, at, piece, 8ull * n);
        if (r < 0)
            return check_io_error(c, r, "L1 table", at);
        for (uint32_t j = 0; !r && j < n; j++)
            if (piece[j])
                r = fn(c, l1, i + j, be64toh(piece[j]));
    }
    return r;
}

/* --- L2 tables ------------------------------------------------------------------- */

struct l2_walk {
    uint64_t offset, weight;
    bool active, dirty;
    uint64_t
        next; /* where the next data cluster is if nothing is fragmented; 0: no idea */
};

static int walk_compressed(struct check *c, struct l2_walk *w, uint64_t entry)
{
    uint64_t host, len;
    bool inside;

    if (entry & QCOW2_COPIED)
        check_corrupt(c, w->weight,
                      "L2 entry 0x%" PRIx64
                      ": COPIED must never be set for a compressed "
                      "cluster",
                      entry);
    if (w->active) {
        c->res->allocated_clusters++;
        c->res->compressed_clusters++;
        c->res->fragmented_clusters++; /* by nature */
    }
    qcow2_compressed_range(c->h.cluster_bits, entry, &host, &len);
    return check_ref(c, host, len, w->weight, &inside);
}

/* True: the cluster is not in use any more. */
static bool mend_misaligned(struct check *c, struct l2_walk *w, uint64_t *slot,
                            uint64_t entry)
{
    bool zero = entry & QCOW2_ZERO_FLAG;
    bool mend = zero && c->repair & CHECK_REPAIR_ERRORS && check_aligned(c, w->offset);

    if (mend) {
        check_say(c,
                  "Repairing L2 entry 0x%" PRIx64 ": zero cluster's offset is not "
                  "cluster-aligned: dropped",
                  entry);
        *slot = htobe64(QCOW2_ZERO_FLAG);
        w->dirty = true;
        c->res->corruptions_fixed += w->weight;
        return true;
    }
    check_corrupt(c, w->weight,
                  "L2 entry 0x%" PRIx64 ": %s cluster's offset is not cluster-aligned",
                  entry, zero ? "zero" : "data");
    return false;
}

static int walk_standard(struct check *c, struct l2_walk *w, uint64_t *slot,
                         uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFFSET_MASK;
    bool inside;

    if (entry & QCOW2_L2_RESERVED)
        check_corrupt(c, w->weight, "L2 entry 0x%" PRIx64 " has reserved bits set",
                      entry);
    if (entry & QCOW2_ZERO_FLAG && c->h.version < 3)
        check_corrupt(c, w->weight,
                      "L2 entry 0x%" PRIx64 " is a zero cluster, which version 2 lacks",
                      entry);
    if (!host)
        return 0; /* unallocated, or plainly zero */
    if (!check_aligned(c, host) && mend_misaligned(c, w, slot, entry))
        return 0;
    if (w->active) {
        c->res->allocated_clusters++;
        if (w->next && w->next != host)
            c->res->fragmented_clusters++;
        w->next = host + c->cluster;
    }
    return check_ref(c, host, c->cluster, w->weight, &inside);
}

static int walk_l2(struct check *c, uint64_t offset, uint64_t weight, bool active)
{
    struct l2_walk w = {.offset = offset, .weight = weight, .active = active};
    int r;

    if (check_hole_at(c, offset, c->cluster) >= c->cluster)
        return 0; /* refers to nothing */
    r = blk_pread(c->file, offset, c->l2, c->cluster);
    if (r < 0) {
        c->lost = true;
        return check_io_error(c, r, "L2 table", offset);
    }
    for (uint64_t j = 0; !r && j < c->cluster / 8; j++) {
        uint64_t entry = be64toh(c->l2[j]);
        if (!entry)
            continue;
        r = entry & QCOW2_COMPRESSED_FLAG ? walk_compressed(c, &w, entry)
                                          : walk_standard(c, &w, &c->l2[j], entry);
    }
    if (!r && w.dirty)
        r = blk_pwrite(c->file, offset, c->l2, c->cluster);
    return r < 0 ? check_io_error(c, r, "L2 table", offset) : 0;
}

/* --- L1 tables ------------------------------------------------------------------- */

/* First time round: the L2 tables are referred to, and how often each. */
static int note_l2(struct check *c, const struct check_l1 *l1, uint32_t index,
                   uint64_t entry)
{
    uint64_t l2 = entry & QCOW2_OFFSET_MASK, k = l2 / c->cluster;
    bool inside;

    (void)l1;
    if (entry & QCOW2_L1_RESERVED)
        check_corrupt(c, 1, "L1 entry 0x%" PRIx64 " has reserved bits set", entry);
    if (!l2) {
        check_corrupt(c, 1,
                      "L1 entry %" PRIu32 ": 0x%" PRIx64 " has no L2 table's offset",
                      index, entry);
        c->lost = true;
        return 0;
    }
    int r = check_ref(c, l2, c->cluster, 1, &inside);
    if (r < 0)
        return r;
    if (!check_aligned(c, l2))
        check_corrupt(c, 1, "L1 entry 0x%" PRIx64 ": L2 table is not cluster-aligned",
                      entry);
    if (!inside || !check_aligned(c, l2)) {
        c->lost = true;
        return 0;
    }
    if (counts_get(&c->tables, k) == COUNT_MAX)
        return 0;
    r = counts_set(&c->tables, k, counts_get(&c->tables, k) + 1);
    return r < 0 ? error_set(c->err, r, "out of memory") : 0;
}

/* Second time: each L2 table is read once, for all that share it. */
static int visit_l2(struct check *c, const struct check_l1 *l1, uint32_t index,
                    uint64_t entry)
{
    uint64_t l2 = entry & QCOW2_OFFSET_MASK, k = l2 / c->cluster;
    uint32_t weight = counts_get(&c->tables, k);

    (void)index;
    if (l2 && !check_aligned(c, l2) && l2 < c->file_size && c->astray++ < ASTRAY_MAX)
        return walk_l2(c, l2, 1, l1->active);
    if (!l2 || !check_aligned(c, l2) || !weight)
        return 0;
    counts_set(&c->tables, k, 0); /* lowering: no memory needed */
    return walk_l2(c, l2, weight, l1->active);
}

static int note_l1(struct check *c, const struct check_l1 *l1)
{
    bool inside;

    if (!l1->entries)
        return 0;
    c->l1_bytes += 8ull * l1->entries;
    if (c->l1_bytes > c->file_size + c->cluster) {
        check_corrupt(c, 1, "L1 table at 0x%" PRIx64 " overlaps others", l1->offset);
        c->lost = true;
        return 0;
    }
    int r = check_ref(c, l1->offset, 8ull * l1->entries, 1, &inside);
    if (r < 0)
        return r;
    if (!inside) {
        c->lost = true;
        return 0;
    }
    return check_each_l1(c, l1, note_l2);
}

/* A snapshot's L1 table, if its entry can be believed. */
static bool snapshot_l1(struct check *c, const struct snapshot_reader *s,
                        struct check_l1 *l1)
{
    *l1 = (struct check_l1){.offset = s->l1_offset, .entries = s->l1_size};
    if (!check_aligned(c, s->l1_offset)) {
        check_corrupt(c, 1,
                      "snapshot %s (%s): l1_table_offset 0x%" PRIx64
                      " is not cluster-aligned",
                      s->id, s->name, s->l1_offset);
        return false;
    }
    if (s->l1_size > QCOW2_MAX_L1_BYTES / 8) {
        check_corrupt(c, 1,
                      "snapshot %s (%s): l1_size %" PRIu32 " entries is more than %u",
                      s->id, s->name, s->l1_size, QCOW2_MAX_L1_BYTES / 8);
        return false;
    }
    return true;
}

static int walk_snapshots(struct check *c, bool first)
{
    struct snapshot_reader s;
    struct check_l1 l1;
    bool inside;
    int r = qcow2_header_snapshots(&c->h, c->file_size, c->err);

    if (r < 0 || !c->h.nb_snapshots)
        return r;
    snapshots_start(&s, c->file, &c->h);
    while ((r = snapshots_next(&s, c->err)) > 0) {
        uint64_t seen = c->res->corruptions;
        if (first && c->h.version >= 3 && s.extra_size < 16)
            check_corrupt(c, 1,
                          "snapshot %s (%s): %" PRIu32
                          " bytes of extra data, version 3 has 16 at least",
                          s.id, s.name, s.extra_size);
        bool good = snapshot_l1(c, &s, &l1);
        if (!first)
            c->res->corruptions = seen; /* counted already */
        c->lost |= !good;
        if (!good)
            continue;
        r = first ? note_l1(c, &l1) : check_each_l1(c, &l1, visit_l2);
        if (r < 0)
            break;
    }
    uint64_t end = s.offset;
    snapshots_end(&s);
    if (!r && first)
        r = check_ref(c, c->h.snapshots_offset, end - c->h.snapshots_offset, 1,
                      &inside);
    return r;
}

/* --- bitmaps ---------------------------------------------------------------------- */

static int walk_bitmap_table(struct check *c, const struct bitmap_reader *b)
{
    const uint64_t known = QCOW2_OFFSET_MASK | 1;
    uint64_t piece[PIECE];
    bool inside;

    for (uint32_t i = 0, n; i < b->table_entries; i += n) {
        uint64_t at = b->table_offset + 8ull * i;
        n = (uint32_t)(check_hole_at(c, at, 8ull * (b->table_entries - i)) / 8);
        if (n)
            continue;
        n = b->table_entries - i < PIECE ? b->table_entries - i : PIECE;
        int r = blk_pread(c->file, at, piece, 8ull * n);
        if (r < 0)
            return check_io_error(c, r, "bitmap table", at);
        for (uint32_t j = 0; j < n; j++) {
            uint64_t entry = be64toh(piece[j]), host = entry & QCOW2_OFFSET_MASK;
            if (entry & ~known || !check_aligned(c, host) || (host && entry & 1)) {
                check_corrupt(c, 1,
                              "bitmap \"%s\": table entry %" PRIu32 ": 0x%" PRIx64
                              " is neither a cluster's offset nor 0 nor 1",
                              b->name, i + j, entry);
                continue;
            }
            if (host && (r = check_ref(c, host, c->cluster, 1, &inside)) < 0)
                return r;
        }
    }
    return 0;
}

static int walk_bitmaps(struct check *c)
{
    struct bitmap_reader b;
    uint64_t bytes = 0;
    bool inside;
    int r;

    if (!c->h.bitmaps_count)
        return 0;
    r = check_ref(c, c->h.bitmaps_dir_offset, c->h.bitmaps_dir_size, 1, &inside);
    if (r < 0 || !inside)
        return r;
    bitmaps_start(&b, c->file, &c->h);
    while ((r = bitmaps_next(&b, c->err)) > 0) {
        bytes += 8ull * b.table_entries;
        if (bytes > c->file_size + c->cluster) {
            check_corrupt(c, 1, "table of bitmap \"%s\" overlaps others", b.name);
            return 0;
        }
        r = check_ref(c, b.table_offset, 8ull * b.table_entries, 1, &inside);
        if (r < 0)
            return r;
        if (!inside)
            continue;
        if ((r = walk_bitmap_table(c, &b)) < 0)
            return r;
    }
    if (r < 0)
        check_corrupt(c, 1, "bitmap directory is damaged");
    return r;
}

int check_walk(struct check *c)
{
    struct check_l1 active = {
        .offset = c->h.l1_offset, .entries = c->h.l1_size, .active = true};
    bool inside;
    int r = check_ref(c, 0, c->cluster, 1, &inside);

    if (!r)
        r = note_l1(c, &active);
    if (!r)
        r = walk_snapshots(c, true);
    if (!r && c->l1_bytes <= c->file_size + c->cluster) {
        r = check_each_l1(c, &active, visit_l2);
        if (!r)
            r = walk_snapshots(c, false);
    }
    return r ? r : walk_bitmaps(c);
}
