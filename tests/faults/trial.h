/*
 * One run of a fixed workload on a fresh copy of an image, in the simulator (so it is the
 * same run each time), with an I/O that fails, or two, or an allocation of the strategy's:
 *  1. the error reaches the caller, with its code or as the -EIO of a poisoned image; a
 *     short transfer reaches nobody;
 *  2. before closing, every acknowledged byte reads back;
 *  3. the image has no corruption for QEMU or for us; leaks are allowed;
 *  4. opened again, every flushed byte reads back, and what was not flushed is old or
 *     new;
 *  5. that image can be written to and closes well;
 *  6. the strategy has given all its memory back.
 */
#ifndef TEST_TRIAL_H
#define TEST_TRIAL_H
#include "core/block/filter.h"
#include "tests/differential/load.h"

enum { KINDS = 2 * KIND_METADATA_SHIFT };
/* Nobody's loss if they fail. */
#define SILENT                                                                         \
    ((1u << AIO_DISCARD | 1u << AIO_GROW) * (1u + (1u << KIND_METADATA_SHIFT)))

struct test {
    struct disk_options o; /* filters: fault;fault */
    const char *image;
    uint8_t *template, *base;
    uint64_t template_size, size;
    uint64_t seed;
    unsigned ops, afterwards, stride, qemu_every; /* requests, and when opened again */
    bool fill, cancels;
    const char *only; /* the words of one trial */

    char trial[160]; /* in words, to be told and repeated */
    uint64_t count[KINDS], allocations;
    uint64_t trials, hit;
    struct strategy_stats sum;
};
struct plan {
    struct fault_plan io[2]; /* n 0: none. The second counts what the first let pass */
    uint64_t allocation;     /* that one fails; 0: none */
    bool for_ever;           /* and all after it */
};

/* plan NULL: nothing fails, and all is counted. Returns whether it hit: all of it, if it is
 * two I/Os. broken_at_close: what fails for ever does then, too. */
bool trial_run(struct test *, const struct plan *, bool broken_at_close);

/* What a module that is linked for it (nomem.c) asks before it allocates, and tells: 1: it
 * has, -1: it has given something back. */
bool trial_denies_memory(void);
void trial_memory(int change);

#endif
