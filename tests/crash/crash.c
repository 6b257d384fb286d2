/* The cache of the disk, and the images that it may leave: crash.h. */
#include "tests/crash/crash.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPS_MAX = 64 }; /* told apart at a point: bits of a mask */

struct op {
    enum crash_op kind;
    unsigned id;
    uint64_t first, n; /* sectors; 0 of GROW and CUT */
    uint64_t end;      /* bytes: how long it makes the file */
    uint8_t *data;
    uint64_t *hash; /* of each sector's contents there */
    bool *dead;     /* sectors that a later one has covered for good; NULL: none */
    bool done, fresh;
};
struct version {
    uint64_t sector, hash;
    unsigned op;
    const uint8_t *data; /* NULL: zeros */
};
struct cell { /* a sector that may be one of several things */
    uint64_t sector, base_hash, ops;
    const struct version *v;
    unsigned want, is; /* 0: base, i: v[i - 1] */
};
struct seen { /* a set of hashes; 0 is never in it */
    uint64_t *slot, count;
    unsigned bits;
};
struct crash_flush {
    unsigned *id, n;
};
struct crash {
    struct inspect *in;
    struct crash_options o;
    struct crash_tally *tally;
    uint64_t rng;
    uint8_t *base; /* for good */
    uint64_t size, cap, hash;
    struct op *op;
    unsigned n, op_cap, ids;
    uint64_t looks;
    bool again; /* more is expected of all images there can be */
    uint64_t promise, flushes;
    struct seen looked; /* at what, when so much was promised */

    struct version *version; /* at this point */
    struct cell *cell;
    unsigned versions, cells, version_cap;
    unsigned always; /* ops before this one are all there */
    uint64_t want_size;
};
static struct seen images; /* of all disks there were */

/* ---- hashes ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static uint64_t random_below(struct crash *c, uint64_t below)
{
    return mix(c->rng += 0x9e3779b97f4a7c15ull) % below;
}

/* Zeros are 0, wherever they are: so is what lies beyond the end. */
static uint64_t hash_of(uint64_t sector, const uint8_t *data)
{
    uint64_t h = 0, all = 0, word;

    if (!data)
        return 0;
    for (unsigned i = 0; i < SECTOR; i += 8) {
        memcpy(&word, data + i, 8);
        all |= word;
        h = (h ^ word) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    return all ? mix(h + sector * 0xd6e8feb86659fd93ull) : 0;
}

static bool seen_add(struct seen *s, uint64_t hash)
{
    if (2 * s->count >= (s->slot ? 1ull << s->bits : 0)) {
        struct seen old = *s;
        s->bits = old.slot ? old.bits + 1 : 10;
        s->slot = calloc(1ull << s->bits, sizeof(*s->slot));
        assert(s->slot);
        s->count = 0;
        for (uint64_t i = 0; old.slot && i < 1ull << old.bits; i++)
            if (old.slot[i])
                seen_add(s, old.slot[i]);
        free(old.slot);
    }
    hash += !hash;
    uint64_t mask = (1ull << s->bits) - 1, i = hash & mask;
    while (s->slot[i] && s->slot[i] != hash)
        i = (i + 1) & mask;
    if (s->slot[i])
        return false;
    s->slot[i] = hash;
    s->count++;
    return true;
}

/* ---- the disk ---- */

static void reach(struct crash *c, uint64_t end)
{
    if (end <= c->cap)
        return;
    uint64_t cap = (end * 2 + SECTOR - 1) / SECTOR * SECTOR;
    c->base = realloc(c->base, cap);
    assert(c->base);
    memset(c->base + c->cap, 0, cap - c->cap);
    c->cap = cap;
}

struct crash *crash_new(struct inspect *in, const uint8_t *file, uint64_t size,
                        const struct crash_options *o, struct crash_tally *tally)
{
    struct crash *c = calloc(1, sizeof(*c));

    assert(c);
    *c =
        (struct crash){.in = in, .o = *o, .tally = tally, .rng = o->seed, .size = size};
    reach(c, size);
    memcpy(c->base, file, size);
    for (uint64_t s = 0; s * SECTOR < size; s++)
        c->hash ^= hash_of(s, c->base + s * SECTOR);
    inspect_set(in, file, size);
    c->again = true;
    return c;
}

static void op_free(struct op *o)
{
    free(o->data);
    free(o->hash);
    free(o->dead);
}

void crash_free(struct crash *c)
{
    for (unsigned i = 0; i < c->n; i++)
        op_free(&c->op[i]);
    free(c->op);
    free(c->base);
    free(c->version);
    free(c->cell);
    free(c->looked.slot);
    free(c);
}

unsigned crash_begin(struct crash *c, enum crash_op kind, uint64_t offset, uint64_t len,
                     const uint8_t *data)
{
    if (c->n == c->op_cap) {
        c->op_cap = c->op_cap ? 2 * c->op_cap : 64;
        c->op = realloc(c->op, c->op_cap * sizeof(*c->op));
        assert(c->op);
    }
    struct op *o = &c->op[c->n++];
    *o = (struct op){.kind = kind, .id = ++c->ids, .fresh = true};
    o->end = kind == CRASH_PUNCH ? 0 : offset + len;
    if (kind == CRASH_GROW || kind == CRASH_CUT)
        return o->id;
    assert(offset % SECTOR == 0 && len % SECTOR == 0);
    o->first = offset / SECTOR;
    o->n = len / SECTOR;
    o->hash = calloc(o->n + 1, sizeof(*o->hash));
    assert(o->hash);
    if (kind == CRASH_WRITE) {
        o->data = malloc(len);
        assert(o->data);
        memcpy(o->data, data, len);
        for (uint64_t i = 0; i < o->n; i++)
            o->hash[i] = hash_of(o->first + i, data + i * SECTOR);
    }
    return o->id;
}

void crash_done(struct crash *c, unsigned id)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->op[i].id == id)
            c->op[i].done = true;
}

