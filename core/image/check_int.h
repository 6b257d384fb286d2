/*
 * Between the parts of the check; nobody else includes this.
 *
 *   check.c            the order of things, header bits
 *   check_walk.c       who refers to which cluster: L1, L2, snapshots, bitmaps
 *   check_copied.c     the COPIED bit
 *   check_refcounts.c  what the refcounts say: blocks, comparison, repair in place
 *   check_rebuild.c    a new refcount structure where the old one is beyond repair
 */
#ifndef ASYNCOW_CHECK_INT_H
#define ASYNCOW_CHECK_INT_H
#include "core/image/check.h"
#include "core/image/counts.h"
#include "core/qcow2/format.h"

#define COUNT_MAX (UINT32_MAX - 1)

struct check {
    struct blk_file *file;
    unsigned repair; /* CHECK_REPAIR_* */
    struct check_result *res;
    void (*log)(void *, const char *);
    void *opaque;
    struct error *err;

    struct qcow2_header h;
    uint64_t file_size, cluster, clusters; /* bytes, bytes, host clusters in the file */
    uint64_t refcount_max;

    struct counts refs; /* references found; after check_compare(): refcounts on disk */
    struct counts tables; /* references to L2 tables not walked yet */
    uint64_t l1_bytes; /* of L1 tables seen: more than the file has, and they overlap */
    unsigned astray;   /* misaligned L2 tables walked */
    uint64_t *l2;      /* one cluster */
    uint64_t *reftable; /* in memory order; NULL: there is none that can be used */
    uint64_t reftable_entries;
    bool lost;    /* a table could not be followed: what it refers to is not counted, so
                     what seems unused may not be */
    bool rebuild; /* the refcount structure cannot be put right in place */
};

void check_say(struct check *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A corruption, weight times over (a table that so many others share). */
void check_corrupt(struct check *, uint64_t weight, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* weight references to the clusters of offset..offset+len. False: no such place
 * (counted as a corruption). */
int check_ref(struct check *, uint64_t offset, uint64_t len, uint64_t weight,
              bool *inside);
static inline bool check_aligned(const struct check *c, uint64_t offset)
{
    return (offset & (c->cluster - 1)) == 0;
}
/* A message goes to err, check_errors counts it. */
int check_io_error(struct check *, int r, const char *what, uint64_t offset);

struct check_l1 {
    uint64_t offset;
    uint32_t entries;
    bool active;
};
/* Done to each entry that is not 0. */
typedef int check_l1_fn(struct check *, const struct check_l1 *, uint32_t index,
                        uint64_t entry);
int check_each_l1(struct check *, const struct check_l1 *, check_l1_fn *);
/* How many bytes from offset on, at most len, are a hole in the file: all zero, and
 * read in no time however many there are. */
uint64_t check_hole_at(struct check *, uint64_t offset, uint64_t len);

int check_walk(struct check *);   /* fills refs but for refcount structures */
int check_copied(struct check *); /* after check_compare() */
/* The refcount of cluster k cannot be told: its block is in no possible place. */
bool check_unknown(const struct check *, uint64_t k);
int check_load_reftable(struct check *);
int check_refblocks(struct check *); /* adds them to refs */
/* keep: refs stay what was found, else they become what is on disk. */
int check_compare(struct check *, unsigned repair, bool keep);
int check_rebuild(struct check *); /* flushed, and the header says so */

#endif
