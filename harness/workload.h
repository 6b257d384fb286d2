/*
 * Which request comes next: a pure function of the job, the disk's size and the seed.
 *
 * The sequence does not depend on when requests complete, so every strategy sees the
 * same guest history. Nothing here waits, allocates or reads a clock.
 */
#ifndef HARNESS_WORKLOAD_H
#define HARNESS_WORKLOAD_H
#include "harness/options.h"
#include "harness/permute.h"
#include "harness/rng.h"

struct workload {
    struct rw_mode rw;
    uint64_t bs, start, blocks; /* the region: start, and blocks of bs bytes */
    unsigned mix_read;          /* per cent */
    bool map;                   /* random: each block once a pass */
    uint64_t requests;          /* in all; UINT64_MAX: until time is over */

    struct rng rng;
    struct permute permute;
    uint64_t seed, pass, index; /* random map: where in which pass */
    /* sequential: next byte, from start; or of each stream, from where it begins */
    uint64_t position[LOAD_DIRS];
    unsigned streams, stream; /* stream: whose request comes next, set by the caller */
    uint64_t *stream_position;
    uint64_t row_left, row_block; /* random with rw=...:nr */
    bool write_due;               /* trimwrite: the block just trimmed */
    uint64_t due_offset;
};
/* 0; -EINVAL with err: the region does not fit the disk. It needs workload_free(). */
int workload_init(struct workload *, const struct job *, uint64_t disk_size,
                  uint64_t seed, struct error *);
/* The next request: returns its direction, *offset its place, bs its length. */
enum load_dir workload_next(struct workload *, uint64_t *offset);
void workload_free(struct workload *);

#endif
