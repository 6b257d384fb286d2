/*
 * Drivers written as if I/O blocked: each function returns when what it does is done.
 * Who calls them sees to it that nobody else has to wait for that: a coroutine each,
 * under a mutex (strategies/coroutines/wrapper.c).
 *
 * That is all the driver knows of concurrency: between its entry and its return, and
 * across metadata I/O, it is alone; across data I/O others may come in.
 */
#ifndef ASYNCOW_BLOCKING_H
#define ASYNCOW_BLOCKING_H
#include "core/block/aio.h"

struct blocking_io { /* what a call of the driver does I/O with */
    /* The file's; the fields as aio.h has them. Returns when it is done: 0 or
     * -errno. */
    int (*run)(struct blocking_io *, enum aio_op, uint64_t offset, uint64_t len,
               const struct iovec *, int iovcnt, bool metadata);
    struct iovec *vec; /* scratch, as long as the request's vector */
};

struct blocking_driver {
    const char *name;
    /* Inside the disk. 0 or -errno. */
    int (*read)(void *state, struct blocking_io *, uint64_t guest, uint64_t len,
                const struct iovec *, int iovcnt);
    int (*write)(void *state, struct blocking_io *, uint64_t guest, uint64_t len,
                 const struct iovec *, int iovcnt);
    int (*flush)(void *state, struct blocking_io *);
    bool (*holds_data)(const void *state); /* any, of its own */
    void (*close)(void *state);
};

#endif
