/*
 * From the guest's request to its coroutine, and back.
 *
 *   submit -> queue -> admit: a free slot, a coroutine, entered at once -> run
 *                              |  (yields in settle.c; entered again from the loop)
 *   done() <- finish <- bottom half <- the coroutine's end
 *
 * The bottom half keeps two promises: done() never comes from inside submit(), though
 * the coroutine may run to its end there; and it runs outside any coroutine, whose
 * stack is none of the guest's business.
 */
#include "strategies/coroutines/model.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/env/settings.h"

static const struct setting settings[] = {
    {"hold", "metadata|none", "none",
     "whether the mutex is kept across the metadata I/O that a verb owes"},
    {NULL, NULL, NULL, NULL},
};

/* --- opening ---------------------------------------------------------------------- */

static void tell_cancelled(struct loop_bh *bh)
{
    struct strategy_image *image = from_member(bh, struct strategy_image, cancel_bh);
    struct guest_req *g;
    while ((g = guest_queue_pop(&image->cancelled))) {
        g->result = -ECANCELED;
        g->done(g);
    }
}

static int open_nodes(struct strategy_image *image, const struct strategy_options *so)
{
    uint64_t end = so->top->size;
    unsigned n = 0;
    for (const struct image_node *in = so->top; in; in = in->backing)
        n++;
    image->nodes = calloc(n, sizeof(*image->nodes));
    if (!image->nodes)
        return error_set(image->err, -ENOMEM, "no memory for %u images", n);
    image->node_count = n;
    struct co_node *node = image->nodes;
    for (const struct image_node *in = so->top; in; in = in->backing, node++) {
        end = in->size < end ? in->size : end;
        node->image = image;
        node->file = in->file;
        node->end = end;
        node->size_at_open = blk_size(in->file);
        node->backing = in->backing ? node + 1 : NULL;
        node->end_asleep = &node->asleep;
        if (in->format == IMAGE_RAW)
            continue;
        /* A request has at most one ticket at a time in each core of the chain. */
        int ret = host_core_open(&node->core, in, so, so->depth, image->err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int open_slots(struct strategy_image *image, unsigned depth)
{
    image->slots = calloc(depth, sizeof(*image->slots));
    if (!image->slots)
        return error_set(image->err, -ENOMEM, "no memory for %u requests", depth);
    image->depth = depth;
    for (unsigned i = depth; i-- > 0;) {
        struct co_request *r = &image->slots[i];
        r->image = image;
        r->next = image->free;
        image->free = r;
    }
    return 0;
}

static void free_image(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->node_count; i++)
        if (image->nodes[i].core)
            qcow2_free(image->nodes[i].core);
    for (unsigned i = 0; i < image->depth; i++) {
        struct co_request *r = &image->slots[i];
        struct host_buf *bufs[] = {&r->vec,        &r->cow[0],  &r->cow[1],
                                   &r->compressed, &r->cluster, &r->copy};
        for (unsigned b = 0; b < sizeof(bufs) / sizeof(*bufs); b++)
            host_buf_free(bufs[b]);
    }
    free(image->nodes);
    free(image->slots);
    free(image);
}

struct alone {
    struct guest_req g;
    bool done;
};

static void alone_done(struct guest_req *g) { ((struct alone *)g)->done = true; }

/* Runs the one request that a state but CO_RUNNING has: load, or close's sync. */
static int run_alone(struct strategy_image *image, enum co_state state)
{
    struct alone a = {.g = {.op = GUEST_FLUSH, .done = alone_done}};
    image->state = state;
    co_submit(image, &a.g);
    loop_run_until(image->loop, &a.done);
    return a.g.result;
}

int co_open(struct strategy_image **out, const struct strategy_options *so,
            struct error *err)
{
    int ret = settings_check(settings, so->settings, err);
    if (ret < 0)
        return ret;
    struct strategy_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "no memory for the image");
    image->loop = so->loop;
    image->err = err;
    image->hold = settings_is(settings, so->settings, "hold", "metadata");
    image->through = so->through;
    image->writable = so->top->write;
    image->cancel_bh.fn = tell_cancelled;
    image->idle = true;
    ret = open_nodes(image, so);
    if (ret == 0)
        ret = open_slots(image, so->depth);
    if (ret == 0)
        ret = run_alone(image, CO_OPENING);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
    image->state = CO_RUNNING;
    image->err = NULL;
    *out = image;
    return 0;
}

/* Runs in a coroutine like any request; the only one yet. */
int co_load(struct co_request *r)
{
    int ret = 0;
    for (unsigned i = 0; i < r->image->node_count && ret == 0; i++) {
        struct co_node *node = &r->image->nodes[i];
        struct qcow2_ticket ticket = {0};
        if (!node->core)
            continue;
        co_begin(node);
        while ((ret = qcow2_load(node->core, &ticket, &r->need, r->image->err)) > 0)
            if ((ret = co_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        co_end(node);
        if (ret < 0) { /* unless the core has said it better */
            error_set(r->image->err, ret, "metadata: %s", strerror(-ret));
            error_prefix(r->image->err, "%s", blk_path(node->file));
        }
    }
    return ret;
}

/* --- requests --------------------------------------------------------------------- */

void co_submit(struct strategy_image *image, struct guest_req *g)
{
    g->slot = NULL;
    guest_queue_push(&image->queue, g);
    co_admit(image);
}

/* Starts what waits, as long as there are slots. */
void co_admit(struct strategy_image *image)
{
    while (!image->draining && image->free &&
           guest_queue_ready(&image->queue, image->in_flight, image->alone)) {
        struct co_request *r = image->free;
        image->free = r->next;
        image->in_flight++;
        image->idle = false;
        r->guest = guest_queue_pop(&image->queue);
        r->guest->slot = r;
        image->alone = r->guest->op == GUEST_SNAPSHOT_APPLY;
        r->cancelled = r->changed = false;
        co_start(r);
    }
}

static void request_main(void *arg)
{
    struct co_request *r = arg;
    r->result = co_run(r);
    co_defer(r);
}

void co_start(struct co_request *r)
{
    r->co = co_create(request_main, r);
    if (r->co) {
        co_enter(r->co);
    } else {
        r->result = -ENOMEM;
        co_defer(r);
    }
}

/* A request from start to end. */
int co_run(struct co_request *r)
{
    struct strategy_image *image = r->image;
    struct co_node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (image->state == CO_OPENING)
        return co_load(r);
    if (image->state == CO_CLOSING)
        return top->core && image->writable ? co_close_sync(r) : 0;

    int ret = guest_check(g, top->end, image->writable, !top->core);
    if (ret < 0 || guest_is_empty(g))
        return ret;
    if (!top->core) {
        host_raw(&r->aio, g, top->file);
        return co_transfer(r);
    }
    switch (g->op) {
    case GUEST_READ:
        return co_read(r);
    case GUEST_WRITE:
        return co_write(r);
    case GUEST_ZERO:
        return co_zero(r);
    case GUEST_DISCARD:
        return co_discard(r);
    case GUEST_SNAPSHOT_CREATE:
    case GUEST_SNAPSHOT_APPLY:
    case GUEST_SNAPSHOT_DELETE:
        return co_snapshot(r);
    default:
        return co_flush(r);
    }
}

/* Outside any coroutine. The slot is free before the guest is told: it may submit. */
void co_finish(struct co_request *r)
{
    struct strategy_image *image = r->image;
    struct guest_req *g = r->guest;
    g->result = r->result;
    r->next = image->free;
    image->free = r;
    image->idle = --image->in_flight == 0;
    image->alone = false; /* an apply was the only one */
    g->done(g);
    co_admit(image);
}

void co_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct co_request *r = g->slot;
    if (!r) { /* still in the queue */
        guest_queue_remove(&image->queue, g);
        if (!image->cancelled.head)
            loop_defer(image->loop, &image->cancel_bh);
        guest_queue_push(&image->cancelled, g);
        return;
    }
    if (guest_snapshots(g))
        return;          /* half of one would leak clusters */
    r->cancelled = true; /* what is asleep or owes metadata sees it there */
    if (r->transfers)
        aio_cancel(&r->aio);
}

void co_drain_begin(struct strategy_image *image)
{
    image->draining++;
    loop_run_until(image->loop, &image->idle);
}

void co_drain_end(struct strategy_image *image)
{
    assert(image->draining > 0);
    if (--image->draining == 0)
        co_admit(image);
}

void co_stats(struct strategy_image *image, struct strategy_stats *out)
{
    const struct qcow2 *core = image->nodes->core;
    *out = image->stats;
    if (core) {
        out->top = *qcow2_stats(core);
        out->poisoned = qcow2_poisoned(core);
    }
}

int co_close(struct strategy_image *image)
{
    struct co_node *top = image->nodes;
    assert(image->idle && !image->queue.head);
    image->draining = 0;
    int ret = run_alone(image, CO_CLOSING);
    if (ret == 0 && top->core && image->writable)
        ret = host_trim(top->file, top->size_at_open, qcow2_file_end(top->core));
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "coroutines",
    .summary = "a coroutine per request, a mutex over metadata",
    .settings = settings,
    .open = co_open,
    .submit = co_submit,
    .cancel = co_cancel,
    .drain_begin = co_drain_begin,
    .drain_end = co_drain_end,
    .stats = co_stats,
    .close = co_close,
};
