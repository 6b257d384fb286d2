/*
 * Slices: the metadata cache, its eviction, pins, shadows. The state diagram and the
 * numbered invariants are in internal.h. Everything here runs under the exclusive side.
 */
#include "core/qcow2/internal.h"

#include <stdlib.h>

static bool slice_busy(const struct qcow2_slice *s)
{
    return s->dirty || s->closing || s->intents;
}

static unsigned hash_of(const struct qcow2 *q, uint64_t offset)
{
    uint64_t h = (offset >> q->slice_bits) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - q->hash_bits));
}

int cache_open(struct qcow2 *q)
{
    /* Half of the slots may be dirty and a ticket pins a few: below this, requests
     * could wait for each other's pins. */
    size_t least = 2ull * QCOW2_PINS * q->opt.inflight + 8;
    size_t n = q->opt.cache >> q->slice_bits;
    if (n < least)
        n = least;
    if (n > 1u << 24)
        n = 1u << 24;
    q->nslots = (unsigned)n;
    q->hash_bits = 4;
    while ((1u << q->hash_bits) < q->nslots)
        q->hash_bits++;
    q->slots = calloc(q->nslots, sizeof(*q->slots));
    q->hash = calloc(1u << q->hash_bits, sizeof(struct qcow2_slice *));
    if (!q->slots || !q->hash ||
        posix_memalign((void **)&q->slot_mem, SLICE_MAX, n << q->slice_bits))
        return -ENOMEM;
    for (unsigned i = 0; i < q->nslots; i++)
        q->slots[i].buf = q->slot_mem + ((size_t)i << q->slice_bits);
    return 0;
}

void cache_free(struct qcow2 *q)
{
    for (unsigned i = 0; q->slots && i < q->nslots; i++)
        free(q->slots[i].shadow);
    for (unsigned i = 0; i < q->nshadow_free; i++)
        free(q->shadow_free[i]);
    free(q->header_slice.shadow);
    free(q->shadow_free);
    free(q->slots);
    free(q->hash);
    free(q->slot_mem);
}

int table_init(struct qcow2 *q, struct table *t, enum slice_kind kind, uint64_t offset,
               uint64_t entries)
{
    uint64_t bytes = round_up(entries * 8, q->slice_size);
    *t = (struct table){.entries = entries, .offset = offset};
    t->nslices = (unsigned)(bytes >> q->slice_bits);
    if (!t->nslices) /* of no disk: there is something to copy nothing from */
        return posix_memalign((void **)&t->entry, SLICE_MAX, SLICE_MAX) ? -ENOMEM : 0;
    t->slices = calloc(t->nslices, sizeof(*t->slices));
    if (!t->slices || posix_memalign((void **)&t->entry, SLICE_MAX, bytes)) {
        free(t->slices);
        *t = (struct table){0};
        return -ENOMEM;
    }
    memset(t->entry, 0, bytes);
    for (unsigned i = 0; i < t->nslices; i++) {
        struct qcow2_slice *s = &t->slices[i];
        s->offset = offset + ((uint64_t)i << q->slice_bits);
        s->buf = (uint8_t *)t->entry + ((size_t)i << q->slice_bits);
        s->kind = kind;
        s->state = SLICE_VALID;
        s->resident = true;
    }
    return 0;
}

void table_free(struct table *t)
{
    for (unsigned i = 0; i < t->nslices; i++)
        free(t->slices[i].shadow);
    free(t->slices);
    free(t->entry);
    *t = (struct table){0};
}

struct qcow2_slice *table_slice(const struct qcow2 *q, const struct table *t,
                                uint64_t i)
{
    return &t->slices[i * 8 >> q->slice_bits];
}

struct qcow2_slice *cache_find(const struct qcow2 *q, uint64_t offset)
{
    struct qcow2_slice *s = q->hash[hash_of(q, offset)];
    while (s && s->offset != offset)
        s = s->hash_next;
    return s;
}

static void hash_remove(struct qcow2 *q, struct qcow2_slice *s)
{
    struct qcow2_slice **p = &q->hash[hash_of(q, s->offset)];
    while (*p != s)
        p = &(*p)->hash_next;
    *p = s->hash_next;
    s->state = SLICE_EMPTY;
}

