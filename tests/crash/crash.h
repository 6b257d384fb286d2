/*
 * What a crash may leave on a disk, tried out in memory.
 *
 * The disk has a cache: a write, zeroing, growth, punch or truncation is on it for good
 * when a flush has succeeded that was begun after it was done. Of the others any part may
 * be: crash_point() builds every image that there could be if the machine stopped now (all
 * 2^M subsets of the M that no flush covers, while M is small; beyond, a sample), some of
 * them with writes torn at sectors, and looks at each (inspect.h).
 *
 *  1. Each sector is whole, and as of one of the operations on it that may be there.
 *  2. An image that was looked at is not looked at again while nothing more is expected of
 *     it (crash_promised()).
 */
#ifndef TEST_CRASH_H
#define TEST_CRASH_H
#include "tests/crash/inspect.h"

enum crash_op {
    CRASH_WRITE, /* the bytes; longer if they reach beyond the end */
    CRASH_ZERO,  /* likewise */
    CRASH_PUNCH, /* zeros, never longer */
    CRASH_GROW,  /* at least as long as offset + len */
    CRASH_CUT    /* just as long as offset */
};
struct crash_options {
    unsigned exhaust;    /* the largest M of which all subsets are tried */
    unsigned samples;    /* beyond it, and of torn ones, at a point */
    unsigned qemu_every; /* images; 0: never */
    uint64_t budget;     /* no more points after so many looks; 0: no end */
    uint64_t seed;
};
struct crash_tally {
    uint64_t images;                     /* different ones, by hash */
    uint64_t looks;                      /* some again, when more was expected */
    uint64_t points, exhausted, sampled; /* sampled: M was too large for all */
    uint64_t torn, asked, mended;
    unsigned most; /* the largest M of which all subsets were tried */
};

struct crash;
/* Begins with what is on the disk now. The tally goes on; the images in it are different
 * from all there were since the process began. */
struct crash *crash_new(struct inspect *, const uint8_t *file, uint64_t size,
                        const struct crash_options *, struct crash_tally *);
void crash_free(struct crash *);
/* One that has begun; data: len bytes, of WRITE. Offset and len in whole sectors. */
unsigned crash_begin(struct crash *, enum crash_op, uint64_t offset, uint64_t len,
                     const uint8_t *data);
void crash_done(struct crash *, unsigned id);
/* A flush begins; to be given to crash_flushed(), if it succeeds. */
struct crash_flush;
struct crash_flush *crash_flush(struct crash *);
void crash_flushed(struct crash *, struct crash_flush *, bool ok);
/* More is expected from now on: a snapshot has succeeded. (A guest's flush is noticed.) */
void crash_promised(struct crash *);
/* Aborts on the first image that is not as expected, and leaves it in `broken.qcow2`. */
void crash_point(struct crash *, const struct expect *);
void crash_tell(const struct crash_tally *, const char *who);

#endif
