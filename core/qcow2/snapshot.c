/*
 * Internal snapshots: create, apply, delete. Specification: "Snapshots".
 *
 * Each operation is a list of phases; a phase is repeated until it needs nothing more.
 * No guest change is in flight meanwhile (the gate), reads go on.
 *
 *   create  quiet, sync, see that every refcount of the active tree has room, raise them
 *           and clear COPIED, copy the L1 table, write the new snapshot table, sync,
 *           header, sync, free the old snapshot table
 *   apply   quiet, sync, room, raise the refcounts of the snapshot's tree, write its L1
 *           as a new active one, sync, header, sync, free the old tree
 *   delete  quiet, sync, write the table without it, sync, header, sync, free its tree,
 *           sync until limbo is empty, set COPIED where a refcount fell to 1
 *
 * So what the header points at is whole and counted before it does, and nothing is freed
 * while the header on disk still leads to it. A crash leaks clusters, no more. Frees go
 * through limbo like all others.
 */
#include "core/qcow2/internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { ENTRY_FIXED = 40, EXTRA = 24 };
enum { TABLE_MAX = 64 << 20 }; /* bytes of snapshot table, as QEMU limits it */

/* ---- the gate ---- */

int gate_enter(struct qcow2 *q, struct qcow2_ticket *t, struct qcow2_need *need)
{
    if (t->admitted)
        return 0;
    if (q->gate) {
        q->gate_awaited = true;
        stat_add(&q->stats.gate_waits);
        need->chan = &q->gate;
        return QCOW2_NEED_WAIT;
    }
    t->admitted = true;
    q->admitted++;
    return 0;
}

void gate_leave(struct qcow2 *q, struct qcow2_ticket *t)
{
    if (!t->admitted)
        return;
    t->admitted = false;
    if (!--q->admitted)
        wake_push(q, &q->admitted, &q->quiet_awaited);
}

/* ---- the list ---- */

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
static int parse_list(struct qcow2 *q, uint8_t *buf, uint64_t len)
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
            return corrupt(q);
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
            return corrupt(q);
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
        ret = parse_list(q, buf, len);
        if (ret != -EAGAIN) {
            if (ret)
                snapshots_free(q);
            return ret;
        }
        snapshots_free(q);
        if (len >= TABLE_MAX)
            return corrupt(q);
    }
    len = len && !q->snapshot_table ? 4 * len : 64 << 10;
    if (!q->header.nb_snapshots)
        return parse_list(q, NULL, 0);
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

static int find(const struct qcow2 *q, const char *name, unsigned *index)
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

/* ---- phases that all have ---- */

static int phase_load(struct qcow2 *q, struct qcow2_snapshot *s,
                      struct qcow2_need *need)
{
    int ret = qcow2_snapshot_load(q, need);
    if (ret)
        return ret;
    if (s->op == QCOW2_SNAPSHOT_CREATE) {
        if (strlen(s->name) > UINT16_MAX || !s->name[0])
            return -EINVAL;
        return q->nsnapshots >= QCOW2_MAX_SNAPSHOTS ? -EFBIG : 0;
    }
    return find(q, s->name, &s->index);
}

static int phase_quiet(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_need *need)
{
    if (q->gate && q->gate != &s->t) {
        q->gate_awaited = true;
        need->chan = &q->gate;
        return QCOW2_NEED_WAIT;
    }
    q->gate = &s->t;
    if (q->admitted) {
        q->quiet_awaited = true;
        need->chan = &q->admitted;
        return QCOW2_NEED_WAIT;
    }
    return 0;
}

static int phase_sync(struct qcow2 *q, struct qcow2_snapshot *s,
                      struct qcow2_need *need)
{
    int ret = sync_step(q, &s->t, false, need);
    if (!ret)
        s->t.epoch = 0;
    return ret;
}

static int read_l1(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    if (s->buf)
        return 0;
    s->buf_len = max64(round_up(s->l1_entries * 8, q->slice_size), q->slice_size);
    if (posix_memalign((void **)&s->buf, SLICE_MAX, s->buf_len))
        return -ENOMEM;
    need->io = (struct qcow2_io){
        .op = QCOW2_READ, .offset = s->l1_offset, .len = s->buf_len, .buf = s->buf};
    return QCOW2_NEED_IO;
}

