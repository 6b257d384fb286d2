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
    co_open_locks(image);
}

static void admit_again(struct guests *gs)
{
    co_admit(from_member(gs, struct co_home, guests));
}

/* A home for each loop. */
static int open_homes(struct strategy_image *image, const struct strategy_options *so,
                      struct error *err)
{
    unsigned n = guests_loops(so);
    int ret = 0;
    image->homes = calloc(n, sizeof(*image->homes));
    if (!image->homes)
        return error_set(err, -ENOMEM, "no memory for %u loops", n);
    for (unsigned i = 0; i < n && ret == 0; i++) {
        struct co_home *home = &image->homes[i];
        home->image = image;
        ret = guests_open(&home->guests, guests_loop(so, i), guests_depth(so),
                          sizeof(struct co_request), err);
        image->home_count++;
        if (n > 1)
            crowd_add(&image->crowd, &home->guests, admit_again);
    }
    return ret;
}

static void free_homes(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->home_count; i++) {
        struct guests *gs = &image->homes[i].guests;
        for (unsigned s = 0; s < gs->depth; s++)
            host_bufs_free(&((struct co_request *)guests_slot(gs, s))->buf);
        guests_free(gs);
    }
    crowd_destroy(&image->crowd);
    free(image->homes);
}

static void free_image(struct strategy_image *image)
{
    free_homes(image);
    co_destroy_locks(image);
    nodes_free(image->nodes, image->node_count);
    co_restore_runtime(image);
    free(image);
}

int co_open(struct strategy_image **out, const struct strategy_options *so,
            struct error *err)
{
    struct strategy_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "no memory for the image");
    image->loop = so->loop;
    image->env = loop_env(so->loop);
    image->several = guests_loops(so) > 1;
    image->err = err;
    int ret = co_configure(image, so, err);
    if (ret == 0)
        ret = nodes_open(&image->nodes, &image->node_count, sizeof(struct node_guard),
                         image, so, image->driver != NULL, err);
    open_guards(image);
    if (ret == 0)
        ret = open_homes(image, so, err);
    if (ret == 0 && !image->nodes->core && !image->driver)
        image->lock = &co_no_lock; /* raw: there is nothing to guard */
    if (ret == 0)
        ret = guests_run_alone(&image->homes->guests, GUESTS_OPENING, image, co_submit);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
    image->err = NULL;
    *out = image;
    return 0;
}

/* Runs in a coroutine like any request; the only one yet. */
int co_load(struct co_request *r)
{
    int ret = 0;
    for (unsigned i = 0; i < r->image->node_count && ret == 0; i++) {
        struct node *node = &r->image->nodes[i];
        struct qcow2_ticket ticket = {0};
        if (!node->core)
            continue;
        co_begin(r, node);
        while ((ret = qcow2_load(node->core, &ticket, &r->need, r->image->err)) > 0)
            if ((ret = co_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        co_end(node);
        if (ret < 0)
            node_load_error(node, ret, r->image->err);
    }
    return ret;
}

/* --- requests --------------------------------------------------------------------- */

void co_submit(struct strategy_image *image, struct guest_req *g)
{
    struct co_home *home = &image->homes[g->home];
    if (image->several) /* they may wake this thread's coroutines */
        loop_take_wakes(home->guests.loop);
    guests_push(&home->guests, g);
    co_admit(home);
}

/* Starts what waits, as long as there are slots. */
void co_admit(struct co_home *home)
{
    struct guest_req *g;
    while ((g = guests_admit(&home->guests))) {
        struct co_request *r = g->slot;
        r->image = home->image;
        r->home = home;
        r->guest = g;
        r->cancelled = r->changed = false;
        co_start(r);
    }
}

static void request_main(void *arg)
{
    struct co_request *r = arg;
    const struct co_lock *lock = r->image->lock;
    if (lock->take)
        lock->take(r, 0);
    if (r->fast.owes)
        co_pay(r);
    r->result = r->cancelled ? -ECANCELED : co_run(r);
    if (lock->give)
        lock->give(r, 0);
    co_defer(r);
}

void co_start(struct co_request *r)
{
    if (co_fast(r))
        return;
    co_count(&r->home->counts.coroutines, 1);
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
    struct node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (r->home->guests.state == GUESTS_OPENING)
        return co_load(r);
    if (r->home->guests.state == GUESTS_CLOSING && !image->driver)
        return top->core && image->writable ? co_close_sync(r) : 0;

    int ret = guest_check(g, top->end, image->writable, !top->core);
    if (ret < 0 || guest_is_empty(g))
        return ret;
    if (image->driver)
        return co_wrapped(r);
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
    case GUEST_FLUSH:
        return co_flush(r);
    default:
        return co_snapshot(r);
    }
}

/* Outside any coroutine. The slot is free before the guest is told: it may submit. */
void co_finish(struct co_request *r)
{
    struct co_home *home = r->home;
    guests_leave(&home->guests, r->guest, r->result);
    co_admit(home);
}

void co_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct co_request *r = guests_cancel(&image->homes[g->home].guests, g);
    if (!r)
        return;
    r->cancelled = true; /* what is asleep or owes metadata sees it there */
    if (r->transfers)
        aio_cancel(&r->aio);
}

void co_drain_begin(struct strategy_image *image)
{
    guests_drain_begin(&image->homes->guests);
}

void co_drain_end(struct strategy_image *image)
{
    if (guests_drain_end(&image->homes->guests))
        co_admit(image->homes);
}

void co_attach(struct strategy_image *image, struct loop *loop)
{
    guests_attach(&image->homes->guests, loop);
    image->loop = loop;
}

/* The cores are others' to change meanwhile; a sum of counters needs no moment. */
void co_stats(struct strategy_image *image, struct strategy_stats *out)
{
    *out = (struct strategy_stats){0};
    for (unsigned i = 0; i < image->home_count; i++) {
        const struct co_counts *c = &image->homes[i].counts;
        out->locks += c->locks;
        out->lock_waits += c->lock_waits;
        out->coroutines += c->coroutines;
        out->bytes_copied += c->bytes_copied;
    }
    for (unsigned i = 0; image->several && i < image->node_count; i++)
        env_mutex_lock(image->env, &image->nodes[i].guard->verbs);
    node_stats(image->nodes, out);
    for (unsigned i = 0; i < image->node_count; i++) {
        out->wakeups += image->nodes[i].guard->wakeups;
        if (image->several)
            env_mutex_unlock(image->env, &image->nodes[i].guard->verbs);
    }
}

void co_verify(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->node_count; i++) {
        if (image->several)
            env_mutex_lock(image->env, &image->nodes[i].guard->verbs);
        nodes_verify(&image->nodes[i], 1);
        if (image->several)
            env_mutex_unlock(image->env, &image->nodes[i].guard->verbs);
    }
}

int co_close(struct strategy_image *image)
{
    crowd_close(&image->crowd);
    int ret = guests_run_alone(&image->homes->guests, GUESTS_CLOSING, image, co_submit);
    if (ret == 0)
        ret = node_trim(image->nodes);
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "coroutines",
    .summary = "a coroutine per request; a mutex over metadata, or another lock",
    .settings = co_settings,
    .ways = co_ways,
    .one_loop = co_one_loop,
    .open = co_open,
    .submit = co_submit,
    .cancel = co_cancel,
    .drain_begin = co_drain_begin,
    .drain_end = co_drain_end,
    .attach = co_attach,
    .stats = co_stats,
    .verify = co_verify,
    .close = co_close,
};
