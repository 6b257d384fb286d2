/*
 * A pool of worker threads over one FIFO: behind the threads engine and the loop's
 * helpers. Jobs are embedded bottom halves: fn runs on a worker and says itself what comes
 * then (usually loop_post of the same struct).
 */
#ifndef ASYNCOW_POOL_H
#define ASYNCOW_POOL_H
#include "core/block/loop.h"

struct pool;

/* At least one worker, or -errno. Real threads only. */
int pool_open(struct pool **, struct env *, unsigned workers);
/* A chain of jobs through next, in one go. */
void pool_submit(struct pool *, struct loop_bh *first, struct loop_bh *last);
/* Takes a job out that no worker has begun. */
bool pool_withdraw(struct pool *, struct loop_bh *);
void pool_close(struct pool *); /* finishes what is queued, then joins */
unsigned pool_workers(const struct pool *);

#endif
