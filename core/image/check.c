/*
 * Whole-image consistency: the order of things. See check.h, check_int.h.
 *
 * Repair writes in this order, each durable before the next: misaligned zero clusters
 * dropped; refcounts raised and lowered to the references found (or new refcount blocks
 * and table, then the header); COPIED; the dirty and corrupt bits, last and only when
 * nothing wrong is left. A crash in between leaves an image that the next check
 * repairs.
 */
#include "core/image/check.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/image/check_int.h"

void check_say(struct check *c, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    if (!c->log)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    c->log(c->opaque, line);
}

void check_corrupt(struct check *c, uint64_t weight, const char *fmt, ...)
{
    char line[480];
    va_list ap;

    c->res->corruptions += weight;
    if (!c->log)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    check_say(c, "ERROR %s", line);
}

int check_io_error(struct check *c, int r, const char *what, uint64_t offset)
{
    c->res->check_errors++;
    return error_set(c->err, r, "I/O on %s at 0x%" PRIx64 ": %s", what, offset,
                     strerror(-r));
}

static int read_header(struct check *c)
{
    uint8_t start[512], *buf;
    int r = blk_pread(c->file, 0, start, sizeof(start));

    if (r < 0)
        return check_io_error(c, r, "header", 0);
    uint32_t bits = qcow2_be32(start + QCOW2_H_CLUSTER_BITS);
    if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
        bits = QCOW2_MIN_CLUSTER_BITS; /* the parser says what is wrong */
    c->cluster = 1ull << bits;
    buf = malloc(c->cluster);
    if (!buf)
        return error_set(c->err, -ENOMEM, "out of memory");
    r = blk_pread(c->file, 0, buf, c->cluster);
    if (r < 0)
        r = check_io_error(c, r, "header", 0);
    else
        r = qcow2_header_fields(&c->h, buf,
                                c->file_size < c->cluster ? c->file_size : c->cluster,
                                c->file_size, c->err);
    free(buf);
    return r ? r : qcow2_header_l1(&c->h, c->file_size, c->err);
}

static int begin(struct check *c)
{
    int r;

    c->file_size = blk_size(c->file);
    if ((r = read_header(c)) < 0)
        return r;
    c->clusters = (c->file_size + c->cluster - 1) / c->cluster;
    if (c->clusters > INT_MAX)
        return error_set(c->err, -EFBIG, "%" PRIu64 " clusters are more than %d",
                         c->clusters, INT_MAX);
    c->refcount_max = c->h.refcount_order == 6
                          ? UINT64_MAX
                          : (1ull << (1u << c->h.refcount_order)) - 1;
    c->res->total_clusters = c->h.size / c->cluster + (c->h.size % c->cluster != 0);
    c->l2 = malloc(c->cluster);
    if (!c->l2 || counts_init(&c->refs, c->clusters + 2) < 0 ||
        counts_init(&c->tables, c->clusters + 2) < 0)
        return error_set(c->err, -ENOMEM, "out of memory");
    return 0;
}

static void end(struct check *c)
{
    counts_free(&c->refs);
    counts_free(&c->tables);
    free(c->l2);
    free(c->reftable);
}

/* Whoever writes must first clear autoclear bits it does not know. */
static int clear_unknown_autoclear(struct check *c)
{
    uint64_t known = c->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS, raw;

    if (!c->repair || c->h.version < 3 || c->h.autoclear == known)
        return 0;
    raw = htobe64(known);
    int r = blk_pwrite(c->file, QCOW2_H_AUTOCLEAR, &raw, sizeof(raw));
    if (!r)
        r = blk_flush(c->file);
    return r < 0 ? check_io_error(c, r, "header", 0) : 0;
}

static int clear_bits(struct check *c)
{
    const uint64_t bits = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;
    uint64_t raw = htobe64(c->h.incompat & ~bits);
    bool good = !c->res->check_errors && !c->res->corruptions && !c->lost;

    if (!c->repair || !good || !(c->h.incompat & bits))
        return 0;
    int r = blk_pwrite(c->file, QCOW2_H_INCOMPAT, &raw, sizeof(raw));
    if (!r)
        r = blk_flush(c->file);
    return r < 0 ? check_io_error(c, r, "header", 0) : 0;
}

static int flush(struct check *c)
{
    int r = c->repair ? blk_flush(c->file) : 0;

    return r < 0 ? check_io_error(c, r, "flush", 0) : 0;
}

/* One round. *again: the refcount structure is new, everything must be looked at
 * anew. */
static int round_of(struct check *c, bool may_rebuild, bool *again)
{
    unsigned repair = c->repair;
    int r;

    *again = false;
    if ((r = begin(c)) < 0 || (r = clear_unknown_autoclear(c)) < 0 ||
        (r = check_walk(c)) < 0 || (r = check_load_reftable(c)) < 0 ||
        (r = check_refblocks(c)) < 0 || (r = flush(c)) < 0)
        return r;
    if (c->rebuild && c->repair) {
        repair = 0; /* nothing in place can be trusted */
        if (c->lost || !(c->repair & CHECK_REPAIR_ERRORS) || !may_rebuild)
            check_say(c, "ERROR refcounts need to be rebuilt, which takes -r all%s",
                      c->lost ? " and tables that can be followed" : "");
        else
            *again = true;
    }
    if ((r = check_compare(c, repair, *again)) < 0)
        return r;
    if (*again) {
        check_say(c, "Rebuilding the refcount structure");
        return check_rebuild(c);
    }
    if ((r = flush(c)) < 0 || (r = check_copied(c)) < 0 || (r = flush(c)) < 0)
        return r;
    return clear_bits(c);
}

/* After a rebuild: what was wrong and is no more counts as repaired; what the old
 * structure occupied was never a leak. */
static void add_rebuilt(struct check_result *res, const struct check_result *before)
{
    res->corruptions_fixed += before->corruptions_fixed;
    if (before->corruptions > res->corruptions)
        res->corruptions_fixed += before->corruptions - res->corruptions;
    res->leaks_fixed = before->leaks > res->leaks ? before->leaks - res->leaks : 0;
}

int image_check(struct blk_file *file, unsigned repair, struct check_result *res,
                void (*log)(void *, const char *), void *opaque, struct error *err)
{
    bool again = true;
    int r = 0;

    memset(res, 0, sizeof(*res));
    for (unsigned n = 0; !r && again; n++) {
        struct check_result before = *res;
        struct check c = {.file = file,
                          .repair = repair,
                          .res = res,
                          .log = log,
                          .opaque = opaque,
                          .err = err};
        memset(res, 0, sizeof(*res));
        r = round_of(&c, n == 0, &again);
        end(&c);
        if (n > 0 && !r)
            add_rebuilt(res, &before);
    }
    return r;
}
