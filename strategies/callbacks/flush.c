/*
 * Making things durable: the guest's flush, the sync that metadata-writes=through puts
 * before completion, and the last one before closing. What must be written in which
 * order is the core's to say; here it is only run to its end.
 */
#include "strategies/callbacks/model.h"

#include <errno.h>

void cb_flush(struct cb_request *r) { cb_sync(r, cb_finish); }

/* metadata-writes=through: what a request changed is on the disk before it ends. */
void cb_through(struct cb_request *r)
{
    if (r->image->through && r->changed)
        cb_sync(r, cb_finish);
    else
        cb_finish(r, 0);
}

static void sync_again(struct cb_request *r, int ret)
{
    struct node *node = r->image->nodes;
    if (ret < 0) {
        r->sync_then(r, cb_give_up(r, ret));
        return;
    }
    cb_begin(node);
    ret = qcow2_sync(node->core, &r->ticket, &r->need);
    cb_end(node);
    if (ret > 0)
        cb_settle(r, node, ret, sync_again);
    else
        r->sync_then(r, ret);
}

void cb_sync(struct cb_request *r, cb_then *then)
{
    r->ticket = (struct qcow2_ticket){0};
    r->sync_then = then;
    sync_again(r, 0);
}

static void close_again(struct cb_request *r, int ret)
{
    struct node *node = r->image->nodes;
    if (ret < 0) {
        cb_finish(r, cb_give_up(r, ret));
        return;
    }
    cb_begin(node);
    ret = qcow2_close_sync(node->core, &r->ticket, &r->need);
    cb_end(node);
    if (ret > 0)
        cb_settle(r, node, ret, close_again);
    else
        cb_finish(r, ret);
}

/* The only request when the image closes. */
void cb_close_sync(struct cb_request *r)
{
    r->ticket = (struct qcow2_ticket){0};
    close_again(r, 0);
}
