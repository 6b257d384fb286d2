/*
 * Engine io_uring: submission and wait are one system call.
 *
 * submit() only fills the submission ring; the wait() that follows hands it over with
 * the same io_uring_enter that reaps or sleeps. A poll of an eventfd stays in the ring,
 * so wake() ends a sleep. The ring is created disabled and enabled by the thread that
 * turns the loop first: it then belongs to that thread (SINGLE_ISSUER), and the kernel
 * runs completion work only when that thread asks for it (DEFER_TASKRUN, Linux 6.1).
 * Older kernels get the older flags; uring_setup.c has them, and the other settings.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/block/uring.h"

/* user_data of what isn't an aio */
#define TAG_WAKE ((void *)1)
#define TAG_CANCEL ((void *)2)
#define TAG_LAST 2

#define LEN_MAX (1u << 30) /* bytes an entry */

static struct uring *uring_of(struct engine *e) { return (struct uring *)e; }

static int uring_open(struct engine **out, struct loop *loop,
                      const struct loop_options *o, struct error *err)
{
    struct uring *u = calloc(1, sizeof(*u));
    int ret;

    (void)loop;
    if (!u)
        return error_set(err, -ENOMEM, "engine io_uring: out of memory");
    u->done_fd = -1;
    u->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (u->wake_fd < 0)
        ret = error_set(err, -errno, "engine io_uring: eventfd: %s", strerror(errno));
    else
        ret = uring_set_up(u, o->depth + 1, o->settings, err);
    if (ret < 0) {
        if (u->wake_fd >= 0)
            close(u->wake_fd);
        free(u);
        return ret;
    }
    *out = &u->base;
    return 0;
}

static void uring_close(struct engine *e)
{
    struct uring *u = uring_of(e);

    io_uring_queue_exit(&u->ring);
    close(u->wake_fd);
    if (u->done_fd >= 0)
        close(u->done_fd);
    free(u);
}

static __attribute__((noinline)) void enable(struct uring *u)
{
    /* liburing 2.3 declares io_uring_enable_rings() and doesn't export it. */
    if (u->ring.flags & IORING_SETUP_R_DISABLED)
        syscall(__NR_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
                NULL, 0);
#ifdef IORING_SETUP_DEFER_TASKRUN
    u->deferred = u->ring.flags & IORING_SETUP_TASKRUN_FLAG;
#endif
    io_uring_register_ring_fd(&u->ring); /* saves a lookup per call; may fail */
    u->enabled = true;
}

/* An eventfd, which deferred completions signal too; polling the ring itself misses
 * them. */
static int uring_fd(struct engine *e, struct error *err)
{
    struct uring *u = uring_of(e);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), ret;

    ret = fd < 0 ? -errno : io_uring_register_eventfd(&u->ring, fd);
    if (ret < 0 && fd >= 0)
        close(fd);
    if (ret < 0)
        return error_set(err, ret, "engine io_uring: eventfd: %s", strerror(-ret));
    u->done_fd = fd;
    return fd;
}

/* ---- wake-up ---- */

