/*
 * Write-zeroes and discard: metadata alone, part by part. What metadata can't express
 * (parts of clusters, version 2 over a backing file) is written as data.
 */
#include "strategies/coroutines/model.h"

#include <errno.h>

int co_zero(struct co_request *r)
{
    const struct guest_req *g = r->guest;
    struct node *node = r->image->nodes;
    uint64_t at = 0;
    int ret = 0;
    while (at < g->len && ret == 0) {
        uint64_t guest = g->offset + at, done = 0;
        struct qcow2_ticket ticket = {0};
        enum qcow2_part part = QCOW2_PART_DONE;
        co_begin(r, node);
        while ((ret = qcow2_zero(node->core, &ticket, guest, g->len - at, &done, &part,
                                 &r->need)) > 0)
            if ((ret = co_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        co_end(node);
        at += done;
        if (ret == 0 && part == QCOW2_PART_WRITE)
            ret = co_write_zeros(r, guest, done);
        else
            r->changed |= ret == 0;
    }
    return ret < 0 ? ret : co_through(r);
}

/* Zeros as data, in steps that end where clusters do: none is copied in between. */
int co_write_zeros(struct co_request *r, uint64_t guest, uint64_t len)
{
    int ret = 0;
    while (len > 0 && ret == 0) {
        uint64_t step = HOST_ZEROS_MAX - guest % HOST_ZEROS_MAX;
        struct iovec zeros = {host_zeros(), step < len ? step : len};
        ret = co_write_range(r, guest, zeros.iov_len, &zeros, 1);
        guest += zeros.iov_len;
        len -= zeros.iov_len;
    }
    return ret;
}

int co_discard(struct co_request *r)
{
    const struct guest_req *g = r->guest;
    struct node *node = r->image->nodes;
    uint64_t at = 0;
    int ret = 0;
    while (at < g->len && ret == 0) {
        uint64_t guest = g->offset + at, done = 0;
        struct qcow2_ticket ticket = {0};
        co_begin(r, node);
        while ((ret = qcow2_discard(node->core, &ticket, guest, g->len - at, &done,
                                    &r->need)) > 0)
            if ((ret = co_settle(r, node, ret)) < 0) {
                qcow2_cancel(node->core, &ticket);
                break;
            }
        co_end(node);
        at += done;
        r->changed |= ret == 0;
    }
    return ret < 0 ? ret : co_through(r);
}
