/*
 * Sleeping outside the engine: descriptors that tell when the loop has something to do,
 * for a loop that is part of another one (libuv), and for waiters that only look now
 * and then.
 *
 * The engine's becomes readable when its wait() would find something; engines that
 * complete by posting have none. `wake` is written by whoever posts. `timer` tells of
 * the nearest timer, to the nanosecond.
 */
#ifndef ASYNCOW_OUTSIDE_H
#define ASYNCOW_OUTSIDE_H
#include "core/block/loop_int.h"

struct outside {
    int engine, wake, timer; /* descriptors; -1: none */
    bool armed;              /* the timer */
    struct outside_uv *uv;   /* NULL: ppoll */
};

/* uv: sleeps in a libuv loop of its own. 0 or -errno with err. */
int outside_open(struct outside *, struct loop *, bool uv, struct error *);
void outside_close(struct outside *);
/* Until something is to be done or timeout_ns (UINT64_MAX: no limit) are over. */
void outside_sleep(struct outside *, struct loop *, uint64_t timeout_ns);
void outside_wake(struct outside *); /* from any thread */

/* outside_uv.c */
int outside_uv_open(struct outside *, struct error *);
void outside_uv_close(struct outside *);
void outside_uv_sleep(struct outside *, bool forever);

#endif
