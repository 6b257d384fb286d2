/*
 * From the guest's request to a worker, and back.
 *
 *   submit -> queue -> admit: a free slot -> ready -> a worker takes it -> run
 *                                                      |  (blocks in settle.c)
 *   done() <- finish <- bottom half on the submitter's loop <- finished
 *
 * Completions are handed back in batches: one posted bottom half takes all that have
 * gathered in `finished` when it runs, so a busy pool wakes the submitter once for
 * many.
 */
#include "strategies/threadpool/model.h"

#include <errno.h>
#include <stdlib.h>

/* --- opening ---------------------------------------------------------------------- */

static struct tp_request *slot(struct strategy_image *image, unsigned i)
{
    return guests_slot(&image->guests, i);
}

static void open_requests(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->guests.depth; i++) {
        struct tp_request *r = slot(image, i);
        r->image = image;
        r->waits = image->waits;
        r->waits->open(r);
    }
}

static void close_requests(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->guests.depth; i++)
        image->waits->close(slot(image, i));
}

/* The guards, and who sleeps behind them: nobody yet. */
static void open_guards(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->node_count; i++) {
        struct node_guard *guard = image->nodes[i].guard;
        guard->end_asleep = &guard->asleep;
        tp_lock_init(&guard->lock, image);
    }
}

static void free_image(struct strategy_image *image)
{
    tp_pool_stop(image);
    close_requests(image);
    for (unsigned i = 0; i < image->guests.depth; i++)
        host_bufs_free(&slot(image, i)->buf);
    image->own.waits->close(&image->own);
    for (unsigned i = 0; i < image->node_count; i++)
        tp_lock_destroy(&image->nodes[i].guard->lock);
    env_mutex_destroy(&image->pool_lock);
    guests_free(&image->guests);
    nodes_free(image->nodes, image->node_count);
    free(image->workers);
    free(image);
}

int tp_open(struct strategy_image **out, const struct strategy_options *so,
            struct error *err)
{
    struct strategy_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "no memory for the image");
    image->loop = so->loop;
    image->env = loop_env(so->loop);
    image->err = err;
    env_mutex_init(&image->pool_lock);
    image->own.image = image;
    image->own.waits = &tp_waits_block;
    image->own.waits->open(&image->own);
    int ret = tp_configure(image, so, err);
    if (ret == 0)
        ret = nodes_open(&image->nodes, &image->node_count, sizeof(struct node_guard),
                         image, so, false, err);
    if (ret == 0)
        ret = guests_open(&image->guests, so->loop, so->depth,
                          sizeof(struct tp_request), err);
    open_guards(image);
    open_requests(image);
    if (ret == 0)
        ret = tp_pool_start(image);
    if (ret == 0)
        ret = guests_run_alone(&image->guests, GUESTS_OPENING, image, tp_submit);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
    image->err = NULL;
    *out = image;
    return 0;
}

/* Runs on a worker like any request; the only one yet. */
int tp_load(struct tp_request *r)
{
    int ret = 0;
    for (unsigned i = 0; i < r->image->node_count && ret == 0; i++) {
        struct node *node = &r->image->nodes[i];
        struct qcow2_ticket ticket = {0};
        if (!node->core)
            continue;
        tp_begin(r, node);
        while ((ret = qcow2_load(node->core, &ticket, &r->need, r->image->err)) > 0)
            if ((ret = tp_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        tp_end(node);
        if (ret < 0)
            node_load_error(node, ret, r->image->err);
    }
    return ret;
}

/* --- requests --------------------------------------------------------------------- */

void tp_submit(struct strategy_image *image, struct guest_req *g)
{
    guests_push(&image->guests, g);
    tp_admit(image);
}

/* Hands what waits to the workers, as long as there are slots. */
void tp_admit(struct strategy_image *image)
{
    struct guest_req *g;
    while ((g = guests_admit(&image->guests))) {
        struct tp_request *r = g->slot;
        r->guest = g;
        r->cancelled = r->changed = false;
        tp_start(r);
    }
}

void tp_start(struct tp_request *r)
{
    r->result = r->waits->begin(r);
    if (r->result == 0)
        tp_pool_hand(r);
    else
        tp_defer(r);
}

/* A request from start to end. */
int tp_run(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    struct node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (image->guests.state == GUESTS_OPENING)
        return tp_load(r);
    if (image->guests.state == GUESTS_CLOSING)
        return top->core && image->writable ? tp_close_sync(r) : 0;

    int ret = guest_check(g, top->end, image->writable, !top->core);
    if (ret < 0 || guest_is_empty(g))
        return ret;
    if (!top->core) {
        host_raw(&r->aio, g, top->file);
        return tp_transfer(r);
    }
    switch (g->op) {
    case GUEST_READ:
        return tp_read(r);
    case GUEST_WRITE:
        return tp_write(r);
    case GUEST_ZERO:
        return tp_zero(r);
    case GUEST_DISCARD:
        return tp_discard(r);
    case GUEST_FLUSH:
        return tp_flush(r);
    default:
        return tp_snapshot(r);
    }
}

/* On the submitter's loop. The slot is free before the guest is told: it may submit. */
void tp_finish(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    guests_leave(&image->guests, r->guest, r->result);
    tp_admit(image);
}

void tp_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct tp_request *r = guests_cancel(&image->guests, g);
    if (!r)
        return;
    r->cancelled = true; /* what is asleep or owes metadata sees it there */
    env_touch(image->env, &r->cancelled);
    tp_pool_nudge(r);
}

void tp_drain_begin(struct strategy_image *image)
{
    guests_drain_begin(&image->guests);
}

void tp_drain_end(struct strategy_image *image)
{
    if (guests_drain_end(&image->guests))
        tp_admit(image);
}

void tp_attach(struct strategy_image *image, struct loop *loop)
{
    guests_attach(&image->guests, loop);
    image->loop = loop;
    close_requests(image); /* their stacks are this thread's */
    open_requests(image);
}

void tp_stats(struct strategy_image *image, struct strategy_stats *out)
{
    struct node *top = image->nodes;
    *out = (struct strategy_stats){.wakeups = image->wakeups,
                                   .locks = image->locks,
                                   .bytes_copied = image->bytes_copied};
    for (unsigned i = 0; i < image->node_count; i++)
        out->lock_waits += image->nodes[i].guard->lock.waits;
    if (!top->core)
        return;
    tp_begin(&image->own, top);
    node_stats(top, out);
    tp_end(top);
}

void tp_verify(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->node_count; i++) {
        struct node *node = &image->nodes[i];
        if (!node->core)
            continue;
        tp_begin(&image->own, node);
        nodes_verify(node, 1);
        tp_end(node);
    }
}

int tp_close(struct strategy_image *image)
{
    int ret = guests_run_alone(&image->guests, GUESTS_CLOSING, image, tp_submit);
    if (ret == 0)
        ret = node_trim(image->nodes);
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "threadpool",
    .summary = "a blocking worker thread per request, a mutex over metadata",
    .settings = tp_settings,
    .ways = tp_ways,
    .open = tp_open,
    .submit = tp_submit,
    .cancel = tp_cancel,
    .drain_begin = tp_drain_begin,
    .drain_end = tp_drain_end,
    .attach = tp_attach,
    .stats = tp_stats,
    .verify = tp_verify,
    .close = tp_close,
};
