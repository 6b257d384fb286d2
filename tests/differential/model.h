/*
 * What a guest may read: a byte model of a disk that many requests change at once, some
 * of which fail, are cancelled, or are lost when the image is not closed well.
 *
 * The disk is sectors. Each has a base, and values that writers put on top, oldest first.
 * A value is acknowledged when its request succeeded; one that failed or was cancelled may
 * or may not be there, so it stays beside what it should have replaced. Time is a counter
 * of events. Everything that is asked follows from one rule: at time t, a sector holds the
 * last value acknowledged by then, or one that came after it.
 *
 *  1. At most one request writes a sector at a time (model_claim), and reads may overlap
 *     it: they see the old bytes or the new, whatever mixture.
 *  2. Values that nothing may hold any more are folded into the base: when a newer one is
 *     acknowledged (or, with `crash`, when a flush that began after that has succeeded),
 *     and no read that began earlier is under way.
 */
#ifndef TEST_MODEL_H
#define TEST_MODEL_H
#include <stdbool.h>
#include <stdint.h>

enum { SECTOR = 512 };

struct model_value {
    uint8_t *bytes; /* one sector */
    uint64_t acked; /* when; 0: not, or not yet */
};
struct model_sector {
    struct model_value *v;
    uint16_t n, cap;
    uint16_t settled; /* values of v that are below what is certain: foldable */
    uint16_t readers;
    bool writer;
};
struct model {
    uint64_t size; /* bytes, whole sectors */
    uint8_t *base;
    struct model_sector *s;
    uint64_t clock;
    bool crash; /* only a flush settles */
    bool torn;  /* a failed write may leave any mixture of old and new bytes */
};

/* base: size bytes, taken over. */
void model_init(struct model *, uint8_t *base, uint64_t size, bool crash);
void model_free(struct model *);

/* False: somebody writes there. */
bool model_claim(struct model *, uint64_t at, uint64_t len);
void model_release(struct model *, uint64_t at, uint64_t len);
/* True: each sector has one value only, so that a write may change part of it. */
bool model_certain(const struct model *, uint64_t at, uint64_t len);
/* Claimed. buf NULL: zeros. Partly covered sectors must be certain. */
void model_write(struct model *, uint64_t at, uint64_t len, const uint8_t *buf);
/* How that ended; once for each model_write() on these sectors. */
void model_written(struct model *, uint64_t at, uint64_t len, bool ok);

/* Returns the time the read began. */
uint64_t model_read(struct model *, uint64_t at, uint64_t len);
/* True: the bytes may be so. Else *bad is the first offset that is wrong. */
bool model_check(const struct model *, uint64_t at, uint64_t len, const uint8_t *buf,
                 uint64_t began, uint64_t *bad);
/* For people: what a byte's sector may hold, to standard error. */
void model_tell(const struct model *, uint64_t at, uint64_t began);
void model_read_end(struct model *, uint64_t at, uint64_t len);
/* Claimed, read, and checked: what was read is what is there from now on. */
void model_adopt(struct model *, uint64_t at, uint64_t len, const uint8_t *buf);

/* A flush that began at that time has succeeded. */
void model_flushed(struct model *, uint64_t began);
/* The image was closed badly: what is not settled may be there or not. Nothing is in
 * flight. */
void model_crashed(struct model *);

#endif
