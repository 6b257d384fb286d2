/*
 * One schedule: a small image in memory, one strategy, one set of operations, run to the
 * end with every choice made by the caller, then judged.
 *
 * The operations arrive in any order, at any time: an arrival is an event like the end of an
 * I/O. Opening, closing and all looking afterwards take the plainest schedule.
 */
#ifndef HARNESS_EXPLORE_WORLD_H
#define HARNESS_EXPLORE_WORLD_H
#include "core/block/aio.h"
#include "core/env/sim.h"
#include "harness/explore_set.h"
#include "strategies/strategy.h"

struct explore_config {
    const struct strategy *strategy;
    const char *settings; /* of the strategy */
    uint64_t cluster;     /* bytes */
    bool through;         /* metadata-writes */
    bool warm;            /* the metadata is in memory, and some of it dirty */
    bool old;             /* version 2, which has no zero flag */
    bool overlay;         /* over a raw file, which shows where nothing is allocated */
};
/* "v3", "v2", "v3-overlay", "v2-overlay". false: it is none of these. */
bool explore_image_parse(struct explore_config *, const char *);
const char *explore_image_text(const struct explore_config *);

enum { EXPLORE_FAILURE = 1000 };

struct explore_op {
    struct guest_req g; /* first */
    struct explore_world *world;
    enum explore_kind kind;
    unsigned index;
    uint64_t first, sectors; /* of the disk */
    uint8_t *buf;
    struct iovec iov;
    unsigned begin, end; /* moments; 0: not yet */
    bool cancelled;
    struct sim_event arrival;
    struct loop_bh bh;
};

/* For pictures; all may be NULL. */
struct explore_watch {
    void (*news)(void *opaque, const struct sim_news *);
    void (*submitted)(void *opaque, const struct explore_op *);
    void (*cancelled)(void *opaque, const struct explore_op *target);
    void (*done)(void *opaque, const struct explore_op *);
    void *opaque;
};

struct explore_world;
int explore_world_create(struct explore_world **, const struct explore_config *,
                         const struct explore_set *, struct error *);
void explore_world_free(struct explore_world *);
void explore_world_watch(struct explore_world *, const struct explore_watch *);
/* Runs one schedule. false: failure says what went wrong; the world is of no more use. */
bool explore_world_run(struct explore_world *, unsigned (*choose)(void *, unsigned n),
                       void *opaque, char failure[EXPLORE_FAILURE]);
struct env *explore_world_env(struct explore_world *);
/* Threads beside the root take part. */
bool explore_world_threads(const struct explore_world *);
/* The operation that an I/O belongs to; NULL: none. */
const struct explore_op *explore_world_owner(const struct explore_world *,
                                             const struct aio *);
/* Of the last schedule: a hash of all that the guest could tell, in order. */
uint64_t explore_world_outcome(const struct explore_world *);
/* How many operations have not ended. */
unsigned explore_world_pending(const struct explore_world *);

#endif
