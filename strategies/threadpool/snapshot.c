/*
 * Internal snapshots while the guest's requests go on. What must happen in which order
 * is the core's to say, table by table; its gate keeps changes out meanwhile (plan,
 * zero and discard sleep), and waits for those begun before.
 *
 * Exclusion: the mutex, given back at waits and between two tables. One worker is busy
 * with it from start to end; those whose change sleeps at the gate block as many more.
 */
#include "strategies/threadpool/model.h"

#include <errno.h>

int tp_snapshot(struct tp_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_snapshot s;
    int ret;
    host_snapshot(&s, r->guest, r->image->env);
    tp_begin(r, node);
    while ((ret = qcow2_snapshot_step(node->core, &s, &r->need)) > 0 ||
           (ret == 0 && s.tables_left)) {
        if (ret == 0)
            tp_pause(r, node);
        else if ((ret = tp_settle(r, node, ret)) < 0) /* the next steps take it back */
            qcow2_snapshot_failed(node->core, &s, ret);
    }
    tp_end(node);
    return ret;
}
