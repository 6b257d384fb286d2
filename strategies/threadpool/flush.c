/*
 * Making things durable: the guest's flush, the sync that metadata-writes=through puts
 * before completion, and the last one before closing. What must be written in which
 * order is the core's to say; here it is only run to its end.
 */
#include "strategies/threadpool/model.h"

#include <errno.h>

int tp_flush(struct tp_request *r) { return tp_sync(r); }

/* metadata-writes=through: what a request changed is on the disk before it ends. */
int tp_through(struct tp_request *r)
{
    return r->image->through && r->changed ? tp_sync(r) : 0;
}

int tp_sync(struct tp_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_ticket ticket = {0};
    int ret;
    tp_begin(r, node);
    while ((ret = qcow2_sync(node->core, &ticket, &r->need)) > 0)
        if ((ret = tp_settle(r, node, ret)) < 0) {
            qcow2_cancel(node->core, &ticket);
            break;
        }
    tp_end(node);
    return ret;
}

/* The only request when the image closes. */
int tp_close_sync(struct tp_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_ticket ticket = {0};
    int ret;
    tp_begin(r, node);
    while ((ret = qcow2_close_sync(node->core, &ticket, &r->need)) > 0)
        if ((ret = tp_settle(r, node, ret)) < 0) {
            qcow2_cancel(node->core, &ticket);
            break;
        }
    tp_end(node);
    return ret;
}
