/*
 * Engine linux-aio: io_submit and the completion ring it maps into our memory.
 *
 * One io_submit per turn takes all that was gathered; the kernel copies the iocbs, so
 * they are the engine's and used again at once. Completions are read off the mapped
 * ring. To sleep, io_getevents; an eventfd that wake() writes is watched by a poll iocb
 * of the same context, so that there is one thing to wait on and one system call to do
 * it. Where the kernel has no poll iocb (before 4.18) completions are counted in a
 * second eventfd and both are polled.
 *
 * Ops without an iocb (fallocate) are left to the helper pool.
 */
#include <errno.h>
#include <libaio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/block/file.h"

/* The head of the ring that io_setup maps; fixed since Linux 2.5, checked by its
 * magic. */
#define AIO_RING_MAGIC 0xa10a10a1
struct aio_ring {
    unsigned id, nr;
    atomic_uint head; /* ours to move */
    atomic_uint tail; /* the kernel's */
    unsigned magic, compat_features, incompat_features, header_length;
    struct io_event events[];
};

#define BATCH_MAX 1024       /* per io_submit */
#define UNWATCHED_NS 1000000 /* between two looks for a wake-up */

struct laio {
    struct engine base;
    io_context_t ctx;
    struct aio_ring *ring; /* NULL: not mapped as we know it; io_getevents reads it */
    int wake_fd, done_fd;  /* done_fd -1: poll iocb works */
    bool polling;          /* the poll iocb is in flight */
    bool watched;          /* has been tried */
    bool outside;          /* somebody else polls done_fd and sleeps */
    bool signalled;        /* done_fd may be */
    unsigned batch;
    struct iocb poll_iocb;
    struct iocb **ptrs; /* batch entries, at the iocbs after them */
    struct iocb iocbs[];
};

static struct laio *laio_of(struct engine *e) { return (struct laio *)e; }

static int laio_probe(struct error *err)
{
    io_context_t ctx = NULL;
    int ret = io_setup(1, &ctx);

    if (ret < 0)
        return error_set(err, ret,
                         ret == -EAGAIN
                             ? "engine linux-aio: the system's aio requests are "
                               "used up; raise fs.aio-max-nr"
                             : "engine linux-aio: io_setup: %s",
                         strerror(-ret));
    io_destroy(ctx);
    return 0;
}

/* ---- wake-up ---- */

/* False: it can't be watched now, so no sleep may be long. For the kernel to lack the
 * poll is found out before the first I/O: what is in flight already doesn't count in
 * done_fd, and would not end a sleep on it. */
static bool watch_wake_fd(struct laio *l)
{
    struct iocb *one = &l->poll_iocb;

    l->watched = true;
    if (l->polling || l->done_fd >= 0)
        return true;
    io_prep_poll(one, l->wake_fd, POLLIN);
    one->data = NULL;
    l->polling = io_submit(l->ctx, 1, &one) == 1;
    if (l->polling || l->base.inflight)
        return l->polling;
    engine_note(&l->base, "the kernel has no IOCB_CMD_POLL (Linux 4.18) for it: two "
                          "descriptors to wait for");
    l->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return l->done_fd >= 0;
}

static void drain_fd(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        abort();
}

