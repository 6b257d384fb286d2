/*
 * The workers, and what a request does when it must wait: `wait`. (What a worker does
 * that must wait for a request is in idle.c.)
 *
 * With wait=block the worker sleeps with it: on a condition variable of the request's
 * own. With wait=park the request has a stack of its own, a coroutine, and gives the
 * worker up: it goes back to the queue when it is woken, in front of those that haven't
 * begun, and is resumed by whichever worker is free. Its I/O the worker does for it, so
 * that an engine's loop is only ever entered by the thread that it belongs to.
 *
 * A wake-up that comes before the wait is kept (`woken`), so who sleeps needs no lock
 * for "in one step".
 */
#include "strategies/threadpool/model.h"

#include <errno.h>
#include <stdlib.h>

/* --- handing over ----------------------------------------------------------------- */

/* Under pool_lock: whom to wake for what is ready, by env_cond_signal() without it. One
 * at a time: who comes and leaves work behind calls the next. So a worker that is quick
 * does a burst alone, and a slow one is soon joined. The last to rest has the warmest
 * caches. NULL: nobody. */
static struct tp_worker *call_worker(struct strategy_image *image)
{
    struct tp_worker *w = image->resting;
    if (!w || image->calling || (!image->resumed.head && !image->ready.head))
        return NULL;
    image->resting = w->next;
    image->calling = true;
    w->called = true;
    return w;
}

static void unlock_and_signal(struct strategy_image *image, struct tp_worker *w)
{
    env_mutex_unlock(image->env, &image->pool_lock);
    if (w)
        env_cond_signal(image->env, &w->work);
}

/* Under pool_lock. Nobody can begin to wait for it in the meantime. */
static void give_or_queue(struct tp_request *r, struct tp_queue *q)
{
    if (!r->image->idle->give(r))
        tp_queue_push(q, r);
}

void tp_pool_hand(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    if (image->idle->give(r))
        return;
    env_mutex_lock(image->env, &image->pool_lock);
    give_or_queue(r, &image->ready);
    unlock_and_signal(image, call_worker(image));
}

/* The oldest request that is ready; idle until there is one. NULL: time to go. */
static struct tp_request *take(struct tp_worker *w)
{
    struct strategy_image *image = w->image;
    struct tp_request *r;
    env_mutex_lock(image->env, &image->pool_lock);
    while (!(r = tp_queue_pop(&image->resumed)) && !(r = tp_queue_pop(&image->ready)) &&
           !image->stop)
        if ((r = image->idle->wait(w)))
            return r;
    if (r)
        r->worker = w;
    unlock_and_signal(image, call_worker(image));
    return r;
}

void tp_pool_nudge(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    env_mutex_lock(image->env, &image->pool_lock);
    struct tp_worker *w = r->worker;
    bool post = w && !w->nudged;
    if (post)
        w->nudged = true;
    env_mutex_unlock(image->env, &image->pool_lock);
    if (post)
        loop_post(w->loop, &w->nudge);
}

/* On the worker's own loop, so nobody else is in it. */
static void nudged(struct loop_bh *bh)
{
    struct tp_worker *w = from_member(bh, struct tp_worker, nudge);
    env_mutex_lock(w->image->env, &w->image->pool_lock);
    w->nudged = false;
    env_mutex_unlock(w->image->env, &w->image->pool_lock);
    if (w->request && w->request->cancelled && w->request->transfers)
        aio_cancel(&w->request->aio);
}

/* --- wait=block ------------------------------------------------------------------- */

static void block_open(struct tp_request *r)
{
    env_mutex_init(&r->gate);
    env_cond_init(&r->wakeup);
}

static void block_close(struct tp_request *r)
{
    env_cond_destroy(&r->wakeup);
    env_mutex_destroy(&r->gate);
}

static int block_begin(struct tp_request *r)
{
    (void)r;
    return 0;
}

static bool block_carry(struct tp_worker *w, struct tp_request *r)
{
    (void)w;
    r->result = tp_run(r);
    return true;
}

static int block_io(struct tp_request *r) { return aio_run(r->worker->loop, &r->aio); }

static void block_wait(struct tp_request *r)
{
    struct env *env = r->image->env;
    env_mutex_lock(env, &r->gate);
    while (!r->woken)
        env_cond_wait(env, &r->wakeup, &r->gate);
    r->woken = false;
    env_mutex_unlock(env, &r->gate);
}

static void block_wake(struct tp_request *r)
{
    struct env *env = r->image->env;
    env_mutex_lock(env, &r->gate);
    r->woken = true;
    env_mutex_unlock(env, &r->gate);
    env_cond_signal(env, &r->wakeup);
}

