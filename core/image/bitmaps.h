/* The directory of bitmaps, read entry by entry. Blocking. Format: "Bitmaps". */
#ifndef ASYNCOW_BITMAPS_H
#define ASYNCOW_BITMAPS_H
#include "core/block/aio.h"
#include "core/qcow2/format.h"

enum { BITMAP_IN_USE = 1, BITMAP_AUTO = 2 };

struct bitmap_reader {
    struct blk_file *file;
    const struct qcow2_header *header;
    uint32_t index;  /* of the next entry */
    uint64_t offset; /* of the next entry, in the file */

    /* the entry just read */
    uint64_t table_offset;
    uint32_t table_entries, flags;
    unsigned granularity_bits;
    char name[1024];
};
void bitmaps_start(struct bitmap_reader *, struct blk_file *,
                   const struct qcow2_header *);
/* 1: the next entry is there; 0: no more; -errno with err: the directory is damaged. */
int bitmaps_next(struct bitmap_reader *, struct error *);

#endif
