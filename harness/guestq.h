/*
 * The simulated guest's request queue: an elevator (core/block/elevator.h) above the image's
 * requests, as a guest's block layer has one before its virtual disk.
 *
 * The virtual disk takes `depth` requests at a time; what waits meanwhile is sorted and
 * merged. Reads and writes go through it; what else there is goes by. A request's done()
 * is called when what it went down in has ended, from a turn of the loop.
 *
 * For the thread that owns the loop; `slots` requests are in it at most.
 */
#ifndef HARNESS_GUESTQ_H
#define HARNESS_GUESTQ_H
#include "core/block/elevator.h"
#include "core/block/loop.h"
#include "strategies/strategy.h"

struct guestq_options {
    struct loop *loop;
    const struct strategy *strategy;
    struct strategy_image *image;
    struct elevator_options elevator;
    unsigned depth, slots;
};
struct guestq_stats {
    uint64_t requests, merged, waits, waits_won, expired; /* requests: that went down */
};
struct guestq;

int guestq_create(struct guestq **, const struct guestq_options *); /* 0 or -ENOMEM */
void guestq_destroy(struct guestq *);                               /* idle; or NULL */
/* A read or a write, not empty. source: whose it is, for the elevator. */
void guestq_submit(struct guestq *, struct guest_req *, unsigned source);
void guestq_get_stats(const struct guestq *, struct guestq_stats *);

#endif
