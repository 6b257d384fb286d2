/*
 * Whole-image consistency: what `qemu-img check` finds, and repair. Blocking,
 * streaming: memory is bounded by the refcounts (one counter a host cluster) and one
 * table.
 */
#ifndef ASYNCOW_CHECK_H
#define ASYNCOW_CHECK_H
#include <stdbool.h>
#include <stdint.h>

#include "core/block/aio.h"

enum { CHECK_REPAIR_LEAKS = 1, CHECK_REPAIR_ERRORS = 2 };

struct check_result { /* names as in qemu-img's JSON */
    uint64_t corruptions, leaks, check_errors;
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t image_end_offset;
    uint64_t total_clusters, allocated_clusters, fragmented_clusters,
        compressed_clusters;
};
/* repair: CHECK_REPAIR_* bits; file then is open for write. log (may be NULL) gets a
 * line for each finding, as a person wants to read it. 0: the check ran (see the
 * result); -errno: it could not. */
int image_check(struct blk_file *, unsigned repair, struct check_result *,
                void (*log)(void *opaque, const char *line), void *opaque,
                struct error *);

#endif