/* Clock with two bits of credit: a slice just loaded survives until it was used. */
static struct qcow2_slice *evict(struct qcow2 *q)
{
    for (unsigned tries = 0; tries < 4 * q->nslots; tries++) {
        struct qcow2_slice *s = &q->slots[q->hand];
        q->hand = q->hand + 1 == q->nslots ? 0 : q->hand + 1;
        if (s->state == SLICE_EMPTY)
            return s;
        if (s->state != SLICE_VALID || s->pins || slice_busy(s))
            continue;
        uint8_t used = __atomic_load_n(&s->used, __ATOMIC_RELAXED);
        if (used) {
            __atomic_store_n(&s->used, (uint8_t)(used - 1), __ATOMIC_RELAXED);
            continue;
        }
        stat_add(&q->stats.evictions);
        hash_remove(q, s);
        return s;
    }
    return NULL;
}

static struct qcow2_slice *slot_for(struct qcow2 *q, enum slice_kind kind,
                                    uint64_t offset)
{
    struct qcow2_slice *s = evict(q);
    if (!s)
        return NULL;
    unsigned h = hash_of(q, offset);
    s->offset = offset;
    s->kind = kind;
    s->used = 2;
    s->awaited = false;
    memset(s->verified, 0, sizeof(s->verified));
    s->hash_next = q->hash[h];
    q->hash[h] = s;
    return s;
}

/* A wait whose news has come already. */
static int need_nothing(struct qcow2 *q, struct qcow2_need *need)
{
    bool awaited = true;
    need->chan = need;
    wake_push(q, need, &awaited);
    return QCOW2_NEED_WAIT;
}

int slice_get(struct qcow2 *q, enum slice_kind kind, uint64_t offset,
              struct qcow2_slice **out, struct qcow2_need *need)
{
    struct qcow2_slice *s = cache_find(q, offset);
    if (s && s->kind != kind)
        return corrupt(q, "table at offset", offset,
                       "it is an L2 table and a refcount block");
    if (s && qcow2_inject()) {
        bool idle = s->state == SLICE_VALID && !s->pins && !slice_busy(s);
        if (!idle || qcow2_inject())
            return need_nothing(q, need);
        hash_remove(q, s); /* as if evicted */
        s = NULL;
    }
    if (s && s->state == SLICE_VALID) {
        s->used = 1;
        *out = s;
        return 0;
    }
    if (s) {
        s->awaited = true;
        stat_add(&q->stats.slice_waits);
        need->chan = s;
        return QCOW2_NEED_WAIT;
    }
    s = slot_for(q, kind, offset);
    assert(s); /* slots outnumber pins and busy ones: cache_open, invariant 2 */
    s->state = SLICE_LOADING;
    stat_add(kind == SLICE_L2 ? &q->stats.l2_misses : &q->stats.refcount_misses);
    need->io = (struct qcow2_io){.op = QCOW2_READ,
                                 .offset = offset,
                                 .len = q->slice_size,
                                 .buf = s->buf,
                                 .slice = s};
    return QCOW2_NEED_IO;
}

void slice_forget(struct qcow2 *q, struct qcow2_slice *s)
{
    if (s->state == SLICE_LOADING)
        hash_remove(q, s);
    s->state = SLICE_EMPTY;
}

/* The cluster it was in is about to be something else. A load still in flight (of a
 * request that is late) keeps the slot but not the place. */
static void slice_oust(struct qcow2 *q, struct qcow2_slice *s)
{
    bool loading = s->state == SLICE_LOADING;
    assert(!s->pins && !slice_busy(s));
    hash_remove(q, s);
    if (loading)
        s->state = SLICE_STALE;
}

struct qcow2_slice *slice_make(struct qcow2 *q, enum slice_kind kind, uint64_t offset)
{
    struct qcow2_slice *s = cache_find(q, offset);
    if (s)
        slice_oust(q, s);
    s = slot_for(q, kind, offset);
    assert(s);
    memset(s->buf, 0, q->slice_size);
    s->state = SLICE_VALID;
    return s;
}

