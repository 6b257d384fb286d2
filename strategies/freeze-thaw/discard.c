/*
 * Write-zeroes and discard: metadata alone, part by part. What metadata can't express
 * (parts of clusters, version 2 over a backing file) is written as data.
 */
#include "strategies/freeze-thaw/model.h"

#include <errno.h>

static void zeros_done(struct ft_request *r, int ret)
{
    if (ret < 0)
        ft_finish(r, ret);
    else
        ft_start(r, ft_zero);
}

/* A phase: up to the first part that is written by callback. */
void ft_zero(struct ft_request *r)
{
    const struct guest_req *g = r->guest;
    struct node *node = r->image->nodes;
    int ret = 0;
    while (r->at < g->len && ret == 0) {
        uint64_t guest = g->offset + r->at, done = 0;
        struct qcow2_ticket ticket = {0};
        enum qcow2_part part = QCOW2_PART_DONE;
        ft_begin(r, node);
        while ((ret = qcow2_zero(node->core, &ticket, guest, g->len - r->at, &done,
                                 &part, &r->need)) > 0)
            if ((ret = ft_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        ft_end(r, node);
        r->at += done;
        if (ret == 0 && part == QCOW2_PART_WRITE) {
            ft_write_zeros(r, guest, done, zeros_done);
            return;
        }
        r->changed |= ret == 0;
    }
    if (ret < 0)
        ft_finish(r, ret);
    else
        ft_through(r);
}

static void zeros_written(struct ft_request *r, int ret);

/* A phase. */
static void zeros_next(struct ft_request *r)
{
    uint64_t guest = r->zero.guest;
    uint64_t step = HOST_ZEROS_MAX - guest % HOST_ZEROS_MAX;
    step = step < r->zero.len ? step : r->zero.len;
    r->zero.iov = (struct iovec){host_zeros(), step};
    r->zero.guest += step;
    r->zero.len -= step;
    ft_write_range(r, guest, step, &r->zero.iov, 1, zeros_written);
}

static void zeros_written(struct ft_request *r, int ret)
{
    if (ret < 0 || r->zero.len == 0)
        r->zero.then(r, ret);
    else
        ft_start(r, zeros_next);
}

/* Zeros as data, in steps that end where clusters do: none is copied in between. */
void ft_write_zeros(struct ft_request *r, uint64_t guest, uint64_t len, ft_then *then)
{
    r->zero.guest = guest;
    r->zero.len = len;
    r->zero.then = then;
    zeros_next(r);
}

/* A phase. */
void ft_discard(struct ft_request *r)
{
    const struct guest_req *g = r->guest;
    struct node *node = r->image->nodes;
    int ret = 0;
    while (r->at < g->len && ret == 0) {
        uint64_t done = 0;
        struct qcow2_ticket ticket = {0};
        ft_begin(r, node);
        while ((ret = qcow2_discard(node->core, &ticket, g->offset + r->at,
                                    g->len - r->at, &done, &r->need)) > 0)
            if ((ret = ft_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        ft_end(r, node);
        r->at += done;
        r->changed |= ret == 0;
    }
    if (ret < 0)
        ft_finish(r, ret);
    else
        ft_through(r);
}
