/*
 * The list of snapshots: the snapshot table as bytes and as seen. Entries that we did
 * not make keep every byte, those we do not know too. Specification: "Snapshots".
 */
#include "core/qcow2/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

enum { ENTRY_FIXED = 40, EXTRA = 24 };
enum { TABLE_MAX = 64 << 20 }; /* bytes of snapshot table, as QEMU limits it */

void snapshots_free(struct qcow2 *q)
{
    for (unsigned i = 0; i < q->nsnapshots; i++) {
        free(q->snapshots[i].id);
        free(q->snapshots[i].name);
    }
    free(q->snapshots);
    free(q->snapshot_table);
    q->snapshots = NULL;
    q->snapshot_table = NULL;
    q->nsnapshots = 0;
    q->snapshots_loaded = false;
}

static char *text(const uint8_t *p, uint32_t len)
{
    char *s = malloc(len + 1);
    if (s) {
        memcpy(s, p, len);
        s[len] = 0;
    }
    return s;
}

static uint32_t be16(const uint8_t *p) { return (uint32_t)(p[0] << 8 | p[1]); }

/* Entries in buf, which holds len bytes; -EAGAIN: it ends in the middle of one. */
int snapshot_list_parse(struct qcow2 *q, uint8_t *buf, uint64_t len)
{
    uint64_t at = 0;
    q->snapshots = calloc(q->header.nb_snapshots + 1, sizeof(*q->snapshots));
    if (!q->snapshots)
        return -ENOMEM;
    for (uint32_t i = 0; i < q->header.nb_snapshots; i++) {
        struct snapshot_entry *e = &q->snapshots[i];
        if (len - at < ENTRY_FIXED)
            return -EAGAIN;
        uint8_t *p = buf + at;
        uint64_t extra = qcow2_be32(p + 36), id = be16(p + 12), name = be16(p + 14);
        uint64_t size = round_up(ENTRY_FIXED + extra + id + name, 8);
        if (extra > 1024)
            return corrupt(q, "snapshot table: extra data of snapshot", q->nsnapshots,
                           "longer than 1024 bytes");
        if (len - at < size)
            return -EAGAIN;
        e->raw = p;
        e->raw_len = (uint32_t)size;
        e->l1_offset = qcow2_be64(p);
        e->l1_size = qcow2_be32(p + 8);
        e->id = text(p + ENTRY_FIXED + extra, (uint32_t)id);
        e->name = text(p + ENTRY_FIXED + extra + id, (uint32_t)name);
        q->nsnapshots++;
        if (!e->id || !e->name)
            return -ENOMEM;
        if (e->l1_size > QCOW2_MAX_L1_BYTES / 8 || (e->l1_offset & (q->cluster - 1)) ||
            e->l1_offset > QCOW2_MAX_HOST_OFFSET)
            return corrupt(q, "snapshot table: L1 table of snapshot", q->nsnapshots - 1,
                           "its offset or size is illegal");
        at += size;
    }
    q->snapshot_table_len = at;
    q->snapshots_loaded = true;
    return 0;
}

int qcow2_snapshot_load(struct qcow2 *q, struct qcow2_need *need)
{
    uint64_t len = q->snapshot_table_len;
    int ret;

    if (q->snapshots_loaded)
        return 0;
    if (q->snapshot_table) { /* len bytes were read: enough? */
        uint8_t *buf = q->snapshot_table;
        ret = snapshot_list_parse(q, buf, len);
        if (ret != -EAGAIN) {
            if (ret)
                snapshots_free(q);
            return ret;
        }
        snapshots_free(q);
        if (len >= TABLE_MAX)
            return corrupt(q, "snapshot table at offset", q->header.snapshots_offset,
                           "it ends nowhere");
    }
    len = len && !q->snapshot_table ? 4 * len : 64 << 10;
    if (!q->header.nb_snapshots)
        return snapshot_list_parse(q, NULL, 0);
    q->snapshot_table = malloc(len);
    if (!q->snapshot_table)
        return -ENOMEM;
    q->snapshot_table_len = len;
    need->io = (struct qcow2_io){.op = QCOW2_READ,
                                 .offset = q->header.snapshots_offset,
                                 .len = len,
                                 .buf = q->snapshot_table};
    return QCOW2_NEED_IO;
}

