/*
 * Engine threads: a pool of workers that make blocking system calls.
 *
 * With order=fifo there is one queue, and whoever is free takes the oldest I/O, right
 * before its system call: so a sequential stream reaches the file in order, but for
 * what the scheduler does in between (Lokier, qemu-devel, 22 April 2008: "popping a
 * request from QEMU's internal shared queue at the last moment"). With order=bound each
 * I/O is given to a worker when it is submitted, in turn, and the order is the
 * scheduler's.
 *
 * A turn's batch goes in under one lock and wakes one worker, which wakes the next. A
 * worker posts the finished aio to the loop, which costs no lock, and a system call
 * only when the loop sleeps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/hostio.h"
#include "core/block/loop_int.h"
#include "core/block/pool.h"
#include "core/block/sleeper.h"

#define WORKERS_DEFAULT 16
#define WORKERS_MAX 1024

struct threads {
    struct engine base;
    struct sleeper sleeper;
    struct pool *pool;
};

static const struct setting settings[] = {
    {"pool", "fixed|elastic", "fixed",
     "all workers from the start; or as many as are needed, up to that number"},
    {"idle-ms", "1..60000", "1000", "an elastic pool's worker ends after so long"},
    {"order", "fifo|bound", "fifo",
     "who is free takes the oldest, at the last moment; or each I/O is given to a "
     "worker at once"},
    {0},
};

static int threads_probe(struct error *err)
{
    (void)err;
    return 0;
}

static int pool_options_of(const struct loop_options *o, struct pool_options *p,
                           struct error *err)
{
    bool elastic = settings_is(settings, o->settings, "pool", "elastic");

    p->bound = settings_is(settings, o->settings, "order", "bound");
    p->workers = o->workers ? o->workers : WORKERS_DEFAULT;
    if (p->workers > WORKERS_MAX)
        return error_set(err, -EINVAL, "engine threads: workers %u: at most %u",
                         p->workers, WORKERS_MAX);
    if (elastic && p->bound)
        return error_set(err, -EINVAL,
                         "engine threads: pool=elastic: I/O can't be bound to workers "
                         "that come and go; order=fifo can");
    if (!o->workers && p->workers > o->depth)
        p->workers = o->depth;
    if (elastic)
        p->idle_ns = settings_number(settings, o->settings, "idle-ms", 0) * 1000000ull;
    return 0;
}

static int threads_check(const struct loop_options *o, struct error *err)
{
    struct pool_options options = {.workers = 0};

    return pool_options_of(o, &options, err);
}

static int threads_open(struct engine **out, struct loop *loop,
                        const struct loop_options *o, struct error *err)
{
    struct pool_options options = {.workers = 0};
    struct threads *t;
    int ret = pool_options_of(o, &options, err);

    if (ret < 0)
        return ret;
    t = calloc(1, sizeof(*t));
    if (!t)
        return error_set(err, -ENOMEM, "engine threads: out of memory");
    ret = pool_open(&t->pool, loop->env, &options);
    if (ret < 0) {
        free(t);
        return error_set(err, ret, "engine threads: no thread: %s", strerror(-ret));
    }
    if (!options.idle_ns && pool_workers(t->pool) < options.workers)
        engine_note(&t->base, "%u workers instead of %u: no more threads",
                    pool_workers(t->pool), options.workers);
    *out = &t->base;
    return 0;
}

static void threads_close(struct engine *e)
{
    struct threads *t = (struct threads *)e;

    pool_close(t->pool);
    free(t);
}

static void completed(struct loop_bh *bh)
{
    struct aio *aio = aio_of_bh(bh);

    aio->loop->engine->inflight--;
    engine_complete(aio, (int64_t)aio->scratch[0]);
}

static void on_worker(struct loop_bh *bh)
{
    struct aio *aio = aio_of_bh(bh);

    aio->scratch[0] = (uint64_t)hostio_run(aio);
    bh->fn = completed;
    loop_post(aio->loop, bh);
}

static void threads_submit(struct engine *e, struct aio_queue *q, unsigned max)
{
    struct threads *t = (struct threads *)e;
    struct loop_bh *first = NULL, **link = &first, *last = NULL;
    unsigned n;

    for (n = 0; n < max && q->head; n++) {
        struct aio *aio = aio_queue_pop(q);
        aio->bh.fn = on_worker;
        *link = last = &aio->bh;
        link = &aio->bh.next;
    }
    e->inflight += n;
    if (n)
        pool_submit(t->pool, first, last);
}

static void threads_wait(struct engine *e, uint64_t timeout_ns)
{
    if (timeout_ns)
        sleeper_wait(&((struct threads *)e)->sleeper, timeout_ns);
}

static void threads_wake(struct engine *e)
{
    sleeper_wake(&((struct threads *)e)->sleeper);
}

static void threads_cancel(struct engine *e, struct aio *aio)
{
    if (!pool_withdraw(((struct threads *)e)->pool, &aio->bh))
        return; /* a worker has it */
    e->inflight--;
    aio_finish(aio, -ECANCELED);
}

const struct engine_ops engine_threads = {
    .name = "threads",
    .summary = "own pool of threads that make blocking system calls",
    .native = (1u << AIO_OPS) - 1,
    .settings = settings,
    .check = threads_check,
    .probe = threads_probe,
    .open = threads_open,
    .close = threads_close,
    .submit = threads_submit,
    .wait = threads_wait,
    .wake = threads_wake,
    .cancel = threads_cancel,
};
