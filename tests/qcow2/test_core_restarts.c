/*
 * Injected restarts: the core needs at random where it need not: a wait that is over at
 * once, a slice that has to be loaded again, a sync. Whatever needs has changed
 * nothing: where guest bytes are is the same as before the call, and so is every table,
 * but for a step of preparation that was finished (a new table linked, a free that is
 * due), which the counters tell. The guest sees what it must, and the image is clean at
 * the end. ASYNCOW_SEED repeats a run; arguments: [rounds [config]].
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/qcow2/internal.h"
#include "tests/qcow2/guest.h"

struct prints { /* of the metadata, before a verb */
    uint64_t mapping, tables, prepared;
};
static struct {
    struct world *w; /* NULL: nothing is injected */
    uint64_t rng, injected, needs, quiet, odds;
    struct prints before;
    bool applying;
} now;

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

bool qcow2_inject(void)
{
    if (!now.w || mix(now.rng += 0x9e3779b97f4a7c15ull) % now.odds)
        return false;
    now.injected++;
    return true;
}

/* ---- what the metadata is ---- */

static uint64_t hash_bytes(uint64_t h, const void *p, uint64_t len)
{
    for (uint64_t i = 0; i + 8 <= len; i += 8) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)p + i, 8);
        h = (h ^ word) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 31;
    }
    return h;
}

/* A slice as the core has it, or as the file has it where the core has none. */
static const uint8_t *slice_at(const struct world *w, uint64_t offset)
{
    static const uint8_t zeros[SLICE_MAX];
    const struct qcow2_slice *s = cache_find(w->q, offset);

    if (s && s->state == SLICE_VALID)
        return s->buf;
    return offset + w->q->slice_size <= w->cap ? w->file + offset : zeros;
}

/* Where guest bytes are. No table is as good as one of zeros. */
static uint64_t hash_mapping(const struct world *w)
{
    const struct qcow2 *q = w->q;
    uint64_t h = 0;

    for (uint64_t guest = 0; guest < q->header.size; guest += q->cluster) {
        uint64_t offset, entry = 0;
        if (l2_slice_offset(q, guest, &offset))
            abort();
        if (offset)
            entry = qcow2_be64(slice_at(w, offset) + 8 * l2_index(q, guest));
        if (!(entry & QCOW2_COMPRESSED_FLAG))
            entry &= ~QCOW2_COPIED; /* a snapshot takes it away */
        h = hash_bytes(h, &entry, 8);
    }
    return h;
}

/* All of it: the tables that are resident, the blocks and tables they point at. */
static uint64_t hash_tables(const struct world *w)
{
    const struct qcow2 *q = w->q;
    uint64_t h = hash_bytes(q->l1.offset ^ q->reftable.offset, q->header_buf, 104);

    h = hash_bytes(h, q->l1.entry, 8 * q->l1.entries);
    h = hash_bytes(h, q->reftable.entry, 8 * q->reftable.entries);
    for (uint64_t i = 0; i < q->l1.entries + q->reftable.entries; i++) {
        uint64_t entry =
            i < q->l1.entries ? q->l1.entry[i] : q->reftable.entry[i - q->l1.entries];
        uint64_t offset = be64toh(entry) & QCOW2_OFFSET_MASK;
        for (uint64_t k = 0; offset && k < q->cluster; k += q->slice_size)
            h = hash_bytes(h, slice_at(w, offset + k), q->slice_size);
    }
    return h;
}

/* What counts the steps of preparation, and the frees that fall due in a sync. */
static uint64_t prepared(const struct qcow2 *q)
{
    const struct qcow2_stats *s = &q->stats;
    const struct limbo *l = &q->limbo[q->limbo_head];

    return mix(s->new_l2 + s->l2_copies + s->new_refblocks + s->table_moves) +
           mix(q->limbo_head + 1) + mix(q->limbo_len ? l->first * 31 + l->count : 0);
}

static void verb(struct world *w, int verdict)
{
    struct prints p = {hash_mapping(w), hash_tables(w), prepared(w->q)};

    if (!verdict) {
        now.before = p;
        return;
    }
    now.needs++;
    if (p.mapping != now.before.mapping) {
        fprintf(stderr, "a verb that needs has changed where guest bytes are\n");
        abort();
    }
    /* A snapshot is nothing but preparation, up to its header. */
    if (w->q->gate || p.prepared != now.before.prepared)
        return;
    now.quiet++;
    if (p.tables != now.before.tables) {
        fprintf(stderr, "a verb that needs has changed the metadata\n");
        abort();
    }
}

/* ---- the workload ---- */

static void with_snapshots(struct task *t)
{
    if (t != t->w->tasks) {
        guest_work(t);
        return;
    }
    for (int i = 0; i < 2; i++) {
        int ret = guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, "s");
        if (ret && ret != -ERANGE)
            abort();
        if (!ret && guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, "s"))
            abort();
    }
}

static void round_of(const struct config *c, uint64_t seed)
{
    struct guest g;
    struct world w;
    struct expect e = {.model = &g.m, .no_leaks = !c->full};
    bool snapshots = seed % 2 && !strstr(c->options, "refcount_bits=1");

    guest_init(&g, c, &w, seed);
    g.ops = 30;
    struct inspect *in = inspect_new(w.backing, w.backing_size);
    guest_run(&g, &w, guest_open, 1);
    w.verify = false;
    w.verb = verb;
    now.w = &w;
    now.rng = seed;
    now.odds = 3 + seed % 9;
    guest_run(&g, &w, snapshots ? with_snapshots : guest_work, 5);
    guest_run(&g, &w, guest_close, 1);
    now.w = NULL;
    inspect_set(in, w.file, w.size);
    if (!inspect_look(in, &e))
        abort();
    inspect_free(in);
    guest_free(&g, &w);
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    int rounds = argc > 1 ? atoi(argv[1]) : 20;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    for (int r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < nsmall; i++) {
            if (argc > 2 && strcmp(argv[2], small_configs[i].name))
                continue;
            if (getenv("ASYNCOW_VERBOSE"))
                printf("%s round %d\n", small_configs[i].name, r);
            round_of(&small_configs[i], seed + (uint64_t)r * 977 + i);
        }
    }
    guest_done();
    printf("%" PRIu64 " times injected, %" PRIu64 " needs looked at, %" PRIu64
           " of them without any preparation\n",
           now.injected, now.needs, now.quiet);
    return now.injected && now.quiet ? 0 : 1;
}
