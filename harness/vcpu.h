/*
 * The world of 2012: a virtual CPU beside the loop, and one global mutex.
 *
 * The virtual CPU is a thread that computes and, at a steady rate, takes the global
 * mutex: it sees what has completed and hands over what comes next (a guest's driver
 * with its queue). How late it gets the mutex is the stall of the guest.
 *
 *   loop       the loop runs under the mutex and gives it up only to sleep, as QEMU's
 *              main loop did
 *   dedicated  the loop never takes it: a thread of its own, with a queue in between
 *
 * While it runs, everything about the load but the strategy itself belongs to it.
 */
#ifndef HARNESS_VCPU_H
#define HARNESS_VCPU_H
#include <stdbool.h>
#include <stdint.h>

#include "core/block/loop.h"
#include "harness/hist.h"
#include "strategies/strategy.h"

enum { VCPU_IDLE_NS = 100000000 }; /* for so long its lateness is measured alone */
enum vcpu_mode { VCPU_NONE, VCPU_LOOP, VCPU_DEDICATED };

struct vcpu_options {
    enum vcpu_mode mode;
    struct loop *loop;
    const struct strategy *strategy;
    struct strategy_image *image;
    uint64_t tick_ns; /* between two takings of the mutex */
    /* On the virtual CPU, under the mutex: the first tick of the load; r has completed.
     * What comes next goes to vcpu_submit(). false: nothing is in flight any more. */
    bool (*begin)(void *opaque);
    bool (*completed)(void *opaque, struct guest_req *r);
    void *opaque;
    struct hist *late, *idle; /* ns late: while the load runs; before, alone */
};
struct vcpu;

/* Measures how late it is alone. 0 or -errno. */
int vcpu_start(struct vcpu **, const struct vcpu_options *, struct error *);
/* A request's done(): from a turn of the loop. */
void vcpu_complete(struct vcpu *, struct guest_req *);
/* From begin() and completed(). */
void vcpu_submit(struct vcpu *, struct guest_req *);
/* The load begins; turns the loop until it is over; ends the thread. */
void vcpu_finish(struct vcpu *);

#endif
