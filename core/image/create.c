/*
 * Making an empty qcow2 file. See create.h.
 *
 * Layout: header | refcount table | refcount blocks | L1 | L2 tables | data, each
 * contiguous, the last two only when preallocated. So every cluster up to the end is in
 * use once, and a refcount block is ones up to there.
 */
#include "core/image/create.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/block/aio.h"

enum { CHUNK = 2 << 20 }; /* bytes written at once */

struct layout { /* in clusters, but for bits, entries */
    unsigned bits, order;
    uint64_t cluster; /* bytes */
    uint64_t guest;   /* clusters of the disk */
    uint64_t l1_entries;
    uint64_t reftable, reftable_at, blocks, blocks_at, l1, l1_at, l2, l2_at, data,
        data_at;
    uint64_t end;
};

struct create_options create_defaults(struct env *env, uint64_t size)
{
    return (struct create_options){.env = env,
                                   .size = size,
                                   .version = 3,
                                   .cluster_size = 65536,
                                   .refcount_bits = 16};
}

static uint64_t ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

static bool power_of_two(uint64_t v) { return v && !(v & (v - 1)); }

static int check_format(const struct create_options *o, struct error *err)
{
    if (o->version != 2 && o->version != 3)
        return error_set(err, -EINVAL, "version %u is not 2 or 3", o->version);
    if (!power_of_two(o->cluster_size) || o->cluster_size < 512 ||
        o->cluster_size > 2u << 20)
        return error_set(err, -EINVAL,
                         "cluster_size %" PRIu64
                         " is not a power of two within 512..2M",
                         o->cluster_size);
    if (!power_of_two(o->refcount_bits) || o->refcount_bits > 64)
        return error_set(err, -EINVAL,
                         "refcount_bits %u is not a power of two within 1..64",
                         o->refcount_bits);
    if (o->version == 2 && o->refcount_bits != 16)
        return error_set(err, -EINVAL,
                         "refcount_bits %u: widths other than 16 need compat=1.1",
                         o->refcount_bits);
    if (o->version == 2 && o->lazy_refcounts)
        return error_set(err, -EINVAL, "lazy_refcounts needs compat=1.1");
    if (o->version == 2 && o->compression != QCOW2_DEFLATE)
        return error_set(err, -EINVAL, "compression_type zstd needs compat=1.1");
    return 0;
}

static void plan_layout(const struct create_options *o, struct layout *l)
{
    uint64_t size = (o->size + 511) & ~511ull, per_l2 = o->cluster_size / 8, need = 1;

    memset(l, 0, sizeof(*l));
    l->bits = (unsigned)__builtin_ctzll(o->cluster_size);
    l->order = (unsigned)__builtin_ctz(o->refcount_bits);
    l->cluster = o->cluster_size;
    l->guest = ceil_div(size, l->cluster);
    l->l1_entries = ceil_div(l->guest, per_l2);
    l->l1 = ceil_div(8 * l->l1_entries, l->cluster);
    if (o->preallocation != CREATE_SPARSE) {
        l->l2 = l->l1_entries;
        l->data = l->guest;
    }
    do { /* the refcounts count themselves: grow to a fixed point */
        l->end = 1 + need + l->l1 + l->l2 + l->data;
        l->blocks = ceil_div(l->end, l->cluster * 8 >> l->order);
        l->reftable = ceil_div(8 * l->blocks, l->cluster);
        if (l->blocks + l->reftable <= need)
            break;
        need = l->blocks + l->reftable;
    } while (true);
    l->reftable_at = 1;
    l->blocks_at = l->reftable_at + l->reftable;
    l->l1_at = l->blocks_at + l->blocks;
    l->l2_at = l->l1_at + l->l1;
    l->data_at = l->l2_at + l->l2;
    l->end = l->data_at + l->data;
}

