/*
 * The wrapper that Kivity proposed (thread 001, 27 January 2011): it makes any driver
 * that was written as if I/O blocked asynchronous, without changing a line of it. Each
 * request is a coroutine under a mutex, and what the driver takes for blocking is a
 * yield.
 *
 * The mutex is what lock= says: with big it is kept across the driver's metadata I/O,
 * and given back for data, after which the driver goes on in a call of its own; with
 * big-held it is kept across data too.
 */
#include <errno.h>

#include "core/block/blocking.h"
#include "strategies/coroutines/model.h"

struct call {
    struct blocking_io io;
    struct co_request *r;
};

/* The driver blocks here. */
static int run(struct blocking_io *io, enum aio_op op, uint64_t offset, uint64_t len,
               const struct iovec *iov, int iovcnt, bool metadata)
{
    struct co_request *r = from_member(io, struct call, io)->r;
    host_data(&r->aio, op, r->image->nodes->file, offset, len, iov, iovcnt);
    r->aio.metadata = metadata;
    return co_transfer(r);
}

/* As data, which is all that the driver knows. */
static int write_zeros(struct co_request *r, struct blocking_io *io)
{
    const struct guest_req *g = r->guest;
    uint64_t step;
    int ret = 0;
    for (uint64_t at = 0; at < g->len && ret == 0; at += step) {
        step = g->len - at < HOST_ZEROS_MAX ? g->len - at : HOST_ZEROS_MAX;
        struct iovec zeros = {host_zeros(), step};
        ret = r->image->driver->write(r->image->driver_state, io, g->offset + at, step,
                                      &zeros, 1);
    }
    return ret;
}

int co_wrapped(struct co_request *r)
{
    const struct blocking_driver *driver = r->image->driver;
    const struct guest_req *g = r->guest;
    void *state = r->image->driver_state;
    size_t parts = g->iovcnt > 0 ? (size_t)g->iovcnt : 1;
    struct call call = {{run, host_buf_get(&r->buf.vec, parts * sizeof(struct iovec))},
                        r};
    if (!call.io.vec)
        return -ENOMEM;
    switch (g->op) {
    case GUEST_READ:
        return driver->read(state, &call.io, g->offset, g->len, g->iov, g->iovcnt);
    case GUEST_WRITE:
        return driver->write(state, &call.io, g->offset, g->len, g->iov, g->iovcnt);
    case GUEST_ZERO:
        return write_zeros(r, &call.io);
    case GUEST_DISCARD:
        return 0; /* a hint, that the driver doesn't take */
    case GUEST_FLUSH:
        return r->image->writable ? driver->flush(state, &call.io) : 0;
    default:
        return -ENOTSUP;
    }
}
