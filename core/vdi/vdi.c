/*
 * The driver of vdi.h.
 *
 * Allocation is one step of four: the whole block with zeros around the data, the
 * header that counts it, the map's sector that points to it. All of it is metadata I/O,
 * so that nobody comes in between; what fails half way leaves a block that nobody
 * points to, or one whose sector may or may not have arrived, with the right data in it
 * either way. The file promises nothing before a flush; so a crash may leave a map that
 * is ahead of the header, which opening puts right.
 */
#include "core/vdi/vdi.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { /* offsets in the header, which is little endian; and what QEMU and we support */
       H_SIGNATURE = 0x40,
       H_VERSION = 0x44,
       H_TYPE = 0x4c,
       H_OFFSET_MAP = 0x154,
       H_OFFSET_DATA = 0x158,
       H_SECTOR_SIZE = 0x168,
       H_DISK_SIZE = 0x170,
       H_BLOCK_SIZE = 0x178,
       H_BLOCK_EXTRA = 0x17c,
       H_BLOCKS = 0x180,
       H_ALLOCATED = 0x184,
       H_LINK = 0x1a8, /* two UUIDs: of the image below */
       LINK_BYTES = 32,
       VERSION_1_1 = 0x00010001,
       DYNAMIC = 1,
       STATIC = 2,
       SECTOR = 512,
       ENTRIES = SECTOR / 4, /* of the map, in a sector */
       BLOCK = 1 << 20,
       ALIGN = 4096,
};
#define SIGNATURE 0xbeda107fu
#define FIRST_UNALLOCATED 0xfffffffeu /* discarded; 0xffffffff: never written */

struct vdi {
    uint8_t *header; /* as in the file */
    uint32_t *map;   /* likewise, whole sectors */
    uint8_t *block;  /* that is being allocated */
    uint32_t blocks, allocated;
    uint64_t offset_map, offset_data; /* bytes */
};

