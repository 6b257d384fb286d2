/*
 * From the guest's request to its first function, and back.
 *
 *   submit -> queue -> admit: a free slot -> run: the first function of its kind
 *                              |  (each stores a continuation in settle.c and returns)
 *   done() <- finish <- the last continuation
 *
 * done() never comes from inside submit(): a request that gets to its end there
 * (nothing to wait for, or an error) finishes in a bottom half.
 */
#include "strategies/callbacks/model.h"

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
    struct cb_node *node = image->nodes;
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
        struct cb_request *r = &image->slots[i];
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
        struct cb_request *r = &image->slots[i];
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

/* Runs the one request that a state but CB_RUNNING has: load, or close's sync. */
static int run_alone(struct strategy_image *image, enum cb_state state)
{
    struct alone a = {.g = {.op = GUEST_FLUSH, .done = alone_done}};
    image->state = state;
    cb_submit(image, &a.g);
    loop_run_until(image->loop, &a.done);
    return a.g.result;
}

int cb_open(struct strategy_image **out, const struct strategy_options *so,
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
        ret = run_alone(image, CB_OPENING);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
    image->state = CB_RUNNING;
    image->err = NULL;
    *out = image;
    return 0;
}

static void load_again(struct cb_request *r, int ret);

static void load_next(struct cb_request *r)
{
    const struct strategy_image *image = r->image;
    while (r->load < image->node_count && !image->nodes[r->load].core)
        r->load++;
    r->ticket = (struct qcow2_ticket){0};
    if (r->load < image->node_count)
        load_again(r, 0);
    else
        cb_finish(r, 0);
}

static void load_again(struct cb_request *r, int ret)
{
    struct cb_node *node = &r->image->nodes[r->load];
    if (ret < 0) {
        cb_give_up(r, ret);
    } else {
        cb_begin(node);
        ret = qcow2_load(node->core, &r->ticket, &r->need, r->image->err);
        cb_end(node);
    }
    if (ret > 0) {
        cb_settle(r, node, ret, load_again);
    } else if (ret == 0) {
        r->load++;
        load_next(r);
    } else {
        /* unless the core has said it better */
        error_set(r->image->err, ret, "metadata: %s", strerror(-ret));
        error_prefix(r->image->err, "%s", blk_path(node->file));
        cb_finish(r, ret);
    }
}

/* The only request yet. */
void cb_load(struct cb_request *r)
{
    r->load = 0;
    load_next(r);
}

/* --- requests --------------------------------------------------------------------- */

void cb_submit(struct strategy_image *image, struct guest_req *g)
{
    g->slot = NULL;
    guest_queue_push(&image->queue, g);
    cb_admit(image);
}

/* Starts what waits, as long as there are slots. */
void cb_admit(struct strategy_image *image)
{
    while (!image->draining && image->free &&
           guest_queue_ready(&image->queue, image->in_flight, image->alone)) {
        struct cb_request *r = image->free;
        image->free = r->next;
        image->in_flight++;
        image->idle = false;
        r->guest = guest_queue_pop(&image->queue);
        r->guest->slot = r;
        image->alone = r->guest->op == GUEST_SNAPSHOT_APPLY;
        r->cancelled = r->changed = false;
        cb_start(r);
    }
}

void cb_start(struct cb_request *r)
{
    r->starting = true;
    cb_run(r);
    r->starting = false;
}

/* Begins a request. */
void cb_run(struct cb_request *r)
{
    struct strategy_image *image = r->image;
    struct cb_node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (image->state == CB_OPENING) {
        cb_load(r);
        return;
    }
    if (image->state == CB_CLOSING) {
        if (top->core && image->writable)
            cb_close_sync(r);
        else
            cb_finish(r, 0);
        return;
    }

    int ret = guest_check(g, top->end, image->writable, !top->core);
    if (ret < 0 || guest_is_empty(g)) {
        cb_finish(r, ret);
        return;
    }
    if (!top->core) {
        host_raw(&r->aio, g, top->file);
        cb_transfer(r, cb_finish);
        return;
    }
    switch (g->op) {
    case GUEST_READ:
        cb_read(r);
        break;
    case GUEST_WRITE:
        cb_write(r);
        break;
    case GUEST_ZERO:
        cb_zero(r);
        break;
    case GUEST_DISCARD:
        cb_discard(r);
        break;
    case GUEST_SNAPSHOT_CREATE:
    case GUEST_SNAPSHOT_APPLY:
    case GUEST_SNAPSHOT_DELETE:
        cb_snapshot(r);
        break;
    default:
        cb_flush(r);
    }
}

/* The last continuation. The slot is free before the guest is told: it may submit. */
void cb_finish(struct cb_request *r, int ret)
{
    struct strategy_image *image = r->image;
    struct guest_req *g = r->guest;
    if (r->starting) {
        cb_defer(r, cb_finish, ret);
        return;
    }
    g->result = ret;
    r->next = image->free;
    image->free = r;
    image->idle = --image->in_flight == 0;
    image->alone = false; /* an apply was the only one */
    g->done(g);
    cb_admit(image);
}

void cb_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct cb_request *r = g->slot;
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

void cb_drain_begin(struct strategy_image *image)
{
    image->draining++;
    loop_run_until(image->loop, &image->idle);
}

void cb_drain_end(struct strategy_image *image)
{
    assert(image->draining > 0);
    if (--image->draining == 0)
        cb_admit(image);
}

void cb_stats(struct strategy_image *image, struct strategy_stats *out)
{
    const struct qcow2 *core = image->nodes->core;
    *out = image->stats;
    if (core) {
        out->top = *qcow2_stats(core);
        out->poisoned = qcow2_poisoned(core);
    }
}

int cb_close(struct strategy_image *image)
{
    struct cb_node *top = image->nodes;
    assert(image->idle && !image->queue.head);
    image->draining = 0;
    int ret = run_alone(image, CB_CLOSING);
    if (ret == 0 && top->core && image->writable)
        ret = host_trim(top->file, top->size_at_open, qcow2_file_end(top->core));
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "callbacks",
    .summary = "continuations and explicit state, all metadata asynchronous",
    .settings = settings,
    .open = cb_open,
    .submit = cb_submit,
    .cancel = cb_cancel,
    .drain_begin = cb_drain_begin,
    .drain_end = cb_drain_end,
    .stats = cb_stats,
    .close = cb_close,
};
