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

#include <errno.h>
#include <stdlib.h>

/* --- opening ---------------------------------------------------------------------- */

/* The guards, and who sleeps behind them: nobody yet. */
static void open_guards(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->node_count; i++) {
        struct node_guard *guard = image->nodes[i].guard;
        guard->end_asleep = &guard->asleep;
    }
}

static void free_image(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->guests.depth; i++) {
        struct cb_request *r = guests_slot(&image->guests, i);
        host_bufs_free(&r->buf);
    }
    guests_free(&image->guests);
    nodes_free(image->nodes, image->node_count);
    loop_destroy(image->metadata_loop);
    free(image);
}

int cb_open(struct strategy_image **out, const struct strategy_options *so,
            struct error *err)
{
    struct strategy_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "no memory for the image");
    image->loop = so->loop;
    image->err = err;
    int ret = cb_configure(image, so, err);
    if (ret == 0)
        ret = nodes_open(&image->nodes, &image->node_count, sizeof(struct node_guard),
                         image, so, false, err);
    if (ret == 0)
        ret = guests_open(&image->guests, so->loop, so->depth,
                          sizeof(struct cb_request), err);
    open_guards(image);
    if (ret == 0)
        ret = guests_run_alone(&image->guests, GUESTS_OPENING, image, cb_submit);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
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
    struct node *node = &r->image->nodes[r->load];
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
        node_load_error(node, ret, r->image->err);
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
    guests_push(&image->guests, g);
    cb_admit(image);
}

/* Starts what waits, as long as there are slots. */
void cb_admit(struct strategy_image *image)
{
    struct guest_req *g;
    while ((g = guests_admit(&image->guests))) {
        struct cb_request *r = g->slot;
        r->image = image;
        r->guest = g;
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
    struct node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (image->guests.state == GUESTS_OPENING) {
        cb_load(r);
        return;
    }
    if (image->guests.state == GUESTS_CLOSING) {
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
    case GUEST_FLUSH:
        cb_flush(r);
        break;
    default:
        cb_snapshot(r);
    }
}

/* The last continuation. The slot is free before the guest is told: it may submit. */
void cb_finish(struct cb_request *r, int ret)
{
    struct strategy_image *image = r->image;
    if (r->starting) {
        cb_defer(r, cb_finish, ret);
        return;
    }
    guests_leave(&image->guests, r->guest, ret);
    cb_admit(image);
}

void cb_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct cb_request *r = guests_cancel(&image->guests, g);
    if (!r)
        return;
    r->cancelled = true; /* what is asleep or owes metadata sees it there */
    if (r->transfers)
        aio_cancel(&r->aio);
}

void cb_drain_begin(struct strategy_image *image)
{
    guests_drain_begin(&image->guests);
}

void cb_drain_end(struct strategy_image *image)
{
    if (guests_drain_end(&image->guests))
        cb_admit(image);
}

void cb_attach(struct strategy_image *image, struct loop *loop)
{
    guests_attach(&image->guests, loop);
    image->loop = loop;
}

void cb_stats(struct strategy_image *image, struct strategy_stats *out)
{
    *out = image->stats;
    node_stats(image->nodes, out);
}

void cb_verify(struct strategy_image *image)
{
    nodes_verify(image->nodes, image->node_count);
}

int cb_close(struct strategy_image *image)
{
    int ret = guests_run_alone(&image->guests, GUESTS_CLOSING, image, cb_submit);
    if (ret == 0)
        ret = node_trim(image->nodes);
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "callbacks",
    .summary = "continuations and explicit state",
    .settings = cb_settings,
    .ways = cb_ways,
    .one_loop = cb_one_loop,
    .open = cb_open,
    .submit = cb_submit,
    .cancel = cb_cancel,
    .drain_begin = cb_drain_begin,
    .drain_end = cb_drain_end,
    .attach = cb_attach,
    .stats = cb_stats,
    .verify = cb_verify,
    .close = cb_close,
};