static void uring_wake(struct engine *e)
{
    uint64_t one = 1;

    while (write(uring_of(e)->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void watch_wake_fd(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (!sqe)
        return; /* full of I/O: armed by the next wait */
    io_uring_prep_poll_add(sqe, u->wake_fd, POLLIN);
    io_uring_sqe_set_data(sqe, TAG_WAKE);
    u->polling = true;
}

static void drain_fd(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        abort();
}

/* ---- submission ---- */

static void prepare_transfer(struct uring *u, struct io_uring_sqe *sqe, struct aio *aio,
                             int fd)
{
    static const uint8_t one[] = {IORING_OP_READ, IORING_OP_WRITE},
                         many[] = {IORING_OP_READV, IORING_OP_WRITEV},
                         fixed[] = {IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED};
    const struct iovec *iov;
    uint64_t offset;
    int cnt, buffer;
    size_t len = engine_piece(aio, &iov, &cnt, &offset);
    bool writes = aio->op == AIO_WRITE;

    if (cnt > 1) {
        io_uring_prep_rw(many[writes], sqe, fd, iov, (unsigned)cnt, offset);
        return;
    }
    if (unlikely(len > LEN_MAX))
        len = LEN_MAX; /* the field has 32 bits; the rest goes next */
    io_uring_prep_rw(one[writes], sqe, fd, iov->iov_base, (unsigned)len, offset);
    buffer = u->buffers ? uring_buffer(u, iov->iov_base, len) : -1;
    if (buffer >= 0) {
        sqe->opcode = fixed[writes];
        sqe->buf_index = (uint16_t)buffer;
    }
}

static void prepare(struct uring *u, struct io_uring_sqe *sqe, struct aio *aio)
{
    int slot = u->register_files ? uring_file(u, aio->file) : -1;
    int fd = slot >= 0 ? slot : aio->file->fd;
    const struct iovec *iov;
    uint64_t offset, len;
    int cnt;

    file_arrives(aio);
    switch (aio->op) {
    case AIO_READ:
    case AIO_WRITE:
        prepare_transfer(u, sqe, aio, fd);
        break;
    case AIO_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case AIO_DISCARD:
        len = engine_piece(aio, &iov, &cnt, &offset);
        io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)offset, (off_t)len);
        break;
    default: /* AIO_GROW */
        len = engine_piece(aio, &iov, &cnt, &offset);
        io_uring_prep_fallocate(sqe, fd, 0, (off_t)offset, (off_t)len);
        break;
    }
    if (slot >= 0)
        sqe->flags |= IOSQE_FIXED_FILE;
    if (unlikely(aio->flags & AIO_RETRY))
        sqe->flags |= IOSQE_ASYNC; /* it would have blocked */
    io_uring_sqe_set_data(sqe, aio);
}

static void uring_submit(struct engine *e, struct aio_queue *q, unsigned max)
{
    struct uring *u = uring_of(e);
    unsigned n;

    if (unlikely(!u->enabled))
        enable(u);
    /* Asked a second time in a turn: batches are limited, or the ring is full. */
    if (unlikely(io_uring_sq_ready(&u->ring)))
        io_uring_submit(&u->ring);
    for (n = 0; n < max && q->head; n++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        if (unlikely(!sqe))
            break;
        prepare(u, sqe, aio_queue_pop(q));
    }
    e->inflight += n;
}

static void uring_cancel(struct engine *e, struct aio *aio)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring_of(e)->ring);

    if (!sqe)
        return;
    io_uring_prep_cancel(sqe, aio, 0);
    io_uring_sqe_set_data(sqe, TAG_CANCEL);
}

/* ---- completion ---- */

static void reap(struct uring *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;

    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        void *data = io_uring_cqe_get_data(cqe);

        n++;
        if (likely((uintptr_t)data > TAG_LAST)) {
            u->base.inflight--;
            engine_complete(data, cqe->res);
        } else if (data == TAG_WAKE) {
            u->polling = false;
            drain_fd(u->wake_fd);
        }
    }
    io_uring_cq_advance(&u->ring, n);
    u->signalled |= n > 0; /* perhaps after it was drained */
}

static bool completions_held(struct uring *u)
{
#ifdef IORING_SQ_TASKRUN
    unsigned mask = IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN;
#else
    unsigned mask = IORING_SQ_CQ_OVERFLOW;
#endif

    return __atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED) & mask;
}

static void uring_wait(struct engine *e, uint64_t timeout_ns)
{
    struct uring *u = uring_of(e);
    struct __kernel_timespec ts;
    struct io_uring_cqe *cqe;

    if (unlikely(!u->enabled))
        enable(u);
    if (unlikely(u->done_fd >= 0) && (e->inflight || u->signalled)) {
        drain_fd(u->done_fd); /* first, or a completion in between were forgotten */
        u->signalled = false;
    }
    if (timeout_ns && !io_uring_cq_ready(&u->ring)) {
        if (unlikely(!u->polling))
            watch_wake_fd(u);
        if (likely(timeout_ns == UINT64_MAX)) {
            io_uring_submit_and_wait(&u->ring, 1);
        } else {
            ts.tv_sec = (long long)(timeout_ns / 1000000000u);
            ts.tv_nsec = (long long)(timeout_ns % 1000000000u);
            io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
        }
    } else if (io_uring_sq_ready(&u->ring)) {
        if (u->deferred)
            io_uring_submit_and_get_events(&u->ring);
        else
            io_uring_submit(&u->ring);
    } else if (unlikely(completions_held(u))) {
        io_uring_get_events(&u->ring);
    }
    reap(u);
}

const struct engine_ops engine_io_uring = {
    .name = "io_uring",
    .summary = "liburing: submission and wait in one system call",
    .native = 1u << AIO_READ | 1u << AIO_WRITE | 1u << AIO_FLUSH | 1u << AIO_DISCARD |
              1u << AIO_GROW,
    .settings = uring_settings,
    .features = uring_features,
    .probe = uring_probe,
    .open = uring_open,
    .close = uring_close,
    .submit = uring_submit,
    .wait = uring_wait,
    .wake = uring_wake,
    .fd = uring_fd,
    .cancel = uring_cancel,
    .memory = uring_memory,
};
