/*
 * What a guest may read: a byte model of a disk that many requests change at once, some
 * of which fail, are cancelled, or are lost when the image is not closed well.
 *
 * The disk is sectors. Each has a base, and values that writers put on top, oldest
 * first. A value is acknowledged when its request succeeded; one that failed or was
 * cancelled may or may not be there, so it stays beside what it should have replaced.
 * Time is a counter of events. Everything that is asked follows from one rule: at time
 * t, a sector holds the last value acknowledged by then, or one that came after it.
 *
 *  1. Requests that write a sector at the same time are a group: which of them was last
 *     is known to nobody, so each one's value may be there, as long as no later group
 *     has been acknowledged. They count as acknowledged when the last of them has
 *     ended.
 *  2. Reads may overlap writes: they see old bytes or new ones, whatever mixture.
 *  3. Values that nothing may hold any more are folded into the base: when a newer one
 *     is acknowledged (or, with `crash`, when a flush that began after that has
 *     succeeded), and no read that began earlier is under way.
 */
#ifndef TEST_MODEL_H
#define TEST_MODEL_H
#include <stdbool.h>
#include <stdint.h>

enum { SECTOR = 512 };

struct model_value {
    uint8_t *bytes;  /* one sector */
    uint64_t acked;  /* when; 0: not, or not yet */
    uint64_t writer; /* who, as model_write() says */
    uint32_t group;
    bool ok; /* succeeded; acked when the group ends */
};
struct model_sector {
    struct model_value *v;
    uint16_t n, cap;
    uint16_t settled; /* that many of v, from the first, can be folded */
    uint16_t readers, writers;
    uint32_t group, base_group; /* now, or the last; of the base */
    uint64_t base_acked;
    bool exclusive;
};
struct model {
    uint64_t size; /* bytes, whole sectors */
    uint8_t *base;
    struct model_sector *s;
    uint64_t clock, writers, flushes; /* counters; of flushes that settled things */
    bool crash;                       /* only a flush settles */
    bool torn; /* a failed write may leave any mixture of old and new bytes */
};

/* base: size bytes, taken over. */
void model_init(struct model *, uint8_t *base, uint64_t size, bool crash);
void model_free(struct model *);

/* False: somebody writes there and wants to be the only one, or exclusive: anybody
 * does. */
bool model_claim(struct model *, uint64_t at, uint64_t len, bool exclusive);
void model_release(struct model *, uint64_t at, uint64_t len);
/* Somebody writes there. */
bool model_written_to(const struct model *, uint64_t at, uint64_t len);
/* True: each sector can hold one value only, so that a write may change part of it. */
bool model_certain(const struct model *, uint64_t at, uint64_t len);
/* Claimed; exclusively and certain if it covers sectors partly. buf NULL: zeros.
 * Returns who this is. */
uint64_t model_write(struct model *, uint64_t at, uint64_t len, const uint8_t *buf);
/* How that ended; before the claim is released. */
void model_written(struct model *, uint64_t at, uint64_t len, uint64_t writer, bool ok);

/* Returns the time the read began. */
uint64_t model_read(struct model *, uint64_t at, uint64_t len);
/* True: the bytes may be so. Else *bad is the first offset that is wrong. */
bool model_check(const struct model *, uint64_t at, uint64_t len, const uint8_t *buf,
                 uint64_t began, uint64_t *bad);
/* For people: what a byte's sector may hold, to standard error. */
void model_tell(const struct model *, uint64_t at, uint64_t began);
void model_read_end(struct model *, uint64_t at, uint64_t len);
/* Claimed exclusively, read, and checked: that is what is there from now on. */
void model_adopt(struct model *, uint64_t at, uint64_t len, const uint8_t *buf);

/* A flush that began at that time has succeeded. */
void model_flushed(struct model *, uint64_t began);
/* What a crash now may leave: each sector whole, as of the last flush or later. Else
 * *bad is the first sector (a byte's offset) that is neither. */
bool model_check_crashed(const struct model *, uint64_t at, uint64_t len,
                         const uint8_t *buf, uint64_t *bad);
/* The one value that the sector has had since that time; NULL: it changed, is changing,
 * or nobody knows. Valid until the model changes. */
const uint8_t *model_value_since(const struct model *, uint64_t sector, uint64_t when);
/* The image was closed badly: what is not settled may be there or not. Nothing is in
 * flight. */
void model_crashed(struct model *);

#endif
