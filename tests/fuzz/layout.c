/*
 * The image of an input: layout.h.
 *
 *   header | refcount table | snapshot table | data, as it is laid out |
 *   L2 and L1 tables of each layer | refcount blocks
 */
#include "tests/fuzz/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/qcow2/format.h"

enum { SECTOR = 512, HOST_CLUSTERS = 8192, NAME_AT = 128 };

const char *layout_snapshot_name(unsigned i)
{
    static const char *const names[LAYERS] = {"a", "b", "c", "d"};
    return names[i % LAYERS];
}

/* A sector is one word, over and over: it packs well, and tells whose it is. */
static void fill(uint8_t *p, uint64_t len, uint64_t cluster, unsigned tag)
{
    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word =
            (cluster << 24 | (i / SECTOR) << 8 | tag) * 0x9e3779b97f4a7c15ull;
        memcpy(p + i, &word, 8);
    }
}

static void *bytes(size_t n)
{
    void *p = calloc(1, n ? n : 1);
    if (!p)
        abort();
    return p;
}

static uint64_t take(struct layout *l, uint64_t clusters)
{
    uint64_t at = l->end;

    l->end += clusters;
    if (l->end * l->cluster > l->len) {
        uint64_t len = 2 * l->end * l->cluster;
        l->file = realloc(l->file, len);
        if (!l->file)
            abort();
        memset(l->file + l->len, 0, len - l->len);
        l->len = len;
    }
    return at * l->cluster;
}

/* ---- the guest's clusters ---- */

static uint64_t most(const struct layout *l)
{
    return l->order == 6 ? UINT64_MAX : (1ull << (1u << l->order)) - 1;
}

