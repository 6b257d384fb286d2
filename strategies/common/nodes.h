/*
 * The images of a chain as every strategy sees them. What guards one, and who sleeps on
 * it, is the strategy's own: its model.h defines struct node_guard.
 */
#ifndef STRATEGIES_NODES_H
#define STRATEGIES_NODES_H
#include <stddef.h>
#include <stdint.h>

#include "core/qcow2/qcow2.h"
#include "strategies/strategy.h"

struct node { /* an image of the chain */
    struct strategy_image *image;
    struct node *backing; /* NULL: unallocated reads zeros */
    struct blk_file *file;
    uint64_t end; /* guest bytes that can be seen of it, through the images above */
    uint64_t size_at_open;
    struct node_guard *guard;
    struct qcow2 *core; /* guarded. NULL: raw */
};

struct where { /* guest bytes, found */
    struct node *node;
    struct qcow2_extent ext; /* pinned until the strategy's unmap */
};

/* Fills *nodes, the top first, *count of them, each with a zeroed guard of guard_size
 * bytes and a core ready for qcow2_load(); also on error, for nodes_free(). A request
 * has at most one ticket at a time in each core. 0 or -errno with err: a format whose
 * driver blocks is refused, unless the strategy `wraps` such drivers. */
int nodes_open(struct node **nodes, unsigned *count, size_t guard_size,
               struct strategy_image *, const struct strategy_options *, bool wraps,
               struct error *err);
void nodes_free(struct node *, unsigned count);

/* What can't be loaded, said: unless the core has said it better. */
void node_load_error(const struct node *, int ret, struct error *err);

/* Before closing: trims what growth ahead of need left over in the top. 0 or -errno. */
int node_trim(const struct node *top);

void node_stats(const struct node *top, struct strategy_stats *out); /* of its core */
void nodes_verify(const struct node *, unsigned count); /* see struct strategy */

#endif