unsigned qcow2_snapshot_count(const struct qcow2 *q) { return q->nsnapshots; }

void qcow2_snapshot_at(const struct qcow2 *q, unsigned i,
                       struct qcow2_snapshot_info *info)
{
    const struct snapshot_entry *e = &q->snapshots[i];
    uint32_t extra = qcow2_be32(e->raw + 36);
    *info = (struct qcow2_snapshot_info){
        .id = e->id,
        .name = e->name,
        .date_sec = qcow2_be32(e->raw + 16),
        .date_nsec = qcow2_be32(e->raw + 20),
        .vm_clock_ns = qcow2_be64(e->raw + 24),
        .vm_state_size = extra >= 8 ? qcow2_be64(e->raw + 40) : qcow2_be32(e->raw + 32),
        .disk_size = extra >= 16 ? qcow2_be64(e->raw + 48) : 0,
        .icount = extra >= 24 ? qcow2_be64(e->raw + 56) : UINT64_MAX};
}

int snapshot_list_find(const struct qcow2 *q, const char *name, unsigned *index)
{
    for (unsigned i = 0; i < q->nsnapshots; i++) {
        if (!strcmp(q->snapshots[i].id, name)) {
            *index = i;
            return 0;
        }
    }
    for (unsigned i = 0; i < q->nsnapshots; i++) {
        if (!strcmp(q->snapshots[i].name, name)) {
            *index = i;
            return 0;
        }
    }
    return -ENOENT;
}

static unsigned next_id(const struct qcow2 *q)
{
    unsigned long most = 0;
    for (unsigned i = 0; i < q->nsnapshots; i++) {
        unsigned long id = strtoul(q->snapshots[i].id, NULL, 10);
        most = id > most ? id : most;
    }
    return (unsigned)most + 1;
}

/* Writes the new entry to p, unless that is NULL; its length. */
uint64_t snapshot_list_entry(const struct qcow2 *q, const struct qcow2_snapshot *s,
                             uint8_t *p)
{
    char id[16];
    int id_len = snprintf(id, sizeof(id), "%u", next_id(q));
    size_t name_len = strlen(s->name);
    uint64_t len = round_up(ENTRY_FIXED + EXTRA + (uint64_t)id_len + name_len, 8);

    if (!p)
        return len;
    qcow2_put_be64(p, s->l1_offset);
    qcow2_put_be32(p + 8, (uint32_t)s->l1_entries);
    qcow2_put_be32(p + 12, (uint32_t)id_len << 16 | (uint32_t)name_len);
    qcow2_put_be32(p + 16, s->date_sec);
    qcow2_put_be32(p + 20, s->date_nsec);
    qcow2_put_be32(p + 36, EXTRA);
    qcow2_put_be64(p + 48, q->header.size);
    qcow2_put_be64(p + 56, UINT64_MAX); /* icount: none */
    memcpy(p + ENTRY_FIXED + EXTRA, id, (size_t)id_len);
    memcpy(p + ENTRY_FIXED + EXTRA + id_len, s->name, name_len);
    return len;
}

/* The table with one more entry, or with one less. */
int snapshot_list_build(struct qcow2 *q, struct qcow2_snapshot *s)
{
    uint64_t len = q->snapshot_table_len, at = 0;
    if (s->op == QCOW2_SNAPSHOT_CREATE)
        len += snapshot_list_entry(q, s, NULL);
    else
        len -= q->snapshots[s->index].raw_len;
    if (len > TABLE_MAX)
        return -EFBIG;
    free(s->buf);
    s->buf = NULL;
    s->buf_len = max64(round_up(len, 512), 512);
    if (posix_memalign((void **)&s->buf, SLICE_MAX, s->buf_len))
        return -ENOMEM;
    memset(s->buf, 0, s->buf_len);
    for (unsigned i = 0; i < q->nsnapshots; i++) {
        if (s->op == QCOW2_SNAPSHOT_DELETE && i == s->index)
            continue;
        memcpy(s->buf + at, q->snapshots[i].raw, q->snapshots[i].raw_len);
        at += q->snapshots[i].raw_len;
    }
    if (s->op == QCOW2_SNAPSHOT_CREATE)
        snapshot_list_entry(q, s, s->buf + at);
    return 0;
}
