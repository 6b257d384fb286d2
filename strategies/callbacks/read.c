/*
 * Reads. A range is read extent by extent: find where the next bytes are, bring them,
 * let go. An extent stays pinned from cb_map() to cb_unmap(), so what a concurrent
 * discard frees is not reused under the read.
 *
 *   read_next -> cb_map -> read_mapped -> cb_read_extent -> read_done -> read_next ...
 */
#include "strategies/callbacks/model.h"

#include <errno.h>

void cb_read(struct cb_request *r)
{
    const struct guest_req *g = r->guest;
    cb_read_range(r, r->image->nodes, g->offset, g->len, g->iov, g->iovcnt, cb_finish);
}

static void read_done(struct cb_request *r, int ret);
static void read_mapped(struct cb_request *r, int ret);

static void read_next(struct cb_request *r)
{
    if (r->read.at == r->read.len)
        r->read.then(r, 0);
    else
        cb_map(r, r->read.node, r->read.guest + r->read.at, r->read.len - r->read.at,
               read_mapped);
}

/* What node shows at guest..guest+len, into the vector. */
void cb_read_range(struct cb_request *r, struct node *node, uint64_t guest,
                   uint64_t len, const struct iovec *iov, int iovcnt, cb_then *then)
{
    r->read.node = node;
    r->read.guest = guest;
    r->read.len = len;
    r->read.at = 0;
    r->read.iov = iov;
    r->read.iovcnt = iovcnt;
    r->read.then = then;
    read_next(r);
}

static void read_mapped(struct cb_request *r, int ret)
{
    if (ret < 0)
        r->read.then(r, ret);
    else
        cb_read_extent(r, &r->where, r->read.iov, r->read.iovcnt, r->read.at,
                       read_done);
}

static void read_done(struct cb_request *r, int ret)
{
    r->read.at += r->where.ext.len;
    cb_unmap(&r->where);
    if (ret < 0)
        r->read.then(r, ret);
    else
        read_next(r);
}

/* Looks at one node. 0: found something. -EAGAIN: only qcow2_map() can tell. */
static int map_node(struct cb_request *r)
{
    struct node *node = r->where.node;
    struct qcow2_extent *ext = &r->where.ext;
    *ext = (struct qcow2_extent){
        .type = QCOW2_HOLE, .guest = r->map.guest, .len = r->map.len};
    if (!node || ext->guest >= node->end)
        return 0; /* nothing below, or it ends before: zeros */
    if (ext->len > node->end - ext->guest)
        ext->len = r->map.len = node->end - ext->guest;
    if (!node->core) {
        ext->type = QCOW2_DATA;
        ext->host = ext->guest;
        return 0;
    }
    cb_begin(node);
    int ret = qcow2_peek(node->core, r->map.guest, r->map.len, ext);
    cb_end(node);
    return ret;
}

/* Goes on in the image below if that is what the answer was. */
static bool map_down(struct cb_request *r)
{
    if (r->where.ext.type != QCOW2_BACKING)
        return false;
    r->map.len = r->where.ext.len;
    cb_unmap(&r->where);
    r->where.node = r->where.node->backing;
    return true;
}

static void map_again(struct cb_request *r, int ret);

static void map_next(struct cb_request *r)
{
    int ret;
    do
        ret = map_node(r);
    while (ret == 0 && map_down(r));
    if (ret == -EAGAIN) {
        r->ticket = (struct qcow2_ticket){0};
        map_again(r, 0);
    } else {
        r->map.then(r, ret);
    }
}

static void map_again(struct cb_request *r, int ret)
{
    struct node *node = r->where.node;
    if (ret < 0) {
        r->map.then(r, cb_give_up(r, ret));
        return;
    }
    cb_begin(node);
    ret = qcow2_map(node->core, &r->ticket, r->map.guest, r->map.len, &r->where.ext,
                    &r->need);
    cb_end(node);
    if (ret > 0)
        cb_settle(r, node, ret, map_again);
    else if (ret == 0 && map_down(r))
        map_next(r);
    else
        r->map.then(r, ret);
}

/* Finds the first bytes of guest..guest+len, going down the chain as long as the answer
 * is "in the image below". r->where.ext.len says how many are alike. */
void cb_map(struct cb_request *r, struct node *node, uint64_t guest, uint64_t len,
            cb_then *then)
{
    r->map.guest = guest;
    r->map.len = len;
    r->map.then = then;
    r->where.node = node;
    map_next(r);
}

void cb_unmap(struct where *where)
{
    if (where->ext.pinned && qcow2_unmap(where->node->core, &where->ext)) {
        cb_begin(where->node); /* somebody waits for just this */
        cb_end(where->node);
    }
}

void cb_read_extent(struct cb_request *r, const struct where *where,
                    const struct iovec *iov, int iovcnt, size_t at, cb_then *then)
{
    const struct qcow2_extent *ext = &where->ext;
    r->extent.where = where;
    r->extent.iov = iov;
    r->extent.iovcnt = iovcnt;
    r->extent.at = at;
    r->extent.then = then;
    if (ext->type == QCOW2_COMPRESSED) {
        cb_read_compressed(r);
        return;
    }
    if (ext->type == QCOW2_HOLE) {
        iov_zero(iov, iovcnt, at, ext->len);
        cb_defer(r, then, 0);
        return;
    }
    struct iovec *vec = host_buf_get(&r->buf.vec, (size_t)iovcnt * sizeof(*vec));
    if (!vec) {
        then(r, -ENOMEM);
        return;
    }
    int n = iov_slice(vec, iovcnt, iov, iovcnt, at, ext->len);
    host_data(&r->aio, AIO_READ, where->node->file, ext->host, ext->len, vec, n);
    cb_transfer(r, then);
}

static void compressed_read(struct cb_request *r, int ret);
static void compressed_expanded(struct cb_request *r, int ret);

/* The whole compressed cluster is read and expanded, what is wanted of it copied. */
void cb_read_compressed(struct cb_request *r)
{
    const struct where *where = r->extent.where;
    const struct qcow2_extent *ext = &where->ext;
    r->iov =
        (struct iovec){host_buf_get(&r->buf.compressed, ext->host_len), ext->host_len};
    if (!r->iov.iov_base ||
        !host_buf_get(&r->buf.cluster, qcow2_cluster_size(where->node->core))) {
        r->extent.then(r, -ENOMEM);
        return;
    }
    host_data(&r->aio, AIO_READ, where->node->file, ext->host, ext->host_len, &r->iov,
              1);
    cb_transfer(r, compressed_read);
}

static void compressed_read(struct cb_request *r, int ret)
{
    if (ret < 0)
        r->extent.then(r, ret);
    else
        cb_decompress(r, r->extent.where, compressed_expanded);
}

static void compressed_expanded(struct cb_request *r, int ret)
{
    const struct qcow2_extent *ext = &r->extent.where->ext;
    if (ret == 0) {
        iov_from_buf(r->extent.iov, r->extent.iovcnt, r->extent.at,
                     (char *)r->buf.cluster.p + ext->cluster_skip, ext->len);
        r->image->stats.bytes_copied += ext->len;
    }
    r->extent.then(r, ret);
}
