/* Reading an image and its chain, blocking. See reader.h. */
#include "core/image/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/block/aio.h"
#include "core/image/decompress.h"
#include "core/qcow2/format.h"

enum { PIECE = 4096 }; /* bytes of a table kept at a time; a cluster may be smaller */

struct piece { /* of an L1 or L2 table, as in the file */
    uint64_t offset;
    bool valid;
    uint64_t entry[PIECE / 8];
};
struct layer {
    struct image_node *node;
    struct piece l1, l2;
    uint8_t *cluster; /* the compressed cluster read last; NULL: none yet */
    uint64_t cluster_at;
    bool cluster_valid;
    enum { UNKNOWN, NO, YES } preallocated;
};
struct reader {
    unsigned layers;
    struct layer layer[];
};

int reader_create(struct reader **out, struct image_node *top)
{
    unsigned n = 0;

    for (struct image_node *i = top; i; i = i->backing)
        n++;
    struct reader *r = calloc(1, sizeof(*r) + n * sizeof(r->layer[0]));
    *out = r;
    if (!r)
        return -ENOMEM;
    for (struct image_node *i = top; i; i = i->backing)
        r->layer[r->layers++].node = i;
    return 0;
}

void reader_free(struct reader *r)
{
    for (unsigned i = 0; r && i < r->layers; i++)
        free(r->layer[i].cluster);
    free(r);
}

static int table_entry(struct layer *l, struct piece *p, uint64_t at, uint64_t *entry,
                       struct error *err)
{
    uint64_t piece_at = at & ~(uint64_t)(PIECE - 1);

    if (!p->valid || p->offset != piece_at) {
        p->valid = false;
        int r = blk_pread(l->node->file, piece_at, p->entry, PIECE);
        if (r < 0)
            return error_set(err, r, "%s: cannot read the table at 0x%" PRIx64 ": %s",
                             blk_path(l->node->file), at, strerror(-r));
        p->valid = true;
        p->offset = piece_at;
    }
    *entry = be64toh(p->entry[(at - piece_at) / 8]);
    return 0;
}

static int bad_entry(const struct layer *l, const char *table, uint64_t guest,
                     uint64_t entry, struct error *err)
{
    return error_set(err, -EIO,
                     "%s: %s entry 0x%" PRIx64 " for offset %" PRIu64
                     " has reserved bits or an offset that is not a cluster's",
                     blk_path(l->node->file), table, entry, guest);
}

/* The L2 entry for guest, 0 where there is no table; *span: how many bytes from guest
 * on the table (or its absence) covers, within what is cheap to ask for. */
static int l2_entry(struct layer *l, uint64_t guest, uint64_t *entry, uint64_t *span,
                    struct error *err)
{
    const struct qcow2_header *h = l->node->header;
    unsigned bits = h->cluster_bits, l1_bits = 2 * bits - 3;
    uint64_t cluster = 1ull << bits, l1, l1_at = h->l1_offset + 8 * (guest >> l1_bits);
    int r = table_entry(l, &l->l1, l1_at, &l1, err);

    *entry = 0;
    *span = (1ull << l1_bits) - (guest & ((1ull << l1_bits) - 1));
    if (r < 0 || !l1)
        return r;
    uint64_t table = l1 & QCOW2_OFFSET_MASK;
    if (l1 & QCOW2_L1_RESERVED || !table || table & (cluster - 1))
        return bad_entry(l, "L1", guest, l1, err);
    uint64_t index = (guest >> bits) & (cluster / 8 - 1);
    r = table_entry(l, &l->l2, table + 8 * index, entry, err);
    uint64_t e = *entry;
    *span = cluster - (guest & (cluster - 1));
    if (!r && !(e & QCOW2_COMPRESSED_FLAG) &&
        (e & QCOW2_L2_RESERVED || e & QCOW2_OFFSET_MASK & (cluster - 1) ||
         (e & QCOW2_ZERO_FLAG && h->version < 3)))
        return bad_entry(l, "L2", guest, e, err);
    if (!r && e & QCOW2_COMPRESSED_FLAG && e & QCOW2_COPIED)
        return bad_entry(l, "L2", guest, e, err);
    return r;
}

