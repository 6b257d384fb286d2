/*
 * What the four strategies do alike towards the host. Nothing here submits or waits:
 * who calls does, each in its idiom.
 */
#include "strategies/common/host.h"

#include <stdlib.h>

#include "core/env/env.h"
#include "core/image/decompress.h"

#define BUF_ALIGN 4096 /* the strictest block that direct I/O asks for */

void *host_buf_get(struct host_buf *buf, size_t len)
{
    if (len > buf->cap) {
        size_t cap = (len + BUF_ALIGN - 1) & ~(size_t)(BUF_ALIGN - 1);
        void *p = aligned_alloc(BUF_ALIGN, cap);
        if (!p)
            return NULL;
        free(buf->p);
        *buf = (struct host_buf){p, cap};
    }
    return buf->p;
}

void host_bufs_free(struct host_bufs *bufs)
{
    struct host_buf *all[] = {&bufs->vec,        &bufs->cow[0],  &bufs->cow[1],
                              &bufs->compressed, &bufs->cluster, &bufs->copy};
    for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++)
        free(all[i]->p);
    *bufs = (struct host_bufs){0};
}

void *host_zeros(void)
{
    /* Never written, so all of it is the kernel's one page of zeros. */
    static unsigned char zeros[HOST_ZEROS_MAX] __attribute__((aligned(BUF_ALIGN)));
    return zeros;
}

uint64_t host_fit(const struct iovec *iov, int cnt, size_t skip, uint64_t len, int max)
{
    uint64_t fit = 0;
    for (int i = 0; i < cnt && max > 0 && fit < len; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        fit += iov[i].iov_len - skip;
        skip = 0;
        max--;
    }
    return fit < len ? fit : len;
}

bool host_owed(struct aio *aio, struct iovec *iov, const struct qcow2_io *io,
               struct blk_file *file, void *copy, unsigned step)
{
    static const enum aio_op op[] = {
        [QCOW2_READ] = AIO_READ,     [QCOW2_WRITE] = AIO_WRITE,
        [QCOW2_FLUSH] = AIO_FLUSH,   [QCOW2_ZERO] = AIO_ZERO,
        [QCOW2_COPY] = AIO_READ,     [QCOW2_GROW] = AIO_GROW,
        [QCOW2_PUNCH] = AIO_DISCARD,
    };
    bool copies = io->op == QCOW2_COPY;
    bool reads = copies && step == 0;
    aio->op = copies && !reads ? AIO_WRITE : op[io->op];
    aio->file = file;
    aio->offset = reads ? io->from : io->offset;
    aio->len = io->len;
    *iov = (struct iovec){copies ? copy : io->buf, io->len};
    aio->iov = iov;
    aio->iovcnt = 1;
    aio->metadata = true;
    return reads;
}

void host_data(struct aio *aio, enum aio_op op, struct blk_file *file, uint64_t offset,
               uint64_t len, const struct iovec *iov, int iovcnt)
{
    aio->op = op;
    aio->file = file;
    aio->offset = offset;
    aio->len = len;
    aio->iov = iov;
    aio->iovcnt = iovcnt;
    aio->metadata = false;
}

void host_raw(struct aio *aio, const struct guest_req *g, struct blk_file *file)
{
    static const enum aio_op op[] = {
        [GUEST_READ] = AIO_READ,   [GUEST_WRITE] = AIO_WRITE,
        [GUEST_ZERO] = AIO_ZERO,   [GUEST_DISCARD] = AIO_DISCARD,
        [GUEST_FLUSH] = AIO_FLUSH,
    };
    host_data(aio, op[g->op], file, g->offset, g->len, g->iov, g->iovcnt);
}

void host_snapshot(struct qcow2_snapshot *s, const struct guest_req *g, struct env *env)
{
    uint64_t now_ns = env_realtime_ns(env);
    *s = (struct qcow2_snapshot){
        .op = (enum qcow2_snapshot_op)(g->op - GUEST_SNAPSHOT_CREATE),
        .name = g->name,
        .date_sec = (uint32_t)(now_ns / 1000000000),
        .date_nsec = (uint32_t)(now_ns % 1000000000),
    };
}

void host_expand(struct loop_work *work)
{
    struct host_expand *x = (struct host_expand *)work; /* its first member */
    x->result = image_decompress(x->how, x->in, x->in_len, x->out, x->out_len);
}
