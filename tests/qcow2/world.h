/*
 * A small world for the pure core: a file in memory, requests that are coroutines, and
 * a scheduler that picks the next one at random at every I/O and every wait. Any order
 * the core allows can happen, from one seed.
 */
#ifndef TEST_WORLD_H
#define TEST_WORLD_H
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/coroutine/coroutine.h"
#include "core/qcow2/qcow2.h"
#include "tests/crash/crash.h"

struct world;
struct task {
    struct world *w;
    struct co *co;
    qcow2_chan asleep; /* NULL: runnable */
    bool live;
    void (*fn)(struct task *);
    void *arg;
};
enum { CARRIERS = 8 };
struct world {
    uint64_t rng;
    uint8_t *file;
    uint64_t size, cap; /* of the file, bytes */
    const uint8_t *backing;
    uint64_t backing_size;
    struct qcow2 *q;  /* NULL: not open */
    struct error err; /* why it did not open */
    struct task *tasks;
    unsigned ntasks;
    /* A request dies of one in so many I/Os that it owes (0: of none), with -ECANCELED: the
     * I/O goes on without it, in a carrier. */
    unsigned deaths, died;
    struct task carrier[CARRIERS];
    struct qcow2_need carried[CARRIERS];
    /* The fail_at-th I/O fails with fail_err (0: none), the also_at-th with also_err, or all
     * from the first on; of a torn write half is there. */
    uint64_t ios, fail_at, also_at;
    int fail_err, also_err;
    bool fail_forever, fail_torn;
    unsigned failures, silent; /* I/Os that failed; those whose failure is no loss */
    bool verify;               /* the invariants, every few steps */
    unsigned steps;            /* since the last time */
    bool even;                 /* no I/O is slower than others */
    bool delayed;              /* what ran last did nothing but wait for a slow I/O */
    struct crash *crash;       /* told of every change of the file; NULL: nobody is */
    void (*after_step)(struct world *); /* a task ran until it paused; may be NULL */
    /* Called before each verb of the core with 0, and after one that needs. */
    void (*verb)(struct world *, int verdict);
    void *opaque;
    uint64_t stop_at; /* world_run() returns when this many I/Os were done; 0: never */
};

uint64_t world_random(struct world *, uint64_t below);
void world_load(struct world *, const char *path);
void world_reach(struct world *, uint64_t end); /* the file is as long, at least */
void world_save(const struct world *, const char *path);
/* Runs fn(task) for every task until all are done; aborts on a deadlock. false: stopped
 * by stop_at, the tasks are left where they are. */
bool world_run(struct world *, struct task *, unsigned n);
/* For tasks: let others run; do what the core needs; a host transfer. */
void world_pause(struct task *);
int world_settle(struct task *, const struct qcow2_need *);
int world_read(struct task *, uint64_t offset, void *, uint64_t len);
int world_write(struct task *, uint64_t offset, const void *, uint64_t len);
void world_wake(struct world *);
int world_open(struct world *, struct task *, unsigned inflight, size_t cache,
               uint64_t grow);
int world_close(struct world *, struct task *);

/* Guest requests by the core's contract, in the straightest way. 0 or -errno. */
int guest_read(struct task *, uint64_t offset, uint8_t *, uint64_t len);
int guest_write(struct task *, uint64_t offset, const uint8_t *, uint64_t len);
int guest_zero(struct task *, uint64_t offset, uint64_t len);
int guest_discard(struct task *, uint64_t offset, uint64_t len);
int guest_flush(struct task *);
int guest_snapshot(struct task *, enum qcow2_snapshot_op, const char *name);
int guest_resize(struct task *, uint64_t size);
int guest_list(struct task *); /* loads the list of snapshots */

#endif
