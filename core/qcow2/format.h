/*
 * What a qcow2 file looks like: constants, and the header as a checked struct.
 * Source: "Qcow2 Image File Format", docs/interop/qcow2 of QEMU. All fields big endian.
 */
#ifndef QCOW2_FORMAT_H
#define QCOW2_FORMAT_H
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/env/error.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MAX_L1_BYTES (32u << 20)      /* as QEMU limits it */
#define QCOW2_MAX_REFTABLE_BYTES (8u << 20) /* as QEMU limits it */
#define QCOW2_MAX_SNAPSHOTS 65536u
#define QCOW2_MAX_BACKING_NAME 1023u
#define QCOW2_MAX_HOST_OFFSET (1ull << 56)

/* L1 and L2 entries */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED_FLAG (1ull << 62)
#define QCOW2_ZERO_FLAG 1ull
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_L1_RESERVED 0x7f000000000001ffull
#define QCOW2_L2_RESERVED 0x3f000000000001feull
#define QCOW2_REFTABLE_OFFSET_MASK 0xfffffffffffffe00ull
#define QCOW2_REFTABLE_RESERVED 0x1ffull

/* header: feature bits */
#define QCOW2_INCOMPAT_DIRTY (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (1ull << 4)
#define QCOW2_COMPAT_LAZY_REFCOUNTS (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (1ull << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA (1ull << 1)

/* header extensions */
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_ENCRYPTION 0x0537be77u
#define QCOW2_EXT_DATA_FILE 0x44415441u
#define QCOW2_EXT_DROPPED                                                              \
    0x64726f70u /* ours: nothing; readers ignore what they don't know */

/* byte offsets of header fields */
enum {
    QCOW2_H_MAGIC = 0,
    QCOW2_H_VERSION = 4,
    QCOW2_H_BACKING_OFFSET = 8,
    QCOW2_H_BACKING_SIZE = 16,
    QCOW2_H_CLUSTER_BITS = 20,
    QCOW2_H_SIZE = 24,
    QCOW2_H_CRYPT = 32,
    QCOW2_H_L1_SIZE = 36,
    QCOW2_H_L1_OFFSET = 40,
    QCOW2_H_REFTABLE_OFFSET = 48,
    QCOW2_H_REFTABLE_CLUSTERS = 56,
    QCOW2_H_NB_SNAPSHOTS = 60,
    QCOW2_H_SNAPSHOTS_OFFSET = 64,
    QCOW2_H_V2_END = 72,
    QCOW2_H_INCOMPAT = 72,
    QCOW2_H_COMPAT = 80,
    QCOW2_H_AUTOCLEAR = 88,
    QCOW2_H_REFCOUNT_ORDER = 96,
    QCOW2_H_LENGTH = 100,
    QCOW2_H_V3_END = 104,
    QCOW2_H_COMPRESSION = 104,
};

enum qcow2_compression { QCOW2_DEFLATE = 0, QCOW2_ZSTD = 1 };

/* The header, checked: every field is in range for the rest to rely on, but for offsets
 * of tables, whose alignment and range against the file are checked too. */
struct qcow2_header {
    uint32_t version;
    unsigned cluster_bits;
    uint64_t size;    /* of the guest's disk, bytes */
    uint32_t l1_size; /* entries */
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompat, compat, autoclear;
    unsigned refcount_order; /* width is 1 << order bits */
    uint32_t length;
    enum qcow2_compression compression;
    bool has_backing;
    char backing[QCOW2_MAX_BACKING_NAME + 1];
    char backing_format[64]; /* "": not given */
    bool has_bitmaps;        /* the extension is there (its autoclear bit may not be) */
    uint32_t bitmaps_count;  /* 0, and no directory, without the autoclear bit */
    uint64_t bitmaps_dir_offset, bitmaps_dir_size;
    uint32_t bitmaps_ext_at; /* byte offset in the file of the extension's type field */
};

static inline uint32_t qcow2_be32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}
static inline uint64_t qcow2_be64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}
static inline void qcow2_put_be32(void *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof(v));
}
static inline void qcow2_put_be64(void *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}

/* Reads the first len bytes of a file of file_size bytes (len: at least 112 or the
 * whole file, at best the header cluster; extensions and the backing name that lie
 * beyond len are an error that says so, -EAGAIN, when len is less than the cluster:
 * call again with the whole cluster). 0; -ENOTSUP: a feature we lack, named; -EINVAL:
 * not a qcow2, or a bad field: err says which, its value and what would be right. */
int qcow2_header_parse(struct qcow2_header *, const void *buf, size_t len,
                       uint64_t file_size, struct error *err);
/* Its parts, for check, which goes on where it can: all but where the tables are, then
 * one table each. */
int qcow2_header_fields(struct qcow2_header *, const void *buf, size_t len,
                        uint64_t file_size, struct error *err);
int qcow2_header_l1(const struct qcow2_header *, uint64_t file_size, struct error *err);
int qcow2_header_reftable(const struct qcow2_header *, uint64_t file_size,
                          struct error *err);
int qcow2_header_snapshots(const struct qcow2_header *, uint64_t file_size,
                           struct error *err);

/* The compressed cluster an L2 entry points at: bytes host..host+len (len rounded to
 * whole sectors as the format does; the stream may end earlier). */
static inline void qcow2_compressed_range(unsigned cluster_bits, uint64_t entry,
                                          uint64_t *host, uint64_t *len)
{
    unsigned shift = 62 - (cluster_bits - 8);
    uint64_t sectors = (entry & (QCOW2_COMPRESSED_FLAG - 1)) >> shift;
    *host = entry & ((1ull << shift) - 1);
    *len = (sectors + 1) * 512 - (*host & 511);
}

/* Refcount i of a block of 1 << order bits each. Bits below a byte: least significant
 * first. */
uint64_t qcow2_refcount_get(const void *block, uint64_t i, unsigned order);
void qcow2_refcount_set(void *block, uint64_t i, unsigned order, uint64_t value);

#endif
