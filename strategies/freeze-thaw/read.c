/*
 * Reads. A range is read extent by extent: find where the next bytes are (frozen),
 * bring them (thawed), let go. An extent stays pinned from ft_map() to ft_unmap(), so
 * what a concurrent discard frees is not reused under the read.
 *
 * Data that goes straight to the guest completes by callback, and the phase is over; if
 * more of the range is left, the callback starts another. What must be prepared in
 * memory (a compressed cluster, a copy for a write) is waited for in the phase, as the
 * synchronous code did that the proposal would have wrapped.
 */
#include "strategies/freeze-thaw/model.h"

#include <errno.h>

/* Callback: the queue may be frozen, by whoever. */
static void read_done(struct ft_request *r, int ret)
{
    r->at += r->where.ext.len;
    ft_unmap(&r->where);
    if (ret < 0 || r->at == r->guest->len)
        ft_finish(r, ret);
    else
        ft_start(r, ft_read);
}

/* A phase: up to the first data that comes by callback. */
void ft_read(struct ft_request *r)
{
    const struct guest_req *g = r->guest;
    int ret = 0;
    while (r->at < g->len && ret == 0) {
        ret = ft_map(r, r->image->nodes, g->offset + r->at, g->len - r->at, &r->where);
        if (ret < 0)
            break;
        bool data = r->where.ext.type == QCOW2_DATA;
        ret = ft_read_extent(r, &r->where, g->iov, g->iovcnt, r->at,
                             data ? read_done : NULL);
        if (data && ret == 0)
            return;
        r->at += r->where.ext.len;
        ft_unmap(&r->where);
    }
    ft_finish(r, ret);
}

/* What node shows at guest..guest+len, into the vector; waits for it. */
int ft_read_range(struct ft_request *r, struct node *node, uint64_t guest, uint64_t len,
                  const struct iovec *iov, int iovcnt)
{
    uint64_t at = 0;
    int ret = 0;
    while (at < len && ret == 0) {
        struct where where;
        ret = ft_map(r, node, guest + at, len - at, &where);
        if (ret < 0)
            break;
        ret = ft_read_extent(r, &where, iov, iovcnt, at, NULL);
        at += where.ext.len;
        ft_unmap(&where);
    }
    return ret;
}

static int map_node(struct ft_request *r, struct node *node, uint64_t guest,
                    uint64_t len, struct qcow2_extent *ext)
{
    struct qcow2_ticket ticket = {0};
    ft_begin(r, node);
    int ret = qcow2_peek(node->core, guest, len, ext);
    if (ret == -EAGAIN)
        while ((ret = qcow2_map(node->core, &ticket, guest, len, ext, &r->need)) > 0)
            if ((ret = ft_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
    ft_end(r, node);
    return ret;
}

/* Finds the first bytes of guest..guest+len, going down the chain as long as the answer
 * is "in the image below". where->ext.len says how many are alike. */
int ft_map(struct ft_request *r, struct node *node, uint64_t guest, uint64_t len,
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
        ft_unmap(where);
    }
}

void ft_unmap(struct where *where)
{
    /* Pure memory, so frozen or not. */
    if (where->ext.pinned && qcow2_unmap(where->node->core, &where->ext))
        ft_wake_sleepers(where->node);
}

int ft_read_extent(struct ft_request *r, const struct where *where,
                   const struct iovec *iov, int iovcnt, size_t at, ft_then *then)
{
    const struct qcow2_extent *ext = &where->ext;
    if (ext->type == QCOW2_COMPRESSED)
        return ft_read_compressed(r, where, iov, iovcnt, at);
    if (ext->type == QCOW2_HOLE) {
        iov_zero(iov, iovcnt, at, ext->len);
        return 0;
    }
    struct iovec *vec = host_buf_get(&r->buf.vec, (size_t)iovcnt * sizeof(*vec));
    if (!vec)
        return -ENOMEM;
    int n = iov_slice(vec, iovcnt, iov, iovcnt, at, ext->len);
    host_data(&r->aio, AIO_READ, where->node->file, ext->host, ext->len, vec, n);
    return ft_transfer(r, then);
}

/* The whole compressed cluster is read and expanded, what is wanted of it copied. */
int ft_read_compressed(struct ft_request *r, const struct where *where,
                       const struct iovec *iov, int iovcnt, size_t at)
{
    const struct qcow2_extent *ext = &where->ext;
    uint64_t cluster_size = qcow2_cluster_size(where->node->core);
    struct iovec in = {host_buf_get(&r->buf.compressed, ext->host_len), ext->host_len};
    char *cluster = host_buf_get(&r->buf.cluster, cluster_size);
    if (!in.iov_base || !cluster)
        return -ENOMEM;
    host_data(&r->aio, AIO_READ, where->node->file, ext->host, ext->host_len, &in, 1);
    int ret = ft_transfer(r, NULL);
    if (ret == 0)
        ret = ft_decompress(r, where);
    if (ret == 0) {
        iov_from_buf(iov, iovcnt, at, cluster + ext->cluster_skip, ext->len);
        r->image->stats.bytes_copied += ext->len;
    }
    return ret;
}