bool slice_droppable(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
    for (uint64_t at = offset; at < offset + len; at += q->slice_size) {
        struct qcow2_slice *s = cache_find(q, at);
        if (s && (s->pins || slice_busy(s)))
            return false;
    }
    return true;
}

void slice_drop(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    for (uint64_t at = offset; at < offset + len; at += q->slice_size) {
        struct qcow2_slice *s = cache_find(q, at);
        if (s)
            slice_oust(q, s);
    }
}

/* ---- busy: intended, dirty or closing ---- */

static int busy_enter(struct qcow2 *q, struct qcow2_slice *s)
{
    if (!s->resident && q->busy_slots >= q->nslots / 2)
        return -EBUSY;
    if (q->busy == q->nshadows) {
        if (q->nshadows == q->shadow_cap) {
            unsigned cap = q->shadow_cap ? 2 * q->shadow_cap : 64;
            uint8_t **p = realloc(q->shadow_free, cap * sizeof(*p));
            if (!p)
                return -ENOMEM;
            q->shadow_free = p;
            q->shadow_cap = cap;
        }
        void *buf;
        if (posix_memalign(&buf, SLICE_MAX, q->slice_size))
            return -ENOMEM;
        q->shadow_free[q->nshadow_free++] = buf;
        q->nshadows++;
    }
    q->busy++;
    if (!s->resident)
        q->busy_slots++;
    return 0;
}

static void busy_leave(struct qcow2 *q, struct qcow2_slice *s)
{
    if (slice_busy(s))
        return;
    q->busy--;
    if (!s->resident)
        q->busy_slots--;
}

int slice_intend(struct qcow2 *q, struct qcow2_slice *s)
{
    if (!slice_busy(s)) {
        int ret = busy_enter(q, s);
        if (ret)
            return ret;
    }
    s->intents++;
    return 0;
}

void slice_unintend(struct qcow2 *q, struct qcow2_slice *s)
{
    assert(s->intents);
    s->intents--;
    busy_leave(q, s);
}

static enum stage stage_of(enum slice_kind kind)
{
    switch (kind) {
    case SLICE_REFBLOCK:
        return STAGE_REFBLOCKS;
    case SLICE_REFTABLE:
    case SLICE_HEADER:
        return STAGE_TABLES;
    default:
        return STAGE_MAPS;
    }
}

static void set_dirty(struct qcow2 *q, struct qcow2_slice *s)
{
    if (s->dirty)
        return;
    s->dirty = true;
    TAILQ_INSERT_TAIL(&q->dirty[stage_of(s->kind)], s, dirty_link);
}

void slice_modify(struct qcow2 *q, struct qcow2_slice *s)
{
    assert(s->intents && s->state == SLICE_VALID);
    if (s->closing && !s->shadow) {
        slice_take_image(q, s);
        stat_add(&q->stats.shadow_copies);
    }
    set_dirty(q, s);
}

void slice_take_image(struct qcow2 *q, struct qcow2_slice *s)
{
    assert(q->nshadow_free);
    s->shadow = q->shadow_free[--q->nshadow_free];
    memcpy(s->shadow, s->buf, q->slice_size);
}

void slice_written(struct qcow2 *q, struct qcow2_slice *s, bool failed)
{
    q->shadow_free[q->nshadow_free++] = s->shadow;
    s->shadow = NULL;
    s->writing = s->closing = false;
    if (failed) /* what it says is nowhere else: it stays, for lookups */
        set_dirty(q, s);
    busy_leave(q, s);
}

/* ---- pins ---- */

int ticket_pin(struct qcow2 *q, struct qcow2_ticket *t, unsigned i,
               struct qcow2_slice *s)
{
    if (t->pin[i] == s)
        return 0;
    assert(!t->pin[i]);
    int ret = qcow2_inject() ? -EBUSY : slice_intend(q, s);
    if (ret)
        return ret;
    s->pins++;
    t->pin[i] = s;
    return 0;
}

void ticket_unpin(struct qcow2 *q, struct qcow2_ticket *t, unsigned i)
{
    struct qcow2_slice *s = t->pin[i];
    if (!s)
        return;
    t->pin[i] = NULL;
    s->pins--;
    slice_unintend(q, s);
}
