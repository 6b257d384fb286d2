/*
 * Reading an image and its chain, blocking: for whole-image work (map, compare,
 * convert), where nothing else is in flight. It decodes L2 entries itself, since these
 * commands must tell what the core need not: preallocated zeros from plain ones, a hole
 * from what was never allocated. So it is also a second opinion on what the core wrote.
 */
#ifndef ASYNCOW_READER_H
#define ASYNCOW_READER_H
#include <stdbool.h>
#include <stdint.h>

#include "core/env/error.h"
#include "core/image/node.h"

struct reader;

struct reader_status { /* of guest bytes, alike in all this */
    uint64_t len;      /* bytes */
    unsigned depth;    /* 0: the top; of the file that has them */
    bool present;      /* some file of the chain has them, or says that they are zero */
    bool zero;         /* read as zeros */
    bool data;         /* have a place in a file; with zero: in a hole of it */
    bool compressed;
    bool has_offset;
    uint64_t offset;     /* in the file, bytes; of the compressed cluster too */
    uint64_t offset_len; /* compressed: bytes there */
    uint64_t cluster_at; /* compressed: where in the disk the cluster begins */
    const struct image_node *node;
};

/* Borrows the chain. 0 or -ENOMEM. */
int reader_create(struct reader **, struct image_node *top);
void reader_free(struct reader *);
/* What guest..guest+len is, or its first part; guest inside the disk, len > 0. limit:
 * how many files of the chain to look at (0: all). -EIO with err: a table is
 * damaged. */
int reader_status(struct reader *, uint64_t guest, uint64_t len, unsigned limit,
                  struct reader_status *, struct error *);
/* Past the end of the disk: zeros. */
int reader_read(struct reader *, uint64_t guest, void *buf, uint64_t len,
                struct error *);

#endif