struct crash_flush *crash_flush(struct crash *c)
{
    struct crash_flush *f = malloc(sizeof(*f));

    assert(f);
    *f = (struct crash_flush){.id = malloc((c->n + 1) * sizeof(*f->id))};
    assert(f->id);
    for (unsigned i = 0; i < c->n; i++)
        if (c->op[i].done)
            f->id[f->n++] = c->op[i].id;
    return f;
}

static bool covers(const struct crash_flush *f, unsigned id)
{
    for (unsigned i = 0; i < f->n; i++)
        if (f->id[i] == id)
            return true;
    return false;
}

/* The image in memory, which is the base between two points, follows it. */
static void follow(struct crash *c, uint64_t at, uint64_t len)
{
    uint64_t size = inspect_size(c->in);

    if (at < size)
        memcpy(inspect_bytes(c->in) + at, c->base + at,
               size - at < len ? size - at : len);
}

/* o is there for good: what came before it on the same sectors is not. */
static void settle(struct crash *c, const struct op *o, const struct op *stop)
{
    for (uint64_t i = 0; i < o->n; i++) {
        uint64_t s = o->first + i;
        if (o->dead && o->dead[i])
            continue;
        for (struct op *e = c->op; e < stop; e++) {
            if (s - e->first >= e->n)
                continue;
            if (!e->dead)
                e->dead = calloc(e->n, sizeof(*e->dead));
            assert(e->dead);
            e->dead[s - e->first] = true;
        }
        reach(c, (s + 1) * SECTOR);
        c->hash ^= hash_of(s, c->base + s * SECTOR) ^ o->hash[i];
        if (o->data)
            memcpy(c->base + s * SECTOR, o->data + i * SECTOR, SECTOR);
        else
            memset(c->base + s * SECTOR, 0, SECTOR);
        follow(c, s * SECTOR, SECTOR);
    }
    if (o->kind != CRASH_CUT && o->end <= c->size)
        return;
    uint64_t was = c->size;
    c->size = o->end;
    reach(c, c->size);
    inspect_resize(c->in, c->size);
    if (c->size > was)
        follow(c, was, c->size - was);
}

