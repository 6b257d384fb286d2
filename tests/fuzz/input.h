/*
 * What fuzz_schedule makes of its bytes: an image and a schedule.
 *
 *   head (16 bytes) | record (8 bytes) | record | ...
 *
 * The head says what kind of image, under which strategy. A record lays out a part of the
 * image, damages a field of it, or is a step of the schedule; the three sorts may stand in
 * any order among each other, as each is taken in a pass of its own. So records can be
 * put in, taken out and moved about and what the others mean stays the same, which is
 * what the mutator does (mutate.c). Any bytes are an input; a cut-off record is none.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HEAD = 16, RECORD = 8, RECORDS_MAX = 200 };

enum head_byte {
    HEAD_FLAGS,
    HEAD_CLUSTER, /* its size, by choice */
    HEAD_REFCOUNT,
    HEAD_SIZE, /* two bytes: sectors of the disk */
    HEAD_WAY = HEAD_SIZE + 2,
    HEAD_CACHE, /* and growth, and depth */
    HEAD_BACKING,
    HEAD_TAG
};
enum head_flag {
    FLAG_V2 = 1,
    FLAG_BACKING = 2,
    FLAG_LAZY = 4,
    FLAG_ZSTD = 8,
    FLAG_FULL = 16, /* the refcount table is: it has to move soon */
    FLAG_THROUGH = 32,
    FLAG_PUNCH = 64,
    FLAG_DAMAGE = 128 /* else damage is left out */
};

enum record_kind {
    R_LAYOUT, /* what: LAY_..., at: cluster, len: clusters */
    R_DAMAGE, /* what: field, at: which of them; x: how, y, len: by what */
    R_WRITE,  /* at: sector, len: sectors, x: RANGE_... */
    R_READ,
    R_ZERO,
    R_DISCARD,
    R_FLUSH,
    R_SNAPSHOT, /* what: create, apply, delete; x: which name */
    R_CANCEL,   /* what: which request */
    R_TURN,   /* the other bytes are choices, the loop turns as long as there are any */
    R_WAIT,   /* until nothing is in flight */
    R_REOPEN, /* what: under which strategy */
    R_CHECK,  /* closed, checked, opened */
    R_FAULT,  /* what: kind, at: the how manieth, x: how, y: once or for ever */
    R_DRAIN,
    R_RESIZE, /* closed, at: sectors */
    RECORD_KINDS
};
enum {
    LAY_DATA,
    LAY_ZERO,
    LAY_ZERO_ALLOCATED,
    LAY_COMPRESSED,
    LAY_NOTHING,
    LAY_SNAPSHOT,
    LAY_KINDS
};
enum { RANGE_WHOLE = 1, RANGE_ODD = 2, RANGE_HOT = 4 };

struct record {
    uint8_t kind, what, x, y;
    uint16_t at, len;
};
struct input {
    uint8_t head[HEAD];
    struct record record[RECORDS_MAX];
    unsigned n;
};

void record_read(struct record *, const uint8_t *bytes);
void record_write(const struct record *, uint8_t *bytes);
void input_read(struct input *, const uint8_t *bytes, size_t size);
/* Returns how many bytes, at most max. */
size_t input_write(const struct input *, uint8_t *bytes, size_t max);

#endif
