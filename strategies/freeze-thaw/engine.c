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
        struct ft_request *r = guests_slot(&image->guests, i);
        host_bufs_free(&r->buf);
    }
    guests_free(&image->guests);
    nodes_free(image->nodes, image->node_count);
    free(image);
}

int ft_open(struct strategy_image **out, const struct strategy_options *so,
            struct error *err)
{
    struct strategy_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "no memory for the image");
    image->loop = so->loop;
    image->err = err;
    int ret = ft_configure(image, so, err);
    if (ret == 0)
        ret = nodes_open(&image->nodes, &image->node_count, sizeof(struct node_guard),
                         image, so, false, err);
    if (ret == 0)
        ret = guests_open(&image->guests, so->loop, so->depth,
                          sizeof(struct ft_request), err);
    open_guards(image);
    if (ret == 0)
        ret = guests_run_alone(&image->guests, GUESTS_OPENING, image, ft_submit);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
    image->err = NULL;
    *out = image;
    return 0;
}

/* Runs in a coroutine like any request; the only one yet. */
int ft_load(struct ft_request *r)
{
    int ret = 0;
    for (unsigned i = 0; i < r->image->node_count && ret == 0; i++) {
        struct node *node = &r->image->nodes[i];
        struct qcow2_ticket ticket = {0};
        if (!node->core)
            continue;
        ft_begin(r, node);
        while ((ret = qcow2_load(node->core, &ticket, &r->need, r->image->err)) > 0)
            if ((ret = ft_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        ft_end(r, node);
        if (ret < 0)
            node_load_error(node, ret, r->image->err);
    }
    return ret;
}

/* --- requests --------------------------------------------------------------------- */

void ft_submit(struct strategy_image *image, struct guest_req *g)
{
    guests_push(&image->guests, g);
    ft_admit(image);
}

/* Starts what waits, as long as there are slots and the queue is not frozen. */
void ft_admit(struct strategy_image *image)
{
    image->admitting = true;
    struct guest_req *g;
    while (!image->frozen && (g = guests_admit(&image->guests))) {
        struct ft_request *r = g->slot;
        r->image = image;
        r->guest = g;
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
    r->image->stats.coroutines++;
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
    struct node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (image->guests.state == GUESTS_OPENING) {
        ft_finish(r, ft_load(r));
        return;
    }
    if (image->guests.state == GUESTS_CLOSING) {
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
    case GUEST_FLUSH:
        ft_flush(r);
        break;
    default:
        ft_snapshot(r);
    }
}

/* The slot is free before the guest is told: it may submit. */
void ft_finish(struct ft_request *r, int ret)
{
    struct strategy_image *image = r->image;
    r->result = ret;
    if (co_in()) { /* its stack is none of the guest's business */
        ft_defer(r);
        return;
    }
    image->freeze->over(r);
    guests_leave(&image->guests, r->guest, ret);
    ft_admit(image);
}

void ft_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct ft_request *r = guests_cancel(&image->guests, g);
    if (!r)
        return;
    r->cancelled = true; /* what is asleep or owes metadata sees it there */
    if (r->transfers)
        aio_cancel(&r->aio);
}

void ft_drain_begin(struct strategy_image *image)
{
    guests_drain_begin(&image->guests);
}

void ft_drain_end(struct strategy_image *image)
{
    if (guests_drain_end(&image->guests))
        ft_admit(image);
}

void ft_attach(struct strategy_image *image, struct loop *loop)
{
    guests_attach(&image->guests, loop);
    image->loop = loop;
}

void ft_stats(struct strategy_image *image, struct strategy_stats *out)
{
    *out = image->stats;
    node_stats(image->nodes, out);
}

void ft_verify(struct strategy_image *image)
{
    nodes_verify(image->nodes, image->node_count);
}

int ft_close(struct strategy_image *image)
{
    int ret = guests_run_alone(&image->guests, GUESTS_CLOSING, image, ft_submit);
    if (ret == 0)
        ret = node_trim(image->nodes);
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "freeze-thaw",
    .summary = "metadata in a coroutine with the queue frozen, data by callback",
    .settings = ft_settings,
    .ways = ft_ways,
    .one_loop = ft_one_loop,
    .open = ft_open,
    .submit = ft_submit,
    .cancel = ft_cancel,
    .drain_begin = ft_drain_begin,
    .drain_end = ft_drain_end,
    .attach = ft_attach,
    .stats = ft_stats,
    .verify = ft_verify,
    .close = ft_close,
};
