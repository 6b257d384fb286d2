/*
 * Internal snapshots: create, apply, delete. Specification: "Snapshots".
 *
 * Each operation is a list of phases; a phase is repeated until it needs nothing more.
 * No guest change is in flight meanwhile, nor another operation (the gate), reads go on.
 *
 *   create  quiet, list, sync, see that every refcount of the active tree has room,
 *           raise them and clear COPIED, copy the L1 table, write the new snapshot table,
 *           sync, header, sync, free the old snapshot table
 *   apply   quiet, list, sync, room, raise the refcounts of the snapshot's tree, write
 *           its L1 as a new active one, sync, header, sync, free the old tree
 *   delete  quiet, list, sync, write the table without it, sync, header, sync, free its
 *           tree, sync until limbo is empty, set COPIED where a refcount fell to 1
 *
 * So what the header points at is whole and counted before it does, and nothing is
 * freed while the header on disk still leads to it. A crash leaks clusters, no more.
 * Frees go through limbo like all others. One that fails before the header is changed
 * is taken back (snapshot_undo.c), in phases of its own; afterwards the phase that
 * failed is tried once more.
 */
#include "core/qcow2/snapshot.h"

#include <stdlib.h>

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

/* ---- phases that all have ---- */

/* Behind the gate: the list, and the operation's place in it, are its own meanwhile. */
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
    return snapshot_list_find(q, s->name, &s->index);
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
    s->reads = !s->buf;
    if (!s->reads)
        return 0;
    s->buf_len = max64(round_up(s->l1_entries * 8, q->slice_size), q->slice_size);
    if (posix_memalign((void **)&s->buf, SLICE_MAX, s->buf_len))
        return -ENOMEM;
    need->io = (struct qcow2_io){
        .op = QCOW2_READ, .offset = s->l1_offset, .len = s->buf_len, .buf = s->buf};
    return QCOW2_NEED_IO;
}

/* The tree to walk: the active one, as it is now. */
static int phase_active_tree(struct qcow2 *q, struct qcow2_snapshot *s,
                             struct qcow2_need *need)
{
    (void)need;
    s->l1_offset = q->l1.offset;
    s->l1_entries = q->l1.entries;
    s->buf_len = max64((uint64_t)q->l1.nslices << q->slice_bits, q->slice_size);
    free(s->buf);
    s->buf = NULL;
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
    return max64(s->l1_entries, snapshot_entries_for(q, q->header.size));
}

static int phase_snapshot_tree(struct qcow2 *q, struct qcow2_snapshot *s,
                               struct qcow2_need *need)
{
    const struct snapshot_entry *e = &q->snapshots[s->index];
    uint32_t extra = qcow2_be32(e->raw + 36);

    s->l1_offset = e->l1_offset;
    s->l1_entries = e->l1_size;
    if (extra >= 16 && qcow2_be64(e->raw + 48) != q->header.size)
        return -ENOTSUP;
    s->i = s->k = s->e = 0;
    return read_l1(q, s, need);
}

static int phase_room(struct qcow2 *q, struct qcow2_snapshot *s,
                      struct qcow2_need *need)
{
    return snapshot_walk(q, s, snapshot_visit_room, false, need);
}

static int phase_raise(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_need *need)
{
    int ret = snapshot_walk(q, s, snapshot_visit_raise, true, need);
    s->raised.i = ret || s->walk_again ? s->i : UINT64_MAX;
    s->raised.k = s->k;
    s->raised.e = s->e;
    return ret;
}

static int phase_free_tree(struct qcow2 *q, struct qcow2_snapshot *s,
                           struct qcow2_need *need)
{
    return snapshot_walk(q, s, snapshot_visit_free, false, need);
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
    return snapshot_list_build(q, s);
}

