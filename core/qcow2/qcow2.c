/*
 * Opening, loading and freeing an image; outcomes of I/O; the wake list.
 */
#include "core/qcow2/internal.h"

#include <stdlib.h>

enum { LIMBO_ENTRIES = 4096 };

int writable(const struct qcow2 *q)
{
    if (!q->opt.write)
        return -EROFS;
    return q->poisoned || q->corrupt ? -EIO : 0;
}

uint64_t qcow2_size(const struct qcow2 *q) { return q->header.size; }
uint64_t qcow2_cluster_size(const struct qcow2 *q) { return q->cluster; }
const struct qcow2_stats *qcow2_stats(const struct qcow2 *q) { return &q->stats; }
bool qcow2_poisoned(const struct qcow2 *q) { return q->poisoned; }

struct qcow2_complaint qcow2_complaint(const struct qcow2 *q) { return q->complaint; }
uint64_t qcow2_file_end(const struct qcow2 *q) { return q->end; }
enum qcow2_compression qcow2_compression(const struct qcow2 *q)
{
    return q->header.compression;
}

void wake_push(struct qcow2 *q, qcow2_chan chan, bool *awaited)
{
    if (!*awaited)
        return;
    *awaited = false;
    assert(q->wake_len < q->wake_cap);
    q->wake[(q->wake_head + q->wake_len++) % q->wake_cap] = chan;
}

qcow2_chan qcow2_wake(struct qcow2 *q)
{
    if (atomic_load_explicit(&q->grace_awaited, memory_order_relaxed) &&
        !atomic_load(&q->readers[(q->generation + 1) & 1])) {
        atomic_store(&q->grace_awaited, false);
        return &q->grace_awaited;
    }
    if (!q->wake_len)
        return NULL;
    qcow2_chan chan = q->wake[q->wake_head];
    q->wake_head = (q->wake_head + 1) % q->wake_cap;
    q->wake_len--;
    return chan;
}

static int alloc_state(struct qcow2 *q)
{
    int ret = cache_open(q);
    if (ret)
        return ret;
    q->header_buf = calloc(1, SLICE_MAX);
    q->limbo_cap = LIMBO_ENTRIES;
    q->limbo = q->opt.write ? calloc(q->limbo_cap, sizeof(*q->limbo)) : NULL;
    q->wake_cap = q->nslots + q->opt.inflight + 16;
    q->wake = calloc(q->wake_cap, sizeof(*q->wake));
    if (!q->header_buf || !q->wake || (q->opt.write && !q->limbo))
        return -ENOMEM;
    ret = table_init(q, &q->l1, SLICE_L1, q->header.l1_offset, q->header.l1_size);
    if (ret)
        return ret;
    return table_init(q, &q->reftable, SLICE_REFTABLE, q->header.reftable_offset,
                      ((uint64_t)q->header.reftable_clusters << q->cluster_bits) / 8);
}

int qcow2_open(struct qcow2 **out, const struct qcow2_header *h,
               const void *header_cluster, const struct qcow2_options *opt,
               struct error *err)
{
    *out = NULL;
    if (opt->write && (h->incompat & QCOW2_INCOMPAT_CORRUPT))
        return error_set(err, -EROFS,
                         "incompatible_features: the image is marked corrupt; "
                         "repair it first (check -r all) or open it to read");
    if (opt->write && (h->incompat & QCOW2_INCOMPAT_DIRTY))
        return error_set(
            err, -EROFS,
            "incompatible_features: the image is dirty; its refcounts must "
            "be repaired (check -r all) before it is written");
    struct qcow2 *q = calloc(1, sizeof(*q));
    if (!q)
        return error_set(err, -ENOMEM, "out of memory");
    q->header = *h;
    q->opt = *opt;
    q->cluster_bits = h->cluster_bits;
    q->cluster = 1ull << h->cluster_bits;
    q->slice_size = min64(q->cluster, SLICE_MAX);
    q->slice_bits = (unsigned)__builtin_ctzll(q->slice_size);
    q->l2_bits = h->cluster_bits - 3;
    q->order = h->refcount_order;
    q->ref_bits = h->cluster_bits + 3 - h->refcount_order;
    q->backing = h->has_backing && !opt->no_backing;
    q->virgin = round_up(opt->file_size, q->cluster);
    q->end = q->virgin;
    q->grown = opt->file_size;
    q->grow_off = !opt->grow || !opt->regular;
    q->size_on_disk = h->size;
    q->cut = UINT64_MAX;
    q->epoch = 1;
    for (int i = 0; i < STAGES; i++) {
        TAILQ_INIT(&q->dirty[i]);
        TAILQ_INIT(&q->closing[i]);
    }
    int ret = alloc_state(q);
    if (ret) {
        qcow2_free(q);
        return error_set(err, ret, "out of memory for tables and cache");
    }
    memcpy(q->header_buf, header_cluster, q->slice_size);
    q->header_slice = (struct qcow2_slice){.buf = q->header_buf,
                                           .kind = SLICE_HEADER,
                                           .state = SLICE_VALID,
                                           .resident = true};
    *out = q;
    return 0;
}