static uint64_t new_entry(const struct qcow2 *, const struct qcow2_snapshot *,
                          uint8_t *);

/* Can so many bytes be had in adjoining clusters (take_run())? */
static bool run_fits(const struct qcow2 *q, uint64_t len)
{
    uint64_t n = round_up(len, q->cluster) >> q->cluster_bits;
    /* A block that is one slice counts itself first: no run is as long as it. */
    return n + (q->slice_size == q->cluster) <= q->slice_size * 8 >> q->order;
}

/* The tree to walk: the active one, as it is now. */
static int phase_active_tree(struct qcow2 *q, struct qcow2_snapshot *s,
                             struct qcow2_need *need)
{
    (void)need;
    if (!run_fits(q, q->l1.entries * 8) ||
        !run_fits(q, q->snapshot_table_len + new_entry(q, s, NULL)))
        return -EFBIG; /* before anything is changed */
    s->l1_offset = q->l1.offset;
    s->l1_entries = q->l1.entries;
    s->buf_len = max64((uint64_t)q->l1.nslices << q->slice_bits, q->slice_size);
    free(s->buf);
    if (posix_memalign((void **)&s->buf, SLICE_MAX, s->buf_len))
        return -ENOMEM;
    memset(s->buf, 0, s->buf_len);
    memcpy(s->buf, q->l1.entry, (uint64_t)q->l1.nslices << q->slice_bits);
    s->i = s->k = s->e = 0;
    return 0;
}

/* Of the new active L1: as many as the snapshot has, and as the disk needs. */
static uint64_t apply_entries(const struct qcow2 *q, const struct qcow2_snapshot *s)
{
    unsigned per_l1 = q->cluster_bits + q->l2_bits;
    uint64_t least = (q->header.size + (1ull << per_l1) - 1) >> per_l1;
    return max64(s->l1_entries, least);
}

static int phase_snapshot_tree(struct qcow2 *q, struct qcow2_snapshot *s,
                               struct qcow2_need *need)
{
    const struct snapshot_entry *e = &q->snapshots[s->index];
    uint32_t extra = qcow2_be32(e->raw + 36);

    s->l1_offset = e->l1_offset;
    s->l1_entries = e->l1_size;
    if (s->op == QCOW2_SNAPSHOT_APPLY && extra >= 16 &&
        qcow2_be64(e->raw + 48) != q->header.size)
        return -ENOTSUP;
    if (s->op == QCOW2_SNAPSHOT_APPLY && !run_fits(q, apply_entries(q, s) * 8))
        return -EFBIG;
    s->i = s->k = s->e = 0;
    return read_l1(q, s, need);
}

/* ---- walking a tree ---- */

typedef int visit_fn(struct qcow2 *, struct qcow2_snapshot *, uint64_t cluster,
                     bool compressed, struct qcow2_need *);

static uint64_t refcount_max(const struct qcow2 *q)
{
    return q->order == 6 ? UINT64_MAX : (1ull << (1u << q->order)) - 1;
}

/* Will one more reference fit? A compressed cluster may get as many more as it has. */
static int visit_room(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t cluster,
                      bool compressed, struct qcow2_need *need)
{
    struct qcow2_slice *r;
    int ret = refcount_slice_get(q, cluster, &r, need);
    (void)s;
    if (ret)
        return ret;
    uint64_t count = qcow2_refcount_get(r->buf, refcount_index(q, cluster), q->order);
    if (!count)
        return corrupt(q);
    return count > refcount_max(q) - (compressed ? count : 1) ? -ERANGE : 0;
}

static int visit_raise(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t cluster,
                       bool compressed, struct qcow2_need *need)
{
    struct qcow2_slice *r;
    int ret = refcount_slice_get(q, cluster, &r, need);
    (void)s;
    (void)compressed;
    if (ret)
        return ret;
    uint64_t i = refcount_index(q, cluster);
    uint64_t count = qcow2_refcount_get(r->buf, i, q->order);
    if (!count || count == refcount_max(q))
        return corrupt(q);
    ret = slice_intend(q, r);
    if (ret)
        return ret;
    slice_modify(q, r);
    qcow2_refcount_set(r->buf, i, q->order, count + 1);
    slice_unintend(q, r);
    return 0;
}

