/*
 * Is what was written what is read? A header in every block says where and when it was
 * written and carries the block's crc32c; a table in memory knows which write came
 * last.
 *
 * A block whose last writes were in flight together (or a trim and a write) has no last
 * one: it is counted, not checked.
 */
#ifndef HARNESS_VERIFY_H
#define HARNESS_VERIFY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env/error.h"

struct verify {
    uint64_t start, bs, blocks, seed;
    uint32_t *last; /* per block; NULL: only what the headers say of themselves */
    uint32_t sequence;
    uint64_t checked, bad, unchecked;
    char first_bad[256];
};
/* With table: 4 bytes per block of memory. 0 or -ENOMEM. */
int verify_init(struct verify *, uint64_t start, uint64_t bs, uint64_t blocks,
                uint64_t seed, bool table, struct error *);
void verify_destroy(struct verify *);
/* A write (trim) of the block at offset begins: notes it and, if buf, fills in header
 * and stamps. ended: it has completed. */
void verify_write_begin(struct verify *, uint64_t offset, void *buf);
void verify_trim_begin(struct verify *, uint64_t offset);
void verify_ended(struct verify *, uint64_t offset);
/* Was the block at offset written, so that it can be checked? Counts what cannot be. */
bool verify_expects(struct verify *, uint64_t offset);
/* Compares a block that was read; false and first_bad set if it is wrong. */
bool verify_check(struct verify *, uint64_t offset, void *buf);

#endif