void crash_flushed(struct crash *c, struct crash_flush *f, bool ok)
{
    unsigned kept = 0;

    for (unsigned i = 0; ok && i < c->n; i++) {
        struct op o = c->op[i];
        if (covers(f, o.id)) {
            settle(c, &o, c->op + kept);
            op_free(&o);
            c->again = true;
        } else {
            c->op[kept++] = o;
        }
    }
    if (ok)
        c->n = kept;
    free(f->id);
    free(f);
}

void crash_promised(struct crash *c)
{
    c->promise++;
    c->again = true;
}

/* ---- one image ---- */

static uint64_t image_hash(const struct crash *c)
{
    uint64_t h = c->hash ^ mix(c->want_size);

    for (unsigned i = 0; i < c->cells; i++) {
        const struct cell *e = &c->cell[i];
        if (e->want)
            h ^= e->base_hash ^ e->v[e->want - 1].hash;
    }
    return h;
}

static void put_sector(struct crash *c, const struct cell *e, unsigned v)
{
    uint64_t at = e->sector * SECTOR, size = inspect_size(c->in);
    uint64_t n = at >= size ? 0 : size - at < SECTOR ? size - at : SECTOR;
    const uint8_t *from = v ? e->v[v - 1].data : c->base + at;

    if (from)
        memcpy(inspect_bytes(c->in) + at, from, n);
    else
        memset(inspect_bytes(c->in) + at, 0, n);
}

static void build(struct crash *c)
{
    uint64_t was = inspect_size(c->in);

    inspect_resize(c->in, c->want_size);
    if (c->want_size > was && was < c->size)
        memcpy(inspect_bytes(c->in) + was, c->base + was,
               (c->want_size < c->size ? c->want_size : c->size) - was);
    for (unsigned i = 0; i < c->cells; i++) {
        struct cell *e = &c->cell[i];
        if (e->want == e->is && (e->sector + 1) * SECTOR <= was)
            continue;
        put_sector(c, e, e->want);
        e->is = e->want;
    }
}

_Noreturn static void fail(struct crash *c)
{
    fprintf(stderr,
            "crash point %" PRIu64 ", after %" PRIu64
            " looks: of these on top of what was flushed:\n",
            c->tally->points, c->tally->looks);
    for (unsigned i = 0; i < c->n; i++) {
        static const char *const names[] = {"write", "zero", "punch", "grow", "cut"};
        const struct op *o = &c->op[i];
        unsigned there = 0, of = 0;
        for (unsigned k = 0; k < c->cells; k++)
            for (unsigned v = 0; i >= c->always && c->cell[k].v[v].op <= i &&
                                 c->cell[k].v + v < c->version + c->versions &&
                                 c->cell[k].v[v].sector == c->cell[k].sector;
                 v++)
                if (c->cell[k].v[v].op == i) {
                    of++;
                    there += c->cell[k].want == v + 1;
                }
        fprintf(stderr,
                "  %s 0x%" PRIx64 "+0x%" PRIx64 " to 0x%" PRIx64
                "%s: %u of %u sectors\n",
                names[o->kind], o->first * SECTOR, o->n * SECTOR, o->end,
                o->done ? "" : " in flight", there, of);
    }
    inspect_save(c->in, "broken.qcow2");
    abort();
}

static void look(struct crash *c, const struct expect *e)
{
    uint64_t hash = image_hash(c);
    bool fresh = seen_add(&images, hash);

    c->tally->images += fresh;
    if (!seen_add(&c->looked, hash ^ mix(c->promise)))
        return;
    build(c);
    c->tally->looks++;
    c->looks++;
    if (!inspect_look(c->in, e))
        fail(c);
    if (c->o.qemu_every && c->tally->looks % c->o.qemu_every == 0) {
        c->tally->asked++;
        if (!inspect_ask_qemu(c->in))
            fail(c);
    }
}