static int visit_free(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t cluster,
                      bool compressed, struct qcow2_need *need)
{
    int ret = limbo_promise(q, &s->t, 1);
    (void)compressed;
    (void)need;
    if (ret)
        return ret;
    if (s->k == q->cluster >> q->slice_bits) /* the table itself: walk() */
        limbo_push(q, &s->t, cluster, 1);
    else
        limbo_push_data(q, &s->t, cluster);
    limbo_unpromise(q, &s->t);
    return 0;
}

/* Every cluster that an L2 entry owns, one at a time; s->e counts entries, and for those
 * that own several clusters the high part counts clusters. */
static int visit_entry(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t entry,
                       visit_fn *fn, struct qcow2_need *need)
{
    uint64_t host, len = q->cluster;
    int type = entry_decode(q, entry, &host);

    if (type < 0)
        return corrupt(q);
    if (type == E_COMPRESSED)
        qcow2_compressed_range(q->cluster_bits, entry, &host, &len);
    else if (type != E_NORMAL && type != E_ZERO_ALLOC)
        return 0;
    uint64_t first = host >> q->cluster_bits,
             last = (host + len - 1) >> q->cluster_bits;
    for (uint64_t c = first + (s->e >> 32); c <= last; c++) {
        int ret = fn(q, s, c, type == E_COMPRESSED, need);
        if (ret)
            return ret;
        s->e += 1ull << 32;
    }
    return 0;
}

/* Visits an entry that becomes shared. Its count and its COPIED change in one step: this
 * may be the last one, if the operation is given up. */
static int share_entry(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_slice *l2, uint64_t i, visit_fn *fn,
                       struct qcow2_need *need)
{
    uint64_t entry = l2_entry(l2, i);
    if (!(entry & QCOW2_COPIED))
        return visit_entry(q, s, entry, fn, need);
    int ret = slice_intend(q, l2);
    if (ret)
        return ret;
    ret = visit_entry(q, s, entry, fn, need);
    if (!ret) {
        slice_modify(q, l2);
        qcow2_put_be64(l2->buf + 8 * i, entry & ~QCOW2_COPIED);
        memset(l2->verified, 0, sizeof(l2->verified));
    }
    slice_unintend(q, l2);
    return ret;
}

/* The same for the table of entry i of the active L1. */
static int share_table(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t i,
                       visit_fn *fn, struct qcow2_need *need)
{
    uint64_t entry = be64toh(q->l1.entry[i]);
    struct qcow2_slice *slice = table_slice(q, &q->l1, i);
    int ret = slice_intend(q, slice);
    if (ret)
        return ret;
    ret = fn(q, s, (entry & QCOW2_OFFSET_MASK) >> q->cluster_bits, false, need);
    if (!ret && (entry & QCOW2_COPIED)) {
        slice_modify(q, slice);
        q->l1.entry[i] = htobe64(entry & ~QCOW2_COPIED);
    }
    slice_unintend(q, slice);
    return ret;
}

/* The slice s->k of the table of L1 entry s->i. */
static int walk_slice(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t table,
                      visit_fn *fn, bool share, struct qcow2_need *need)
{
    while ((s->e & UINT32_MAX) < q->slice_size / 8) {
        struct qcow2_slice *l2;
        uint64_t i = s->e & UINT32_MAX;
        int ret = slice_get(q, SLICE_L2, table + (s->k << q->slice_bits), &l2, need);
        if (ret)
            return ret;
        /* l2 may go only when this needs, and then it is fetched again. */
        ret = share ? share_entry(q, s, l2, i, fn, need)
                    : visit_entry(q, s, l2_entry(l2, i), fn, need);
        if (ret)
            return ret;
        s->e = i + 1;
    }
    s->e = 0;
    return 0;
}

