/*
 * Writes. Each phase plans as much of the range as the core puts in one place (frozen),
 * gathers the bytes around it that an allocation must copy (thawed, but to map them),
 * submits head, data and tail in one go and is over. The callback commits.
 *
 *   phase: ft_plan, ft_write_cow, ft_write_data -> callback: written -> next phase ...
 *
 * Commit is pure memory, so it runs in the callback, even while another request has the
 * queue frozen: were it to wait for the thaw, a frozen request that needs this one's
 * commit would wait for ever.
 */
#include "strategies/freeze-thaw/model.h"

#include <errno.h>

/* From a phase or a callback. */
static void write_done(struct ft_request *r, int ret)
{
    if (ret < 0)
        ft_finish(r, ret);
    else
        ft_through(r);
}

/* A phase. */
void ft_write(struct ft_request *r)
{
    const struct guest_req *g = r->guest;
    ft_write_range(r, g->offset, g->len, g->iov, g->iovcnt, write_done);
}

static void written(struct ft_request *r, int ret);

/* A phase: up to the data that is written by callback. */
static void write_next(struct ft_request *r)
{
    struct qcow2_write *w = &r->write.w;
    uint64_t left = r->write.len - r->write.at;
    if (left == 0) {
        r->write.then(r, 0);
        return;
    }
    /* Head and tail take two parts of the one writev. */
    uint64_t fit =
        host_fit(r->write.iov, r->write.iovcnt, r->write.at, left, AIO_IOV_MAX - 2);
    int ret = ft_plan(r, r->write.guest + r->write.at, fit, w);
    if (ret < 0) {
        r->write.then(r, ret);
        return;
    }
    ret = ft_write_cow(r, w);
    if (ret == 0)
        ret = ft_write_data(r, w, written);
    if (ret < 0)
        written(r, ret);
}

static void written(struct ft_request *r, int ret)
{
    r->write.at += r->write.w.len;
    ft_commit(r, &r->write.w, ret);
    if (ret < 0 || r->write.at == r->write.len)
        r->write.then(r, ret);
    else
        ft_start(r, write_next);
}

void ft_write_range(struct ft_request *r, uint64_t guest, uint64_t len,
                    const struct iovec *iov, int iovcnt, ft_then *then)
{
    r->write.guest = guest;
    r->write.len = len;
    r->write.at = 0;
    r->write.iov = iov;
    r->write.iovcnt = iovcnt;
    r->write.then = then;
    write_next(r);
}

/* Sleeps here while a write to the same L2 entries is in flight, holding no other. */
int ft_plan(struct ft_request *r, uint64_t guest, uint64_t len, struct qcow2_write *w)
{
    struct node *node = r->image->nodes;
    int ret;
    *w = (struct qcow2_write){0};
    ft_begin(r, node);
    while ((ret = qcow2_plan(node->core, guest, len, w, &r->need)) > 0)
        if ((ret = ft_settle(r, node, ret)) < 0) {
            qcow2_abort(node->core, w);
            break;
        }
    ft_end(r, node);
    return ret;
}

/* Head and tail of what is planned, into r->part[]; one after the other, as everything
 * inside a request. */
int ft_write_cow(struct ft_request *r, const struct qcow2_write *w)
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
                ft_read_range(r, top->backing, from->guest, from->len, &r->part[i], 1);
        else
            ret =
                ft_read_extent(r, &(struct where){top, *from}, &r->part[i], 1, 0, NULL);
        r->image->stats.bytes_copied += from->len;
    }
    return ret;
}

int ft_write_data(struct ft_request *r, const struct qcow2_write *w, ft_then *then)
{
    int iovcnt = r->write.iovcnt, n = 0;
    struct iovec *vec = host_buf_get(&r->buf.vec, ((size_t)iovcnt + 2) * sizeof(*vec));
    uint64_t head = w->cow[0].len, tail = w->cow[1].len;
    if (!vec)
        return -ENOMEM;
    if (head)
        vec[n++] = r->part[0];
    n += iov_slice(vec + n, iovcnt, r->write.iov, iovcnt, r->write.at, w->len);
    if (tail)
        vec[n++] = r->part[1];
    host_data(&r->aio, AIO_WRITE, r->image->nodes->file, w->host - head,
              head + w->len + tail, vec, n);
    return ft_transfer(r, then);
}

/* Ends the write one way or the other; pure memory either way, so frozen or not. */
void ft_commit(struct ft_request *r, struct qcow2_write *w, int ret)
{
    struct node *node = r->image->nodes;
    if (ret < 0) {
        qcow2_abort(node->core, w);
    } else {
        r->changed |= w->allocates;
        qcow2_commit(node->core, w);
    }
    ft_wake_sleepers(node);
}
