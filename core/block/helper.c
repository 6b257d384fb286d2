/*
 * The loop's helper threads: work that would hold the loop up (decompression) and
 * system calls that the engine can't do asynchronously. Started when first needed; in
 * simulation, or when no thread can be had, the work is done in the turn.
 */
#include "core/block/hostio.h"
#include "core/block/loop_int.h"
#include "core/block/pool.h"

#define HELPERS 2

static bool have_helpers(struct loop *loop)
{
    static const struct pool_options options = {.workers = HELPERS};

    return loop->helpers || (!loop->env->simulated &&
                             pool_open(&loop->helpers, loop->env, &options) == 0);
}

void helper_close(struct loop *loop)
{
    if (loop->helpers)
        pool_close(loop->helpers);
    loop->helpers = NULL;
}

/* ---- I/O that the engine can't do ---- */

static void io_complete(struct loop_bh *bh)
{
    struct aio *aio = aio_of_bh(bh);

    engine_complete(aio, (int64_t)aio->scratch[0]);
}

static void io_run(struct loop_bh *bh)
{
    struct aio *aio = aio_of_bh(bh);

    aio->scratch[0] = (uint64_t)hostio_run(aio);
    bh->fn = io_complete;
    loop_post(aio->loop, bh);
}

void helper_submit(struct loop *loop)
{
    struct loop_bh *first = NULL, **link = &first, *last = NULL;
    bool threads = have_helpers(loop);
    struct aio *aio;

    while ((aio = aio_queue_pop(&loop->helped))) {
        aio->state = AIO_HELPED;
        aio->bh.fn = io_run;
        if (!threads) {
            io_run(&aio->bh);
            continue;
        }
        *link = last = &aio->bh;
        link = &aio->bh.next;
    }
    if (first)
        pool_submit(loop->helpers, first, last);
}

/* ---- work ---- */

static struct loop_work *work_of_bh(struct loop_bh *bh)
{
    return (struct loop_work *)((char *)bh - offsetof(struct loop_work, bh));
}

static void work_done(struct loop_bh *bh)
{
    struct loop_work *work = work_of_bh(bh);

    work->done(work);
}

static void work_run(struct loop_bh *bh)
{
    struct loop_work *work = work_of_bh(bh);

    work->fn(work);
    bh->fn = work_done;
    loop_post(work->loop, bh);
}

void loop_work(struct loop *loop, struct loop_work *work)
{
    work->loop = loop;
    work->bh.fn = work_run;
    if (have_helpers(loop))
        pool_submit(loop->helpers, &work->bh, &work->bh);
    else
        work_run(&work->bh);
}
