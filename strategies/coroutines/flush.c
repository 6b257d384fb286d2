/*
 * Making things durable: the guest's flush, the sync that metadata-writes=through puts
 * before completion, and the last one before closing. What must be written in which
 * order is the core's to say; here it is only run to its end.
 */
#include "strategies/coroutines/model.h"

#include <errno.h>

int co_flush(struct co_request *r) { return co_sync(r); }

/* metadata-writes=through: what a request changed is on the disk before it ends. */
int co_through(struct co_request *r)
{
    return r->image->through && r->changed ? co_sync(r) : 0;
}

int co_sync(struct co_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_ticket ticket = {0};
    int ret;
    co_begin(r, node);
    while ((ret = qcow2_sync(node->core, &ticket, &r->need)) > 0)
        if ((ret = co_settle(r, node, ret)) < 0) {
            qcow2_cancel(node->core, &ticket);
            break;
        }
    co_end(node);
    return ret;
}

/* The only request when the image closes. */
int co_close_sync(struct co_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_ticket ticket = {0};
    int ret;
    co_begin(r, node);
    while ((ret = qcow2_close_sync(node->core, &ticket, &r->need)) > 0)
        if ((ret = co_settle(r, node, ret)) < 0) {
            qcow2_cancel(node->core, &ticket);
            break;
        }
    co_end(node);
    return ret;
}
