/*
 * Making a qcow2 file fit to be written. See ready.h.
 *
 * Order: autoclear bits go first, alone, and durably: from then on nobody believes the
 * bitmaps. Then the extension that names them goes, durably; only then are their
 * clusters given back, as the leaks they have become.
 */
#include "core/image/ready.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/block/aio.h"
#include "core/image/check.h"
#include "core/qcow2/format.h"

static int write_header(struct image_node *n, uint64_t offset, uint64_t len,
                        struct error *err)
{
    int r = blk_pwrite(n->file, offset, (uint8_t *)n->header_cluster + offset, len);

    if (!r)
        r = blk_flush(n->file);
    return r < 0 ? error_set(err, r, "cannot write the header: %s", strerror(-r)) : 0;
}

/* Bytes of the extension at `at`, head and padding too. */
static uint64_t extension_size(const uint8_t *b, uint64_t at)
{
    return 8 + (((uint64_t)qcow2_be32(b + at + 4) + 7) & ~7ull);
}

/* Takes the extension at `at` out. Only bytes of one sector are changed, so that a
 * crash cannot leave half of it: those behind it move up if all are in that sector;
 * else, if there are any, it stays, of a type that nobody knows and all have to
 * ignore. */
static int drop_extension(struct image_node *n, uint32_t at, struct error *err)
{
    uint8_t *b = n->header_cluster;
    uint64_t end = n->header->has_backing ? qcow2_be64(b + QCOW2_H_BACKING_OFFSET)
                                          : 1ull << n->header->cluster_bits;
    uint64_t next = at + extension_size(b, at), last = next;

    while (last + 8 <= end && qcow2_be32(b + last) != QCOW2_EXT_END)
        last += extension_size(b, last);
    if (last > end)
        last = end;
    if (next >= last) {
        memset(b + at, 0, 8); /* the end, from here on */
        return write_header(n, at, 8, err);
    }
    if (at / 512 == (last - 1) / 512) {
        memmove(b + at, b + next, last - next);
        memset(b + at + (last - next), 0, next - at);
        return write_header(n, at, last - at, err);
    }
    qcow2_put_be32(b + at, QCOW2_EXT_DROPPED);
    return write_header(n, at, 4, err);
}

static int drop_autoclear(struct image_node *n, struct error *err)
{
    bool bitmaps = n->header->has_bitmaps;
    uint32_t at = n->header->bitmaps_ext_at;
    struct check_result res;

    qcow2_put_be64((uint8_t *)n->header_cluster + QCOW2_H_AUTOCLEAR, 0);
    int r = write_header(n, QCOW2_H_AUTOCLEAR, 8, err);
    if (!r && bitmaps)
        r = drop_extension(n, at, err);
    if (!r && bitmaps)
        r = image_check(n->file, CHECK_REPAIR_LEAKS, &res, NULL, NULL, err);
    return r;
}

static int repair(struct image_node *n, bool no_repair, struct error *err)
{
    struct check_result res;

    if (no_repair)
        return error_set(err, -EROFS,
                         "incompatible_features says dirty: refcounts must be repaired "
                         "before it is written: asyncow img check -r all");
    int r = image_check(n->file, CHECK_REPAIR_LEAKS | CHECK_REPAIR_ERRORS, &res, NULL,
                        NULL, err);
    if (!r && (res.corruptions || res.check_errors))
        r = error_set(err, -EROFS,
                      "incompatible_features says dirty, and repair left %" PRIu64
                      " corruptions: asyncow img check says which",
                      res.corruptions + res.check_errors);
    return r;
}

int image_make_ready(struct image_node *n, bool no_repair, struct error *err)
{
    int r = 0;

    if (n->header->incompat & QCOW2_INCOMPAT_CORRUPT)
        r = error_set(
            err, -EROFS,
            "incompatible_features says corrupt: it is not written until it has "
            "been repaired: asyncow img check -r all");
    if (!r && n->header->incompat & QCOW2_INCOMPAT_DIRTY) {
        r = repair(n, no_repair, err);
        if (!r)
            r = image_read_header(n, err);
    }
    if (!r && n->header->autoclear && no_repair)
        r = error_set(err, -EROFS,
                      "autoclear_features 0x%" PRIx64
                      " must be cleared before it is written",
                      n->header->autoclear);
    if (!r && n->header->autoclear) {
        r = drop_autoclear(n, err);
        if (!r)
            r = image_read_header(n, err);
    }
    if (r < 0)
        error_prefix(err, "%s", blk_path(n->file));
    return r;
}
