/*
 * Guest requests between submit() and the strategy, and again between the strategy and
 * done(): whether they can be run at all, the queue in which they wait, first come,
 * first served, the slots of those admitted, draining. Queues are linked through
 * guest_req itself and slots are made at open, so that nothing is allocated per
 * request.
 *
 * All of it is for the thread that owns the loop. An image with several loops has one
 * such for each, tied together by crowd.h.
 */
#ifndef STRATEGIES_GUEST_H
#define STRATEGIES_GUEST_H
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "strategies/strategy.h"

static inline bool guest_snapshots(const struct guest_req *g)
{
    return g->op >= GUEST_SNAPSHOT_CREATE;
}

/* 0, or why not: -EINVAL beyond the disk's end or too many parts, -EROFS a change to
 * what is read only, -ENOTSUP a snapshot of what is raw. */
static inline int guest_check(const struct guest_req *g, uint64_t size, bool writable,
                              bool raw)
{
    if (g->op == GUEST_FLUSH)
        return 0;
    if (guest_snapshots(g))
        return raw ? -ENOTSUP : writable ? 0 : -EROFS;
    if (g->offset > size || g->len > size - g->offset)
        return -EINVAL;
    if ((g->op == GUEST_READ || g->op == GUEST_WRITE) && g->iovcnt > AIO_IOV_MAX)
        return -EINVAL;
    return g->op == GUEST_READ || writable ? 0 : -EROFS;
}

/* Nothing to do, whatever the format: the host may not take such a thing. */
static inline bool guest_is_empty(const struct guest_req *g)
{
    return g->op < GUEST_FLUSH && g->len == 0;
}

/* How many loops serve the image, and how many requests each has in flight at most. */
static inline unsigned guests_loops(const struct strategy_options *so)
{
    return 1 + so->more_count;
}
static inline unsigned guests_depth(const struct strategy_options *so)
{
    return (so->depth + so->more_count) / guests_loops(so);
}
static inline struct loop *guests_loop(const struct strategy_options *so, unsigned i)
{
    return i ? so->more[i - 1] : so->loop;
}

/* Why not several loops? NULL: no reason. 0, or -ENOTSUP with err. */
int guests_check_loops(const struct strategy_options *, const char *why,
                       struct error *);

struct guest_queue { /* zero-initialised is empty */
    struct guest_req *head, *tail;
};

/* What an image is opened and closed with is a request like any other, but alone. */
enum guests_state { GUESTS_OPENING, GUESTS_RUNNING, GUESTS_CLOSING };

struct guests {
    struct loop *loop;
    enum guests_state state;      /* changes only while no request is about */
    struct guest_queue queue;     /* not admitted yet */
    struct guest_queue cancelled; /* never will be */
    struct loop_bh cancel_bh;
    void *slots; /* one for each request admitted, slot_size bytes, zeroed once */
    size_t slot_size;
    unsigned *free; /* their numbers, the last to be given back on top */
    unsigned depth;
    unsigned draining;  /* so often; nothing is admitted. In a crowd: told to stop */
    unsigned in_flight; /* requests admitted */
    bool idle;          /* none */
    bool alone;         /* one of them is an apply: nothing is admitted beside it */

    struct crowd *crowd; /* NULL: the only one */
    struct guests *sibling;
    void (*admit)(struct guests *);
    struct loop_bh hear;
    bool hearing, quiet; /* under the crowd's lock: hear is on its way; see crowd.c */
};

/* 0 or -errno with err. A zeroed struct can be freed too. */
int guests_open(struct guests *, struct loop *, unsigned depth, size_t slot_size,
                struct error *err);
void guests_free(struct guests *);
static inline void *guests_slot(const struct guests *gs, unsigned i)
{
    return (char *)gs->slots + i * gs->slot_size;
}

void guests_push(struct guests *, struct guest_req *);
/* The next one, if it may start beside those in flight; g->slot is its slot, as the
 * last one left it. NULL: nobody waits, no slot is free, the image drains. */
struct guest_req *guests_admit(struct guests *);
/* Ends one that was admitted: done() is called from here, when the slot is free again,
 * for the guest may submit. Admit afterwards. */
void guests_leave(struct guests *, struct guest_req *, int result);
/* Ends it early if it isn't admitted yet. Else its slot, for the strategy to see to;
 * NULL: nothing is left to do. */
void *guests_cancel(struct guests *, struct guest_req *);

/* Of the first loop, as the next two; all others drain with it. */
void guests_drain_begin(struct guests *);
/* true: that was the outermost; admit. */
bool guests_drain_end(struct guests *);
/* While drained: to another loop. The old one turns until nothing is pending there. For
 * an image with one. */
void guests_attach(struct guests *, struct loop *);

/* Runs the one request that a state but GUESTS_RUNNING has: load, or close's sync. */
int guests_run_alone(struct guests *, enum guests_state, struct strategy_image *,
                     void (*submit)(struct strategy_image *, struct guest_req *));

#endif
