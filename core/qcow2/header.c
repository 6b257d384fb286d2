/*
 * The header of a qcow2 file, and its extensions, from bytes nobody has vouched for to
 * a struct the rest relies on. Pure. Format: "Header", "Header extensions".
 *
 * Invariants of what comes out: every count and size is within QEMU's limits, so
 * nothing that is allocated or looped over by them can run away; tables are
 * cluster-aligned, begin inside the file, end below 2^56; the L1 table covers the
 * guest's disk.
 */
#include <inttypes.h>

#include "core/qcow2/format.h"

#define QCOW2_MAX_BITMAPS 65535u
#define QCOW2_BITMAP_ENTRY_MAX (24u + QCOW2_MAX_BACKING_NAME)
#define QCOW2_FEATURE_NAME 46u /* bytes of a name in the feature name table */

struct header_source { /* what was read of the file, and the file's size */
    const uint8_t *buf;
    size_t len;
    uint64_t file_size, cluster_size;
};

/* The bytes [at, at+len) of the header cluster must have been read. What lies past the
 * end of the file cannot be. */
static int need_bytes(const struct header_source *s, const char *what, uint64_t at,
                      uint64_t len, struct error *err)
{
    if (at + len <= s->len)
        return 0;
    if (s->len < s->cluster_size && s->len < s->file_size)
        return error_set(err, -EAGAIN,
                         "%s at %" PRIu64
                         " lies beyond the %zu bytes read of the header "
                         "cluster (%" PRIu64 " bytes)",
                         what, at, s->len, s->cluster_size);
    return error_set(err, -EINVAL,
                     "%s at %" PRIu64 " (%" PRIu64 " bytes) lies past the end of the "
                     "file (%" PRIu64 " bytes)",
                     what, at, len, s->file_size);
}

static int parse_version(struct qcow2_header *h, const struct header_source *s,
                         struct error *err)
{
    if (s->len < 4 || qcow2_be32(s->buf + QCOW2_H_MAGIC) != QCOW2_MAGIC)
        return error_set(err, -EINVAL, "not a qcow2 image (no \"QFI\\xfb\" at byte 0)");
    if (s->len < QCOW2_H_V2_END)
        return error_set(err, -EINVAL,
                         "header: %zu bytes, a qcow2 header has at least %d", s->len,
                         QCOW2_H_V2_END);
    h->version = qcow2_be32(s->buf + QCOW2_H_VERSION);
    if (h->version != 2 && h->version != 3)
        return error_set(err, -ENOTSUP,
                         "version %" PRIu32 " is not supported (2 or 3 is)",
                         h->version);
    if (h->version == 3 && s->len < QCOW2_H_V3_END)
        return error_set(err, -EINVAL,
                         "header: %zu bytes, a version 3 header has at least %d",
                         s->len, QCOW2_H_V3_END);
    return 0;
}

/* The fields of the fixed part that say how to read the others. */
static int parse_geometry(struct qcow2_header *h, struct header_source *s,
                          struct error *err)
{
    uint32_t bits = qcow2_be32(s->buf + QCOW2_H_CLUSTER_BITS);

    if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
        return error_set(err, -EINVAL, "cluster_bits %" PRIu32 " is not within %d..%d",
                         bits, QCOW2_MIN_CLUSTER_BITS, QCOW2_MAX_CLUSTER_BITS);
    h->cluster_bits = bits;
    s->cluster_size = 1ull << bits;
    h->refcount_order = 4;
    h->length = QCOW2_H_V2_END;
    if (h->version == 2)
        return 0;

    h->length = qcow2_be32(s->buf + QCOW2_H_LENGTH);
    if (h->length < QCOW2_H_V3_END || h->length > s->cluster_size || h->length % 8)
        return error_set(err, -EINVAL,
                         "header_length %" PRIu32
                         " is not a multiple of 8 within %d..%" PRIu64
                         " (the cluster size)",
                         h->length, QCOW2_H_V3_END, s->cluster_size);
    uint32_t order = qcow2_be32(s->buf + QCOW2_H_REFCOUNT_ORDER);
    if (order > 6)
        return error_set(err, -EINVAL,
                         "refcount_order %" PRIu32 " is more than 6 (64 bits)", order);
    h->refcount_order = order;
    return need_bytes(s, "end of the header", h->length, 0, err);
}

