/*
 * Engine libuv: uv_fs_* on libuv's thread pool, as an embedding program would have it.
 *
 * The engine has a uv_loop of its own. A wait without a limit is uv_run(ONCE). libuv's
 * timers count milliseconds, so a wait with a limit polls its backend descriptor, which
 * has nanoseconds, and then runs what is ready.
 *
 * The pool is one for the process, sized by UV_THREADPOOL_SIZE when it starts with the
 * first request. The engine sets that once, before; it is a setting like the others'.
 * libuv allocates when a vector has more than four entries; we allocate nothing.
 *
 * Where the order of arrivals is recorded, libuv's worker is given a function of ours,
 * which takes a number and then makes the same call without a callback: that does it in
 * the calling thread. Same pool, same queue, same system call.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "core/block/file.h"
#include "core/block/loop_int.h"

#define WORKERS_DEFAULT 16

struct request {
    uv_fs_t fs;
    uv_work_t work; /* around it, where arrivals are counted */
    bool counted;
    struct aio *aio;
    struct request *next; /* while free */
};

struct libuv {
    struct engine base;
    uv_loop_t loop;
    uv_async_t async;
    bool outside; /* somebody else polls the backend and sleeps */
    struct request *free;
    struct request requests[];
};

static struct libuv *libuv_of(struct engine *e) { return (struct libuv *)e; }

static const struct setting settings[] = {
    {"threads", "1..1024", "default", "UV_THREADPOOL_SIZE: --workers, or 16"},
    {0},
};

/* ---- the pool of the process ---- */

static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned pool_threads; /* under it; 0: not set yet */

static int set_pool(unsigned asked, struct error *err)
{
    unsigned wanted = asked ? asked : WORKERS_DEFAULT;
    char text[16];
    int ret = 0;

    pthread_mutex_lock(&process_lock);
    if (pool_threads && asked && asked != pool_threads) {
        ret = error_set(err, -EBUSY,
                        "engine libuv: threads=%u: libuv's pool has been set up with "
                        "%u in this process, and can't be changed",
                        asked, pool_threads);
    } else if (!pool_threads) {
        snprintf(text, sizeof(text), "%u", wanted);
        setenv("UV_THREADPOOL_SIZE", text, 1);
        pool_threads = wanted;
    }
    pthread_mutex_unlock(&process_lock);
    return ret;
}

/* ---- open and close ---- */

static int libuv_probe(struct error *err)
{
    (void)err;
    return 0;
}

static void on_wake(uv_async_t *async) { (void)async; } /* uv_run() returns for it */

static int open_loop(struct libuv *u)
{
    int ret = uv_loop_init(&u->loop);

    if (ret < 0)
        return ret;
    ret = uv_async_init(&u->loop, &u->async, on_wake);
    if (ret < 0)
        uv_loop_close(&u->loop);
    else
        uv_run(&u->loop, UV_RUN_NOWAIT); /* its descriptors go into the backend */
    return ret;
}

static int libuv_open(struct engine **out, struct loop *loop,
                      const struct loop_options *o, struct error *err)
{
    unsigned asked = settings_number(settings, o->settings, "threads", o->workers);
    struct libuv *u;
    int ret = set_pool(asked, err);

    (void)loop;
    if (ret < 0)
        return ret;
    u = calloc(1, sizeof(*u) + o->depth * sizeof(struct request));
    if (!u)
        return error_set(err, -ENOMEM, "engine libuv: out of memory");
    for (unsigned i = o->depth; i-- > 0;) {
        u->requests[i].next = u->free;
        u->free = &u->requests[i];
    }
    ret = open_loop(u);
    if (ret < 0) {
        free(u);
        return error_set(err, ret, "engine libuv: %s", uv_strerror(ret));
    }
    *out = &u->base;
    return 0;
}

static void libuv_close(struct engine *e)
{
    struct libuv *u = libuv_of(e);

    uv_close((uv_handle_t *)&u->async, NULL);
    uv_run(&u->loop, UV_RUN_DEFAULT);
    uv_loop_close(&u->loop);
    free(u);
}

/* ---- submission ---- */

static void over(struct request *r, int64_t moved)
{
    struct aio *aio = r->aio;
    struct libuv *u = libuv_of(aio->loop->engine);

    r->next = u->free;
    u->free = r;
    u->base.inflight--;
    engine_complete(aio, moved);
}