/* Every table has its clusters to itself, or two requests that the in-flight list holds
 * for strangers would change the same entries. */
static int load_metaset(struct qcow2 *q, const struct table *t, uint64_t mask,
                        const char *name, struct error *err)
{
    for (uint64_t i = 0; i < t->entries; i++) {
        uint64_t offset = be64toh(t->entry[i]) & mask;
        if (!offset || (offset & (q->cluster - 1)) || offset >= QCOW2_MAX_HOST_OFFSET)
            continue; /* a bad one is found when it is used */
        if (overlaps_metadata(q, offset, q->cluster))
            return error_set(err, -EINVAL,
                             "%s entry %llu: cluster 0x%llx holds other metadata too; "
                             "repair the image (check -r all) before writing to it",
                             name, (unsigned long long)i, (unsigned long long)offset);
        if (metaset_room(q, 1))
            return error_set(err, -ENOMEM, "out of memory for the set of tables");
        metaset_add(q, offset);
    }
    return 0;
}

/* Header, L1, refcount table and snapshot table have theirs to themselves, too. (Of the
 * snapshot table only the first cluster is known yet.) */
static int check_fixed(const struct qcow2 *q, struct error *err)
{
    const struct qcow2_header *h = &q->header;
    const struct {
        const char *name;
        uint64_t offset, len;
    } fixed[] = {
        {"header", 0, q->cluster},
        {"l1_table_offset", q->l1.offset, q->l1.entries * 8},
        {"refcount_table_offset", q->reftable.offset, q->reftable.entries * 8},
        {"snapshots_offset", h->snapshots_offset, h->nb_snapshots ? q->cluster : 0}};

    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < i; k++)
            if (fixed[i].len && fixed[k].len &&
                fixed[i].offset <
                    fixed[k].offset + round_up(fixed[k].len, q->cluster) &&
                fixed[k].offset < fixed[i].offset + round_up(fixed[i].len, q->cluster))
                return error_set(
                    err, -EINVAL,
                    "%s: 0x%llx (0x%llx bytes) is in the clusters of %s, at "
                    "0x%llx; the image cannot be written to",
                    fixed[i].name, (unsigned long long)fixed[i].offset,
                    (unsigned long long)fixed[i].len, fixed[k].name,
                    (unsigned long long)fixed[k].offset);
    return 0;
}

static int need_table(const struct qcow2 *q, const struct table *t,
                      struct qcow2_need *need)
{
    need->io = (struct qcow2_io){.op = QCOW2_READ,
                                 .offset = t->offset,
                                 .len = (uint64_t)t->nslices << q->slice_bits,
                                 .buf = t->entry};
    return QCOW2_NEED_IO;
}

int qcow2_load(struct qcow2 *q, struct qcow2_ticket *t, struct qcow2_need *need,
               struct error *err)
{
    (void)t;
    switch (q->load_step++) {
    case 0:
        if (q->l1.nslices)
            return need_table(q, &q->l1, need);
        q->load_step++;
        /* fallthrough */
    case 1:
        if (q->opt.write && q->reftable.nslices)
            return need_table(q, &q->reftable, need);
        /* fallthrough */
    default:
        break;
    }
    if (!q->opt.write)
        return 0;
    int ret = check_fixed(q, err);
    if (!ret)
        ret = load_metaset(q, &q->l1, QCOW2_OFFSET_MASK, "L1 table", err);
    if (ret)
        return ret;
    return load_metaset(q, &q->reftable, ~0ull, "refcount table", err);
}

int qcow2_io_done(struct qcow2 *q, const struct qcow2_io *io, int err)
{
    struct qcow2_slice *s = io->slice;

    switch (io->op) {
    case QCOW2_READ:
        if (!s) { /* a table, at open or for a snapshot */
            if (err && io->buf == q->snapshot_table)
                snapshots_free(q);
            return err;
        }
        if (err || s->state == SLICE_STALE)
            slice_forget(q, s);
        else
            s->state = SLICE_VALID;
        wake_push(q, s, &s->awaited);
        return err;
    case QCOW2_FLUSH:
        return sync_io_done(q, io, err);
    case QCOW2_PUNCH:
        limbo_io_done(q);
        return 0;
    case QCOW2_WRITE:
        if (s)
            return sync_io_done(q, io, err);
        if (q->mk_ref.issued && io->buf == q->mk_ref.buf)
            return alloc_io_done(q, io, err);
        return err; /* of a snapshot: nothing points at it yet */
    default:
        return alloc_io_done(q, io, err);
    }
}

void qcow2_free(struct qcow2 *q)
{
    if (!q)
        return;
    assert(!q->ninflight);
    assert(!q->leader);
    table_free(&q->l1);
    table_free(&q->reftable);
    cache_free(q);
    snapshots_free(q);
    free(q->mk_ref.buf);
    free(q->header_buf);
    free(q->metaset);
    free(q->limbo);
    free(q->wake);
    free(q);
}