/* Bytes of the header with its extensions, before the backing file's name. */
static uint64_t header_bytes(const struct create_options *o)
{
    uint64_t n = o->version == 2 ? QCOW2_H_V2_END : QCOW2_H_COMPRESSION + 8;

    if (o->backing && o->backing_format)
        n += 8 + ((strlen(o->backing_format) + 7) & ~7ull);
    if (o->version == 3 && o->cluster_size >= 4096)
        n += 8 + 8 * 48;
    return n + 8;
}

int create_check(const struct create_options *o, struct error *err)
{
    struct layout l;
    int r = check_format(o, err);

    if (r < 0)
        return r;
    if (o->size > INT64_MAX - 511)
        return error_set(err, -EFBIG, "size %" PRIu64 " is more than 2^63", o->size);
    if (ceil_div(ceil_div(o->size, o->cluster_size), o->cluster_size / 8) >
        QCOW2_MAX_L1_BYTES / 8)
        return error_set(err, -EFBIG,
                         "size %" PRIu64 " is too large for cluster_size %" PRIu64
                         ": at most %" PRIu64 ", or larger clusters",
                         o->size, o->cluster_size,
                         o->cluster_size / 8 * o->cluster_size *
                             (QCOW2_MAX_L1_BYTES / 8));
    plan_layout(o, &l);
    if (l.reftable * l.cluster > QCOW2_MAX_REFTABLE_BYTES ||
        l.end > QCOW2_MAX_HOST_OFFSET / l.cluster)
        return error_set(err, -EFBIG, "size %" PRIu64 " is too large to preallocate",
                         o->size);
    if (!o->backing)
        return 0;
    if (o->preallocation != CREATE_SPARSE)
        return error_set(err, -EINVAL,
                         "preallocation and a backing file exclude each other: what is "
                         "preallocated would hide it");
    if (strlen(o->backing) > QCOW2_MAX_BACKING_NAME)
        return error_set(err, -EINVAL, "backing file name is longer than %u bytes",
                         QCOW2_MAX_BACKING_NAME);
    if (o->backing_format && strlen(o->backing_format) > 15)
        return error_set(err, -EINVAL, "backing format \"%s\" is longer than 15 bytes",
                         o->backing_format);
    if (header_bytes(o) + strlen(o->backing) > o->cluster_size)
        return error_set(
            err, -EINVAL,
            "backing file name of %zu bytes does not fit a header cluster of "
            "%" PRIu64 ": use larger clusters",
            strlen(o->backing), o->cluster_size);
    return 0;
}

/* --- the header ------------------------------------------------------------------- */

static uint8_t *put_extension(uint8_t *p, uint32_t type, const void *data, uint32_t len)
{
    qcow2_put_be32(p, type);
    qcow2_put_be32(p + 4, len);
    if (len)
        memcpy(p + 8, data, len);
    return p + 8 + ((len + 7) & ~7u);
}

static uint8_t *put_feature_names(uint8_t *p)
{
    static const struct {
        uint8_t type, bit;
        char name[46];
    } names[] = {{0, 0, "dirty bit"},
                 {0, 1, "corrupt bit"},
                 {0, 2, "external data file"},
                 {0, 3, "compression type"},
                 {0, 4, "extended L2 entries"},
                 {1, 0, "lazy refcounts"},
                 {2, 0, "bitmaps"},
                 {2, 1, "raw external data"}};
    _Static_assert(sizeof(names) == 8 * 48, "as the format lays it out");

    return put_extension(p, QCOW2_EXT_FEATURE_NAMES, names, sizeof(names));
}