static void laio_wake(struct engine *e)
{
    uint64_t one = 1;

    while (write(laio_of(e)->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* ---- open and close ---- */

static int laio_open(struct engine **out, struct loop *loop,
                     const struct loop_options *o, struct error *err)
{
    unsigned batch = o->depth < BATCH_MAX ? o->depth : BATCH_MAX;
    struct laio *l =
        calloc(1, sizeof(*l) + batch * (sizeof(struct iocb) + sizeof(void *)));
    int ret;

    (void)loop;
    if (!l)
        return error_set(err, -ENOMEM, "engine linux-aio: out of memory");
    l->batch = batch;
    l->ptrs = (struct iocb **)(void *)&l->iocbs[batch];
    for (unsigned i = 0; i < batch; i++)
        l->ptrs[i] = &l->iocbs[i];
    l->done_fd = -1;
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ret = l->wake_fd < 0 ? -errno : io_setup((int)o->depth + 1, &l->ctx);
    if (ret < 0) {
        if (l->wake_fd >= 0)
            close(l->wake_fd);
        free(l);
        return error_set(err, ret, "engine linux-aio: depth %u: %s%s", o->depth,
                         strerror(-ret), ret == -EAGAIN ? "; raise fs.aio-max-nr" : "");
    }
    l->ring = (struct aio_ring *)l->ctx;
    if (l->ring->magic != AIO_RING_MAGIC || l->ring->incompat_features)
        l->ring = NULL;
    if (!l->ring)
        engine_note(&l->base, "the completion ring is not as we know it: "
                              "io_getevents reads it");
    *out = &l->base;
    return 0;
}

static void laio_close(struct engine *e)
{
    struct laio *l = laio_of(e);

    io_destroy(l->ctx);
    close(l->wake_fd);
    if (l->done_fd >= 0)
        close(l->done_fd);
    free(l);
}

/* ---- submission ---- */

static void prepare(struct laio *l, struct iocb *cb, struct aio *aio)
{
    const struct iovec *iov;
    uint64_t offset;
    int cnt;
    size_t len = engine_piece(aio, &iov, &cnt, &offset);
    bool read = aio->op == AIO_READ;

    file_arrives(aio);
    cb->data = aio;
    cb->aio_fildes = blk_fd(aio->file);
    cb->aio_reqprio = 0;
    cb->aio_rw_flags = 0;
    cb->u.c.offset = (long long)offset;
    if (aio->op == AIO_FLUSH) {
        cb->aio_lio_opcode = IO_CMD_FDSYNC;
        cb->u.c.buf = NULL;
        cb->u.c.nbytes = 0;
        cb->u.c.offset = 0;
    } else if (cnt == 1) {
        cb->aio_lio_opcode = read ? IO_CMD_PREAD : IO_CMD_PWRITE;
        cb->u.c.buf = iov->iov_base;
        cb->u.c.nbytes = len;
    } else {
        cb->aio_lio_opcode = read ? IO_CMD_PREADV : IO_CMD_PWRITEV;
        cb->u.c.buf = (void *)(uintptr_t)iov;
        cb->u.c.nbytes = (unsigned)cnt;
    }
    cb->u.c.flags = 0;
    if (unlikely(l->done_fd >= 0))
        io_set_eventfd(cb, l->done_fd);
}

/* io_submit says an error only for the first of those it is given. */
static void first_failed(struct aio_queue *q, int ret)
{
    if (ret == -EAGAIN || ret == -EINTR)
        return; /* offered again next turn */
    engine_complete(aio_queue_pop(q), ret);
}

static void laio_submit(struct engine *e, struct aio_queue *q, unsigned max)
{
    struct laio *l = laio_of(e);
    struct aio *aio = q->head;
    unsigned n = 0;
    int ret;

    if (unlikely(!l->watched))
        watch_wake_fd(l);
    if (max > l->batch)
        max = l->batch;
    for (; n < max && aio; n++, aio = aio->next)
        prepare(l, &l->iocbs[n], aio);
    ret = io_submit(l->ctx, n, l->ptrs);
    if (unlikely(ret <= 0)) {
        first_failed(q, ret);
        return;
    }
    e->inflight += (unsigned)ret;
    for (; ret > 1; ret--)
        q->head = q->head->next;
    q->head = q->head->next;
}

/* ---- completion ---- */

static void finished(struct laio *l, const struct io_event *ev)
{
    if (unlikely(!ev->data)) {
        l->polling = false;
        drain_fd(l->wake_fd);
        return;
    }
    l->base.inflight--;
    l->signalled = true; /* perhaps after it was drained */
    engine_complete(ev->data, (int64_t)ev->res);
}

static unsigned reap(struct laio *l)
{
    struct aio_ring *r = l->ring;
    unsigned head = atomic_load_explicit(&r->head, memory_order_relaxed), n = 0;
    unsigned tail = atomic_load_explicit(&r->tail, memory_order_acquire);

    for (; head != tail; n++) {
        struct io_event ev = r->events[head];
        head = head + 1 == r->nr ? 0 : head + 1;
        finished(l, &ev);
    }
    if (n)
        atomic_store_explicit(&r->head, head, memory_order_release);
    return n;
}

static unsigned get_events(struct laio *l, bool block, struct timespec *ts)
{
    struct io_event events[64];
    int n = io_getevents(l->ctx, block, 64, events, ts);

    for (int i = 0; i < n; i++)
        finished(l, &events[i]);
    return n > 0 ? (unsigned)n : 0;
}

/* Without the poll iocb: both eventfds, then whatever is there. */
static void wait_fds(struct laio *l, struct timespec *ts)
{
    struct pollfd fds[2] = {{.fd = l->wake_fd, .events = POLLIN},
                            {.fd = l->done_fd, .events = POLLIN}};
    struct timespec none = {0, 0};

    if (ppoll(fds, 2, ts, NULL) <= 0)
        return;
    drain_fd(l->wake_fd);
    drain_fd(l->done_fd);
    get_events(l, false, &none);
}

/* Completions are counted in an eventfd, as in 2008. */
static int laio_fd(struct engine *e, struct error *err)
{
    struct laio *l = laio_of(e);

    if (l->done_fd < 0)
        l->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->done_fd < 0)
        return error_set(err, -errno, "engine linux-aio: eventfd: %s", strerror(errno));
    l->outside = true;
    return l->done_fd;
}

static void laio_wait(struct engine *e, uint64_t timeout_ns)
{
    struct laio *l = laio_of(e);
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                          .tv_nsec = (long)(timeout_ns % 1000000000u)};
    struct timespec *limit = timeout_ns == UINT64_MAX ? NULL : &ts;
    struct timespec soon = {.tv_nsec = UNWATCHED_NS};

    if (unlikely(l->outside) && (e->inflight || l->signalled)) {
        drain_fd(l->done_fd); /* first, or a completion in between were forgotten */
        l->signalled = false;
    }
    if (likely(l->ring)) {
        if (reap(l) || timeout_ns == 0)
            return;
    } else if (timeout_ns == 0) {
        get_events(l, false, &ts);
        return;
    }
    if (unlikely(!watch_wake_fd(l)) && timeout_ns > UNWATCHED_NS)
        limit = &soon;
    if (unlikely(l->done_fd >= 0))
        wait_fds(l, limit);
    else if (get_events(l, true, limit) && l->ring)
        reap(l);
}

const struct engine_ops engine_linux_aio = {
    .name = "linux-aio",
    .summary = "libaio: io_submit, completions read from its mapped ring",
    .native = 1u << AIO_READ | 1u << AIO_WRITE | 1u << AIO_FLUSH,
    .probe = laio_probe,
    .open = laio_open,
    .close = laio_close,
    .submit = laio_submit,
    .wait = laio_wait,
    .wake = laio_wake,
    .fd = laio_fd,
};
