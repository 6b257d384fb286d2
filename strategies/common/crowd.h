/*
 * The guests of several loops, one image: crowd.c.
 *
 * Each loop's struct guests is its own thread's, queue, slots and all: to admit takes no
 * lock and shares no cache line. What concerns all of them (a drain, an apply, closing)
 * is written down here under a lock, and each loop is told to look, by a bottom half.
 */
#ifndef STRATEGIES_CROWD_H
#define STRATEGIES_CROWD_H
#include "core/env/env.h"
#include "strategies/common/guest.h"

struct crowd { /* zeroed: there is one loop only */
    struct env *env;
    struct guests *first;    /* the others follow by `sibling` */
    struct env_mutex lock;   /* guards the rest, but for `drained`, `closed` */
    unsigned drains;         /* begun */
    struct guests *applying; /* at the head of its queue is an apply, or it runs */
    unsigned unheard;        /* how many are told and haven't looked yet */
    bool closing;
    struct loop_bh all_heard; /* of closing; to the first loop */
    bool drained, closed;     /* the first loop's thread's */
};

/* One of guests_loops() guests, the first loop's first, before any is used. admit is
 * called, on its loop, when it may go on. */
void crowd_add(struct crowd *, struct guests *, void (*admit)(struct guests *));
/* The first loop's thread: returns when nobody is inside the strategy any more. All is
 * drained, the other loops turn still; afterwards nothing of the image is told them. */
void crowd_close(struct crowd *);
void crowd_destroy(struct crowd *);

/* For guest.c. On the first loop's thread: */
void crowd_drain_begin(struct crowd *);
bool crowd_drain_end(struct crowd *);
/* On gs's: may its apply run, nothing else being in flight here? Else it will be told. */
bool crowd_claim(struct guests *gs);
void crowd_release(struct guests *gs); /* it has run, or won't */
void crowd_rest(struct guests *gs);    /* told to stop, and nothing is in flight now */

#endif
