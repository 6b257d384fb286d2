/*
 * Write-zeroes and discard: metadata alone, part by part. What metadata can't express
 * (parts of clusters, version 2 over a backing file) is written as data.
 */
#include "strategies/callbacks/model.h"

#include <errno.h>

static void zero_settled(struct cb_request *r, int ret);

/* Goes on with the next part, if the last went well. */
static void zero_next(struct cb_request *r, int ret)
{
    const struct guest_req *g = r->guest;
    struct node *node = r->image->nodes;
    while (ret == 0 && r->zero.at < g->len) {
        uint64_t guest = g->offset + r->zero.at, done;
        enum qcow2_part part = QCOW2_PART_DONE;
        cb_begin(node);
        ret = qcow2_zero(node->core, &r->ticket, guest, g->len - r->zero.at, &done,
                         &part, &r->need);
        cb_end(node);
        if (ret > 0) {
            cb_settle(r, node, ret, zero_settled);
            return;
        }
        if (ret < 0)
            break;
        r->ticket = (struct qcow2_ticket){0};
        r->zero.at += done;
        if (part == QCOW2_PART_WRITE) {
            cb_write_zeros(r, guest, done, zero_next);
            return;
        }
        r->changed = true;
    }
    if (ret < 0)
        cb_finish(r, ret);
    else
        cb_through(r);
}

static void zero_settled(struct cb_request *r, int ret)
{
    zero_next(r, ret < 0 ? cb_give_up(r, ret) : 0);
}

void cb_zero(struct cb_request *r)
{
    r->ticket = (struct qcow2_ticket){0};
    r->zero.at = 0;
    zero_next(r, 0);
}

static void zeros_written(struct cb_request *r, int ret)
{
    uint64_t step = HOST_ZEROS_MAX - r->zero.guest % HOST_ZEROS_MAX;
    if (ret < 0 || r->zero.len == 0) {
        r->zero.then(r, ret);
        return;
    }
    step = step < r->zero.len ? step : r->zero.len;
    uint64_t guest = r->zero.guest;
    r->zero.iov = (struct iovec){host_zeros(), step};
    r->zero.guest += step;
    r->zero.len -= step;
    cb_write_range(r, guest, step, &r->zero.iov, 1, zeros_written);
}

/* Zeros as data, in steps that end where clusters do: none is copied in between. */
void cb_write_zeros(struct cb_request *r, uint64_t guest, uint64_t len, cb_then *then)
{
    r->zero.guest = guest;
    r->zero.len = len;
    r->zero.then = then;
    zeros_written(r, 0);
}

static void discard_settled(struct cb_request *r, int ret);

static void discard_next(struct cb_request *r, int ret)
{
    const struct guest_req *g = r->guest;
    struct node *node = r->image->nodes;
    while (ret == 0 && r->zero.at < g->len) {
        uint64_t done;
        cb_begin(node);
        ret = qcow2_discard(node->core, &r->ticket, g->offset + r->zero.at,
                            g->len - r->zero.at, &done, &r->need);
        cb_end(node);
        if (ret > 0) {
            cb_settle(r, node, ret, discard_settled);
            return;
        }
        if (ret < 0)
            break;
        r->ticket = (struct qcow2_ticket){0};
        r->zero.at += done;
        r->changed = true;
    }
    if (ret < 0)
        cb_finish(r, ret);
    else
        cb_through(r);
}

static void discard_settled(struct cb_request *r, int ret)
{
    discard_next(r, ret < 0 ? cb_give_up(r, ret) : 0);
}

void cb_discard(struct cb_request *r)
{
    r->ticket = (struct qcow2_ticket){0};
    r->zero.at = 0;
    discard_next(r, 0);
}