static int phase_write_table(struct qcow2 *q, struct qcow2_snapshot *s,
                             struct qcow2_need *need)
{
    if (s->op == QCOW2_SNAPSHOT_DELETE && q->nsnapshots == 1)
        return 0;
    return snapshot_write_new(q, s, need);
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
    int ret = snapshot_header_change(q);
    if (ret) {
        q->header = old;
        return ret;
    }
    uint64_t len = s->buf_len;
    snapshot_linked(s);
    snapshots_free(q);
    q->snapshot_table = s->buf;
    q->snapshot_table_len = n ? len : 0;
    s->buf = NULL;
    if (snapshot_list_parse(q, q->snapshot_table, n ? len : 0))
        snapshots_free(q); /* no memory: the next one reads it from the disk */
    return 0;
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
    struct table table, dead = q->l1;
    uint64_t len = max64(round_up(dead.entries * 8, SLICE_MAX), SLICE_MAX);
    uint8_t *buf;
    int ret = metaset_room(q, s->l1_entries);

    (void)need;
    if (ret || posix_memalign((void **)&buf, SLICE_MAX, len))
        return -ENOMEM;
    ret = table_init(q, &table, SLICE_L1, s->l1_offset, s->l1_entries);
    if (ret) {
        free(buf);
        return ret;
    }
    q->header.l1_offset = s->l1_offset;
    q->header.l1_size = (uint32_t)s->l1_entries;
    ret = snapshot_header_change(q);
    if (ret) {
        q->header = old;
        table_free(&table);
        free(buf);
        return ret;
    }
    snapshot_linked(s);
    memcpy(table.entry, s->buf, s->l1_entries * 8);
    for (uint64_t i = 0; i < s->l1_entries; i++) {
        uint64_t offset = qcow2_be64(s->buf + 8 * i) & QCOW2_OFFSET_MASK;
        if (offset)
            metaset_add(q, offset);
    }
    /* The old one, clean since the sync, is the tree to free. */
    q->l1 = table;
    s->l1_entries = dead.entries;
    s->buf_len = len;
    free(s->buf);
    s->buf = buf;
    memcpy(s->buf, dead.entry, dead.entries * 8);
    table_free(&dead);
    s->i = s->k = s->e = 0;
    return 0;
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

/* ---- taking it back ---- */

/* COPIED says nothing of a cluster that waits in limbo still. */
static int undo_sync(struct qcow2 *q, struct qcow2_snapshot *s, struct qcow2_need *need)
{
    return snapshot_has_raised(s) ? phase_sync_all(q, s, need) : 0;
}

static int undo_copied(struct qcow2 *q, struct qcow2_snapshot *s,
                       struct qcow2_need *need)
{
    return snapshot_has_raised(s) ? snapshot_set_copied(q, s, need) : 0;
}

/* ---- the operations ---- */

typedef int phase_fn(struct qcow2 *, struct qcow2_snapshot *, struct qcow2_need *);

static phase_fn *const create_phases[] = {
    phase_quiet,       phase_load,        phase_sync,      phase_active_tree,
    phase_room,        phase_raise,       phase_l1_shared, snapshot_write_l1,
    phase_build_table, phase_write_table, phase_sync,      phase_header_table,
    phase_sync,        phase_free_table,  phase_sync,      NULL};
static phase_fn *const apply_phases[] = {phase_quiet,
                                         phase_load,
                                         phase_sync,
                                         phase_snapshot_tree,
                                         phase_room,
                                         phase_raise,
                                         phase_size_l1,
                                         snapshot_write_l1,
                                         phase_sync,
                                         phase_header_l1,
                                         phase_sync,
                                         phase_free_tree,
                                         phase_free_table,
                                         phase_sync_all,
                                         snapshot_set_copied,
                                         phase_sync,
                                         NULL};
static phase_fn *const delete_phases[] = {phase_quiet,        phase_load,
                                          phase_sync,         phase_build_table,
                                          phase_write_table,  phase_sync,
                                          phase_header_table, phase_sync,
                                          phase_free_table,   read_l1,
                                          phase_free_tree,    phase_free_l1,
                                          phase_sync_all,     snapshot_set_copied,
                                          phase_sync,         NULL};
static phase_fn *const resize_begin_phases[] = {
    phase_quiet,   phase_sync, resize_larger_l1, resize_write_l1, phase_sync,
    resize_header, phase_sync, phase_free_table, phase_sync_all,  resize_open,
    NULL};
static phase_fn *const resize_phases[] = {
    phase_quiet,   phase_sync, resize_larger_l1, resize_write_l1, phase_sync,
    resize_header, phase_sync, phase_free_table, phase_sync_all,  NULL};
static phase_fn *const undo_phases[] = {snapshot_undo_raised, snapshot_undo_runs,
                                        undo_sync, undo_copied, NULL};

static void snapshot_end(struct qcow2 *q, struct qcow2_snapshot *s)
{
    ticket_end(q, &s->t);
    if (q->gate == &s->t) {
        q->gate = NULL;
        wake_push(q, &q->gate, &q->gate_awaited);
    }
    free(s->buf);
    s->buf = NULL;
    s->tables_left = 0;
}

void qcow2_snapshot_cancel(struct qcow2 *q, struct qcow2_snapshot *s)
{
    snapshot_end(q, s);
}

static void take_back(struct qcow2 *q, struct qcow2_snapshot *s, int err)
{
    ticket_end(q, &s->t); /* the gate stays shut */
    s->failed = err;
    s->phase = 0;
    s->i = s->k = s->e = s->new_clusters = 0;
    s->walk_again = false;
    if (s->op == QCOW2_SNAPSHOT_CREATE && snapshot_has_raised(s) &&
        phase_active_tree(q, s, NULL))
        s->raised.i = s->raised.k = s->raised.e = 0; /* no memory: they stay */
}

/* What is left to do once the header leads to what was made only frees what it led to
 * before: that is tried again. */
static void once_more(struct qcow2 *q, struct qcow2_snapshot *s, int err)
{
    ticket_end(q, &s->t);
    s->late = err;
    s->again = true;
    s->walk_again = false;
    if (!s->reads)
        return;
    free(s->buf);
    s->buf = NULL;
}

void qcow2_snapshot_failed(struct qcow2 *q, struct qcow2_snapshot *s, int err)
{
    if (writable(q) || s->failed || s->again) { /* it has no use, or failed too */
        s->over = true;
        s->failed = s->failed ? s->failed : err;
    } else if (s->linked) {
        once_more(q, s, err);
    } else {
        take_back(q, s, err);
    }
}

/* 0: to the end, or walk_again: one table of many. */
static int run_phases(struct qcow2 *q, struct qcow2_snapshot *s,
                      struct qcow2_need *need)
{
    static phase_fn *const *const phases[] = {
        create_phases, apply_phases, delete_phases, resize_begin_phases, resize_phases};
    phase_fn *const *phase = s->failed ? undo_phases : phases[s->op];
    int ret = 0;

    while (!ret && phase[s->phase]) {
        if (s->t.step == STEP_SYNC)
            ret = owe_sync(q, &s->t, need);
        if (!ret)
            ret = phase[s->phase](q, s, need);
        if (ret == -EBUSY) {
            ret = owe_sync(q, &s->t, need);
            continue;
        }
        if (s->walk_again)
            return 0;
        s->phase += !ret;
    }
    return ret;
}

int qcow2_snapshot_step(struct qcow2 *q, struct qcow2_snapshot *s,
                        struct qcow2_need *need)
{
    int ret = s->over ? s->failed : writable(q);

    s->tables_left = 1;
    if (!ret)
        ret = run_phases(q, s, need);
    while (ret < 0 && !s->over) {
        qcow2_snapshot_failed(q, s, ret);
        ret = s->over ? s->failed : run_phases(q, s, need);
    }
    if (ret > 0 || (!ret && s->walk_again)) {
        s->walk_again = false;
        return ret;
    }
    if (s->op < QCOW2_RESIZE_BEGIN)
        stat_add(&q->stats.snapshots);
    snapshot_end(q, s);
    return s->failed ? s->failed : ret ? ret : s->late;
}