static void describe(const struct layer *l, uint64_t guest, uint64_t entry,
                     struct reader_status *s)
{
    uint64_t cluster = 1ull << l->node->header->cluster_bits,
             in = guest & (cluster - 1);

    s->present = entry != 0;
    if (entry & QCOW2_COMPRESSED_FLAG) {
        s->data = s->compressed = true;
        s->cluster_at = guest - in;
        qcow2_compressed_range(l->node->header->cluster_bits, entry, &s->offset,
                               &s->offset_len);
        return;
    }
    uint64_t host = entry & QCOW2_OFFSET_MASK;
    s->has_offset = host != 0;
    s->offset = host ? host + in : 0;
    s->zero = entry & QCOW2_ZERO_FLAG;
    s->data = host && !s->zero;
    s->present = s->data || s->zero;
}

static bool continues(const struct reader_status *a, const struct reader_status *b)
{
    return a->present == b->present && a->zero == b->zero && a->data == b->data &&
           !a->compressed && !b->compressed && a->has_offset == b->has_offset &&
           (!a->has_offset || a->offset + a->len == b->offset);
}

static int qcow2_status(struct layer *l, uint64_t guest, uint64_t len,
                        struct reader_status *s, struct error *err)
{
    uint64_t entry, span;
    int r = l2_entry(l, guest, &entry, &span, err);

    if (r < 0)
        return r;
    describe(l, guest, entry, s);
    s->len = span;
    /* What comes next may be just the same; a table's worth of it is enough at a
     * time. */
    for (unsigned n = 0; s->len < len && n < PIECE / 8; n++) {
        struct reader_status next = {0};
        struct error ignored = {""};
        if (l2_entry(l, guest + s->len, &entry, &span, &ignored) < 0)
            break; /* found when somebody asks for it */
        describe(l, guest + s->len, entry, &next);
        if (!continues(s, &next))
            break;
        s->len += span;
    }
    if (s->len > len)
        s->len = len;
    return 0;
}

/* How many of the first clusters are in use, counted up to most. */
static uint64_t count_used(const struct layer *l, uint64_t most)
{
    const struct qcow2_header *h = l->node->header;
    uint64_t cluster = 1ull << h->cluster_bits, used = 0;
    uint64_t per_block = cluster * 8 >> h->refcount_order;
    uint64_t end = (blk_size(l->node->file) + cluster - 1) / cluster;
    uint8_t *block = malloc(cluster), entry[8];

    for (uint64_t i = 0; block && i * per_block < end && used < most; i++) {
        if (8 * i >= (uint64_t)h->reftable_clusters << h->cluster_bits ||
            blk_pread(l->node->file, h->reftable_offset + 8 * i, entry, sizeof(entry)) <
                0)
            break;
        uint64_t at = qcow2_be64(entry) & QCOW2_REFTABLE_OFFSET_MASK;
        if (!at || at >= end * cluster ||
            blk_pread(l->node->file, at, block, cluster) < 0)
            continue;
        for (uint64_t k = 0; k < per_block && i * per_block + k < end && used < most;
             k++)
            used += qcow2_refcount_get(block, k, h->refcount_order) != 0;
    }
    free(block);
    return used;
}

/* Whether clusters in use seem not to be backed by space on the host: only then is it
 * worth asking, range by range, whether data lies in a hole of its file. By the measure
 * that QEMU takes, so that both say the same about the same image. */
static bool preallocated(struct layer *l)
{
    if (l->preallocated == UNKNOWN) {
        uint64_t real = blk_allocated(l->node->file) >> l->node->header->cluster_bits;
        uint64_t most = real * 10 / 9 > real + 2 ? real * 10 / 9 : real + 2;
        l->preallocated = count_used(l, most) >= most ? YES : NO;
    }
    return l->preallocated == YES;
}

