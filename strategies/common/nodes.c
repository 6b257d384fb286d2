/* The chain's images, opened and closed. */
#include "strategies/common/nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/blocking.h"
#include "strategies/common/guest.h"

/* A backing file is read only and mapped once per cluster copied; it does with less. */
#define BACKING_CACHE ((size_t)1 << 20) /* bytes */

static int open_core(struct node *node, const struct image_node *in,
                     const struct strategy_options *so, struct error *err)
{
    bool top = in == so->top;
    struct qcow2_options qo = {
        .inflight = guests_depth(so) * guests_loops(so),
        .cache = top || so->cache < BACKING_CACHE ? so->cache : BACKING_CACHE,
        .grow = so->grow,
        .file_size = node->size_at_open,
        .regular = blk_regular(in->file),
        .write = top && in->write,
        .punch = so->punch,
        .no_backing = !in->backing,
    };
    int ret = qcow2_open(&node->core, in->header, in->header_cluster, &qo, err);
    if (ret < 0)
        error_prefix(err, "%s", blk_path(in->file));
    return ret;
}

int nodes_open(struct node **nodes, unsigned *count, size_t guard_size,
               struct strategy_image *image, const struct strategy_options *so,
               bool wraps, struct error *err)
{
    if (so->top->driver && !wraps)
        return error_set(
            err, -ENOTSUP,
            "%s: the %s driver blocks; coroutines:lock=big (or big-held, or "
            "serialize) runs it in coroutines",
            blk_path(so->top->file), so->top->driver->name);
    uint64_t end = so->top->size;
    unsigned n = 0;
    for (const struct image_node *in = so->top; in; in = in->backing)
        n++;
    struct node *node = *nodes = calloc(n, sizeof(*node));
    char *guard = calloc(n, guard_size);
    if (!node || !guard) {
        free(guard);
        return error_set(err, -ENOMEM, "no memory for %u images", n);
    }
    *count = n;
    for (const struct image_node *in = so->top; in; in = in->backing, node++) {
        end = in->size < end ? in->size : end;
        node->image = image;
        node->file = in->file;
        node->end = end;
        node->size_at_open = blk_size(in->file);
        node->backing = in->backing ? node + 1 : NULL;
        node->guard = (struct node_guard *)guard;
        guard += guard_size;
    }
    node = *nodes;
    for (const struct image_node *in = so->top; in; in = in->backing, node++) {
        int ret = in->format == IMAGE_QCOW2 ? open_core(node, in, so, err) : 0;
        if (ret < 0)
            return ret;
    }
    return 0;
}

void nodes_free(struct node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (nodes[i].core)
            qcow2_free(nodes[i].core);
    if (count)
        free(nodes->guard); /* the first one's, so all of them */
    free(nodes);
}

void node_load_error(const struct node *node, int ret, struct error *err)
{
    error_set(err, ret, "metadata: %s", strerror(-ret));
    error_prefix(err, "%s", blk_path(node->file));
}

int node_trim(const struct node *top)
{
    uint64_t size = blk_size(top->file);
    if (!top->core || !blk_regular(top->file) || size <= top->size_at_open)
        return 0;
    uint64_t end = qcow2_file_end(top->core);
    if (end >= size)
        return 0;
    return blk_truncate(top->file, end > top->size_at_open ? end : top->size_at_open);
}

void node_stats(const struct node *top, struct strategy_stats *out)
{
    for (const struct node *n = top; n && !out->complaint.what; n = n->backing) {
        if (n->core)
            out->complaint = qcow2_complaint(n->core);
        out->complaint_file = blk_path(n->file);
    }
    if (!top->core)
        return;
    out->top = *qcow2_stats(top->core);
    out->poisoned = qcow2_poisoned(top->core);
}

void nodes_verify(const struct node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (nodes[i].core)
            qcow2_verify(nodes[i].core);
}
