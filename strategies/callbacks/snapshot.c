/*
 * Internal snapshots while the guest's requests go on. What must happen in which order
 * is the core's to say, table by table; its gate keeps changes out meanwhile (plan,
 * zero and discard sleep), and waits for those begun before.
 *
 * Exclusion: the core's gate alone. Nothing is locked and nothing frozen; each table is
 * a continuation of its own, so the loop turns and reads go on between any two.
 */
#include "strategies/callbacks/model.h"

#include <errno.h>

static void snapshot_again(struct cb_request *r, int ret)
{
    struct node *node = r->image->nodes;
    cb_begin(node);
    if (ret < 0) /* the next steps take it back */
        qcow2_snapshot_failed(node->core, &r->snapshot, ret);
    ret = qcow2_snapshot_step(node->core, &r->snapshot, &r->need);
    cb_end(node);
    if (ret > 0)
        cb_settle(r, node, ret, snapshot_again);
    else if (ret == 0 && r->snapshot.tables_left)
        cb_pause(r, node, snapshot_again);
    else
        cb_finish(r, ret);
}

void cb_snapshot(struct cb_request *r)
{
    host_snapshot(&r->snapshot, r->guest, loop_env(r->image->loop));
    snapshot_again(r, 0);
}