static void fill_header(uint8_t *b, const struct create_options *o,
                        const struct layout *l)
{
    uint8_t *p = b + (o->version == 2 ? QCOW2_H_V2_END : QCOW2_H_COMPRESSION + 8);

    qcow2_put_be32(b + QCOW2_H_MAGIC, QCOW2_MAGIC);
    qcow2_put_be32(b + QCOW2_H_VERSION, o->version);
    qcow2_put_be32(b + QCOW2_H_CLUSTER_BITS, l->bits);
    qcow2_put_be64(b + QCOW2_H_SIZE, (o->size + 511) & ~511ull);
    qcow2_put_be32(b + QCOW2_H_L1_SIZE, (uint32_t)l->l1_entries);
    qcow2_put_be64(b + QCOW2_H_L1_OFFSET, l->l1 ? l->l1_at * l->cluster : 0);
    qcow2_put_be64(b + QCOW2_H_REFTABLE_OFFSET, l->reftable_at * l->cluster);
    qcow2_put_be32(b + QCOW2_H_REFTABLE_CLUSTERS, (uint32_t)l->reftable);
    if (o->version == 3) {
        bool zstd = o->compression == QCOW2_ZSTD;
        qcow2_put_be64(b + QCOW2_H_INCOMPAT, zstd ? QCOW2_INCOMPAT_COMPRESSION : 0);
        qcow2_put_be64(b + QCOW2_H_COMPAT,
                       o->lazy_refcounts ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
        qcow2_put_be32(b + QCOW2_H_REFCOUNT_ORDER, l->order);
        qcow2_put_be32(b + QCOW2_H_LENGTH, QCOW2_H_COMPRESSION + 8);
        b[QCOW2_H_COMPRESSION] = zstd;
    }
    if (o->backing && o->backing_format)
        p = put_extension(p, QCOW2_EXT_BACKING_FORMAT, o->backing_format,
                          (uint32_t)strlen(o->backing_format));
    if (o->version == 3 && o->cluster_size >= 4096)
        p = put_feature_names(p);
    p = put_extension(p, QCOW2_EXT_END, NULL, 0);
    if (o->backing) {
        qcow2_put_be64(b + QCOW2_H_BACKING_OFFSET, (uint64_t)(p - b));
        qcow2_put_be32(b + QCOW2_H_BACKING_SIZE, (uint32_t)strlen(o->backing));
        memcpy(p, o->backing, strlen(o->backing));
    }
}

/* --- tables ----------------------------------------------------------------------- */

struct table_writer { /* entries, gathered to large writes */
    struct blk_file *file;
    uint8_t *buf;
    uint64_t at;
    size_t used;
    int error;
};

static void table_flush(struct table_writer *w)
{
    if (!w->error && w->used)
        w->error = blk_pwrite(w->file, w->at, w->buf, w->used);
    w->at += w->used;
    w->used = 0;
}

static void table_put(struct table_writer *w, uint64_t entry)
{
    qcow2_put_be64(w->buf + w->used, entry);
    w->used += 8;
    if (w->used == CHUNK)
        table_flush(w);
}

/* n entries at cluster `at`, pointing at consecutive clusters from `first`. */
static void write_pointers(struct table_writer *w, const struct layout *l, uint64_t at,
                           uint64_t first, uint64_t n, uint64_t flags)
{
    w->at = at * l->cluster;
    for (uint64_t i = 0; i < n && !w->error; i++)
        table_put(w, (first + i) * l->cluster | flags);
    while (w->used % l->cluster && !w->error) /* whole clusters */
        table_put(w, 0);
    table_flush(w);
}

static void write_refcounts(struct table_writer *w, const struct layout *l)
{
    uint64_t per_block = l->cluster * 8 >> l->order;

    for (uint64_t i = 0; i < l->blocks && !w->error; i++) {
        memset(w->buf, 0, l->cluster);
        for (uint64_t j = 0; j < per_block && i * per_block + j < l->end; j++)
            qcow2_refcount_set(w->buf, j, l->order, 1);
        w->error =
            blk_pwrite(w->file, (l->blocks_at + i) * l->cluster, w->buf, l->cluster);
    }
}

static int write_tables(struct blk_file *f, const struct create_options *o,
                        const struct layout *l)
{
    struct table_writer w = {.file = f, .buf = calloc(1, CHUNK)};

    if (!w.buf)
        return -ENOMEM;
    write_refcounts(&w, l);
    write_pointers(&w, l, l->reftable_at, l->blocks_at, l->blocks, 0);
    if (o->preallocation != CREATE_SPARSE) {
        write_pointers(&w, l, l->l2_at, l->data_at, l->data, QCOW2_COPIED);
        write_pointers(&w, l, l->l1_at, l->l2_at, l->l2, QCOW2_COPIED);
    }
    free(w.buf);
    return w.error;
}

/* --- space ------------------------------------------------------------------------ */

/* One request through the loop: what the blocking helpers do not offer. */
static int run_one(struct blk_file *f, struct env *env, enum aio_op op, uint64_t offset,
                   uint64_t len, struct error *err)
{
    struct loop_options lo = {.engine = "sync", .depth = 1};
    struct aio a = {.op = op, .file = f, .offset = offset, .len = len};
    struct loop *loop;
    int r = loop_create(&loop, env, &lo, err);

    if (r < 0)
        return r;
    r = aio_run(loop, &a);
    loop_destroy(loop);
    return r;
}

static int write_zeros(struct blk_file *f, uint64_t offset, uint64_t len)
{
    void *buf = calloc(1, CHUNK);
    int r = buf ? 0 : -ENOMEM;

    while (!r && len) {
        uint64_t n = len < CHUNK ? len : CHUNK;
        r = blk_pwrite(f, offset, buf, n);
        offset += n;
        len -= n;
    }
    free(buf);
    return r;
}

int create_fill(struct blk_file *f, const struct create_options *o, uint64_t offset,
                uint64_t len, struct error *err)
{
    return o->preallocation == CREATE_FULL
               ? write_zeros(f, offset, len)
               : run_one(f, o->env, AIO_GROW, offset, len, err);
}

static int make_space(struct blk_file *f, const struct create_options *o,
                      const struct layout *l, struct error *err)
{
    uint64_t from = l->data_at * l->cluster, len = l->data * l->cluster;
    int r = 0;

    if (blk_regular(f))
        r = blk_truncate(f, l->end * l->cluster);
    else if (blk_size(f) < l->end * l->cluster)
        r = -ENOSPC;
    if (!r && o->preallocation >= CREATE_FALLOC && len)
        r = create_fill(f, o, from, len, err);
    return r;
}

static int fill(struct blk_file *f, const struct create_options *o, struct error *err)
{
    struct layout l;
    uint8_t *header;
    int r;

    plan_layout(o, &l);
    r = make_space(f, o, &l, err);
    if (!r)
        r = write_tables(f, o, &l);
    /* On a device an old L1 may be where ours is; a regular file begins as a hole. */
    if (!r && !blk_regular(f) && o->preallocation == CREATE_SPARSE)
        r = write_zeros(f, l.l1_at * l.cluster, l.l1 * l.cluster);
    if (!r)
        r = blk_flush(f);
    header = calloc(1, l.cluster);
    if (!header)
        r = -ENOMEM;
    if (!r) {
        fill_header(header, o, &l);
        r = blk_pwrite(f, 0, header, l.cluster);
    }
    if (!r)
        r = blk_flush(f);
    free(header);
    return r;
}

int image_create(const char *path, const struct create_options *o, struct error *err)
{
    struct blk_options bo = {.env = o->env,
                             .write = true,
                             .create = true,
                             .truncate = true, /* once it is locked */
                             .sim = o->sim,
                             .direct = o->direct};
    struct blk_file *f;
    int r = create_check(o, err);

    if (r < 0 || (r = blk_open(&f, path, &bo, err)) < 0)
        return r;
    bool regular = blk_regular(f);
    r = fill(f, o, err);
    int closed = blk_close(f);
    if (!r)
        r = closed;
    if (r < 0) {
        if (regular && !o->sim)
            unlink(path);
        error_set(err, r, "cannot write the image: %s", strerror(-r));
        error_prefix(err, "%s", path);
    }
    return r;
}
