/*
 * Making things durable: the guest's flush, the sync that metadata-writes=through puts
 * before completion, and the last one before closing. What must be written in which
 * order is the core's to say; here it is only run to its end.
 */
#include "strategies/freeze-thaw/model.h"

#include <errno.h>

/* A phase. */
void ft_flush(struct ft_request *r) { ft_finish(r, ft_sync(r)); }

/* metadata-writes=through: what the request changed is on the disk before it completes.
 * A phase of its own, for this is metadata I/O after the data, and must be guarded like
 * that before it. */
void ft_through(struct ft_request *r)
{
    if (r->image->through && r->changed)
        ft_start(r, ft_flush);
    else
        ft_finish(r, 0);
}

int ft_sync(struct ft_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_ticket ticket = {0};
    int ret;
    ft_begin(r, node);
    while ((ret = qcow2_sync(node->core, &ticket, &r->need)) > 0)
        if ((ret = ft_settle(r, node, ret)) < 0) {
            qcow2_cancel(node->core, &ticket);
            break;
        }
    ft_end(r, node);
    return ret;
}

/* The only request when the image closes. */
int ft_close_sync(struct ft_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_ticket ticket = {0};
    int ret;
    ft_begin(r, node);
    while ((ret = qcow2_close_sync(node->core, &ticket, &r->need)) > 0)
        if ((ret = ft_settle(r, node, ret)) < 0) {
            qcow2_cancel(node->core, &ticket);
            break;
        }
    ft_end(r, node);
    return ret;
}
