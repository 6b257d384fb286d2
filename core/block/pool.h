/*
 * A pool of worker threads: behind the threads engine and the loop's helpers. Jobs are
 * embedded bottom halves: fn runs on a worker and says itself what comes then (usually
 * loop_post of the same struct).
 */
#ifndef ASYNCOW_POOL_H
#define ASYNCOW_POOL_H
#include "core/block/loop.h"

struct pool;
struct pool_options {
    unsigned workers; /* at most */
    /* Each job is given to a worker when it comes, in turn, whether that one is busy or
     * not: how a naive pool does it. Else whoever is free takes the oldest. */
    bool bound;
    /* Starts with one worker and adds one when all are busy; who finds nothing to do
     * for so long ends. 0: all workers are there from the start. Not with bound. */
    uint64_t idle_ns;
};

/* At least one worker, or -errno. Real threads only. */
int pool_open(struct pool **, struct env *, const struct pool_options *);
/* A chain of jobs through next, in one go. */
void pool_submit(struct pool *, struct loop_bh *first, struct loop_bh *last);
/* Takes a job out that no worker has begun. */
bool pool_withdraw(struct pool *, struct loop_bh *);
void pool_close(struct pool *);       /* finishes what is queued, then joins */
unsigned pool_workers(struct pool *); /* there are now */

#endif
