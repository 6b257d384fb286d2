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

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/env/settings.h"

static const struct setting settings[] = {
    {"hold", "metadata|none", "none",
     "whether the mutex is kept across the metadata I/O that a verb owes"},
    {"workers", "1..1024", "depth", "threads; depth: as many as requests, at most 64"},
    {"engine", "same|sync", "same",
     "what a worker does its I/O with: an instance of the image's engine, or pread"},
    {NULL, NULL, NULL, NULL},
};

#define WORKERS_MAX_DEFAULT 64 /* more only cost memory on the machines we know */

/* --- opening ---------------------------------------------------------------------- */

#define WORKERS_MAX_DEFAULT 64 /* more only cost memory on the machines we know */

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
    struct tp_node *node = image->nodes;
    for (const struct image_node *in = so->top; in; in = in->backing, node++) {
        end = in->size < end ? in->size : end;
        node->image = image;
        node->file = in->file;
        node->end = end;
        node->size_at_open = blk_size(in->file);
        node->backing = in->backing ? node + 1 : NULL;
        node->end_asleep = &node->asleep;
        env_mutex_init(&node->lock);
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
        struct tp_request *r = &image->slots[i];
        r->image = image;
        env_cond_init(&r->wakeup);
        r->next = image->free;
        image->free = r;
    }
    return 0;
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
    for (unsigned i = 0; i < image->threads_started && ret == 0; i++) {
        ret = image->workers[i].result;
        if (ret < 0)
            error_set(image->err, ret, "%s", image->workers[i].err.msg);
    }
    return ret;
}

/* A worker does one I/O at a time. The threads engine would put a second pool under
 * this one: a worker is such a thread itself, and calls pread. */
static void choose_engine(struct strategy_image *image,
                          const struct strategy_options *so)
{
    bool sync = settings_is(settings, so->settings, "engine", "sync") ||
                !strcmp(loop_engine(so->loop), "threads");
    image->engine = *so->engine;
    image->engine.depth = 1;
    image->engine.batch = 0;
    if (sync)
        image->engine.engine = "sync";
    unsigned many = so->depth < WORKERS_MAX_DEFAULT ? so->depth : WORKERS_MAX_DEFAULT;
    image->worker_count = settings_number(settings, so->settings, "workers", many);
}

static void free_image(struct strategy_image *image)
{
    stop_workers(image);
    for (unsigned i = 0; i < image->node_count; i++) {
        if (image->nodes[i].core)
            qcow2_free(image->nodes[i].core);
        env_mutex_destroy(&image->nodes[i].lock);
    }
    for (unsigned i = 0; i < image->depth; i++) {
        struct tp_request *r = &image->slots[i];
        struct host_buf *bufs[] = {&r->vec,        &r->cow[0],  &r->cow[1],
                                   &r->compressed, &r->cluster, &r->copy};
        for (unsigned b = 0; b < sizeof(bufs) / sizeof(*bufs); b++)
            host_buf_free(bufs[b]);
        env_cond_destroy(&r->wakeup);
    }
    env_mutex_destroy(&image->pool_lock);
    free(image->workers);
    free(image->nodes);
    free(image->slots);
    free(image);
}

struct alone {
    struct guest_req g;
    bool done;
};

static void alone_done(struct guest_req *g) { ((struct alone *)g)->done = true; }

/* Runs the one request that a state but TP_RUNNING has: load, or close's sync. */
static int run_alone(struct strategy_image *image, enum tp_state state)
{
    struct alone a = {.g = {.op = GUEST_FLUSH, .done = alone_done}};
    image->state = state;
    tp_submit(image, &a.g);
    loop_run_until(image->loop, &a.done);
    return a.g.result;
}

int tp_open(struct strategy_image **out, const struct strategy_options *so,
            struct error *err)
{
    int ret = settings_check(settings, so->settings, err);
    if (ret < 0)
        return ret;
    struct strategy_image *image = calloc(1, sizeof(*image));
    if (!image)
        return error_set(err, -ENOMEM, "no memory for the image");
    image->loop = so->loop;
    image->env = loop_env(so->loop);
    image->err = err;
    image->hold = settings_is(settings, so->settings, "hold", "metadata");
    image->through = so->through;
    image->writable = so->top->write;
    image->cancel_bh.fn = tell_cancelled;
    image->end_ready = &image->ready;
    image->end_finished = &image->finished;
    image->idle = true;
    env_mutex_init(&image->pool_lock);
    choose_engine(image, so);
    ret = open_nodes(image, so);
    if (ret == 0)
        ret = open_slots(image, so->depth);
    if (ret == 0)
        ret = start_workers(image);
    if (ret == 0)
        ret = run_alone(image, TP_OPENING);
    if (ret < 0) {
        free_image(image);
        return ret;
    }
    image->state = TP_RUNNING;
    image->err = NULL;
    *out = image;
    return 0;
}