static uint32_t le32_at(const uint8_t *p) /* aligned or not */
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static void set_le32_at(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

bool vdi_probe(const void *first_bytes)
{
    return le32_at((const uint8_t *)first_bytes + H_SIGNATURE) == SIGNATURE;
}

/* --- opening ---------------------------------------------------------------------- */

static int must_be(const uint8_t *header, int field, const char *name, uint32_t right,
                   struct error *err)
{
    uint32_t value = le32_at(header + field);
    if (value == right)
        return 0;
    return error_set(err, -ENOTSUP,
                     "vdi: %s is 0x%" PRIx32 ", 0x%" PRIx32 " is supported", name,
                     value, right);
}

static int parse(struct vdi *v, uint64_t file_size, uint64_t *size, struct error *err)
{
    static const uint8_t none[LINK_BYTES];
    const uint8_t *h = v->header;
    uint32_t type = le32_at(h + H_TYPE);
    uint64_t disk = le32_at(h + H_DISK_SIZE) | (uint64_t)le32_at(h + H_DISK_SIZE + 4)
                                                   << 32;
    int ret = vdi_probe(h) ? 0 : error_set(err, -EINVAL, "vdi: it has no signature");
    if (ret == 0)
        ret = must_be(h, H_VERSION, "version", VERSION_1_1, err);
    if (ret == 0)
        ret = must_be(h, H_SECTOR_SIZE, "sector size", SECTOR, err);
    if (ret == 0)
        ret = must_be(h, H_BLOCK_SIZE, "block size", BLOCK, err);
    if (ret == 0)
        ret = must_be(h, H_BLOCK_EXTRA, "extra data a block", 0, err);
    if (ret < 0)
        return ret;
    v->offset_map = le32_at(h + H_OFFSET_MAP);
    v->offset_data = le32_at(h + H_OFFSET_DATA);
    v->blocks = le32_at(h + H_BLOCKS);
    if (type != DYNAMIC && type != STATIC)
        return error_set(err, -ENOTSUP,
                         "vdi: image type is %" PRIu32
                         "; dynamic (1) and static (2) are "
                         "supported",
                         type);
    if (memcmp(h + H_LINK, none, LINK_BYTES) != 0)
        return error_set(err, -ENOTSUP,
                         "vdi: it is linked to an image below, which is "
                         "not supported");
    if (v->offset_map % SECTOR || v->offset_data % SECTOR || v->offset_map < SECTOR ||
        v->offset_map + 4ull * v->blocks > v->offset_data || v->offset_data > file_size)
        return error_set(err, -EINVAL,
                         "vdi: a map of %" PRIu32 " blocks at %" PRIu64
                         " doesn't lie between the header and the data at %" PRIu64
                         " of a file of %" PRIu64 " bytes",
                         v->blocks, v->offset_map, v->offset_data, file_size);
    if (disk > (uint64_t)v->blocks * BLOCK)
        return error_set(err, -EINVAL,
                         "vdi: disk size %" PRIu64 " is more than %" PRIu32 " blocks",
                         disk, v->blocks);
    *size = disk;
    return 0;
}

/* Each block of the file is one of the disk's, once. */
static int check_map(struct vdi *v, struct error *err)
{
    uint8_t *used = calloc(v->blocks / 8 + 1, 1);
    int ret = used ? 0 : error_set(err, -ENOMEM, "vdi: out of memory");
    for (uint32_t i = 0; ret == 0 && i < v->blocks; i++) {
        uint32_t at = le32toh(v->map[i]);
        if (at >= FIRST_UNALLOCATED)
            continue;
        if (at >= v->blocks || used[at / 8] & 1 << at % 8) {
            ret = error_set(err, -EINVAL,
                            "vdi: map entry %" PRIu32 ": block %" PRIu32 " %s", i, at,
                            at >= v->blocks ? "is beyond the last" : "is used twice");
            break;
        }
        used[at / 8] |= (uint8_t)(1 << at % 8);
        if (at >= v->allocated)
            v->allocated = at + 1; /* what the header counts beyond is nobody's */
    }
    free(used);
    return ret;
}

static void vdi_close(void *state)
{
    struct vdi *v = state;
    free(v->header);
    free(v->map);
    free(v->block);
    free(v);
}

int vdi_open(struct vdi **out, struct blk_file *file, uint64_t *size, struct error *err)
{
    struct vdi *v = calloc(1, sizeof(*v));
    if (!v)
        return error_set(err, -ENOMEM, "vdi: out of memory");
    v->header = aligned_alloc(ALIGN, ALIGN);
    v->block = aligned_alloc(ALIGN, BLOCK);
    int ret = v->header && v->block ? blk_pread(file, 0, v->header, SECTOR) : -ENOMEM;
    if (ret == 0)
        ret = parse(v, blk_size(file), size, err);
    if (ret == 0) {
        size_t bytes = (4 * (size_t)v->blocks / ALIGN + 1) * ALIGN;
        size_t read = (4 * (size_t)v->blocks + SECTOR - 1) / SECTOR * SECTOR;
        v->map = aligned_alloc(ALIGN, bytes);
        ret = v->map ? blk_pread(file, v->offset_map, v->map, read) : -ENOMEM;
    }
    if (ret == 0)
        ret = check_map(v, err);
    if (ret < 0) {
        error_set(err, ret, "vdi: cannot read header and map: %s", strerror(-ret));
        vdi_close(v);
        return ret;
    }
    *out = v;
    return 0;
}

/* --- reading and writing ---------------------------------------------------------- */

static bool vdi_holds_data(const void *state)
{
    const struct vdi *v = state;
    for (uint32_t i = 0; i < v->blocks; i++)
        if (le32toh(v->map[i]) < FIRST_UNALLOCATED)
            return true;
    return false;
}

/* Where guest is in the file; 0: nowhere. */
static uint64_t host_of(const struct vdi *v, uint64_t guest)
{
    uint32_t at = le32toh(v->map[guest / BLOCK]);
    return at < FIRST_UNALLOCATED
               ? v->offset_data + (uint64_t)at * BLOCK + guest % BLOCK
               : 0;
}

/* Of guest..guest+len, what is in its first block. */
static uint64_t in_block(uint64_t guest, uint64_t len)
{
    uint64_t left = BLOCK - guest % BLOCK;
    return len < left ? len : left;
}

static int vdi_read(void *state, struct blocking_io *io, uint64_t guest, uint64_t len,
                    const struct iovec *iov, int iovcnt)
{
    const struct vdi *v = state;
    uint64_t part;
    int ret = 0;
    for (uint64_t at = 0; at < len && ret == 0; at += part) {
        uint64_t host = host_of(v, guest + at);
        part = in_block(guest + at, len - at);
        if (host) {
            int n = iov_slice(io->vec, iovcnt, iov, iovcnt, at, part);
            ret = io->run(io, AIO_READ, host, part, io->vec, n, false);
        } else {
            iov_zero(iov, iovcnt, at, part);
        }
    }
    return ret;
}

static int write_metadata(struct blocking_io *io, uint64_t offset, void *p, size_t len)
{
    struct iovec iov = {p, len};
    return io->run(io, AIO_WRITE, offset, len, &iov, 1, true);
}

/* The guest's block gets a block of the file, with the data in it. */
static int allocate(struct vdi *v, struct blocking_io *io, uint64_t guest, uint64_t len,
                    const struct iovec *iov, int iovcnt, uint64_t at)
{
    uint32_t entry = (uint32_t)(guest / BLOCK), sector = entry / ENTRIES;
    uint32_t new = v->allocated, old = v->map[entry];
    if (new >= v->blocks)
        return -ENOSPC; /* crashes have leaked some */
    memset(v->block, 0, BLOCK);
    iov_to_buf(iov, iovcnt, at, v->block + guest % BLOCK, len);
    int ret =
        write_metadata(io, v->offset_data + (uint64_t) new *BLOCK, v->block, BLOCK);
    if (ret < 0)
        return ret;
    set_le32_at(v->header + H_ALLOCATED, new + 1);
    ret = write_metadata(io, 0, v->header, SECTOR);
    if (ret < 0)
        return ret;
    v->allocated =
        new + 1; /* never to be given to another, even if what follows fails */
    v->map[entry] = htole32(new);
    ret = write_metadata(io, v->offset_map + (uint64_t)sector * SECTOR,
                         v->map + sector * ENTRIES, SECTOR);
    if (ret < 0)
        v->map[entry] = old;
    return ret;
}

static int vdi_write(void *state, struct blocking_io *io, uint64_t guest, uint64_t len,
                     const struct iovec *iov, int iovcnt)
{
    struct vdi *v = state;
    uint64_t part;
    int ret = 0;
    for (uint64_t at = 0; at < len && ret == 0; at += part) {
        uint64_t host = host_of(v, guest + at);
        part = in_block(guest + at, len - at);
        if (host) {
            int n = iov_slice(io->vec, iovcnt, iov, iovcnt, at, part);
            ret = io->run(io, AIO_WRITE, host, part, io->vec, n, false);
        } else {
            ret = allocate(v, io, guest + at, part, iov, iovcnt, at);
        }
    }
    return ret;
}

static int vdi_flush(void *state, struct blocking_io *io)
{
    (void)state;
    return io->run(io, AIO_FLUSH, 0, 0, NULL, 0, true);
}

const struct blocking_driver vdi_driver = {
    .name = "vdi",
    .read = vdi_read,
    .write = vdi_write,
    .flush = vdi_flush,
    .holds_data = vdi_holds_data,
    .close = vdi_close,
};
