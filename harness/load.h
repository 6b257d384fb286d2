/*
 * The load loop: keeps iodepth requests in flight on an opened image, closed loop.
 *
 * All memory is set up before the first request. One clock read per completion: it ends
 * one request's time and begins the next one's in the same slot, so latency is service
 * time as the guest sees it, queueing in the strategy included. A new request goes down
 * from done() of the old one, through the strategy's own submit.
 *
 * For the thread that owns the loop. Works the same in virtual time. Of an image with
 * several loops each has a load of its own, and they share what `lead` is for: lanes.h.
 */
#ifndef HARNESS_LOAD_H
#define HARNESS_LOAD_H
#include "core/block/sim_model.h"
#include "harness/guestq.h"
#include "harness/hist.h"
#include "harness/options.h"
#include "harness/verify.h"
#include "harness/workload.h"
#include "strategies/strategy.h"

struct load_result {            /* of the measured part: after ramp_time */
    struct hist lat[LOAD_DIRS]; /* nanoseconds */
    uint64_t bytes[LOAD_DIRS];
    /* snapshot-every: what making and deleting took, and what the guest's requests took
     * of which any part fell into either */
    struct hist create, delete, during;
    struct hist vcpu_late, vcpu_idle; /* global-mutex: how late a virtual CPU got it */
    uint64_t start_ns, end_ns;
    int error; /* 0, or the first that a request met: nothing was submitted after it */
    char error_text[128];
    bool interrupted;
};
struct load_options {
    struct loop *loop;
    unsigned home, homes; /* which of how many loops of the image that is; 0, 1 */
    struct load *lead;    /* home 0's, which the others share; its own: NULL */
    const struct strategy *strategy;
    struct strategy_image *image;
    const struct job *job;
    uint64_t disk_size, seed;
    const struct sim_model *guest; /* the guest has this elevator; NULL: none */
    /* May be NULL. Called when measuring begins, from a completion. */
    void (*on_start)(void *opaque);
    void *opaque;
    volatile uint64_t *progress; /* may be NULL: gets the requests completed */
    volatile uint64_t *goal;     /* and how many there will be */
    volatile int *stop;          /* non-zero: no more requests (a signal) */
};
struct load;
int load_create(struct load **, const struct load_options *, struct error *);
void load_destroy(struct load *);
/* Runs the job, or this loop's share of it; returns when all is done. 0, or the first
 * request's error. */
int load_run(struct load *, struct load_result *);
/* After all shares: end_fsync. */
int load_run_end(struct load *);
/* Reads back what load_run (or, with verify_only, its double) wrote. 0; -EILSEQ: bad
 * blocks, see the result; or a read's error. res gets the reads' latencies. */
int load_verify(struct load *, struct load_result *res);
const struct verify *load_verified(const struct load *); /* NULL: no verify */
/* Of the guest's elevator so far; zeros if there is none. */
void load_queue_stats(const struct load *, struct guestq_stats *);
/* crc32c of the whole disk as read through the strategy. */
int load_content(struct load *, uint32_t *crc);

#endif
