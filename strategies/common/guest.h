/*
 * Guest requests as they arrive: whether they can be run at all, and the queue in which
 * they wait to be admitted, first come, first served. Linked through guest_req itself,
 * so queueing allocates nothing.
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

struct guest_queue { /* zero-initialised is empty */
    struct guest_req *head, *tail;
};

static inline void guest_queue_push(struct guest_queue *q, struct guest_req *g)
{
    g->next = NULL;
    g->prev = q->tail;
    if (q->tail)
        q->tail->next = g;
    else
        q->head = g;
    q->tail = g;
}

static inline void guest_queue_remove(struct guest_queue *q, struct guest_req *g)
{
    if (g->prev)
        g->prev->next = g->next;
    else
        q->head = g->next;
    if (g->next)
        g->next->prev = g->prev;
    else
        q->tail = g->prev;
    g->next = g->prev = NULL;
}

/* NULL: empty. */
static inline struct guest_req *guest_queue_pop(struct guest_queue *q)
{
    struct guest_req *g = q->head;
    if (g)
        guest_queue_remove(q, g);
    return g;
}

/* Whether the first of the queue may be admitted beside those in flight, `alone` if one
 * of them is an apply: that replaces the disk under everybody's feet. */
static inline bool guest_queue_ready(const struct guest_queue *q, unsigned in_flight,
                                     bool alone)
{
    return q->head && !alone && !(q->head->op == GUEST_SNAPSHOT_APPLY && in_flight);
}

#endif