const struct tp_waits tp_waits_block = {block_open,  block_close, block_begin,
                                        block_carry, block_io,    block_wait,
                                        block_wake};

/* --- wait=park -------------------------------------------------------------------- */

static void ask(struct tp_request *r, enum tp_asks what)
{
    r->asks = what;
    co_yield ();
}

/* One request of the slot after the other. */
static void park_main(void *arg)
{
    struct tp_request *r = arg;
    while (!r->closing) {
        r->result = tp_run(r);
        ask(r, TP_ASKS_END);
    }
}

static void park_open(struct tp_request *r) { r->co = NULL; }

/* A slot keeps its stack. */
static int park_begin(struct tp_request *r)
{
    if (!r->co)
        r->co = co_create(park_main, r);
    return r->co ? 0 : -ENOMEM;
}

static void park_close(struct tp_request *r)
{
    if (!r->co)
        return;
    r->closing = true;
    co_adopt(r->co);
    co_enter(r->co);
    r->closing = false;
}

static int park_io(struct tp_request *r)
{
    ask(r, TP_ASKS_IO);
    return r->aio.result;
}

static void park_wait(struct tp_request *r) { ask(r, TP_ASKS_WAIT); }

static void park_wake(struct tp_request *r)
{
    struct strategy_image *image = r->image;
    env_mutex_lock(image->env, &image->pool_lock);
    if (r->parked) {
        r->parked = false;
        give_or_queue(r, &image->resumed);
    } else {
        r->woken = true;
    }
    unlock_and_signal(image, call_worker(image));
}

/* It has left its stack, so from here on another worker may have it. false: it was
 * woken in the meantime, and goes on here. */
static bool park(struct tp_worker *w, struct tp_request *r)
{
    struct strategy_image *image = w->image;
    env_mutex_lock(image->env, &image->pool_lock);
    if (!r->woken) {
        r->parked = true;
        r->worker = NULL;
        w->request = NULL;
    }
    r->woken = false;
    env_mutex_unlock(image->env, &image->pool_lock);
    return !w->request;
}

static bool park_carry(struct tp_worker *w, struct tp_request *r)
{
    co_adopt(r->co);
    for (;;) {
        co_enter(r->co);
        switch (r->asks) {
        case TP_ASKS_IO:
            aio_run(w->loop, &r->aio);
            break;
        case TP_ASKS_WAIT:
            if (park(w, r))
                return false;
            break;
        case TP_ASKS_END:
            return true;
        }
    }
}

const struct tp_waits tp_waits_park = {park_open, park_close, park_begin, park_carry,
                                       park_io,   park_wait,  park_wake};

/* --- workers ---------------------------------------------------------------------- */

static void loop_started(struct loop_bh *bh)
{
    struct strategy_image *image = from_member(bh, struct tp_worker, started)->image;
    image->all_started = ++image->loops_started == image->threads_started;
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
        if (!image->waits->carry(w, w->request))
            continue;
        atomic_store_explicit(&w->tells, true, memory_order_relaxed);
        tp_defer(w->request);
        atomic_store_explicit(&w->tells, false, memory_order_release);
    }
    loop_turn(w->loop, false); /* a nudge that came too late */
    loop_destroy(w->loop);
}

int tp_pool_start(struct strategy_image *image)
{
    int ret = 0;
    image->workers = calloc(image->worker_count, sizeof(*image->workers));
    if (!image->workers)
        return error_set(image->err, -ENOMEM, "no memory for the workers");
    for (unsigned i = 0; i < image->worker_count && ret == 0; i++) {
        struct tp_worker *w = &image->workers[i];
        w->image = image;
        w->started.fn = loop_started;
        w->nudge.fn = nudged;
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

/* The last thing that a worker looks at there is whether the loop sleeps. */
void tp_pool_leaves_loop(struct strategy_image *image)
{
    for (unsigned i = 0; i < image->threads_started; i++)
        while (atomic_load_explicit(&image->workers[i].tells, memory_order_acquire)) {
            env_mutex_lock(image->env, &image->pool_lock); /* others may run */
            env_mutex_unlock(image->env, &image->pool_lock);
        }
}

void tp_pool_stop(struct strategy_image *image)
{
    env_mutex_lock(image->env, &image->pool_lock);
    image->stop = true;
    env_mutex_unlock(image->env, &image->pool_lock);
    image->idle->stop(image);
    for (unsigned i = 0; i < image->threads_started; i++)
        env_cond_signal(image->env, &image->workers[i].work);
    for (unsigned i = 0; i < image->threads_started; i++) {
        env_thread_join(image->env, &image->workers[i].thread);
        env_cond_destroy(&image->workers[i].work);
    }
}
