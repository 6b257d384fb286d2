/*
 * Check: what the refcounts say, against the references found. Format: "Host cluster
 * management".
 *
 * Repair in place only ever writes refcount blocks whose own place is not in doubt;
 * when it is, check_rebuild.c makes new ones.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/image/check_int.h"

struct range { /* clusters that one refcount block counts, and the block */
    uint64_t from, to, entry, offset;
    uint8_t *block; /* NULL: none, or one that cannot be read: all 0 */
    bool unknown, dirty;
};

/* No block can be there: off any cluster, or past any file's end. */
static bool impossible(const struct check *c, uint64_t offset)
{
    return !check_aligned(c, offset) || offset > INT64_MAX;
}

bool check_unknown(const struct check *c, uint64_t k)
{
    uint64_t i = k / (c->cluster * 8 >> c->h.refcount_order);

    return i < c->reftable_entries &&
           impossible(c, c->reftable[i] & QCOW2_REFTABLE_OFFSET_MASK);
}

int check_load_reftable(struct check *c)
{
    uint64_t bytes = (uint64_t)c->h.reftable_clusters << c->h.cluster_bits;
    struct error why = {""};
    bool inside;
    int r;

    if (qcow2_header_reftable(&c->h, c->file_size, &why) < 0) {
        if (c->h.reftable_clusters) /* else each cluster in use is one */
            check_corrupt(c, 1, "%s", why.msg);
        c->rebuild = true;
        return 0;
    }
    if ((r = check_ref(c, c->h.reftable_offset, bytes, 1, &inside)) < 0)
        return r;
    c->reftable = malloc(bytes);
    if (!c->reftable)
        return error_set(c->err, -ENOMEM, "out of memory");
    c->reftable_entries = bytes / 8;
    r = blk_pread(c->file, c->h.reftable_offset, c->reftable, bytes);
    if (r < 0)
        return check_io_error(c, r, "refcount table", c->h.reftable_offset);
    for (uint64_t i = 0; i < c->reftable_entries; i++)
        c->reftable[i] = be64toh(c->reftable[i]);
    return 0;
}

static int check_block(struct check *c, uint64_t i)
{
    uint64_t entry = c->reftable[i], offset = entry & QCOW2_REFTABLE_OFFSET_MASK;
    bool inside;

    if (entry & QCOW2_REFTABLE_RESERVED) {
        check_corrupt(c, 1,
                      "refcount table entry %" PRIu64 ": 0x%" PRIx64
                      " has reserved bits set",
                      i, entry);
        c->rebuild = true;
        return 0;
    }
    if (!check_aligned(c, offset)) {
        check_corrupt(c, 1,
                      "refcount table entry %" PRIu64 ": 0x%" PRIx64
                      " is not cluster-aligned",
                      i, entry);
        c->rebuild = true;
        return 0;
    }
    if (offset / c->cluster >= c->clusters) {
        check_corrupt(c, 1,
                      "refcount table entry %" PRIu64 ": 0x%" PRIx64
                      " lies past the end of the file",
                      i, entry);
        c->rebuild = true;
        return 0;
    }
    if (!offset)
        return 0;
    int r = check_ref(c, offset, c->cluster, 1, &inside);
    if (!r && counts_get(&c->refs, offset / c->cluster) != 1) {
        check_corrupt(c, 1,
                      "refcount block %" PRIu64 " at 0x%" PRIx64
                      " is in use %u times: it overlaps something else",
                      i, offset, counts_get(&c->refs, offset / c->cluster));
        c->rebuild = true;
    }
    return r;
}

/* Where something is in use but no block counts it, repair has to make one. */
static void note_missing_blocks(struct check *c)
{
    uint64_t per_block = c->cluster * 8 >> c->h.refcount_order, next;

    for (uint64_t k = 0; k < c->clusters && !c->rebuild; k = next) {
        uint64_t i = k / per_block, end = (i + 1) * per_block;
        uint64_t entry = i < c->reftable_entries ? c->reftable[i] : 0;
        if (end > c->clusters)
            end = c->clusters;
        next = end;
        if (entry & QCOW2_REFTABLE_OFFSET_MASK || counts_empty(&c->refs, k, end, &next))
            continue;
        for (; k < next && !c->rebuild; k++)
            c->rebuild = counts_get(&c->refs, k) != 0;
    }
}

int check_refblocks(struct check *c)
{
    int r = 0;

    for (uint64_t i = 0; !r && i < c->reftable_entries; i++)
        if (c->reftable[i])
            r = check_block(c, i);
    if (!r)
        note_missing_blocks(c);
    return r;
}

