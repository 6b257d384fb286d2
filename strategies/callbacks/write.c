/*
 * Writes. Each step plans as much of the range as the core puts in one place, gathers
 * the bytes around it that an allocation must copy, writes head, data and tail in one
 * go, and commits.
 *
 *   write_next -> cb_plan -> write_planned -> cb_write_cow -> write_copied
 *              -> cb_write_data -> write_written (commit) -> write_next ...
 *
 * The completion half needs no guard of its own: commit is one section, and with
 * metadata-writes=through the sync after it (flush.c) is a verb like any other.
 */
#include "strategies/callbacks/model.h"

#include <errno.h>

static void write_done(struct cb_request *r, int ret)
{
    if (ret < 0)
        cb_finish(r, ret);
    else
        cb_through(r);
}

void cb_write(struct cb_request *r)
{
    const struct guest_req *g = r->guest;
    cb_write_range(r, g->offset, g->len, g->iov, g->iovcnt, write_done);
}

static void write_planned(struct cb_request *r, int ret);
static void write_copied(struct cb_request *r, int ret);
static void write_written(struct cb_request *r, int ret);

static void write_next(struct cb_request *r)
{
    if (r->write.at == r->write.len) {
        r->write.then(r, 0);
        return;
    }
    /* Head and tail take two parts of the one writev. */
    r->write.fit = host_fit(r->write.iov, r->write.iovcnt, r->write.at,
                            r->write.len - r->write.at, AIO_IOV_MAX - 2);
    cb_plan(r, write_planned);
}

void cb_write_range(struct cb_request *r, uint64_t guest, uint64_t len,
                    const struct iovec *iov, int iovcnt, cb_then *then)
{
    r->write.guest = guest;
    r->write.len = len;
    r->write.at = 0;
    r->write.iov = iov;
    r->write.iovcnt = iovcnt;
    r->write.then = then;
    write_next(r);
}

static void write_planned(struct cb_request *r, int ret)
{
    if (ret < 0)
        r->write.then(r, ret);
    else
        cb_write_cow(r, write_copied);
}

static void write_copied(struct cb_request *r, int ret)
{
    if (ret < 0)
        write_written(r, ret);
    else
        cb_write_data(r, write_written);
}

static void write_written(struct cb_request *r, int ret)
{
    r->write.at += r->write.w.len;
    cb_commit(r, ret);
    if (ret < 0)
        r->write.then(r, ret);
    else
        write_next(r);
}

static void plan_again(struct cb_request *r, int ret)
{
    struct node *node = r->image->nodes;
    cb_begin(node);
    if (ret < 0)
        qcow2_abort(node->core, &r->write.w);
    else
        ret = qcow2_plan(node->core, r->write.guest + r->write.at, r->write.fit,
                         &r->write.w, &r->need);
    cb_end(node);
    if (ret > 0)
        cb_settle(r, node, ret, plan_again);
    else
        r->write.plan_then(r, ret);
}

/* Sleeps here while a write to the same L2 entries is in flight, holding no other. */
void cb_plan(struct cb_request *r, cb_then *then)
{
    r->write.w = (struct qcow2_write){0};
    r->write.plan_then = then;
    plan_again(r, 0);
}

/* Brings the next side that has to be read. */
static void cow_next(struct cb_request *r, int ret)
{
    struct node *top = r->image->nodes;
    while (ret == 0 && r->write.side < 2) {
        int i = r->write.side++;
        const struct qcow2_extent *from = &r->write.w.cow[i];
        r->part[i] = (struct iovec){host_zeros(), from->len};
        if (from->len == 0 || from->type == QCOW2_HOLE)
            continue;
        r->part[i].iov_base = host_buf_get(&r->buf.cow[i], from->len);
        r->image->stats.bytes_copied += from->len;
        if (!r->part[i].iov_base) {
            ret = -ENOMEM;
        } else if (from->type == QCOW2_BACKING) {
            cb_read_range(r, top->backing, from->guest, from->len, &r->part[i], 1,
                          cow_next);
            return;
        } else {
            r->write.from = (struct where){top, *from};
            cb_read_extent(r, &r->write.from, &r->part[i], 1, 0, cow_next);
            return;
        }
    }
    r->write.cow_then(r, ret);
}

/* Head and tail of what is planned, into r->part[]; one after the other, as everything
 * inside a request. */
void cb_write_cow(struct cb_request *r, cb_then *then)
{
    r->write.side = 0;
    r->write.cow_then = then;
    cow_next(r, 0);
}

void cb_write_data(struct cb_request *r, cb_then *then)
{
    const struct qcow2_write *w = &r->write.w;
    int iovcnt = r->write.iovcnt, n = 0;
    struct iovec *vec = host_buf_get(&r->buf.vec, ((size_t)iovcnt + 2) * sizeof(*vec));
    uint64_t head = w->cow[0].len, tail = w->cow[1].len;
    if (!vec) {
        then(r, -ENOMEM);
        return;
    }
    if (head)
        vec[n++] = r->part[0];
    n += iov_slice(vec + n, iovcnt, r->write.iov, iovcnt, r->write.at, w->len);
    if (tail)
        vec[n++] = r->part[1];
    host_data(&r->aio, AIO_WRITE, r->image->nodes->file, w->host - head,
              head + w->len + tail, vec, n);
    cb_transfer(r, then);
}

/* Ends the write one way or the other; pure memory either way. */
void cb_commit(struct cb_request *r, int ret)
{
    struct node *node = r->image->nodes;
    cb_begin(node);
    if (ret < 0) {
        qcow2_abort(node->core, &r->write.w);
    } else {
        r->changed |= r->write.w.allocates;
        qcow2_commit(node->core, &r->write.w);
    }
    cb_end(node);
}