static void finished(uv_fs_t *fs)
{
    int64_t moved = uv_fs_get_result(fs);

    uv_fs_req_cleanup(fs);
    over((struct request *)(void *)fs, moved);
}

/* then NULL: does it here and now. */
static int call(struct libuv *u, struct request *r, uv_fs_cb then)
{
    struct aio *aio = r->aio;
    const struct iovec *iov;
    uint64_t offset;
    int cnt, fd = blk_fd(aio->file);

    _Static_assert(sizeof(uv_buf_t) == sizeof(struct iovec), "libuv says they are");
    if (aio->op == AIO_FLUSH)
        return uv_fs_fdatasync(&u->loop, &r->fs, fd, then);
    engine_piece(aio, &iov, &cnt, &offset);
    if (aio->op == AIO_READ)
        return uv_fs_read(&u->loop, &r->fs, fd, (const uv_buf_t *)(const void *)iov,
                          (unsigned)cnt, (int64_t)offset, then);
    return uv_fs_write(&u->loop, &r->fs, fd, (const uv_buf_t *)(const void *)iov,
                       (unsigned)cnt, (int64_t)offset, then);
}

/* ---- with a number ---- */

static struct request *request_of(uv_work_t *work)
{
    return (struct request *)((char *)work - offsetof(struct request, work));
}

static void on_worker(uv_work_t *work)
{
    struct request *r = request_of(work);

    file_arrives(r->aio);
    r->aio->scratch[0] =
        (uint64_t)(int64_t)call(libuv_of(r->aio->loop->engine), r, NULL);
    uv_fs_req_cleanup(&r->fs);
}

static void worked(uv_work_t *work, int status)
{
    struct request *r = request_of(work);

    over(r, status < 0 ? status : (int64_t)r->aio->scratch[0]);
}

static int start(struct libuv *u, struct request *r)
{
    r->counted = file_counts_arrivals(r->aio->file);
    return r->counted ? uv_queue_work(&u->loop, &r->work, on_worker, worked)
                      : call(u, r, finished);
}

static void libuv_submit(struct engine *e, struct aio_queue *q, unsigned max)
{
    struct libuv *u = libuv_of(e);

    for (; max && q->head && u->free; max--) {
        struct request *r = u->free;
        struct aio *aio = aio_queue_pop(q);
        int ret;

        u->free = r->next;
        r->aio = aio;
        aio->engine_data = r;
        e->inflight++;
        ret = start(u, r);
        if (ret < 0) { /* no memory for a long vector */
            r->next = u->free;
            u->free = r;
            e->inflight--;
            engine_complete(aio, ret);
        }
    }
}

static void libuv_cancel(struct engine *e, struct aio *aio)
{
    struct request *r = aio->engine_data;

    (void)e;
    uv_cancel(
        r->counted
            ? (uv_req_t *)&r->work
            : (uv_req_t *)&r->fs); /* ends with -ECANCELED, if nobody has begun it */
}

/* ---- completion ---- */

static void libuv_wait(struct engine *e, uint64_t timeout_ns)
{
    struct libuv *u = libuv_of(e);
    struct pollfd backend = {.fd = uv_backend_fd(&u->loop), .events = POLLIN};
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                          .tv_nsec = (long)(timeout_ns % 1000000000u)};

    if (timeout_ns == UINT64_MAX) {
        uv_run(&u->loop, UV_RUN_ONCE);
        return;
    }
    if (timeout_ns)
        ppoll(&backend, 1, &ts, NULL);
    /* From outside, what is left over would keep the descriptor readable. */
    if (timeout_ns || e->inflight || u->outside)
        uv_run(&u->loop, UV_RUN_NOWAIT);
}

static void libuv_wake(struct engine *e) { uv_async_send(&libuv_of(e)->async); }

static int libuv_fd(struct engine *e, struct error *err)
{
    (void)err;
    libuv_of(e)->outside = true;
    return uv_backend_fd(&libuv_of(e)->loop);
}

const struct engine_ops engine_libuv = {
    .name = "libuv",
    .summary = "uv_fs_read and the like on libuv's pool of threads",
    .native = 1u << AIO_READ | 1u << AIO_WRITE | 1u << AIO_FLUSH,
    .settings = settings,
    .probe = libuv_probe,
    .open = libuv_open,
    .close = libuv_close,
    .submit = libuv_submit,
    .wait = libuv_wait,
    .wake = libuv_wake,
    .fd = libuv_fd,
    .cancel = libuv_cancel,
};
