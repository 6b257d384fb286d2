/* The table of internal snapshots. See snapshots.h. */
#include "core/image/snapshots.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { ENTRY_BYTES = 40, EXTRA_KNOWN = 24, EXTRA_MAX = 1024, TABLE_MAX = 64 << 20 };

void snapshots_start(struct snapshot_reader *s, struct blk_file *file,
                     const struct qcow2_header *h)
{
    memset(s, 0, sizeof(*s));
    s->file = file;
    s->header = h;
    s->offset = h->snapshots_offset;
}

void snapshots_end(struct snapshot_reader *s)
{
    free(s->id);
    free(s->name);
    s->id = s->name = NULL;
}

static unsigned be16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

static int read_name(struct snapshot_reader *s, uint64_t offset, unsigned len,
                     char **out)
{
    free(*out);
    *out = malloc(len + 1u);
    if (!*out)
        return -ENOMEM;
    (*out)[len] = '\0';
    return len ? blk_pread(s->file, offset, *out, len) : 0;
}

static int read_extra(struct snapshot_reader *s)
{
    uint8_t extra[EXTRA_KNOWN] = {0};
    uint32_t n = s->extra_size < EXTRA_KNOWN ? s->extra_size : EXTRA_KNOWN;
    int r = n ? blk_pread(s->file, s->offset + ENTRY_BYTES, extra, n) : 0;

    if (n >= 8)
        s->vm_state_size = qcow2_be64(extra);
    s->disk_size = n >= 16 ? qcow2_be64(extra + 8) : s->header->size;
    s->icount = n >= 24 ? qcow2_be64(extra + 16) : UINT64_MAX;
    return r;
}

int snapshots_next(struct snapshot_reader *s, struct error *err)
{
    uint64_t start = s->header->snapshots_offset, size = blk_size(s->file);
    uint8_t e[ENTRY_BYTES];
    int r;

    if (s->index >= s->header->nb_snapshots)
        return 0;
    if (s->offset >= size || s->offset - start > TABLE_MAX)
        return error_set(err, -EINVAL,
                         "snapshot table: entry %" PRIu32 " of %" PRIu32
                         " lies past the end of the %s",
                         s->index, s->header->nb_snapshots,
                         s->offset >= size ? "file" : "largest table (64 MiB)");
    r = blk_pread(s->file, s->offset, e, sizeof(e));
    if (r < 0)
        return error_set(err, r, "cannot read the snapshot table: %s", strerror(-r));
    unsigned id_len = be16(e + 12), name_len = be16(e + 14);
    s->l1_offset = qcow2_be64(e);
    s->l1_size = qcow2_be32(e + 8);
    s->date_sec = qcow2_be32(e + 16);
    s->date_nsec = qcow2_be32(e + 20);
    s->vm_clock_nsec = qcow2_be64(e + 24);
    s->vm_state_size = qcow2_be32(e + 32);
    s->extra_size = qcow2_be32(e + 36);
    if (s->extra_size > EXTRA_MAX)
        return error_set(err, -EINVAL,
                         "snapshot table: entry %" PRIu32 ": %" PRIu32
                         " bytes of extra data are more than %d",
                         s->index, s->extra_size, EXTRA_MAX);
    uint64_t names = s->offset + ENTRY_BYTES + s->extra_size;
    if ((r = read_extra(s)) < 0 || (r = read_name(s, names, id_len, &s->id)) < 0 ||
        (r = read_name(s, names + id_len, name_len, &s->name)) < 0)
        return error_set(err, r, "cannot read the snapshot table: %s", strerror(-r));
    s->offset = (names + id_len + name_len + 7) & ~7ull;
    s->index++;
    return 1;
}
