/*
 * Internal snapshots while the guest's requests go on. What must happen in which order
 * is the core's to say, table by table; its gate keeps changes out meanwhile (plan,
 * zero and discard sleep), and waits for those begun before.
 *
 * Exclusion: the lock, taken once and given back wherever it is for others too: at
 * waits, and between two tables, where the coroutine yields so that the loop turns and
 * reads go on.
 */
#include "strategies/coroutines/model.h"

#include <errno.h>

int co_snapshot(struct co_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_snapshot s;
    int ret;
    host_snapshot(&s, r->guest, r->image->env);
    co_begin(r, node);
    while ((ret = qcow2_snapshot_step(node->core, &s, &r->need)) > 0 ||
           (ret == 0 && s.tables_left)) {
        if (ret == 0)
            co_pause(r, node);
        else if ((ret = co_settle(r, node, ret)) < 0) /* the next steps take it back */
            qcow2_snapshot_failed(node->core, &s, ret);
    }
    co_end(node);
    return ret;
}
