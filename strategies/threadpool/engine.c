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

/* The guards, and who sleeps behind them: nobody yet. */
static void open_guards(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->node_count; i++) {
        struct node_guard *guard = image->nodes[i].guard;
        guard->end_asleep = &guard->asleep;
        env_mutex_init(&guard->lock);
    }
    for (unsigned i = 0; i < image->guests.depth; i++)
        env_cond_init(&slot(image, i)->wakeup);
}

/* --- workers ---------------------------------------------------------------------- */

static void loop_started(struct loop_bh *bh)
{
    struct strategy_image *image = from_member(bh, struct tp_worker, started)->image;
    image->all_started = ++image->loops_started == image->threads_started;
}

/* On the worker's own loop, so nobody else is in it. */
static void nudge(struct loop_bh *bh)
{
    struct tp_worker *w = from_member(bh, struct tp_worker, nudge);
    env_mutex_lock(w->image->env, &w->image->pool_lock);
    w->nudged = false;
    env_mutex_unlock(w->image->env, &w->image->pool_lock);
    if (w->request && w->request->cancelled && w->request->transfers)
        aio_cancel(&w->request->aio);
}

/* Under pool_lock: whom to wake for what is ready, by env_cond_signal() without it. One
 * at a time: who comes and leaves work behind calls the next. So a worker that is quick
 * does a burst alone, and a slow one is soon joined. The last to rest has the warmest
 * caches. NULL: nobody. */
static struct tp_worker *call_worker(struct strategy_image *image)
{
    struct tp_worker *w = image->resting;
    if (!w || image->calling || !image->ready)
        return NULL;
    image->resting = w->next;
    image->calling = true;
    w->called = true;
    return w;
}

static void rest(struct tp_worker *w)
{
    struct strategy_image *image = w->image;
    w->next = image->resting;
    image->resting = w;
    while (!w->called && !image->stop)
        env_cond_wait(image->env, &w->work, &image->pool_lock);
    if (w->called)
        image->calling = false;
    w->called = false;
}

/* The oldest request that is ready; rests until there is one. NULL: time to go. */
static struct tp_request *take(struct tp_worker *w)
{
    struct strategy_image *image = w->image;
    env_mutex_lock(image->env, &image->pool_lock);
    while (!image->ready && !image->stop)
        rest(w);
    struct tp_request *r = image->ready;
    if (r) {
        image->ready = r->next;
        if (!image->ready)
            image->end_ready = &image->ready;
        r->worker = w;
    }
    struct tp_worker *other = call_worker(image);
    env_mutex_unlock(image->env, &image->pool_lock);
    if (other)
        env_cond_signal(image->env, &other->work);
    return r;
}

static void worker_main(void *arg)
{
    struct tp_worker *w = arg;
    struct strategy_image *image = w->image;
    w->result = loop_create(&w->loop, image->env, &image->engine, &w->err);
    loop_post(image->loop, &w->started);
    if (w->result < 0)
        return;
    while ((w->request = take(w))) {
        w->request->result = tp_run(w->request);
        tp_defer(w->request);
    }
    loop_turn(w->loop, false); /* a nudge that came too late */
    loop_destroy(w->loop);
}

static void stop_workers(struct strategy_image *image)
{
    env_mutex_lock(image->env, &image->pool_lock);
    image->stop = true;
    env_mutex_unlock(image->env, &image->pool_lock);
    for (unsigned i = 0; i < image->threads_started; i++)
        env_cond_signal(image->env, &image->workers[i].work);
    for (unsigned i = 0; i < image->threads_started; i++) {
        env_thread_join(image->env, &image->workers[i].thread);
        env_cond_destroy(&image->workers[i].work);
    }
}

/* Returns when every worker has its loop. On error those that run are for
 * free_image(). */
static int start_workers(struct strategy_image *image)
{
    int ret = 0;
    image->workers = calloc(image->worker_count, sizeof(*image->workers));
    if (!image->workers)
        return error_set(image->err, -ENOMEM, "no memory for the workers");
    for (unsigned i = 0; i < image->worker_count && ret == 0; i++) {
        struct tp_worker *w = &image->workers[i];
        w->image = image;
        w->started.fn = loop_started;
        w->nudge.fn = nudge;
        env_cond_init(&w->work);
        ret = env_thread_start(image->env, &w->thread, worker_main, w);
        image->threads_started += ret == 0;
    }
    if (ret < 0)
        error_set(image->err, ret, "worker %u of %u can't be started",
                  image->threads_started + 1, image->worker_count);
    image->all_started = image->loops_started == image->threads_started;
    loop_run_until(image->loop, &image->all_started);
    for (unsigned i = 0; i < image->threads_started && ret == 0; i++)
        if ((ret = image->workers[i].result) < 0)
            error_set(image->err, ret, "%s", image->workers[i].err.msg);
    return ret;
}

static void free_image(struct strategy_image *image)
{
    stop_workers(image);
    for (unsigned i = 0; i < image->guests.depth; i++) {
        host_bufs_free(&slot(image, i)->buf);
        env_cond_destroy(&slot(image, i)->wakeup);
    }
    for (unsigned i = 0; i < image->node_count; i++)
        env_mutex_destroy(&image->nodes[i].guard->lock);
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
    image->end_ready = &image->ready;
    image->end_finished = &image->finished;
    env_mutex_init(&image->pool_lock);
    int ret = tp_configure(image, so, err);
    if (ret == 0)
        ret = nodes_open(&image->nodes, &image->node_count, sizeof(struct node_guard),
                         image, so, err);
    if (ret == 0)
        ret = guests_open(&image->guests, so->loop, so->depth,
                          sizeof(struct tp_request), err);
    open_guards(image);
    if (ret == 0)
        ret = start_workers(image);
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
        tp_begin(node);
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
        r->image = image;
        r->guest = g;
        r->cancelled = r->changed = false;
        tp_start(r);
    }
}

void tp_start(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    r->next = NULL;
    env_mutex_lock(image->env, &image->pool_lock);
    *image->end_ready = r;
    image->end_ready = &r->next;
    struct tp_worker *w = call_worker(image);
    env_mutex_unlock(image->env, &image->pool_lock);
    if (w)
        env_cond_signal(image->env, &w->work);
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
    env_mutex_lock(image->env, &image->pool_lock);
    struct tp_worker *w = r->worker;
    bool post = w && !w->nudged;
    if (post)
        w->nudged = true;
    env_mutex_unlock(image->env, &image->pool_lock);
    if (post)
        loop_post(w->loop, &w->nudge);
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
}

void tp_stats(struct strategy_image *image, struct strategy_stats *out)
{
    struct node *top = image->nodes;
    *out = (struct strategy_stats){.wakeups = image->wakeups,
                                   .lock_waits = image->lock_waits,
                                   .bytes_copied = image->bytes_copied};
    if (!top->core)
        return;
    tp_begin(top);
    node_stats(top, out);
    tp_end(top);
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
    .close = tp_close,
};
