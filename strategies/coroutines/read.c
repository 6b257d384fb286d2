/*
 * Reads. A range is read extent by extent: find where the next bytes are, bring them,
 * let go. An extent stays pinned from co_map() to co_unmap(), so what a concurrent
 * discard frees is not reused under the read; the lock is only held to map.
 */
#include "strategies/coroutines/model.h"

#include <errno.h>

int co_read(struct co_request *r)
{
    const struct guest_req *g = r->guest;
    return co_read_range(r, r->image->nodes, g->offset, g->len, g->iov, g->iovcnt);
}

/* What node shows at guest..guest+len, into the vector. */
int co_read_range(struct co_request *r, struct node *node, uint64_t guest, uint64_t len,
                  const struct iovec *iov, int iovcnt)
{
    uint64_t at = 0;
    int ret = 0;
    while (at < len && ret == 0) {
        struct where where;
        ret = co_map(r, node, guest + at, len - at, &where);
        if (ret < 0)
            break;
        ret = co_read_extent(r, &where, iov, iovcnt, at);
        at += where.ext.len;
        co_unmap(r, &where);
    }
    return ret;
}

static int map_node(struct co_request *r, struct node *node, uint64_t guest,
                    uint64_t len, struct qcow2_extent *ext)
{
    struct qcow2_ticket ticket = {0};
    co_begin(r, node);
    int ret = qcow2_peek(node->core, guest, len, ext);
    if (ret == -EAGAIN)
        while ((ret = qcow2_map(node->core, &ticket, guest, len, ext, &r->need)) > 0)
            if ((ret = co_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
    co_end(node);
    return ret;
}

/* Finds the first bytes of guest..guest+len, going down the chain as long as the answer
 * is "in the image below". where->ext.len says how many are alike. */
int co_map(struct co_request *r, struct node *node, uint64_t guest, uint64_t len,
           struct where *where)
{
    for (;; node = node->backing) {
        *where = (struct where){node, {.type = QCOW2_HOLE, .guest = guest, .len = len}};
        if (!node || guest >= node->end)
            return 0; /* nothing below, or it ends before: zeros */
        if (len > node->end - guest)
            where->ext.len = len = node->end - guest;
        if (!node->core) {
            where->ext.type = QCOW2_DATA;
            where->ext.host = guest;
            return 0;
        }
        int ret = map_node(r, node, guest, len, &where->ext);
        if (ret < 0 || where->ext.type != QCOW2_BACKING)
            return ret;
        len = where->ext.len;
        co_unmap(r, where);
    }
}

void co_unmap(struct co_request *r, struct where *where)
{
    /* Letting go needs no lock, telling who waits for it does. */
    if (where->ext.pinned && qcow2_unmap(where->node->core, &where->ext)) {
        co_begin(r, where->node);
        co_end(where->node);
    }
}

int co_read_extent(struct co_request *r, const struct where *where,
                   const struct iovec *iov, int iovcnt, size_t at)
{
    const struct qcow2_extent *ext = &where->ext;
    if (ext->type == QCOW2_COMPRESSED)
        return co_read_compressed(r, where, iov, iovcnt, at);
    if (ext->type == QCOW2_HOLE) {
        iov_zero(iov, iovcnt, at, ext->len);
        return 0;
    }
    struct iovec *vec = host_buf_get(&r->buf.vec, (size_t)iovcnt * sizeof(*vec));
    if (!vec)
        return -ENOMEM;
    int n = iov_slice(vec, iovcnt, iov, iovcnt, at, ext->len);
    host_data(&r->aio, AIO_READ, where->node->file, ext->host, ext->len, vec, n);
    return co_transfer(r);
}

/* The whole compressed cluster is read and expanded, what is wanted of it copied. */
int co_read_compressed(struct co_request *r, const struct where *where,
                       const struct iovec *iov, int iovcnt, size_t at)
{
    const struct qcow2_extent *ext = &where->ext;
    uint64_t cluster_size = qcow2_cluster_size(where->node->core);
    struct iovec in = {host_buf_get(&r->buf.compressed, ext->host_len), ext->host_len};
    char *cluster = host_buf_get(&r->buf.cluster, cluster_size);
    if (!in.iov_base || !cluster)
        return -ENOMEM;
    host_data(&r->aio, AIO_READ, where->node->file, ext->host, ext->host_len, &in, 1);
    int ret = co_transfer(r);
    if (ret == 0)
        ret = co_decompress(r, where);
    if (ret == 0) {
        iov_from_buf(iov, iovcnt, at, cluster + ext->cluster_skip, ext->len);
        co_count(&r->home->counts.bytes_copied, ext->len);
    }
    return ret;
}
