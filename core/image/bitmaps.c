/* The directory of bitmaps. See bitmaps.h. */
#include "core/image/bitmaps.h"

#include <errno.h>
#include <inttypes.h>

enum { ENTRY_BYTES = 24, NAME_MAX_BYTES = 1023, TABLE_MAX_ENTRIES = 1 << 27 };

void bitmaps_start(struct bitmap_reader *b, struct blk_file *file,
                   const struct qcow2_header *h)
{
    memset(b, 0, sizeof(*b));
    b->file = file;
    b->header = h;
    b->offset = h->bitmaps_dir_offset;
}

static int check_entry(const struct bitmap_reader *b, unsigned type, unsigned name_len,
                       uint32_t extra, uint64_t left, struct error *err)
{
    uint64_t cluster = 1ull << b->header->cluster_bits;

    if (ENTRY_BYTES + (uint64_t)extra + name_len > left)
        return error_set(err, -EINVAL,
                         "bitmap directory: entry %" PRIu32
                         " is longer than the %" PRIu64 " bytes left of the directory",
                         b->index, left);
    if (!b->table_offset || b->table_offset & (cluster - 1) ||
        b->table_offset >= QCOW2_MAX_HOST_OFFSET)
        return error_set(err, -EINVAL,
                         "bitmap directory: entry %" PRIu32
                         ": bitmap_table_offset 0x%" PRIx64
                         " is not a cluster's offset",
                         b->index, b->table_offset);
    if (!b->table_entries || b->table_entries > TABLE_MAX_ENTRIES)
        return error_set(err, -EINVAL,
                         "bitmap directory: entry %" PRIu32
                         ": bitmap_table_size %" PRIu32 " is not within 1..%d",
                         b->index, b->table_entries, TABLE_MAX_ENTRIES);
    if (!name_len || name_len > NAME_MAX_BYTES)
        return error_set(err, -EINVAL,
                         "bitmap directory: entry %" PRIu32
                         ": name_size %u is not within 1..%d",
                         b->index, name_len, NAME_MAX_BYTES);
    if (type != 1)
        return error_set(err, -EINVAL,
                         "bitmap directory: entry %" PRIu32 ": type %u is not 1",
                         b->index, type);
    if (b->granularity_bits < 9 || b->granularity_bits > 31)
        return error_set(err, -EINVAL,
                         "bitmap directory: entry %" PRIu32
                         ": granularity_bits %u is not within 9..31",
                         b->index, b->granularity_bits);
    if (b->flags >> 3)
        return error_set(err, -EINVAL,
                         "bitmap directory: entry %" PRIu32 ": flags 0x%" PRIx32
                         " have reserved bits set",
                         b->index, b->flags);
    return 0;
}

int bitmaps_next(struct bitmap_reader *b, struct error *err)
{
    uint64_t used = b->offset - b->header->bitmaps_dir_offset;
    uint64_t left = b->header->bitmaps_dir_size - used;
    uint8_t e[ENTRY_BYTES];
    int r;

    if (b->index >= b->header->bitmaps_count)
        return 0;
    if (left < ENTRY_BYTES)
        return error_set(err, -EINVAL,
                         "bitmap directory: %" PRIu64 " bytes hold only %" PRIu32
                         " of %" PRIu32 " entries",
                         b->header->bitmaps_dir_size, b->index,
                         b->header->bitmaps_count);
    r = blk_pread(b->file, b->offset, e, sizeof(e));
    if (r < 0)
        return error_set(err, r, "cannot read the bitmap directory: %s", strerror(-r));
    unsigned name_len = (unsigned)e[18] << 8 | e[19];
    uint32_t extra = qcow2_be32(e + 20);
    b->table_offset = qcow2_be64(e);
    b->table_entries = qcow2_be32(e + 8);
    b->flags = qcow2_be32(e + 12);
    b->granularity_bits = e[17];
    r = check_entry(b, e[16], name_len, extra, left, err);
    if (r < 0)
        return r;
    r = blk_pread(b->file, b->offset + ENTRY_BYTES + extra, b->name, name_len);
    if (r < 0)
        return error_set(err, r, "cannot read the bitmap directory: %s", strerror(-r));
    b->name[name_len] = '\0';
    uint64_t next =
        b->offset + ((ENTRY_BYTES + (uint64_t)extra + name_len + 7) & ~7ull);
    uint64_t end = b->header->bitmaps_dir_offset + b->header->bitmaps_dir_size;
    b->offset = next > end ? end : next;
    b->index++;
    return 1;
}
