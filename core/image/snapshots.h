/* The table of internal snapshots, read entry by entry. Blocking. Format:
 * "Snapshots". */
#ifndef ASYNCOW_SNAPSHOTS_H
#define ASYNCOW_SNAPSHOTS_H
#include "core/block/aio.h"
#include "core/qcow2/format.h"

struct snapshot_reader {
    struct blk_file *file;
    const struct qcow2_header *header;
    uint32_t index;  /* of the next entry */
    uint64_t offset; /* of the next entry, in the file */

    /* the entry just read */
    uint64_t l1_offset;
    uint32_t l1_size; /* entries, not checked */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec, vm_state_size;
    uint64_t disk_size; /* of the header, where the entry does not tell */
    uint64_t icount;    /* UINT64_MAX: not told */
    uint32_t extra_size;
    char *id, *name;
};
void snapshots_start(struct snapshot_reader *, struct blk_file *,
                     const struct qcow2_header *);
/* 1: the next entry is there; 0: no more; -errno with err: the table is damaged. */
int snapshots_next(struct snapshot_reader *, struct error *);
void snapshots_end(struct snapshot_reader *);

#endif
