/* Damage to an image, field by field: layout.h. */
#include "tests/fuzz/layout.h"

#include <stdlib.h>
#include <string.h>

#include "core/qcow2/format.h"

enum target {
    T_HEADER,
    T_L1,
    T_L2,
    T_REFTABLE,
    T_REFCOUNT,
    T_SNAPSHOT,
    T_SNAPSHOT_L1,
    T_BYTE,
    T_CUT,
    TARGETS
};
struct field {
    uint64_t at;    /* in the file; of a refcount: its number */
    unsigned width; /* bytes; 0: a refcount */
};

static struct field header_field(const struct layout *l, unsigned i)
{
    static const struct field fields[] = {{QCOW2_H_VERSION, 4},
                                          {QCOW2_H_BACKING_OFFSET, 8},
                                          {QCOW2_H_BACKING_SIZE, 4},
                                          {QCOW2_H_CLUSTER_BITS, 4},
                                          {QCOW2_H_SIZE, 8},
                                          {QCOW2_H_CRYPT, 4},
                                          {QCOW2_H_L1_SIZE, 4},
                                          {QCOW2_H_L1_OFFSET, 8},
                                          {QCOW2_H_REFTABLE_OFFSET, 8},
                                          {QCOW2_H_REFTABLE_CLUSTERS, 4},
                                          {QCOW2_H_NB_SNAPSHOTS, 4},
                                          {QCOW2_H_SNAPSHOTS_OFFSET, 8},
                                          {QCOW2_H_INCOMPAT, 8},
                                          {QCOW2_H_COMPAT, 8},
                                          {QCOW2_H_AUTOCLEAR, 8},
                                          {QCOW2_H_REFCOUNT_ORDER, 4},
                                          {QCOW2_H_LENGTH, 4},
                                          {QCOW2_H_COMPRESSION, 1},
                                          {112, 4},
                                          {116, 4} /* an extension */};
    unsigned n = sizeof(fields) / sizeof(*fields);

    return fields[i % (l->version == 2 ? 12 : n)];
}

/* The i-th entry of the L2 tables, the active layer's first. */
static struct field l2_field(const struct layout *l, unsigned i)
{
    uint64_t c = i % l->clusters, per = l->cluster / 8;

    for (unsigned k = l->layers; k--;)
        if (l->layer[k].l2[c / per])
            return (struct field){l->layer[k].l2[c / per] + c % per * 8, 8};
    return (struct field){l->layer[l->layers - 1].l1, 8};
}

static struct field snapshot_field(const struct layout *l, unsigned i)
{
    static const struct field fields[] = {{0, 8},  {8, 4},  {12, 2}, {14, 2},
                                          {32, 4}, {36, 4}, {40, 8}, {48, 8}};
    struct field f = fields[i % 8];

    f.at += l->snapshots;
    for (unsigned k = 0; k < i / 8 % LAYERS; k++)
        f.at += l->snapshot_len[k];
    return f;
}

static struct field field_of(const struct layout *l, const struct record *r)
{
    unsigned what = r->what % TARGETS, i = r->at;

    switch (what) {
    case T_HEADER:
        return header_field(l, i);
    case T_L1:
        return (struct field){l->layer[l->layers - 1].l1 + i % l->tables * 8, 8};
    case T_L2:
        return l2_field(l, i);
    case T_REFTABLE:
        return (struct field){l->reftable + i % (l->blocks + 1) * 8, 8};
    case T_REFCOUNT:
        return (struct field){i % l->end, 0};
    case T_SNAPSHOT:
        return snapshot_field(l, i);
    case T_SNAPSHOT_L1:
        return (struct field){l->layer[i % l->layers].l1 + i / LAYERS % l->tables * 8,
                              8};
    default:
        return (struct field){(i | (uint64_t)r->len << 16) % l->len, 1};
    }
}

static uint64_t get(const struct layout *l, struct field f)
{
    uint64_t v = 0;

    if (!f.width)
        return qcow2_refcount_get(l->file + l->blocks_at, f.at, l->order);
    for (unsigned i = 0; i < f.width; i++)
        v = v << 8 | l->file[f.at + i];
    return v;
}

static void put(struct layout *l, struct field f, uint64_t v)
{
    unsigned bits = f.width ? 8 * f.width : 1u << l->order;

    if (bits < 64)
        v &= (1ull << bits) - 1;
    if (!f.width) {
        qcow2_refcount_set(l->file + l->blocks_at, f.at, l->order, v);
        return;
    }
    for (unsigned i = f.width; i--; v >>= 8)
        l->file[f.at + i] = (uint8_t)v;
}

static uint64_t changed(const struct layout *l, const struct record *r, uint64_t v)
{
    uint64_t flags = v & ~QCOW2_OFFSET_MASK, y = r->y;

    switch (r->x % 8) {
    case 0:
        return v ^ 1ull << y % 64;
    case 1:
        return y;
    case 2:
        return 0;
    case 3:
        return v + y - 128;
    case 4: /* elsewhere, near */
        return v + (y - 128) * l->cluster;
    case 5: /* where something else is */
        return flags | y * l->end / 256 * l->cluster;
    case 6:
        return (uint64_t)r->len << y % 64;
    default:
        return ~0ull >> y % 64;
    }
}

void layout_damage(struct layout *l, const struct input *in)
{
    if (!(in->head[HEAD_FLAGS] & FLAG_DAMAGE))
        return;
    for (unsigned i = 0; i < in->n; i++) {
        const struct record *r = &in->record[i];
        if (r->kind != R_DAMAGE)
            continue;
        if (r->what % TARGETS == T_CUT) {
            if (r->x % 4 || !l->file_size)
                continue; /* seldom: little is left of it */
            uint64_t cut = r->at * (l->cluster / 2) % l->file_size;
            l->file_size = cut;
            if (l->len > cut)
                memset(l->file + cut, 0, l->len - cut);
            l->damaged = true;
            continue;
        }
        struct field f = field_of(l, r);
        uint64_t old = get(l, f);
        put(l, f, changed(l, r, old));
        l->damaged |= get(l, f) != old;
    }
}