/* --- comparison ------------------------------------------------------------------- */

static void found_mismatch(struct check *c, struct range *g, uint64_t k, uint64_t disk,
                           uint64_t found, unsigned repair)
{
    bool leak = disk > found;
    /* Lowering is safe only when nothing that may refer to the cluster went unread. */
    bool mend = g->block && (leak ? repair & CHECK_REPAIR_LEAKS && !c->lost
                                  : repair & CHECK_REPAIR_ERRORS);

    check_say(c, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
              mend   ? "Repairing"
              : leak ? "Leaked"
                     : "ERROR",
              k, disk, found);
    if (mend) {
        qcow2_refcount_set(g->block, k - g->from, c->h.refcount_order, found);
        g->dirty = true;
        (*(leak ? &c->res->leaks_fixed : &c->res->corruptions_fixed))++;
    } else {
        (*(leak ? &c->res->leaks : &c->res->corruptions))++;
        if (!g->block && !leak)
            c->rebuild = true; /* needs a block there is not */
    }
}

/* Compares, then (unless keep) leaves in refs what is on disk, where they had any: what
 * nobody refers to nobody asks for, and there may be no end of it. */
static int compare_range(struct check *c, struct range *g, unsigned repair, bool keep,
                         uint64_t *highest)
{
    int r = 0;

    for (uint64_t k = g->from, next; !r && k < g->to; k = next) {
        bool empty = counts_empty(&c->refs, k, g->to, &next);
        if (g->unknown || (empty && !g->block))
            continue;
        for (; !r && k < next; k++) {
            uint64_t found = counts_get(&c->refs, k);
            uint64_t disk = g->block ? qcow2_refcount_get(g->block, k - g->from,
                                                          c->h.refcount_order)
                                     : 0;
            if (disk || found)
                *highest = k + 1;
            if (disk != found && !(found == COUNT_MAX && disk > found)) {
                found_mismatch(c, g, k, disk, found, repair);
                if (g->block)
                    disk =
                        qcow2_refcount_get(g->block, k - g->from, c->h.refcount_order);
            }
            if (disk != found && found && !keep)
                r = counts_set(&c->refs, k,
                               disk > COUNT_MAX ? COUNT_MAX : (uint32_t)disk);
        }
    }
    return r < 0 ? error_set(c->err, r, "out of memory") : 0;
}

static int load_range(struct check *c, struct range *g, uint8_t *buf)
{
    uint64_t len = c->cluster;

    g->offset = g->entry & QCOW2_REFTABLE_OFFSET_MASK;
    g->block = NULL;
    g->dirty = g->unknown = false;
    if (impossible(c, g->offset)) {
        g->unknown = true; /* as if each of its refcounts could not be read */
        c->res->check_errors += g->to - g->from;
        check_say(c,
                  "ERROR cannot tell the refcounts of clusters %" PRIu64 "..%" PRIu64,
                  g->from, g->to - 1);
        return 0;
    }
    if (!g->offset || g->offset >= c->file_size)
        return 0;
    if (!blk_is_data(c->file, g->offset, &len) && len >= c->cluster)
        memset(buf, 0, c->cluster);
    else {
        int r = blk_pread(c->file, g->offset, buf, c->cluster);
        if (r < 0)
            return check_io_error(c, r, "refcount block", g->offset);
    }
    g->block = buf;
    return 0;
}

int check_compare(struct check *c, unsigned repair, bool keep)
{
    uint64_t per_block = c->cluster * 8 >> c->h.refcount_order, highest = 1;
    uint8_t *buf = malloc(c->cluster);
    struct range g;
    int r = buf ? 0 : error_set(c->err, -ENOMEM, "out of memory");

    if (c->lost && repair)
        check_say(c,
                  "Leaks are left: tables that cannot be followed may refer to them");
    for (uint64_t i = 0; !r && i * per_block < c->clusters; i++) {
        g.from = i * per_block;
        g.to = g.from + per_block < c->clusters ? g.from + per_block : c->clusters;
        g.entry = i < c->reftable_entries ? c->reftable[i] : 0;
        r = load_range(c, &g, buf);
        if (!r)
            r = compare_range(c, &g, repair, keep, &highest);
        if (!r && g.dirty) {
            r = blk_pwrite(c->file, g.offset, buf, c->cluster);
            if (r < 0)
                r = check_io_error(c, r, "refcount block", g.offset);
        }
    }
    c->res->image_end_offset = highest * c->cluster;
    free(buf);
    return r;
}
