/*
 * Writes. Each step plans as much of the range as the core puts in one place, gathers
 * the bytes around it that an allocation must copy, writes head, data and tail in one
 * go, and commits. The lock is held to plan and to commit, never for data.
 *
 * The completion half is guarded like the first: commit runs under the lock, and with
 * metadata-writes=through so does the metadata I/O after it (flush.c).
 */
#include "strategies/coroutines/model.h"

#include <errno.h>

int co_write(struct co_request *r)
{
    const struct guest_req *g = r->guest;
    int ret = co_write_range(r, g->offset, g->len, g->iov, g->iovcnt);
    return ret < 0 ? ret : co_through(r);
}

int co_write_range(struct co_request *r, uint64_t guest, uint64_t len,
                   const struct iovec *iov, int iovcnt)
{
    struct qcow2_write w;
    uint64_t at = 0;
    int ret = 0;
    while (at < len && ret == 0) {
        /* Head and tail take two parts of the one writev. */
        uint64_t fit = host_fit(iov, iovcnt, at, len - at, AIO_IOV_MAX - 2);
        ret = co_plan(r, guest + at, fit, &w);
        if (ret < 0)
            break;
        ret = co_write_cow(r, &w);
        if (ret == 0)
            ret = co_write_data(r, &w, iov, iovcnt, at);
        at += w.len;
        co_commit(r, &w, ret);
    }
    return ret;
}

/* Sleeps here while a write to the same L2 entries is in flight, holding no other. */
int co_plan(struct co_request *r, uint64_t guest, uint64_t len, struct qcow2_write *w)
{
    struct node *node = r->image->nodes;
    int ret;
    *w = (struct qcow2_write){0};
    co_begin(r, node);
    while ((ret = qcow2_plan(node->core, guest, len, w, &r->need)) > 0)
        if ((ret = co_settle(r, node, ret)) < 0) {
            qcow2_abort(node->core, w);
            break;
        }
    co_end(node);
    return ret;
}

/* Head and tail of what is planned, into r->part[]; one after the other, as everything
 * inside a request. */
int co_write_cow(struct co_request *r, const struct qcow2_write *w)
{
    struct node *top = r->image->nodes;
    int ret = 0;
    for (int i = 0; i < 2 && ret == 0; i++) {
        const struct qcow2_extent *from = &w->cow[i];
        r->part[i] = (struct iovec){host_zeros(), from->len};
        if (from->len == 0 || from->type == QCOW2_HOLE)
            continue;
        r->part[i].iov_base = host_buf_get(&r->buf.cow[i], from->len);
        if (!r->part[i].iov_base)
            ret = -ENOMEM;
        else if (from->type == QCOW2_BACKING)
            ret =
                co_read_range(r, top->backing, from->guest, from->len, &r->part[i], 1);
        else
            ret = co_read_extent(r, &(struct where){top, *from}, &r->part[i], 1, 0);
        co_count(&r->home->counts.bytes_copied, from->len);
    }
    return ret;
}

int co_write_data(struct co_request *r, const struct qcow2_write *w,
                  const struct iovec *iov, int iovcnt, size_t at)
{
    struct iovec *vec = host_buf_get(&r->buf.vec, ((size_t)iovcnt + 2) * sizeof(*vec));
    uint64_t head = w->cow[0].len, tail = w->cow[1].len;
    int n = 0;
    if (!vec)
        return -ENOMEM;
    if (head)
        vec[n++] = r->part[0];
    n += iov_slice(vec + n, iovcnt, iov, iovcnt, at, w->len);
    if (tail)
        vec[n++] = r->part[1];
    host_data(&r->aio, AIO_WRITE, r->image->nodes->file, w->host - head,
              head + w->len + tail, vec, n);
    return co_transfer(r);
}

/* Ends the write one way or the other; pure memory either way. */
void co_commit(struct co_request *r, struct qcow2_write *w, int ret)
{
    struct node *node = r->image->nodes;
    co_begin(r, node);
    if (ret < 0) {
        qcow2_abort(node->core, w);
    } else {
        r->changed |= w->allocates;
        qcow2_commit(node->core, w);
    }
    co_end(node);
}