/* One L2 table a call; the table's own cluster last. */
static int walk(struct qcow2 *q, struct qcow2_snapshot *s, visit_fn *fn, bool share,
                struct qcow2_need *need)
{
    while (s->i < s->l1_entries) {
        uint64_t entry = qcow2_be64(s->buf + 8 * s->i),
                 table = entry & QCOW2_OFFSET_MASK;
        int ret;
        s->tables_left = s->l1_entries - s->i;
        if (!entry) {
            s->i++;
            continue;
        }
        if ((entry & QCOW2_L1_RESERVED) || (table & (q->cluster - 1)) || !table)
            return corrupt(q);
        while (s->k < q->cluster >> q->slice_bits) {
            ret = walk_slice(q, s, table, fn, share, need);
            if (ret)
                return ret;
            s->k++;
        }
        ret = share && s->op == QCOW2_SNAPSHOT_CREATE
                  ? share_table(q, s, s->i, fn, need)
                  : fn(q, s, table >> q->cluster_bits, false, need);
        if (ret)
            return ret;
        s->k = s->e = 0;
        s->i++;
        s->walk_again = true;
        return 0;
    }
    s->i = 0;
    return 0;
}

static int phase_room(struct qcow2 *q, struct qcow2_snapshot *s,
                      struct qcow2_need *need)
{
    return walk(q, s, visit_room, false, need);
}

static int phase_raise(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_need *need)
{
    return walk(q, s, visit_raise, true, need);
}

static int phase_free_tree(struct qcow2 *q, struct qcow2_snapshot *s,
                           struct qcow2_need *need)
{
    return walk(q, s, visit_free, false, need);
}

/* The copy of the L1 table loses COPIED, as the active one did. */
static int phase_l1_shared(struct qcow2 *q, struct qcow2_snapshot *s,
                           struct qcow2_need *need)
{
    (void)q;
    (void)need;
    for (s->i = 0; s->i < s->l1_entries; s->i++) {
        uint64_t entry = qcow2_be64(s->buf + 8 * s->i);
        qcow2_put_be64(s->buf + 8 * s->i, entry & ~QCOW2_COPIED);
    }
    s->i = 0;
    return 0;
}

/* ---- writing tables ---- */

/* n adjoining clusters, counted at once: a crash leaks them. */
static int take_run(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t n,
                    uint64_t *offset, struct qcow2_need *need)
{
    uint64_t at, len = 0;

    if (!run_fits(q, n << q->cluster_bits))
        return -EFBIG;
    for (;;) {
        int ret = alloc_clusters(q, &s->t, n, &at, &len, need);
        if (ret)
            return ret;
        if (len == n << q->cluster_bits)
            break;
        ticket_unpin(q, &s->t, 1); /* too short: the search goes on behind it */
    }
    take_virgin(q, at, len);
    slice_drop(q, at, len);
    use_space(q, &s->t, at, len);
    ticket_unpin(q, &s->t, 1);
    alloc_ticket_end(q, &s->t);
    *offset = at;
    return 0;
}

/* Writes s->buf to new clusters. */
static int write_new(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    uint64_t n = round_up(max64(s->buf_len, 1), q->cluster) >> q->cluster_bits;
    if (s->new_clusters) /* written */
        return 0;
    int ret = take_run(q, s, n, &s->new_offset, need);
    if (ret)
        return ret;
    s->new_clusters = n;
    need->io = (struct qcow2_io){
        .op = QCOW2_WRITE, .offset = s->new_offset, .len = s->buf_len, .buf = s->buf};
    return QCOW2_NEED_IO;
}

static int phase_write_l1(struct qcow2 *q, struct qcow2_snapshot *s,
                          struct qcow2_need *need)
{
    s->buf_len = max64(round_up(s->l1_entries * 8, 512), 512);
    int ret = write_new(q, s, need);
    if (ret)
        return ret;
    s->l1_offset = s->new_offset;
    s->new_clusters = 0;
    return 0;
}

