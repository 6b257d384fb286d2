/*
 * Check: the COPIED bit, set if and only if the refcount is exactly 1, in the active
 * tables alone. After check_compare(), which left in refs what is on disk.
 */
#include <inttypes.h>

#include "core/image/check_int.h"

/* What COPIED should be; true when it is not. */
static bool copied_is_wrong(const struct check *c, uint64_t entry, uint32_t *refcount)
{
    uint64_t k = (entry & QCOW2_OFFSET_MASK) / c->cluster;

    *refcount = counts_get(&c->refs, k);
    return !check_unknown(c, k) && (*refcount == 1) != !!(entry & QCOW2_COPIED);
}

/* Counts the error, mends the entry if that is asked for. True: mended. */
static bool mend_copied(struct check *c, const char *what, uint64_t *slot,
                        uint64_t entry, uint32_t refcount)
{
    bool mend =
        c->repair & CHECK_REPAIR_ERRORS ||
        (c->repair && !c->res->check_errors && !c->res->corruptions && !c->res->leaks);

    if (!mend) {
        check_corrupt(c, 1,
                      "%s entry 0x%" PRIx64 ": COPIED is %s, but the refcount is %u",
                      what, entry, entry & QCOW2_COPIED ? "set" : "not set", refcount);
        return false;
    }
    check_say(c, "Repairing %s entry 0x%" PRIx64 ": COPIED does not fit refcount %u",
              what, entry, refcount);
    *slot = htobe64(entry ^ QCOW2_COPIED);
    c->res->corruptions_fixed++;
    return true;
}

static int copied_in_l2(struct check *c, uint64_t offset)
{
    uint32_t refcount;
    bool dirty = false;
    int r;

    if (check_hole_at(c, offset, c->cluster) >= c->cluster)
        return 0;
    r = blk_pread(c->file, offset, c->l2, c->cluster);
    for (uint64_t j = 0; !r && j < c->cluster / 8; j++) {
        uint64_t entry = be64toh(c->l2[j]);
        if (!(entry & QCOW2_COMPRESSED_FLAG) && entry & QCOW2_OFFSET_MASK &&
            copied_is_wrong(c, entry, &refcount))
            dirty |= mend_copied(c, "L2", &c->l2[j], entry, refcount);
    }
    if (!r && dirty)
        r = blk_pwrite(c->file, offset, c->l2, c->cluster);
    return r < 0 ? check_io_error(c, r, "L2 table", offset) : 0;
}

static int copied_in_l1(struct check *c, const struct check_l1 *l1, uint32_t index,
                        uint64_t entry)
{
    uint64_t l2 = entry & QCOW2_OFFSET_MASK, slot, k = l2 / c->cluster;
    uint32_t refcount;

    if (!l2)
        return 0;                /* reported by the walk */
    if (!check_aligned(c, l2)) { /* that too; nothing of it is touched */
        if (copied_is_wrong(c, entry, &refcount))
            check_corrupt(c, 1,
                          "L1 entry 0x%" PRIx64 ": COPIED does not fit refcount %u",
                          entry, refcount);
        return 0;
    }
    if (copied_is_wrong(c, entry, &refcount) &&
        mend_copied(c, "L1", &slot, entry, refcount)) {
        uint64_t at = l1->offset + 8ull * index;
        int r = blk_pwrite(c->file, at, &slot, sizeof(slot));
        if (r < 0)
            return check_io_error(c, r, "L1 table", at);
    }
    if (l2 >= c->file_size || counts_get(&c->tables, k))
        return 0; /* nothing there; or seen: two entries share it */
    int r = counts_set(&c->tables, k, 1);
    return r < 0 ? error_set(c->err, r, "out of memory") : copied_in_l2(c, l2);
}

int check_copied(struct check *c)
{
    struct check_l1 active = {
        .offset = c->h.l1_offset, .entries = c->h.l1_size, .active = true};

    if (c->l1_bytes > c->file_size + c->cluster)
        return 0;
    return check_each_l1(c, &active, copied_in_l1);
}
