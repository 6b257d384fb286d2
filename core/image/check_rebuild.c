/*
 * Check: a new refcount structure, where the old one is beyond repair in place.
 *
 * It is written whole past the end of the file, made durable, and only then does the
 * header point at it, with one write inside one sector. Until that moment the file is
 * as it was but for its length. What the old structure occupied counts as used in the
 * new one; the check that follows gives it back as leaks.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/image/check_int.h"

struct plan { /* all in clusters, or blocks */
    uint64_t per_block;
    uint64_t start; /* the new blocks, then the new table, begin here */
    uint64_t blocks, table;
    uint64_t first_new; /* index of the first block that counts new clusters */
    uint64_t entries;   /* of the table, those in use */
};

static bool block_in_use(const struct check *c, const struct plan *p, uint64_t i)
{
    uint64_t end = (i + 1) * p->per_block, next;

    if (i >= p->first_new)
        return true;
    for (uint64_t k = i * p->per_block; k < end; k = next) {
        if (counts_empty(&c->refs, k, end, &next))
            continue;
        for (; k < next; k++)
            if (counts_get(&c->refs, k))
                return true;
    }
    return false;
}

/* How many blocks and table clusters it takes to count everything, themselves too. */
static int make_plan(const struct check *c, struct plan *p, struct error *err)
{
    uint64_t old = 0, need = 1, extra;

    p->per_block = c->cluster * 8 >> c->h.refcount_order;
    p->start = (c->file_size + c->cluster - 1) / c->cluster;
    if (p->start < c->clusters)
        p->start = c->clusters;
    p->first_new = p->start / p->per_block;
    for (uint64_t i = 0; i < p->first_new; i++)
        old += block_in_use(c, p, i);
    do { /* grows to a fixed point */
        extra = need;
        p->entries = (p->start + extra - 1) / p->per_block + 1;
        p->blocks = old + p->entries - p->first_new;
        p->table = (8 * p->entries + c->cluster - 1) / c->cluster;
        need = p->blocks + p->table;
    } while (need > extra);
    if (p->table * c->cluster > QCOW2_MAX_REFTABLE_BYTES)
        return error_set(err, -EFBIG,
                         "a refcount table for %" PRIu64 " clusters exceeds 8 MiB",
                         p->start);
    return 0;
}

static uint64_t new_refcount(const struct check *c, const struct plan *p, uint64_t k)
{
    uint64_t n = counts_get(&c->refs, k);

    if (k >= p->start && k < p->start + p->blocks + p->table)
        return 1;
    return n > c->refcount_max ? c->refcount_max : n;
}

static int write_structure(struct check *c, const struct plan *p, uint8_t *block,
                           uint8_t *table)
{
    uint64_t at = p->start;
    int r = 0;

    for (uint64_t i = 0; !r && i < p->entries; i++) {
        if (!block_in_use(c, p, i))
            continue;
        for (uint64_t j = 0; j < p->per_block; j++)
            qcow2_refcount_set(block, j, c->h.refcount_order,
                               new_refcount(c, p, i * p->per_block + j));
        qcow2_put_be64(table + 8 * i, at * c->cluster);
        r = blk_pwrite(c->file, at * c->cluster, block, c->cluster);
        at++;
    }
    if (!r)
        r = blk_pwrite(c->file, at * c->cluster, table, p->table * c->cluster);
    return r ? r : blk_flush(c->file);
}

static int switch_header(struct check *c, const struct plan *p)
{
    uint8_t where[12]; /* refcount_table_offset, refcount_table_clusters */

    qcow2_put_be64(where, (p->start + p->blocks) * c->cluster);
    qcow2_put_be32(where + 8, (uint32_t)p->table);
    int r = blk_pwrite(c->file, QCOW2_H_REFTABLE_OFFSET, where, sizeof(where));
    return r ? r : blk_flush(c->file);
}

int check_rebuild(struct check *c)
{
    struct plan p;
    uint8_t *block = NULL, *table = NULL;
    int r = make_plan(c, &p, c->err);

    if (r < 0)
        return r;
    block = malloc(c->cluster);
    table = calloc(p.table, c->cluster);
    r = block && table ? write_structure(c, &p, block, table) : -ENOMEM;
    if (!r)
        r = switch_header(c, &p);
    free(block);
    free(table);
    return r < 0 ? error_set(c->err, r, "cannot write new refcounts: %s", strerror(-r))
                 : 0;
}