/* Writes the new entry to p, unless that is NULL; its length. */
static uint64_t new_entry(const struct qcow2 *q, const struct qcow2_snapshot *s,
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
static int build_table(struct qcow2 *q, struct qcow2_snapshot *s)
{
    uint64_t len = q->snapshot_table_len, at = 0;
    if (s->op == QCOW2_SNAPSHOT_CREATE)
        len += new_entry(q, s, NULL);
    else
        len -= q->snapshots[s->index].raw_len;
    if (len > TABLE_MAX)
        return -EFBIG;
    free(s->buf);
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
        new_entry(q, s, s->buf + at);
    return 0;
}

static int phase_build_table(struct qcow2 *q, struct qcow2_snapshot *s,
                             struct qcow2_need *need)
{
    (void)need;
    s->old_offset = q->header.snapshots_offset;
    s->old_clusters =
        q->header.nb_snapshots
            ? round_up(q->snapshot_table_len, q->cluster) >> q->cluster_bits
            : 0;
    s->new_clusters = 0;
    if (s->op == QCOW2_SNAPSHOT_DELETE) {
        s->l1_offset = q->snapshots[s->index].l1_offset;
        s->l1_entries = q->snapshots[s->index].l1_size;
        if (q->nsnapshots == 1) { /* no table at all */
            s->new_offset = 0;
            return 0;
        }
    }
    return build_table(q, s);
}

static int phase_write_table(struct qcow2 *q, struct qcow2_snapshot *s,
                             struct qcow2_need *need)
{
    if (s->op == QCOW2_SNAPSHOT_DELETE && q->nsnapshots == 1)
        return 0;
    return write_new(q, s, need);
}

static int header_change(struct qcow2 *q)
{
    int ret = slice_intend(q, &q->header_slice);
    if (ret)
        return ret;
    slice_modify(q, &q->header_slice);
    qcow2_put_be32(q->header_buf + QCOW2_H_NB_SNAPSHOTS, q->header.nb_snapshots);
    qcow2_put_be64(q->header_buf + QCOW2_H_SNAPSHOTS_OFFSET,
                   q->header.snapshots_offset);
    qcow2_put_be32(q->header_buf + QCOW2_H_L1_SIZE, q->header.l1_size);
    qcow2_put_be64(q->header_buf + QCOW2_H_L1_OFFSET, q->header.l1_offset);
    slice_unintend(q, &q->header_slice);
    return 0;
}

/* The list in memory follows the table just written. */
static int phase_header_table(struct qcow2 *q, struct qcow2_snapshot *s,
                              struct qcow2_need *need)
{
    uint32_t n = q->header.nb_snapshots + (s->op == QCOW2_SNAPSHOT_CREATE ? 1u : -1u);
    struct qcow2_header old = q->header;
    (void)need;
    q->header.nb_snapshots = n;
    q->header.snapshots_offset = s->new_offset;
    int ret = header_change(q);
    if (ret) {
        q->header = old;
        return ret;
    }
    uint64_t len = s->buf_len;
    snapshots_free(q);
    q->snapshot_table = s->buf;
    q->snapshot_table_len = n ? len : 0;
    s->buf = NULL;
    return parse_list(q, q->snapshot_table, n ? len : 0);
}

static int phase_free_table(struct qcow2 *q, struct qcow2_snapshot *s,
                            struct qcow2_need *need)
{
    (void)need;
    if (!s->old_clusters)
        return 0;
    int ret = limbo_promise(q, &s->t, 1);
    if (ret)
        return ret;
    limbo_push(q, &s->t, s->old_offset >> q->cluster_bits, s->old_clusters);
    limbo_unpromise(q, &s->t);
    s->old_clusters = 0;
    return 0;
}

/* ---- apply ---- */

/* The new active L1: the snapshot's, as large as the disk needs. */
static int phase_size_l1(struct qcow2 *q, struct qcow2_snapshot *s,
                         struct qcow2_need *need)
{
    uint64_t entries = apply_entries(q, s), len = round_up(entries * 8, SLICE_MAX);
    uint8_t *buf;

    (void)need;
    if (posix_memalign((void **)&buf, SLICE_MAX, max64(len, SLICE_MAX)))
        return -ENOMEM;
    memset(buf, 0, max64(len, SLICE_MAX));
    for (uint64_t i = 0; i < s->l1_entries; i++)
        qcow2_put_be64(buf + 8 * i, qcow2_be64(s->buf + 8 * i) & ~QCOW2_COPIED);
    free(s->buf);
    s->buf = buf;
    s->old_offset = q->l1.offset;
    s->old_clusters = round_up(q->l1.entries * 8, q->cluster) >> q->cluster_bits;
    s->l1_entries = entries;
    s->new_clusters = 0;
    return 0;
}

static int phase_header_l1(struct qcow2 *q, struct qcow2_snapshot *s,
                           struct qcow2_need *need)
{
    struct qcow2_header old = q->header;
    struct table table, dead;
    int ret = 0;

    (void)need;
    for (uint64_t i = 0; !ret && i < s->l1_entries; i++) {
        uint64_t offset = qcow2_be64(s->buf + 8 * i) & QCOW2_OFFSET_MASK;
        if (offset)
            ret = metaset_add(q, offset);
    }
    if (!ret)
        ret = table_init(q, &table, SLICE_L1, s->l1_offset, s->l1_entries);
    if (ret)
        return ret;
    q->header.l1_offset = s->l1_offset;
    q->header.l1_size = (uint32_t)s->l1_entries;
    ret = header_change(q);
    if (ret) {
        q->header = old;
        table_free(&table);
        return ret;
    }
    memcpy(table.entry, s->buf, s->l1_entries * 8);
    /* The old one, clean since the sync, is the tree to free. */
    dead = q->l1;
    q->l1 = table;
    s->l1_entries = dead.entries;
    s->buf_len = max64(round_up(dead.entries * 8, SLICE_MAX), SLICE_MAX);
    free(s->buf);
    s->buf = NULL;
    if (!posix_memalign((void **)&s->buf, SLICE_MAX, s->buf_len))
        memcpy(s->buf, dead.entry, dead.entries * 8);
    table_free(&dead);
    s->i = s->k = s->e = 0;
    return s->buf ? 0 : -ENOMEM;
}

/* ---- delete ---- */

static int phase_free_l1(struct qcow2 *q, struct qcow2_snapshot *s,
                         struct qcow2_need *need)
{
    s->old_offset = s->l1_offset;
    s->old_clusters = round_up(s->l1_entries * 8, q->cluster) >> q->cluster_bits;
    return phase_free_table(q, s, need);
}

static int phase_sync_all(struct qcow2 *q, struct qcow2_snapshot *s,
                          struct qcow2_need *need)
{
    do {
        int ret = sync_step(q, &s->t, true, need);
        if (ret)
            return ret;
        s->t.epoch = 0;
    } while (q->limbo_len);
    return 0;
}

static int refcount_is_one(struct qcow2 *q, uint64_t host, bool *one,
                           struct qcow2_need *need)
{
    struct qcow2_slice *r;
    uint64_t cluster = host >> q->cluster_bits;
    int ret = refcount_slice_get(q, cluster, &r, need);
    if (!ret)
        *one = qcow2_refcount_get(r->buf, refcount_index(q, cluster), q->order) == 1;
    return ret;
}

static int set_copied(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_slice *l2,
                      uint64_t i, struct qcow2_need *need)
{
    uint64_t entry = l2_entry(l2, i), host;
    int type = entry_decode(q, entry, &host);
    bool one = false;

    (void)s;
    if ((type != E_NORMAL && type != E_ZERO_ALLOC) || (entry & QCOW2_COPIED))
        return 0;
    int ret = refcount_is_one(q, host, &one, need);
    if (ret || !one)
        return ret;
    ret = slice_intend(q, l2);
    if (ret)
        return ret;
    slice_modify(q, l2);
    qcow2_put_be64(l2->buf + 8 * i, entry | QCOW2_COPIED);
    slice_unintend(q, l2);
    return 0;
}

static int set_copied_in_table(struct qcow2 *q, struct qcow2_snapshot *s,
                               uint64_t table, struct qcow2_need *need)
{
    for (; s->k < q->cluster >> q->slice_bits; s->k++, s->e = 0) {
        for (; s->e < q->slice_size / 8; s->e++) {
            struct qcow2_slice *l2;
            int ret =
                slice_get(q, SLICE_L2, table + (s->k << q->slice_bits), &l2, need);
            if (!ret)
                ret = set_copied(q, s, l2, s->e, need);
            if (ret)
                return ret;
        }
    }
    return 0;
}

/* COPIED where the active tree is alone again: tables that are shared still hold no
 * cluster that is not, as their clusters are counted once a path. */
static int phase_set_copied(struct qcow2 *q, struct qcow2_snapshot *s,
                            struct qcow2_need *need)
{
    for (; s->i < q->l1.entries; s->i++, s->k = 0, s->e = 0) {
        uint64_t entry = be64toh(q->l1.entry[s->i]), table = entry & QCOW2_OFFSET_MASK;
        struct qcow2_slice *l1s = table_slice(q, &q->l1, s->i);
        bool one = false;
        int ret;
        if (!table)
            continue;
        s->tables_left = q->l1.entries - s->i;
        ret = refcount_is_one(q, table, &one, need);
        if (!ret && one)
            ret = set_copied_in_table(q, s, table, need);
        if (!ret && one && !(entry & QCOW2_COPIED)) {
            ret = slice_intend(q, l1s);
            if (!ret) {
                slice_modify(q, l1s);
                q->l1.entry[s->i] = htobe64(entry | QCOW2_COPIED);
                slice_unintend(q, l1s);
            }
        }
        if (ret)
            return ret;
    }
    s->i = 0;
    return 0;
}

/* ---- the operations ---- */

typedef int phase_fn(struct qcow2 *, struct qcow2_snapshot *, struct qcow2_need *);

static phase_fn *const create_phases[] = {
    phase_load,        phase_quiet,       phase_sync,      phase_active_tree,
    phase_room,        phase_raise,       phase_l1_shared, phase_write_l1,
    phase_build_table, phase_write_table, phase_sync,      phase_header_table,
    phase_sync,        phase_free_table,  phase_sync,      NULL};
static phase_fn *const apply_phases[] = {phase_load,
                                         phase_quiet,
                                         phase_sync,
                                         phase_snapshot_tree,
                                         phase_room,
                                         phase_raise,
                                         phase_size_l1,
                                         phase_write_l1,
                                         phase_sync,
                                         phase_header_l1,
                                         phase_sync,
                                         phase_free_tree,
                                         phase_free_table,
                                         phase_sync_all,
                                         phase_set_copied,
                                         phase_sync,
                                         NULL};
static phase_fn *const delete_phases[] = {
    phase_load,        phase_quiet,      phase_sync,         phase_build_table,
    phase_write_table, phase_sync,       phase_header_table, phase_sync,
    phase_free_table,  read_l1,          phase_free_tree,    phase_free_l1,
    phase_sync_all,    phase_set_copied, phase_sync,         NULL};

static void snapshot_end(struct qcow2 *q, struct qcow2_snapshot *s)
{
    ticket_unpin(q, &s->t, 0);
    ticket_unpin(q, &s->t, 1);
    limbo_unpromise(q, &s->t);
    alloc_ticket_end(q, &s->t);
    sync_ticket_end(q, &s->t);
    if (q->gate == &s->t) {
        q->gate = NULL;
        wake_push(q, &q->gate, &q->gate_awaited);
    }
    free(s->buf);
    s->buf = NULL;
    s->t = (struct qcow2_ticket){0};
    s->tables_left = 0;
}

void qcow2_snapshot_cancel(struct qcow2 *q, struct qcow2_snapshot *s)
{
    snapshot_end(q, s);
}

int qcow2_snapshot_step(struct qcow2 *q, struct qcow2_snapshot *s,
                        struct qcow2_need *need)
{
    static phase_fn *const *const phases[] = {create_phases, apply_phases,
                                              delete_phases};
    int ret = writable(q);

    s->tables_left = 1;
    while (!ret && phases[s->op][s->phase]) {
        if (s->t.step == STEP_SYNC)
            ret = owe_sync(q, &s->t, need);
        if (!ret)
            ret = phases[s->op][s->phase](q, s, need);
        if (ret == -EBUSY) {
            ret = owe_sync(q, &s->t, need);
            continue;
        }
        if (s->walk_again) {
            s->walk_again = false;
            return 0;
        }
        s->phase += !ret;
    }
    if (ret <= 0) {
        stat_add(&q->stats.snapshots);
        snapshot_end(q, s);
    }
    return ret;
}
