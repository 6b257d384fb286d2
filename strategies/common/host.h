/*
 * The host's side of a request, as far as it is not about waiting: which aio an I/O
 * that the core owes becomes, buffers that are kept, vectors, and zeros to write.
 */
#ifndef STRATEGIES_HOST_H
#define STRATEGIES_HOST_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/block/aio.h"
#include "core/qcow2/qcow2.h"
#include "strategies/strategy.h"

/* The struct that p is the member of. */
#define from_member(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

/* Memory that grows to what a request once needed and is kept for the next one, so that
 * steady state allocates nothing. Aligned for direct I/O; contents don't survive
 * growth. */
struct host_buf {
    void *p;
    size_t cap; /* bytes */
};
void *host_buf_get(struct host_buf *, size_t len); /* NULL: out of memory */
/* Those of a request. */
struct host_bufs {
    struct host_buf vec, cow[2], compressed, cluster, copy;
};
void host_bufs_free(struct host_bufs *);

/* Zeros to write from, shared by all. Nobody writes to them. */
#define HOST_ZEROS_MAX ((size_t)2 << 20) /* bytes: the largest cluster */
void *host_zeros(void);

/* How many of the bytes [skip, skip + len) of iov fit into `max` entries. */
uint64_t host_fit(const struct iovec *iov, int cnt, size_t skip, uint64_t len, int max);

/* Fills *aio (and *iov) with step 0, 1, ... of what the core owes. true: a step
 * follows. COPY takes two, through `copy`, io->len bytes; all others take one. */
bool host_owed(struct aio *, struct iovec *, const struct qcow2_io *, struct blk_file *,
               void *copy, unsigned step);

/* Guest data: len bytes at offset of file, the whole of iov. */
void host_data(struct aio *, enum aio_op, struct blk_file *, uint64_t offset,
               uint64_t len, const struct iovec *iov, int iovcnt);

/* A guest operation on a raw image: the same on the host. */
void host_raw(struct aio *, const struct guest_req *, struct blk_file *);

/* The core's operation for a guest's; the date is env's. */
struct env;
void host_snapshot(struct qcow2_snapshot *, const struct guest_req *, struct env *);

/* Expands one compressed cluster; the work for loop_work(), or for whoever calls fn. */
struct host_expand {
    struct loop_work work;
    enum qcow2_compression how;
    const void *in;
    size_t in_len, out_len;
    void *out;
    int result; /* 0 or -errno */
};
void host_expand(struct loop_work *);

#endif