/* Runs on a worker like any request; the only one yet. */
int tp_load(struct tp_request *r)
{
    int ret = 0;
    for (unsigned i = 0; i < r->image->node_count && ret == 0; i++) {
        struct tp_node *node = &r->image->nodes[i];
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
        if (ret < 0) { /* unless the core has said it better */
            error_set(r->image->err, ret, "metadata: %s", strerror(-ret));
            error_prefix(r->image->err, "%s", blk_path(node->file));
        }
    }
    return ret;
}

/* --- requests --------------------------------------------------------------------- */

void tp_submit(struct strategy_image *image, struct guest_req *g)
{
    g->slot = NULL;
    guest_queue_push(&image->queue, g);
    tp_admit(image);
}

/* Hands what waits to the workers, as long as there are slots. */
void tp_admit(struct strategy_image *image)
{
    while (!image->draining && image->free &&
           guest_queue_ready(&image->queue, image->in_flight, image->alone)) {
        struct tp_request *r = image->free;
        image->free = r->next;
        image->in_flight++;
        image->idle = false;
        r->guest = guest_queue_pop(&image->queue);
        r->guest->slot = r;
        image->alone = r->guest->op == GUEST_SNAPSHOT_APPLY;
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
    struct tp_node *top = image->nodes;
    const struct guest_req *g = r->guest;
    if (image->state == TP_OPENING)
        return tp_load(r);
    if (image->state == TP_CLOSING)
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
    case GUEST_SNAPSHOT_CREATE:
    case GUEST_SNAPSHOT_APPLY:
    case GUEST_SNAPSHOT_DELETE:
        return tp_snapshot(r);
    default:
        return tp_flush(r);
    }
}

/* On the submitter's loop. The slot is free before the guest is told: it may submit. */
void tp_finish(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    struct guest_req *g = r->guest;
    g->result = r->result;
    r->next = image->free;
    image->free = r;
    image->idle = --image->in_flight == 0;
    image->alone = false; /* an apply was the only one */
    g->done(g);
    tp_admit(image);
}

void tp_cancel(struct strategy_image *image, struct guest_req *g)
{
    struct tp_request *r = g->slot;
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
    image->draining++;
    loop_run_until(image->loop, &image->idle);
}

void tp_drain_end(struct strategy_image *image)
{
    assert(image->draining > 0);
    if (--image->draining == 0)
        tp_admit(image);
}

void tp_stats(struct strategy_image *image, struct strategy_stats *out)
{
    struct tp_node *top = image->nodes;
    *out = (struct strategy_stats){.bytes_copied = image->bytes_copied};
    for (unsigned i = 0; i < image->node_count; i++) {
        struct tp_node *node = &image->nodes[i];
        if (!node->core)
            continue;
        tp_begin(node);
        out->wakeups += node->wakeups;
        out->lock_waits += node->lock_waits;
        if (node == top) {
            out->top = *qcow2_stats(node->core);
            out->poisoned = qcow2_poisoned(node->core);
        }
        tp_end(node);
    }
}

int tp_close(struct strategy_image *image)
{
    struct tp_node *top = image->nodes;
    assert(image->idle && !image->queue.head);
    image->draining = 0;
    int ret = run_alone(image, TP_CLOSING);
    if (ret == 0 && top->core && image->writable)
        ret = host_trim(top->file, top->size_at_open, qcow2_file_end(top->core));
    free_image(image);
    return ret;
}

const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "threadpool",
    .summary = "a blocking worker thread per request, a mutex over metadata",
    .settings = settings,
    .open = tp_open,
    .submit = tp_submit,
    .cancel = tp_cancel,
    .drain_begin = tp_drain_begin,
    .drain_end = tp_drain_end,
    .stats = tp_stats,
    .close = tp_close,
};