/* The name an image gives to an incompatible feature bit; "" when it gives none. */
static void feature_name(const uint8_t *table, uint64_t len, unsigned bit,
                         char name[QCOW2_FEATURE_NAME + 1])
{
    name[0] = '\0';
    for (uint64_t at = 0; at + 2 + QCOW2_FEATURE_NAME <= len;
         at += 2 + QCOW2_FEATURE_NAME)
        if (table[at] == 0 && table[at + 1] == bit) {
            memcpy(name, table + at + 2, QCOW2_FEATURE_NAME);
            name[QCOW2_FEATURE_NAME] = '\0';
        }
    for (char *c = name; *c; c++) /* goes to a terminal */
        if (*c < ' ' || *c > '~')
            *c = '?';
}

static int check_incompat(const struct qcow2_header *h, const uint8_t *names,
                          uint64_t names_len, struct error *err)
{
    const uint64_t known =
        QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_COMPRESSION;
    uint64_t lacking = h->incompat & ~known;
    char name[QCOW2_FEATURE_NAME + 1];

    if (!lacking)
        return 0;
    if (lacking & QCOW2_INCOMPAT_DATA_FILE)
        return error_set(
            err, -ENOTSUP,
            "incompatible feature \"external data file\" is not supported");
    if (lacking & QCOW2_INCOMPAT_EXTENDED_L2)
        return error_set(
            err, -ENOTSUP,
            "incompatible feature \"extended L2 entries\" is not supported");
    unsigned bit = (unsigned)__builtin_ctzll(lacking);
    feature_name(names, names_len, bit, name);
    return error_set(err, -ENOTSUP,
                     "incompatible feature \"%s\" (bit %u of incompatible_features) is "
                     "not supported",
                     name[0] ? name : "unknown", bit);
}

static int parse_features(struct qcow2_header *h, const struct header_source *s,
                          struct error *err)
{
    uint32_t crypt = qcow2_be32(s->buf + QCOW2_H_CRYPT);

    if (crypt)
        return error_set(err, -ENOTSUP,
                         "crypt_method %" PRIu32 " (%s) is not supported", crypt,
                         crypt == 1   ? "AES encryption"
                         : crypt == 2 ? "LUKS encryption"
                                      : "unknown");
    if (h->version == 2)
        return 0;
    uint8_t compression =
        h->length > QCOW2_H_COMPRESSION ? s->buf[QCOW2_H_COMPRESSION] : 0;
    bool bit = h->incompat & QCOW2_INCOMPAT_COMPRESSION;
    if (compression > QCOW2_ZSTD)
        return error_set(
            err, -ENOTSUP,
            "compression_type %u is not supported (0, deflate, and 1, zstd, "
            "are)",
            compression);
    if (bit != (compression != 0))
        return error_set(err, -EINVAL,
                         "compression_type %u, but the compression bit of "
                         "incompatible_features is %s",
                         compression, bit ? "set" : "not set");
    h->compression = compression ? QCOW2_ZSTD : QCOW2_DEFLATE;
    return 0;
}

static int parse_backing(struct qcow2_header *h, const struct header_source *s,
                         struct error *err)
{
    uint64_t offset = qcow2_be64(s->buf + QCOW2_H_BACKING_OFFSET);
    uint32_t len = qcow2_be32(s->buf + QCOW2_H_BACKING_SIZE);

    if (!offset)
        return 0;
    if (len > QCOW2_MAX_BACKING_NAME)
        return error_set(err, -EINVAL, "backing_file_size %" PRIu32 " is more than %u",
                         len, QCOW2_MAX_BACKING_NAME);
    if (offset < h->length || offset > s->cluster_size ||
        len > s->cluster_size - offset)
        return error_set(err, -EINVAL,
                         "backing_file_offset %" PRIu64 " (name of %" PRIu32
                         " bytes) is not within the header cluster, %" PRIu32
                         "..%" PRIu64,
                         offset, len, h->length, s->cluster_size);
    int r = need_bytes(s, "backing file name", offset, len, err);
    if (r < 0 || !len)
        return r;
    if (memchr(s->buf + offset, 0, len))
        return error_set(err, -EINVAL, "backing file name contains a zero byte");
    memcpy(h->backing, s->buf + offset, len);
    h->backing[len] = '\0';
    h->has_backing = true;
    return 0;
}

static int parse_ext_backing_format(struct qcow2_header *h, const uint8_t *data,
                                    uint32_t len, struct error *err)
{
    if (len >= sizeof(h->backing_format))
        return error_set(err, -EINVAL,
                         "backing format name is %" PRIu32 " bytes long, more than %zu",
                         len, sizeof(h->backing_format) - 1);
    memcpy(h->backing_format, data, len);
    h->backing_format[len] = '\0';
    return 0;
}

/* Valid only while its autoclear bit is set; else what it says may be stale in any
 * way. */
