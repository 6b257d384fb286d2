/*
 * Internal snapshots while the guest's requests go on. What must happen in which order
 * is the core's to say, table by table; its gate keeps changes out meanwhile (plan,
 * zero and discard sleep), and waits for those begun before.
 *
 * Exclusion: the queue, frozen from start to end, reads included; the loop turns
 * between two tables and completions go on. Thawed only while it waits for those in
 * flight: they may need a turn to end.
 */
#include "strategies/freeze-thaw/model.h"

#include <errno.h>

/* A phase. */
void ft_snapshot(struct ft_request *r)
{
    struct node *node = r->image->nodes;
    struct qcow2_snapshot s;
    int ret;
    host_snapshot(&s, r->guest, loop_env(r->image->loop));
    ft_begin(r, node);
    while ((ret = qcow2_snapshot_step(node->core, &s, &r->need)) > 0 ||
           (ret == 0 && s.tables_left)) {
        if (ret == 0)
            ft_pause(r, node);
        else if ((ret = ft_settle(r, node, ret)) < 0) /* the next steps take it back */
            qcow2_snapshot_failed(node->core, &s, ret);
    }
    ft_end(r, node);
    ft_finish(r, ret);
}