static uint64_t pack(const struct layout *l, const uint8_t *in, uint8_t *out)
{
    if (l->zstd) {
        size_t n = ZSTD_compress(out, l->cluster, in, l->cluster, 1);
        return ZSTD_isError(n) ? 0 : n;
    }
    z_stream z = {.next_in = (uint8_t *)in,
                  .avail_in = (uInt)l->cluster,
                  .next_out = out,
                  .avail_out = (uInt)l->cluster};
    if (deflateInit2(&z, 1, Z_DEFLATED, -9, 1, Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
    int ret = deflate(&z, Z_FINISH);
    deflateEnd(&z);
    return ret == Z_STREAM_END ? z.total_out : 0;
}

/* Side by side with the one before, where counts are wide enough. */
static bool place_packed(struct layout *l, struct place *p, uint64_t c,
                         uint64_t *packed)
{
    uint8_t *in = bytes(l->cluster), *out = bytes(l->cluster);

    fill(in, l->cluster, c, p->tag);
    p->len = pack(l, in, out);
    if (p->len) {
        if (l->order < 4 || !*packed || *packed % l->cluster + p->len > l->cluster)
            *packed = take(l, 1) + p->tag % 2 * 3;
        p->host = *packed;
        memcpy(l->file + p->host, out, p->len);
        *packed += p->len;
        if (*packed % l->cluster == 0)
            *packed = 0;
    }
    free(in);
    free(out);
    return p->len != 0;
}

static void place(struct layout *l, struct place *p, uint64_t c, unsigned what,
                  uint64_t *packed)
{
    static const enum place_type types[LAY_KINDS] = {DATA, ZEROED, ZEROED_DATA, PACKED,
                                                     NOTHING};

    p->type = types[what];
    if (l->version == 2 && (p->type == ZEROED || p->type == ZEROED_DATA))
        p->type = NOTHING;
    if (p->type == PACKED && !place_packed(l, p, c, packed))
        p->type = NOTHING;
    if (p->type != DATA && p->type != ZEROED_DATA)
        return;
    p->host = take(l, 1);
    if (p->type == DATA)
        fill(l->file + p->host, l->cluster, c, p->tag);
    else
        memset(l->file + p->host, 0xdd, l->cluster); /* what is never to be seen */
}

static void lay_out(struct layout *l, const struct input *in)
{
    struct layer *active = &l->layer[0];
    uint64_t packed = 0;

    l->layers = 1;
    for (unsigned i = 0; i < in->n; i++) {
        const struct record *r = &in->record[i];
        unsigned what = r->what % LAY_KINDS;
        if (r->kind != R_LAYOUT || l->end > HOST_CLUSTERS / 4)
            continue;
        if (what == LAY_SNAPSHOT) {
            if (l->layers < LAYERS && l->layers < most(l)) {
                memcpy(active[1].at, active->at, sizeof(active->at));
                active++;
                l->layers++;
            }
            continue;
        }
        uint64_t at = r->at % l->clusters, n = 1 + r->len % 64;
        for (uint64_t c = at; c < at + n && c < l->clusters; c++) {
            active->at[c].tag = (uint8_t)(r->x + i);
            place(l, &active->at[c], c, what, &packed);
            l->end += r->y % 8 == 1; /* with holes between */
        }
    }
    take(l, 0);
}

static void show(struct layout *l, struct layer *layer)
{
    uint8_t *buf = layer->disk = bytes(l->clusters * l->cluster);

    for (uint64_t c = 0; c < l->clusters; c++) {
        const struct place *p = &layer->at[c];
        uint64_t at = c * l->cluster;
        if (p->type == DATA || p->type == PACKED)
            fill(buf + at, l->cluster, c, p->tag);
        else if (p->type == NOTHING && at < l->backing_size)
            memcpy(buf + at, l->backing + at,
                   l->backing_size - at < l->cluster ? l->backing_size - at
                                                     : l->cluster);
    }
}

/* ---- tables ---- */

static void count_place(const struct layout *l, const struct place *p, uint32_t *counts)
{
    uint64_t len = p->type == PACKED ? p->len : 1;

    if (p->type == PACKED) /* whole sectors, as readers see it */
        len = (p->host % SECTOR + p->len + SECTOR - 1) / SECTOR * SECTOR -
              p->host % SECTOR;
    if (p->type == NOTHING || p->type == ZEROED)
        return;
    for (uint64_t h = p->host / l->cluster; h <= (p->host + len - 1) / l->cluster; h++)
        counts[h]++;
}

static uint64_t entry_of(const struct layout *l, const struct place *p,
                         const uint32_t *counts)
{
    uint64_t copied = p->host && counts[p->host / l->cluster] == 1 ? QCOW2_COPIED : 0;
    unsigned shift = 62 - (l->bits - 8);

    switch (p->type) {
    case DATA:
        return p->host | copied;
    case ZEROED:
        return QCOW2_ZERO_FLAG;
    case ZEROED_DATA:
        return p->host | copied | QCOW2_ZERO_FLAG;
    case PACKED:
        return QCOW2_COMPRESSED_FLAG | p->host |
               ((p->host + p->len - 1) / SECTOR - p->host / SECTOR) << shift;
    default:
        return 0;
    }
}

static bool alike(const struct layout *l, const struct layer *a, const struct layer *b,
                  uint64_t table)
{
    uint64_t per = l->cluster / 8;

    for (uint64_t c = table * per; c < (table + 1) * per && c < l->clusters; c++)
        if (a->at[c].type != b->at[c].type || a->at[c].host != b->at[c].host)
            return false;
    return true;
}

static bool empty(const struct layout *l, const struct layer *layer, uint64_t table)
{
    static const struct layer nothing;
    return alike(l, layer, &nothing, table);
}

static void take_tables(struct layout *l, uint32_t *counts)
{
    for (unsigned i = 0; i < l->layers; i++) {
        struct layer *layer = &l->layer[i];
        layer->l1 = take(l, (l->tables * 8 + l->cluster - 1) / l->cluster);
        for (uint64_t h = layer->l1 / l->cluster; h < l->end; h++)
            counts[h]++;
        for (uint64_t t = 0; t < l->tables; t++) {
            if (empty(l, layer, t))
                continue;
            layer->l2[t] = i && layer[-1].l2[t] && alike(l, layer, layer - 1, t)
                               ? layer[-1].l2[t]
                               : take(l, 1);
            counts[layer->l2[t] / l->cluster]++;
        }
        for (uint64_t c = 0; c < l->clusters; c++)
            count_place(l, &layer->at[c], counts);
    }
}

static void write_tables(struct layout *l, const uint32_t *counts)
{
    uint64_t per = l->cluster / 8;

    for (unsigned i = 0; i < l->layers; i++) {
        const struct layer *layer = &l->layer[i];
        bool active = i + 1 == l->layers;
        for (uint64_t t = 0; t < l->tables; t++) {
            uint64_t table = layer->l2[t];
            uint64_t copied =
                active && table && counts[table / l->cluster] == 1 ? QCOW2_COPIED : 0;
            qcow2_put_be64(l->file + layer->l1 + 8 * t, table | copied);
            for (uint64_t k = 0; table && k < per && t * per + k < l->clusters; k++)
                qcow2_put_be64(l->file + table + 8 * k,
                               entry_of(l, &layer->at[t * per + k], counts));
        }
    }
}

/* The blocks count themselves; with `full` nearly all that the table can count, used or
 * not. */
static bool write_counts(struct layout *l, uint32_t *counts)
{
    uint64_t per_block = l->cluster * 8 >> l->order, entries = l->cluster / 8;

    l->blocks = l->full ? entries : 1;
    while (l->blocks * per_block < l->end + l->blocks)
        l->blocks++;
    if (l->blocks > entries || l->end + l->blocks > HOST_CLUSTERS)
        return false;
    l->blocks_at = take(l, l->blocks);
    for (uint64_t b = 0; b < l->blocks; b++) {
        counts[l->blocks_at / l->cluster + b] = 1;
        qcow2_put_be64(l->file + l->reftable + 8 * b, l->blocks_at + b * l->cluster);
    }
    uint64_t all = l->blocks * per_block, end = l->end;
    for (uint64_t c = 0; c < all; c++) {
        uint64_t n = c < end ? counts[c] : l->full && c < all - 24;
        if (n)
            qcow2_refcount_set(l->file + l->blocks_at, c, l->order, n);
    }
    l->file_size = (l->full ? all : end) * l->cluster;
    return true;
}

static void write_snapshots(struct layout *l)
{
    uint8_t *p = l->file + l->snapshots;

    for (unsigned i = 0; i + 1 < l->layers; i++) {
        char id[8];
        int n = snprintf(id, sizeof(id), "%u", i + 1);
        qcow2_put_be64(p, l->layer[i].l1);
        qcow2_put_be32(p + 8, (uint32_t)l->tables);
        qcow2_put_be32(p + 12, (uint32_t)n << 16 | 1);
        qcow2_put_be32(p + 36, 16);
        qcow2_put_be64(p + 48, l->size);
        memcpy(p + 56, id, (size_t)n);
        memcpy(p + 56 + n, layout_snapshot_name(i), 1);
        p += l->snapshot_len[i] = (uint64_t)(56 + n + 1 + 7) / 8 * 8;
    }
}

static void write_header(struct layout *l, const struct input *in)
{
    uint8_t *b = l->file, *p = b + (l->version == 2 ? 72 : 112);

    qcow2_put_be32(b + QCOW2_H_MAGIC, QCOW2_MAGIC);
    qcow2_put_be32(b + QCOW2_H_VERSION, l->version);
    qcow2_put_be32(b + QCOW2_H_CLUSTER_BITS, l->bits);
    qcow2_put_be64(b + QCOW2_H_SIZE, l->size);
    qcow2_put_be32(b + QCOW2_H_L1_SIZE, (uint32_t)l->tables);
    qcow2_put_be64(b + QCOW2_H_L1_OFFSET, l->layer[l->layers - 1].l1);
    qcow2_put_be64(b + QCOW2_H_REFTABLE_OFFSET, l->reftable);
    qcow2_put_be32(b + QCOW2_H_REFTABLE_CLUSTERS, 1);
    qcow2_put_be32(b + QCOW2_H_NB_SNAPSHOTS, l->layers - 1);
    qcow2_put_be64(b + QCOW2_H_SNAPSHOTS_OFFSET, l->layers > 1 ? l->snapshots : 0);
    if (l->version == 3) {
        qcow2_put_be64(b + QCOW2_H_INCOMPAT, l->zstd ? QCOW2_INCOMPAT_COMPRESSION : 0);
        qcow2_put_be64(b + QCOW2_H_COMPAT, in->head[HEAD_FLAGS] & FLAG_LAZY
                                               ? QCOW2_COMPAT_LAZY_REFCOUNTS
                                               : 0);
        qcow2_put_be32(b + QCOW2_H_REFCOUNT_ORDER, l->order);
        qcow2_put_be32(b + QCOW2_H_LENGTH, 112);
        b[QCOW2_H_COMPRESSION] = l->zstd;
    }
    if (l->backing) {
        qcow2_put_be32(p, QCOW2_EXT_BACKING_FORMAT);
        qcow2_put_be32(p + 4, 3);
        memcpy(p + 8, "raw", 3); /* then type 0: the end */
        qcow2_put_be64(b + QCOW2_H_BACKING_OFFSET, NAME_AT + 16);
        qcow2_put_be32(b + QCOW2_H_BACKING_SIZE, sizeof(LAYOUT_BACKING) - 1);
        memcpy(b + NAME_AT + 16, LAYOUT_BACKING, sizeof(LAYOUT_BACKING) - 1);
    }
}

/* ---- all of it ---- */

static void geometry(struct layout *l, const struct input *in)
{
    static const uint8_t bits[] = {9, 9, 9, 10, 10, 12, 12, 14};
    uint8_t flags = in->head[HEAD_FLAGS];
    uint64_t sectors = in->head[HEAD_SIZE] | in->head[HEAD_SIZE + 1] << 8;

    l->version = flags & FLAG_V2 ? 2 : 3;
    l->bits = bits[in->head[HEAD_CLUSTER] % sizeof(bits)];
    l->order = l->version == 2 ? 4 : in->head[HEAD_REFCOUNT] % 7;
    l->zstd = flags & FLAG_ZSTD && l->version == 3;
    l->cluster = 1ull << l->bits;
    l->full = flags & FLAG_FULL && l->bits == 9 && l->order == 6;
    l->size = (1 + sectors % DISK_SECTORS) * SECTOR;
    l->clusters = (l->size + l->cluster - 1) / l->cluster;
    l->tables = (l->clusters + l->cluster / 8 - 1) / (l->cluster / 8);
    if (flags & FLAG_BACKING) {
        l->backing_size = (1 + in->head[HEAD_BACKING]) * l->size / 256;
        l->backing_size -= l->backing_size % SECTOR;
        l->backing = bytes(l->backing_size);
        for (uint64_t at = 0; at < l->backing_size; at += SECTOR)
            fill(l->backing + at, SECTOR, at / SECTOR, 0xb0);
    }
}

bool layout_make(struct layout *l, const struct input *in)
{
    static uint32_t counts[HOST_CLUSTERS];

    memset(l, 0, sizeof(*l));
    memset(counts, 0, sizeof(counts));
    geometry(l, in);
    take(l, 1);
    l->reftable = take(l, 1);
    l->snapshots = take(l, 1);
    counts[0] = counts[1] = 1;
    lay_out(l, in);
    counts[2] = l->layers > 1;
    for (unsigned i = 0; i < l->layers; i++)
        show(l, &l->layer[i]);
    take_tables(l, counts);
    if (!write_counts(l, counts))
        return false;
    write_tables(l, counts);
    write_snapshots(l);
    write_header(l, in);
    if (l->len > l->file_size)
        l->len = l->file_size;
    return true;
}

void layout_free(struct layout *l)
{
    for (unsigned i = 0; i < LAYERS; i++)
        free(l->layer[i].disk);
    free(l->backing);
    free(l->file);
}