static int parse_ext_bitmaps(struct qcow2_header *h, const uint8_t *data, uint32_t len,
                             struct error *err)
{
    if (!(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return 0;
    if (len != 24)
        return error_set(err, -EINVAL,
                         "bitmaps extension: length %" PRIu32 " is not 24", len);
    uint32_t count = qcow2_be32(data), reserved = qcow2_be32(data + 4);
    uint64_t size = qcow2_be64(data + 8), offset = qcow2_be64(data + 16);
    if (reserved)
        return error_set(err, -EINVAL,
                         "bitmaps extension: reserved field is 0x%" PRIx32 ", not 0",
                         reserved);
    if (count < 1 || count > QCOW2_MAX_BITMAPS)
        return error_set(err, -EINVAL,
                         "bitmaps extension: nb_bitmaps %" PRIu32
                         " is not within 1..%u",
                         count, QCOW2_MAX_BITMAPS);
    if (size == 0 || size > (uint64_t)count * QCOW2_BITMAP_ENTRY_MAX + 7ull * count)
        return error_set(err, -EINVAL,
                         "bitmaps extension: bitmap_directory_size %" PRIu64
                         " does not fit %" PRIu32 " bitmaps",
                         size, count);
    if (!offset || offset & ((1ull << h->cluster_bits) - 1) ||
        offset >= QCOW2_MAX_HOST_OFFSET)
        return error_set(err, -EINVAL,
                         "bitmaps extension: bitmap_directory_offset 0x%" PRIx64
                         " is not a cluster's offset",
                         offset);
    h->bitmaps_count = count;
    h->bitmaps_dir_size = size;
    h->bitmaps_dir_offset = offset;
    return 0;
}

static int parse_extensions(struct qcow2_header *h, const struct header_source *s,
                            struct error *err)
{
    uint64_t backing = qcow2_be64(s->buf + QCOW2_H_BACKING_OFFSET);
    uint64_t end = h->has_backing ? backing : s->cluster_size;
    const uint8_t *names = NULL;
    uint64_t at = h->length, names_len = 0;

    /* A file that ends before its first cluster does goes on with zeros: type END. */
    while (at + 8 <= end && !(at + 8 > s->len && s->len == s->file_size)) {
        int r = need_bytes(s, "header extension", at, 8, err);
        if (r < 0)
            return r;
        uint32_t type = qcow2_be32(s->buf + at), len = qcow2_be32(s->buf + at + 4);
        if (type == QCOW2_EXT_END)
            break;
        if (len > end - at - 8)
            return error_set(err, -EINVAL,
                             "header extension 0x%08" PRIx32 " at %" PRIu64
                             ": length %" PRIu32 " is more than the %" PRIu64
                             " bytes left in the header cluster",
                             type, at, len, end - at - 8);
        r = need_bytes(s, "header extension", at + 8, len, err);
        if (r < 0)
            return r;
        const uint8_t *data = s->buf + at + 8;
        if (type == QCOW2_EXT_BACKING_FORMAT) {
            r = parse_ext_backing_format(h, data, len, err);
        } else if (type == QCOW2_EXT_FEATURE_NAMES) {
            names = data;
            names_len = len;
        } else if (type == QCOW2_EXT_BITMAPS) {
            if (h->has_bitmaps)
                return error_set(err, -EINVAL, "bitmaps extension: appears twice");
            h->has_bitmaps = true;
            h->bitmaps_ext_at = (uint32_t)at;
            r = parse_ext_bitmaps(h, data, len, err);
        }
        if (r < 0)
            return r;
        at += 8 + (((uint64_t)len + 7) & ~7ull);
    }
    return check_incompat(h, names, names_len, err);
}

static int check_l1(const struct qcow2_header *h, struct error *err)
{
    unsigned l1_bits = h->cluster_bits + h->cluster_bits - 3; /* an L1 entry covers */
    uint64_t covers = 1ull << l1_bits;
    uint64_t entries = (h->size >> l1_bits) + ((h->size & (covers - 1)) != 0);

    if (h->size > INT64_MAX)
        return error_set(err, -EINVAL, "size %" PRIu64 " is more than %" PRId64,
                         h->size, INT64_MAX);
    if (h->l1_size > QCOW2_MAX_L1_BYTES / 8)
        return error_set(err, -EFBIG,
                         "l1_size %" PRIu32 " entries is more than %u (32 MiB)",
                         h->l1_size, QCOW2_MAX_L1_BYTES / 8);
    if (h->l1_size < entries)
        return error_set(err, -EINVAL,
                         "l1_size %" PRIu32 " is too small: a disk of %" PRIu64
                         " bytes needs %" PRIu64 " entries",
                         h->l1_size, h->size, entries);
    return 0;
}

int qcow2_header_fields(struct qcow2_header *h, const void *buf, size_t len,
                        uint64_t file_size, struct error *err)
{
    struct header_source s = {.buf = buf, .len = len, .file_size = file_size};
    const uint8_t *b = buf;
    int r;

    memset(h, 0, sizeof(*h));
    if ((r = parse_version(h, &s, err)) < 0 || (r = parse_geometry(h, &s, err)) < 0)
        return r;
    h->size = qcow2_be64(b + QCOW2_H_SIZE);
    h->l1_size = qcow2_be32(b + QCOW2_H_L1_SIZE);
    h->l1_offset = qcow2_be64(b + QCOW2_H_L1_OFFSET);
    h->reftable_offset = qcow2_be64(b + QCOW2_H_REFTABLE_OFFSET);
    h->reftable_clusters = qcow2_be32(b + QCOW2_H_REFTABLE_CLUSTERS);
    h->nb_snapshots = qcow2_be32(b + QCOW2_H_NB_SNAPSHOTS);
    h->snapshots_offset = qcow2_be64(b + QCOW2_H_SNAPSHOTS_OFFSET);
    if (h->version == 3) {
        h->incompat = qcow2_be64(b + QCOW2_H_INCOMPAT);
        h->compat = qcow2_be64(b + QCOW2_H_COMPAT);
        h->autoclear = qcow2_be64(b + QCOW2_H_AUTOCLEAR);
    }
    if ((r = parse_backing(h, &s, err)) < 0 || (r = parse_extensions(h, &s, err)) < 0 ||
        (r = parse_features(h, &s, err)) < 0)
        return r;
    return check_l1(h, err);
}

/* A table of len bytes at offset: aligned, representable, beginning inside the file.
 * Its end may lie past the end of the file by less than its size: what is missing reads
 * 0, as in an image just made. */
static int check_table(const struct qcow2_header *h, const char *field, uint64_t offset,
                       uint64_t len, uint64_t file_size, struct error *err)
{
    uint64_t cluster = 1ull << h->cluster_bits;

    if (len == 0)
        return 0;
    if (offset & (cluster - 1))
        return error_set(err, -EINVAL,
                         "%s 0x%" PRIx64
                         " is not a multiple of the cluster size %" PRIu64,
                         field, offset, cluster);
    if (offset == 0)
        return error_set(err, -EINVAL, "%s 0 points at the header", field);
    if (offset >= QCOW2_MAX_HOST_OFFSET || len > QCOW2_MAX_HOST_OFFSET - offset)
        return error_set(err, -EINVAL,
                         "%s 0x%" PRIx64 " (%" PRIu64 " bytes) does not end below 2^56",
                         field, offset, len);
    if (offset >= file_size && offset - file_size >= cluster)
        return error_set(err, -EINVAL,
                         "%s 0x%" PRIx64 " lies past the end of the file (%" PRIu64
                         " bytes)",
                         field, offset, file_size);
    return 0;
}

int qcow2_header_l1(const struct qcow2_header *h, uint64_t file_size, struct error *err)
{
    return check_table(h, "l1_table_offset", h->l1_offset, 8ull * h->l1_size, file_size,
                       err);
}

int qcow2_header_reftable(const struct qcow2_header *h, uint64_t file_size,
                          struct error *err)
{
    uint64_t bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;

    if (!h->reftable_clusters)
        return error_set(err, -EINVAL,
                         "refcount_table_clusters 0: the image has no refcount table");
    if (bytes > QCOW2_MAX_REFTABLE_BYTES)
        return error_set(
            err, -EFBIG, "refcount_table_clusters %" PRIu32 " is more than %u (8 MiB)",
            h->reftable_clusters, QCOW2_MAX_REFTABLE_BYTES >> h->cluster_bits);
    return check_table(h, "refcount_table_offset", h->reftable_offset, bytes, file_size,
                       err);
}

int qcow2_header_snapshots(const struct qcow2_header *h, uint64_t file_size,
                           struct error *err)
{
    if (h->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
        return error_set(err, -EFBIG, "nb_snapshots %" PRIu32 " is more than %u",
                         h->nb_snapshots, QCOW2_MAX_SNAPSHOTS);
    return check_table(h, "snapshots_offset", h->snapshots_offset,
                       40ull * h->nb_snapshots, file_size, err);
}

int qcow2_header_parse(struct qcow2_header *h, const void *buf, size_t len,
                       uint64_t file_size, struct error *err)
{
    int r = qcow2_header_fields(h, buf, len, file_size, err);

    if (r < 0 || (r = qcow2_header_l1(h, file_size, err)) < 0 ||
        (r = qcow2_header_reftable(h, file_size, err)) < 0)
        return r;
    return qcow2_header_snapshots(h, file_size, err);
}