/* ---- all images of a point ---- */

static int by_sector(const void *a, const void *b)
{
    const struct version *x = a, *y = b;

    if (x->sector != y->sector)
        return x->sector < y->sector ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static void add_versions(struct crash *c, unsigned op)
{
    const struct op *o = &c->op[op];

    if (c->versions + o->n > c->version_cap) {
        c->version_cap = 2 * (c->versions + (unsigned)o->n);
        c->version = realloc(c->version, c->version_cap * sizeof(*c->version));
        c->cell = realloc(c->cell, c->version_cap * sizeof(*c->cell));
        assert(c->version && c->cell);
    }
    for (uint64_t i = 0; i < o->n; i++)
        if (!o->dead || !o->dead[i])
            c->version[c->versions++] =
                (struct version){.sector = o->first + i,
                                 .hash = o->hash[i],
                                 .op = op,
                                 .data = o->data ? o->data + i * SECTOR : NULL};
}

/* The sectors that may be this or that. What too many operations ago is taken as done. */
static void make_cells(struct crash *c)
{
    c->versions = c->cells = 0;
    c->always = c->n > OPS_MAX ? c->n - OPS_MAX : 0;
    for (unsigned i = 0; i < c->n; i++)
        add_versions(c, i);
    if (c->versions)
        qsort(c->version, c->versions, sizeof(*c->version), by_sector);
    for (unsigned i = 0; i < c->versions; i++) {
        const struct version *v = &c->version[i];
        struct cell *e = c->cells ? &c->cell[c->cells - 1] : NULL;
        if (!e || e->sector != v->sector) {
            reach(c, (v->sector + 1) * SECTOR);
            e = &c->cell[c->cells++];
            *e = (struct cell){.sector = v->sector, .v = v};
            e->base_hash = hash_of(v->sector, c->base + v->sector * SECTOR);
        }
        if (v->op >= c->always)
            e->ops |= 1ull << (v->op - c->always);
    }
}

/* Of the operations in mask, and those before them, the last one that wrote the cell. */
static unsigned last_version(const struct crash *c, const struct cell *e, uint64_t mask)
{
    unsigned old = 0;

    while (e->v + old < c->version + c->versions && e->v[old].sector == e->sector &&
           e->v[old].op < c->always)
        old++;
    if (!(e->ops & mask))
        return old;
    unsigned top = 63 - (unsigned)__builtin_clzll(e->ops & mask);
    return old + 1 + (unsigned)__builtin_popcountll(e->ops & ((1ull << top) - 1));
}

static void want(struct crash *c, uint64_t mask)
{
    for (unsigned i = 0; i < c->cells; i++)
        c->cell[i].want = last_version(c, &c->cell[i], mask);
    c->want_size = c->size;
    for (unsigned i = 0; i < c->n; i++) {
        const struct op *o = &c->op[i];
        bool there = i < c->always || mask >> (i - c->always) & 1;
        if (there && (o->kind == CRASH_CUT || o->end > c->want_size))
            c->want_size = o->end;
    }
}

/* Of one operation in mask only some sectors. */
static void tear(struct crash *c, uint64_t mask, unsigned op)
{
    const struct op *o = &c->op[c->always + op];
    uint64_t without = mask & ~(1ull << op), last = 0;
    unsigned how = (unsigned)random_below(c, 3);
    uint64_t cut = 1 + random_below(c, o->n > 1 ? o->n - 1 : 1);

    want(c, without);
    for (unsigned i = 0; i < c->cells; i++) {
        struct cell *e = &c->cell[i];
        uint64_t k = e->sector - o->first;
        if (!(e->ops & 1ull << op))
            continue;
        if (how == 0 ? k < cut : how == 1 ? k >= cut : random_below(c, 2) == 0) {
            e->want = last_version(c, e, mask);
            last = (e->sector + 1) * SECTOR;
        }
    }
    if (o->kind != CRASH_PUNCH && last > c->want_size)
        c->want_size = last;
}

static uint64_t random_mask(struct crash *c, unsigned m)
{
    uint64_t mask = 0, likely = 1 + random_below(c, 7);

    for (unsigned i = 0; i < m; i++)
        mask |= (uint64_t)(random_below(c, 8) < likely) << i;
    return mask;
}

static void every_subset(struct crash *c, unsigned m, uint64_t fresh,
                         const struct expect *e)
{
    c->tally->exhausted++;
    if (m > c->tally->most)
        c->tally->most = m;
    for (uint64_t mask = 0; mask < 1ull << m; mask++) {
        if (!c->again && !(mask & fresh))
            continue;
        want(c, mask);
        look(c, e);
    }
}

/* Too many: all but one, one alone, all up to one, all from one on; and by chance. */
static void some_subsets(struct crash *c, unsigned m, const struct expect *e)
{
    uint64_t all = m < 64 ? (1ull << m) - 1 : ~0ull;

    c->tally->sampled++;
    for (unsigned i = 0; i < m; i++) {
        uint64_t bit = 1ull << i;
        uint64_t some[] = {all & ~bit, bit, bit - 1, all & ~(bit - 1)};
        for (unsigned k = 0; k < 4; k++) {
            want(c, some[k]);
            look(c, e);
        }
    }
    for (unsigned i = 0; i < c->o.samples; i++) {
        want(c, random_mask(c, m));
        look(c, e);
    }
}

static void torn_ones(struct crash *c, unsigned m, uint64_t fresh,
                      const struct expect *e)
{
    uint64_t before = c->tally->images;

    for (unsigned op = 0; op < m; op++) {
        if (c->op[c->always + op].n < 2 || !(fresh & 1ull << op))
            continue;
        for (unsigned i = 0; i < c->o.samples / 2; i++) {
            tear(c, random_mask(c, m) | 1ull << op, op);
            look(c, e);
        }
    }
    c->tally->torn += c->tally->images - before;
}

void crash_point(struct crash *c, const struct expect *e)
{
    uint64_t fresh = 0, mended = inspect_mended(c->in);

    if (c->o.budget && c->looks >= c->o.budget)
        return;
    if (e->model && e->model->flushes != c->flushes) {
        c->flushes = e->model->flushes;
        crash_promised(c);
    }
    make_cells(c);
    unsigned m = c->n - c->always;
    for (unsigned i = 0; i < m; i++)
        fresh |= (uint64_t)c->op[c->always + i].fresh << i;
    if (!fresh && !c->again)
        return;
    c->tally->points++;
    if (m <= c->o.exhaust && !c->always)
        every_subset(c, m, fresh, e);
    else
        some_subsets(c, m, e);
    torn_ones(c, m, fresh, e);
    want(c, 0); /* the base again, but for what is taken as done */
    for (unsigned i = 0; i < c->cells; i++)
        c->cell[i].want = 0;
    c->want_size = c->size;
    build(c);
    for (unsigned i = 0; i < c->n; i++)
        c->op[i].fresh = false;
    c->again = false;
    c->tally->mended += inspect_mended(c->in) - mended;
}

void crash_tell(const struct crash_tally *t, const char *who)
{
    printf("%s: %" PRIu64 " different crash images (%" PRIu64 " torn), %" PRIu64
           " looks, at %" PRIu64 " points: of %" PRIu64
           " every subset of up to %u operations, of %" PRIu64 " a sample; %" PRIu64
           " mended, %" PRIu64 " shown to QEMU\n",
           who, t->images, t->torn, t->looks, t->points, t->exhausted, t->most,
           t->sampled, t->mended, t->asked);
}
