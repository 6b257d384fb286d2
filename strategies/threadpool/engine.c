/*
 * From the guest's request to a worker, and back.
 *
 *   submit -> queue -> admit: a free slot -> ready -> a worker takes it -> run
 *                                                      |  (blocks in settle.c)
 *   done() <- finish <- bottom half of the loop it came from <- posted
 */
#include "strategies/threadpool/model.h"

#include <errno.h>
#include <stdlib.h>

/* --- opening ---------------------------------------------------------------------- */

static void open_requests(struct tp_home *home)
{
    for (unsigned i = 0; i < home->guests.depth; i++) {
        struct tp_request *r = guests_slot(&home->guests, i);
        r->image = home->image;
        r->home = home;
        r->waits = home->image->waits;
        r->waits->open(r);
    }
}

static void close_requests(struct tp_home *home)
{
    for (unsigned i = 0; i < home->guests.depth; i++)
        home->image->waits->close(guests_slot(&home->guests, i));
}

static void admit_again(struct guests *gs)
{
    tp_admit(from_member(gs, struct tp_home, guests));
}

/* A home for each loop. What is made for the slots of all of them is this thread's, which
 * will close them, too. */
static int open_homes(struct strategy_image *image, const struct strategy_options *so,
                      struct error *err)
{
    unsigned n = guests_loops(so);
    int ret = 0;
    image->homes = calloc(n, sizeof(*image->homes));
    if (!image->homes)
        return error_set(err, -ENOMEM, "no memory for %u loops", n);
    for (unsigned i = 0; i < n && ret == 0; i++) {
        struct tp_home *home = &image->homes[i];
        home->image = image;
        ret = guests_open(&home->guests, guests_loop(so, i), guests_depth(so),
                          sizeof(struct tp_request), err);
        image->home_count++;
        open_requests(home);
        if (n > 1)
            crowd_add(&image->crowd, &home->guests, admit_again);
        for (unsigned s = 0; n > 1 && s < home->guests.depth && ret == 0; s++)
            if ((ret = image->waits->begin(guests_slot(&home->guests, s))) < 0)
                error_set(err, ret, "no memory for request %u of loop %u", s, i);
    }
    return ret;
}

static void free_homes(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->home_count; i++) {
        struct tp_home *home = &image->homes[i];
        close_requests(home);
        for (unsigned s = 0; s < home->guests.depth; s++)
            host_bufs_free(&((struct tp_request *)guests_slot(&home->guests, s))->buf);
        guests_free(&home->guests);
    }
    crowd_destroy(&image->crowd);
    free(image->homes);
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
    free_homes(image);
    image->own.waits->close(&image->own);
    for (unsigned i = 0; i < image->node_count; i++)
        tp_lock_destroy(&image->nodes[i].guard->lock);
    env_mutex_destroy(&image->pool_lock);
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
    image->idle = &tp_idle_sleep; /* until it is known */
    image->own.image = image;
    image->own.waits = &tp_waits_block;
    image->own.waits->open(&image->own);
    int ret = tp_configure(image, so, err);
    if (ret == 0)
        ret = nodes_open(&image->nodes, &image->node_count, sizeof(struct node_guard),
                         image, so, false, err);
    open_guards(image);
    if (ret == 0)
        ret = open_homes(image, so, err);
    if (ret == 0)
        ret = tp_pool_start(image);
    if (ret == 0)
        ret = guests_run_alone(&image->homes->guests, GUESTS_OPENING, image, tp_submit);
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
    struct tp_home *home = &image->homes[g->home];
    guests_push(&home->guests, g);
    tp_admit(home);
}

/* Hands what waits to the workers, as long as there are slots. */
void tp_admit(struct tp_home *home)
{
    struct guest_req *g;
    while ((g = guests_admit(&home->guests))) {
        struct tp_request *r = g->slot;
        r->guest = g;
        r->worker = NULL;
        r->cancelled = r->changed = false;
        loop_expect_post(home->guests.loop, home->image->spin_ns);
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
    if (r->home->guests.state == GUESTS_OPENING)
        return tp_load(r);
    if (r->home->guests.state == GUESTS_CLOSING)
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

/* On its home. The slot is free before the guest is told: it may submit. */
void tp_finish(struct tp_request *r)
{
    struct tp_home *home = r->home;
    loop_had_post(home->guests.loop);
    guests_leave(&home->guests, r->guest, r->result);
    tp_admit(home);
}

void tp_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct tp_request *r = guests_cancel(&image->homes[g->home].guests, g);
    if (!r)
        return;
    r->cancelled = true; /* what is asleep or owes metadata sees it there */
    env_touch(image->env, &r->cancelled);
    tp_pool_nudge(r);
}

void tp_drain_begin(struct strategy_image *image)
{
    guests_drain_begin(&image->homes->guests);
}

void tp_drain_end(struct strategy_image *image)
{
    if (guests_drain_end(&image->homes->guests))
        tp_admit(image->homes);
}

void tp_attach(struct strategy_image *image, struct loop *loop)
{
    guests_attach(&image->homes->guests, loop);
    tp_pool_leaves_loop(image);
    image->loop = loop;
    close_requests(image->homes); /* their stacks are this thread's */
    open_requests(image->homes);
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
    crowd_close(&image->crowd);
    int ret = guests_run_alone(&image->homes->guests, GUESTS_CLOSING, image, tp_submit);
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
    .one_loop = tp_one_loop,
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
