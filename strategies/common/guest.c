/* Queue, slots and draining: guest.h. */
#include "strategies/common/guest.h"

#include <assert.h>
#include <stdlib.h>

#include "strategies/common/crowd.h"
#include "strategies/common/host.h"

int guests_check_loops(const struct strategy_options *so, const char *why,
                       struct error *err)
{
    if (!so->more_count || !why)
        return 0;
    return error_set(err, -ENOTSUP, "one event loop only: %s", why);
}

static void queue_push(struct guest_queue *q, struct guest_req *g)
{
    g->next = NULL;
    g->prev = q->tail;
    if (q->tail)
        q->tail->next = g;
    else
        q->head = g;
    q->tail = g;
}

static void queue_remove(struct guest_queue *q, struct guest_req *g)
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

static struct guest_req *queue_pop(struct guest_queue *q) /* NULL: empty */
{
    struct guest_req *g = q->head;
    if (g)
        queue_remove(q, g);
    return g;
}

static void tell_cancelled(struct loop_bh *bh)
{
    struct guests *gs = from_member(bh, struct guests, cancel_bh);
    struct guest_req *g;
    while ((g = queue_pop(&gs->cancelled))) {
        g->result = -ECANCELED;
        g->done(g);
    }
}

int guests_open(struct guests *gs, struct loop *loop, unsigned depth, size_t slot_size,
                struct error *err)
{
    *gs = (struct guests){
        .loop = loop,
        .cancel_bh = {.fn = tell_cancelled},
        .slots = calloc(depth, slot_size),
        .slot_size = slot_size,
        .free = calloc(depth, sizeof(*gs->free)),
        .idle = true,
    };
    if (!gs->slots || !gs->free)
        return error_set(err, -ENOMEM, "no memory for %u requests", depth);
    gs->depth = depth;
    for (unsigned i = 0; i < depth; i++)
        gs->free[i] = depth - 1 - i; /* the first is taken first */
    return 0;
}

void guests_free(struct guests *gs)
{
    free(gs->slots);
    free(gs->free);
}

void guests_push(struct guests *gs, struct guest_req *g)
{
    g->slot = NULL;
    queue_push(&gs->queue, g);
}

struct guest_req *guests_admit(struct guests *gs)
{
    struct guest_req *g = gs->queue.head;
    bool replaces = g && g->op == GUEST_SNAPSHOT_APPLY; /* the disk, under all others */
    if (!g || gs->draining || gs->in_flight == gs->depth || gs->alone ||
        (replaces && (gs->in_flight || (gs->crowd && !crowd_claim(gs)))))
        return NULL;
    queue_remove(&gs->queue, g);
    g->slot = guests_slot(gs, gs->free[gs->depth - 1 - gs->in_flight++]);
    gs->idle = false;
    gs->alone = replaces;
    return g;
}

void guests_leave(struct guests *gs, struct guest_req *g, int result)
{
    size_t slot = (size_t)((char *)g->slot - (char *)gs->slots) / gs->slot_size;
    gs->free[gs->depth - gs->in_flight--] = (unsigned)slot;
    gs->idle = gs->in_flight == 0;
    if (gs->alone && gs->crowd)
        crowd_release(gs);
    gs->alone = false; /* an apply was the only one */
    g->result = result;
    g->done(g);
    if (gs->draining && gs->idle && gs->crowd)
        crowd_rest(gs);
}

void *guests_cancel(struct guests *gs, struct guest_req *g)
{
    if (g->slot) /* half a snapshot would leak clusters */
        return guest_snapshots(g) ? NULL : g->slot;
    queue_remove(&gs->queue, g);
    if (gs->crowd && g->op == GUEST_SNAPSHOT_APPLY)
        crowd_release(gs);
    if (!gs->cancelled.head)
        loop_defer(gs->loop, &gs->cancel_bh);
    queue_push(&gs->cancelled, g);
    return NULL;
}

void guests_drain_begin(struct guests *gs)
{
    if (gs->crowd) {
        crowd_drain_begin(gs->crowd);
        return;
    }
    gs->draining++;
    loop_run_until(gs->loop, &gs->idle);
}

bool guests_drain_end(struct guests *gs)
{
    if (gs->crowd)
        return crowd_drain_end(gs->crowd);
    assert(gs->draining > 0);
    return --gs->draining == 0;
}

void guests_attach(struct guests *gs, struct loop *loop)
{
    assert(gs->draining && gs->idle && !gs->crowd);
    while (loop_turn(gs->loop, false))
        ;
    gs->loop = loop;
}

struct alone {
    struct guest_req g;
    bool done;
};

static void alone_done(struct guest_req *g) { ((struct alone *)g)->done = true; }

int guests_run_alone(struct guests *gs, enum guests_state state,
                     struct strategy_image *image,
                     void (*submit)(struct strategy_image *, struct guest_req *))
{
    struct alone a = {.g = {.op = GUEST_FLUSH, .done = alone_done}};
    assert(gs->idle && !gs->queue.head);
    gs->state = state;
    gs->draining = 0;
    submit(image, &a.g);
    loop_run_until(gs->loop, &a.done);
    gs->state = GUESTS_RUNNING;
    return a.g.result;
}
