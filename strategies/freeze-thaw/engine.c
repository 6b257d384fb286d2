/*
 * From the guest's request to its phases, and back.
 *
 *   submit -> queue -> admit, unless frozen: a free slot -> a coroutine -> run
 *                              |  (freezes, thaws, submits data and is gone)
 *                              v
 *          callback of the data -> another phase in a coroutine, or the end
 *   done() <- finish <- callback, or a bottom half at the end of a coroutine
 */
#include "strategies/freeze-thaw/model.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/env/settings.h"

static const struct setting settings[] = {
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
    struct ft_node *node = image->nodes;
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
        struct ft_request *r = &image->slots[i];
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
        struct ft_request *r = &image->slots[i];
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

/* Runs the one request that a state but FT_RUNNING has: load, or close's sync. */
static int run_alone(struct strategy_image *image, enum ft_state state)
{
    struct alone a = {.g = {.op = GUEST_FLUSH, .done = alone_done}};
    image->state = state;
    ft_submit(image, &a.g);
    loop_run_until(image->loop, &a.done);
    return a.g.result;
}

int ft_open(struct strategy_image **out, const struct strategy_options *so,
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
    image->through = so->through;
    image->writable = so->top->write;
    image->cancel_bh.fn = tell_cancelled;
    image->idle = true;
    ret = open_nodes(image, so);
    if (ret == 0)
        ret = open_slots(image, so->depth);
    if (ret == 0)
        ret = run_alone(image, FT_OPENING);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
    image->state = FT_RUNNING;
    image->err = NULL;
    *out = image;
    return 0;
}

/* Runs in a coroutine like any request; the only one yet. */
int ft_load(struct ft_request *r)
{
    int ret = 0;
    for (unsigned i = 0; i < r->image->node_count && ret == 0; i++) {
        struct ft_node *node = &r->image->nodes[i];
        struct qcow2_ticket ticket = {0};
        if (!node->core)
            continue;
        ft_begin(node);
        while ((ret = qcow2_load(node->core, &ticket, &r->need, r->image->err)) > 0)
            if ((ret = ft_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        ft_end(node);
        if (ret < 0) { /* unless the core has said it better */
            error_set(r->image->err, ret, "metadata: %s", strerror(-ret));
            error_prefix(r->image->err, "%s", blk_path(node->file));
        }
    }
    return ret;
}

/* --- requests --------------------------------------------------------------------- */

void ft_submit(struct strategy_image *image, struct guest_req *g)
{
    g->slot = NULL;
    guest_queue_push(&image->queue, g);
    ft_admit(image);
}

/* Starts what waits, as long as there are slots and the queue is not frozen. */
void ft_admit(struct strategy_image *image)
{
    image->admitting = true;
    while (!image->draining && !image->frozen && image->free &&
           guest_queue_ready(&image->queue, image->in_flight, image->alone)) {
        struct ft_request *r = image->free;
        image->free = r->next;
        image->in_flight++;
        image->idle = false;
        r->guest = guest_queue_pop(&image->queue);
        r->guest->slot = r;
        image->alone = r->guest->op == GUEST_SNAPSHOT_APPLY;
        r->cancelled = r->changed = false;
        r->at = 0;
        ft_start(r, ft_run);
    }
    image->admitting = false;
}

static void phase_main(void *arg)
{
    struct ft_request *r = arg;
    r->phase(r);
}

void ft_start(struct ft_request *r, ft_phase *phase)
{
    r->phase = phase;
    r->co = co_create(phase_main, r);
    if (r->co) {
        co_enter(r->co);
    } else { /* between phases a request holds nothing of the core */
        r->result = -ENOMEM;
        ft_defer(r);
    }
}

/* The first phase. */
void ft_run(struct ft_request *r)
{
    struct strategy_image *image = r->image;
    struct ft_node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (image->state == FT_OPENING) {
        ft_finish(r, ft_load(r));
        return;
    }
    if (image->state == FT_CLOSING) {
        ft_finish(r, top->core && image->writable ? ft_close_sync(r) : 0);
        return;
    }

    int ret = guest_check(g, top->end, image->writable, !top->core);
    if (ret < 0 || guest_is_empty(g)) {
        ft_finish(r, ret);
        return;
    }
    if (!top->core) {
        host_raw(&r->aio, g, top->file);
        ret = ft_transfer(r, ft_finish);
        if (ret < 0)
            ft_finish(r, ret);
        return;
    }
    switch (g->op) {
    case GUEST_READ:
        ft_read(r);
        break;
    case GUEST_WRITE:
        ft_write(r);
        break;
    case GUEST_ZERO:
        ft_zero(r);
        break;
    case GUEST_DISCARD:
        ft_discard(r);
        break;
    case GUEST_SNAPSHOT_CREATE:
    case GUEST_SNAPSHOT_APPLY:
    case GUEST_SNAPSHOT_DELETE:
        ft_snapshot(r);
        break;
    default:
        ft_flush(r);
    }
}

/* The slot is free before the guest is told: it may submit. */
void ft_finish(struct ft_request *r, int ret)
{
    struct strategy_image *image = r->image;
    struct guest_req *g = r->guest;
    r->result = ret;
    if (co_in()) { /* its stack is none of the guest's business */
        ft_defer(r);
        return;
    }
    g->result = ret;
    r->next = image->free;
    image->free = r;
    image->idle = --image->in_flight == 0;
    image->alone = false; /* an apply was the only one */
    g->done(g);
    ft_admit(image);
}

void ft_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct ft_request *r = g->slot;
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

void ft_drain_begin(struct strategy_image *image)
{
    image->draining++;
    loop_run_until(image->loop, &image->idle);
}

void ft_drain_end(struct strategy_image *image)
{
    assert(image->draining > 0);
    if (--image->draining == 0)
        ft_admit(image);
}

void ft_stats(struct strategy_image *image, struct strategy_stats *out)
{
    const struct qcow2 *core = image->nodes->core;
    *out = image->stats;
    if (core) {
        out->top = *qcow2_stats(core);
        out->poisoned = qcow2_poisoned(core);
    }
}

int ft_close(struct strategy_image *image)
{
    struct ft_node *top = image->nodes;
    assert(image->idle && !image->queue.head);
    image->draining = 0;
    int ret = run_alone(image, FT_CLOSING);
    if (ret == 0 && top->core && image->writable)
        ret = host_trim(top->file, top->size_at_open, qcow2_file_end(top->core));
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "freeze-thaw",
    .summary = "metadata in a coroutine with the queue frozen, data by callback",
    .settings = settings,
    .open = ft_open,
    .submit = ft_submit,
    .cancel = ft_cancel,
    .drain_begin = ft_drain_begin,
    .drain_end = ft_drain_end,
    .stats = ft_stats,
    .close = ft_close,
};