/* Data that lies in a hole of its file reads as zeros. */
static bool in_hole(const struct layer *l, struct reader_status *s)
{
    uint64_t len = s->len;
    bool hole = !blk_is_data(l->node->file, s->offset, &len);

    if (len && len < s->len)
        s->len = len;
    return hole;
}

static void raw_status(const struct layer *l, uint64_t guest, uint64_t len,
                       struct reader_status *s)
{
    s->present = s->has_offset = true;
    s->offset = guest;
    s->len = len;
    s->zero = in_hole(l, s);
    s->data = !s->zero;
}

int reader_status(struct reader *r, uint64_t guest, uint64_t len, unsigned limit,
                  struct reader_status *s, struct error *err)
{
    for (unsigned i = 0; i < r->layers; i++) {
        struct layer *l = &r->layer[i];
        *s = (struct reader_status){.depth = i, .node = l->node};
        if (guest >= l->node->size) {
            s->depth = i ? i - 1 : 0; /* short of what lies above, which reads zeros */
            s->node = r->layer[s->depth].node;
            s->zero = true;
            s->len = len;
            return 0;
        }
        if (len > l->node->size - guest)
            len = l->node->size - guest;
        if (l->node->format == IMAGE_RAW) {
            raw_status(l, guest, len, s);
            return 0;
        }
        int ret = qcow2_status(l, guest, len, s, err);
        if (ret < 0)
            return ret;
        if (s->data && !s->compressed && preallocated(l))
            s->zero = in_hole(l, s);
        if (s->present || i + 1 == r->layers || i + 1 == limit)
            break;
        len = s->len;
    }
    if (!s->present)
        s->zero = true;
    return 0;
}

static int expand(struct layer *l, const struct reader_status *s, struct error *err)
{
    uint64_t cluster = 1ull << l->node->header->cluster_bits;
    void *in = malloc(s->offset_len);
    int r = in ? 0 : -ENOMEM;

    if (!l->cluster)
        l->cluster = malloc(cluster);
    l->cluster_valid = false;
    if (!l->cluster)
        r = -ENOMEM;
    if (!r)
        r = blk_pread(l->node->file, s->offset, in, s->offset_len);
    if (!r)
        r = image_decompress(l->node->header->compression, in, s->offset_len,
                             l->cluster, cluster);
    free(in);
    l->cluster_valid = !r;
    l->cluster_at = s->cluster_at;
    return r < 0 ? error_set(err, r,
                             "%s: compressed cluster at 0x%" PRIx64
                             " for offset %" PRIu64 ": %s",
                             blk_path(l->node->file), s->offset, s->cluster_at,
                             r == -EIO ? "damaged" : strerror(-r))
                 : 0;
}

static int read_part(struct reader *r, const struct reader_status *s, uint64_t guest,
                     uint8_t *buf, struct error *err)
{
    struct layer *l = &r->layer[s->depth];
    int ret = 0;

    if (s->compressed) {
        if (!l->cluster_valid || l->cluster_at != s->cluster_at)
            ret = expand(l, s, err);
        if (!ret)
            memcpy(buf, l->cluster + (guest - s->cluster_at), s->len);
    } else if (s->data && !s->zero) {
        ret = blk_pread(l->node->file, s->offset, buf, s->len);
        if (ret < 0)
            error_set(err, ret, "%s: cannot read at 0x%" PRIx64 ": %s",
                      blk_path(l->node->file), s->offset, strerror(-ret));
    } else {
        memset(buf, 0, s->len);
    }
    return ret;
}

int reader_read(struct reader *r, uint64_t guest, void *buf, uint64_t len,
                struct error *err)
{
    uint64_t size = r->layer[0].node->size;
    struct reader_status s;
    uint8_t *p = buf;

    while (len && guest < size) {
        uint64_t want = len < size - guest ? len : size - guest;
        int ret = reader_status(r, guest, want, 0, &s, err);
        if (!ret)
            ret = read_part(r, &s, guest, p, err);
        if (ret < 0)
            return ret;
        p += s.len;
        guest += s.len;
        len -= s.len;
    }
    memset(p, 0, len);
    return 0;
}
