/* Sectors and the values on top of them: model.h. */
#include "tests/differential/model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *m, uint8_t *base, uint64_t size, bool crash)
{
    assert(size % SECTOR == 0);
    *m = (struct model){.size = size, .base = base, .crash = crash};
    m->s = calloc(size / SECTOR, sizeof(*m->s));
    assert(m->s);
}

static void drop_values(struct model_sector *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(s->v[i].bytes);
    s->n = (uint16_t)(s->n - n);
    memmove(s->v, s->v + n, s->n * sizeof(*s->v));
    if (!s->n) {
        free(s->v);
        s->v = NULL;
        s->cap = 0;
    }
}

void model_free(struct model *m)
{
    for (uint64_t i = 0; i < m->size / SECTOR; i++)
        if (m->s[i].n)
            drop_values(&m->s[i], m->s[i].n);
    free(m->s);
    free(m->base);
    *m = (struct model){0};
}

/* Rule 3 of the head comment. */
static void fold(struct model *m, uint64_t sector)
{
    struct model_sector *s = &m->s[sector];

    if (!s->settled || s->readers)
        return;
    memcpy(m->base + sector * SECTOR, s->v[s->settled - 1].bytes, SECTOR);
    s->base_group = s->v[s->settled - 1].group;
    s->base_acked = s->v[s->settled - 1].acked;
    drop_values(s, s->settled);
    s->settled = 0;
}

/* The first candidate for what was there at that time; all later ones are candidates
 * too. Candidate 0 is the base, i is v[i - 1]. */
static unsigned first_candidate(const struct model_sector *s, uint64_t when)
{
    unsigned i = s->n;

    while (i > 0 && !(s->v[i - 1].acked && s->v[i - 1].acked <= when))
        i--;
    if (i == 0)
        return 0;
    uint32_t group = s->v[i - 1].group;
    while (i > 1 && s->v[i - 2].group == group)
        i--;
    return i == 1 && s->base_group == group ? 0 : i;
}

static void settle(struct model *m, uint64_t sector, uint64_t when)
{
    struct model_sector *s = &m->s[sector];
    unsigned n = s->n ? first_candidate(s, when) : 0;

    if (n > s->settled)
        s->settled = (uint16_t)n;
    fold(m, sector);
}

static uint64_t first_of(uint64_t at) { return at / SECTOR; }
static uint64_t end_of(uint64_t at, uint64_t len)
{
    return (at + len + SECTOR - 1) / SECTOR;
}

bool model_claim(struct model *m, uint64_t at, uint64_t len, bool exclusive)
{
    uint64_t end = end_of(at, len);

    for (uint64_t i = first_of(at); i < end; i++)
        if (m->s[i].exclusive || (exclusive && m->s[i].writers))
            return false;
    for (uint64_t i = first_of(at); i < end; i++) {
        m->s[i].exclusive = exclusive;
        if (!m->s[i].writers++)
            m->s[i].group++;
    }
    return true;
}

static void end_group(struct model *m, uint64_t sector, uint64_t now)
{
    struct model_sector *s = &m->s[sector];

    for (unsigned i = s->n; i > 0 && s->v[i - 1].group == s->group; i--)
        if (s->v[i - 1].ok)
            s->v[i - 1].acked = now;
    if (!m->crash)
        settle(m, sector, now);
}

void model_release(struct model *m, uint64_t at, uint64_t len)
{
    uint64_t now = ++m->clock;

    for (uint64_t i = first_of(at); i < end_of(at, len); i++) {
        assert(m->s[i].writers);
        m->s[i].exclusive = false;
        if (!--m->s[i].writers)
            end_group(m, i, now);
    }
}

bool model_written_to(const struct model *m, uint64_t at, uint64_t len)
{
    for (uint64_t i = first_of(at); i < end_of(at, len); i++)
        if (m->s[i].writers)
            return true;
    return false;
}

bool model_certain(const struct model *m, uint64_t at, uint64_t len)
{
    for (uint64_t i = first_of(at); i < end_of(at, len); i++)
        if (m->s[i].n && first_candidate(&m->s[i], m->clock) != m->s[i].n)
            return false;
    return true;
}

static struct model_value *push(struct model_sector *s)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? (uint16_t)(2 * s->cap) : 2;
        s->v = realloc(s->v, s->cap * sizeof(*s->v));
        assert(s->v);
    }
    s->v[s->n] = (struct model_value){.bytes = malloc(SECTOR), .group = s->group};
    assert(s->v[s->n].bytes);
    return &s->v[s->n++];
}

static const uint8_t *candidate(const struct model *m, uint64_t sector, unsigned i)
{
    return i ? m->s[sector].v[i - 1].bytes : m->base + sector * SECTOR;
}

uint64_t model_write(struct model *m, uint64_t at, uint64_t len, const uint8_t *buf)
{
    uint64_t stop = at + len, writer = ++m->writers;

    for (uint64_t i = first_of(at); at < stop; i++) {
        uint64_t skip = at % SECTOR;
        uint64_t n = stop - at < SECTOR - skip ? stop - at : SECTOR - skip;
        const uint8_t *old = candidate(m, i, m->s[i].n);
        assert(m->s[i].writers);
        assert(n == SECTOR || (m->s[i].exclusive && model_certain(m, at, n)));
        struct model_value *v = push(&m->s[i]);
        v->writer = writer;
        if (n < SECTOR)
            memcpy(v->bytes, old, SECTOR);
        if (buf)
            memcpy(v->bytes + skip, buf, n);
        else
            memset(v->bytes + skip, 0, n);
        buf = buf ? buf + n : NULL;
        at += n;
    }
    return writer;
}

void model_written(struct model *m, uint64_t at, uint64_t len, uint64_t writer, bool ok)
{
    for (uint64_t i = first_of(at); i < end_of(at, len); i++) {
        struct model_sector *s = &m->s[i];
        unsigned k = s->n;
        while (k > 0 && s->v[k - 1].writer != writer)
            k--;
        assert(s->writers && k > 0);
        s->v[k - 1].ok = ok;
    }
}

uint64_t model_read(struct model *m, uint64_t at, uint64_t len)
{
    for (uint64_t i = first_of(at); i < end_of(at, len); i++)
        m->s[i].readers++;
    return m->clock;
}

void model_read_end(struct model *m, uint64_t at, uint64_t len)
{
    for (uint64_t i = first_of(at); i < end_of(at, len); i++) {
        assert(m->s[i].readers);
        m->s[i].readers--;
        fold(m, i);
    }
}

/* Somebody changes it, has since then, or several did at once. */
static bool changing(const struct model *m, const struct model_sector *s,
                     uint64_t began)
{
    const struct model_value *last = s->n ? &s->v[s->n - 1] : NULL;

    return s->writers || (last && last->acked > began) ||
           (m->torn && last && !last->acked) ||
           (last && last->group == (s->n > 1 ? last[-1].group : s->base_group));
}

/* Bytes [skip, skip + n) of a sector. */
static bool check_sector(const struct model *m, uint64_t sector, uint64_t skip,
                         uint64_t n, const uint8_t *buf, uint64_t began, uint64_t *bad)
{
    const struct model_sector *s = &m->s[sector];
    unsigned from = first_candidate(s, began);
    bool mixed = changing(m, s, began);

    for (unsigned i = from; i <= s->n; i++)
        if (!memcmp(candidate(m, sector, i) + skip, buf, n))
            return true;
    for (uint64_t k = 0; k < n; k++) { /* caught in the middle: byte by byte */
        unsigned i = mixed ? from : s->n;
        while (i <= s->n && candidate(m, sector, i)[skip + k] != buf[k])
            i++;
        if (i > s->n) {
            *bad = sector * SECTOR + skip + k;
            return false;
        }
    }
    *bad = sector * SECTOR + skip;
    return mixed;
}

bool model_check(const struct model *m, uint64_t at, uint64_t len, const uint8_t *buf,
                 uint64_t began, uint64_t *bad)
{
    for (uint64_t stop = at + len; at < stop;) {
        uint64_t skip = at % SECTOR;
        uint64_t n = stop - at < SECTOR - skip ? stop - at : SECTOR - skip;
        if (!check_sector(m, at / SECTOR, skip, n, buf, began, bad))
            return false;
        at += n;
        buf += n;
    }
    return true;
}

bool model_check_crashed(const struct model *m, uint64_t at, uint64_t len,
                         const uint8_t *buf, uint64_t *bad)
{
    assert(at % SECTOR == 0 && len % SECTOR == 0);
    for (uint64_t i = first_of(at); i < end_of(at, len); i++, buf += SECTOR) {
        unsigned k = m->s[i].settled;
        while (k <= m->s[i].n && memcmp(candidate(m, i, k), buf, SECTOR))
            k++;
        if (k > m->s[i].n) {
            *bad = i * SECTOR;
            return false;
        }
    }
    return true;
}

const uint8_t *model_value_since(const struct model *m, uint64_t sector, uint64_t when)
{
    const struct model_sector *s = &m->s[sector];

    if (s->writers || s->base_acked > when ||
        (s->n && first_candidate(s, when) != s->n))
        return NULL;
    return candidate(m, sector, s->n);
}

void model_adopt(struct model *m, uint64_t at, uint64_t len, const uint8_t *buf)
{
    assert(at % SECTOR == 0 && len % SECTOR == 0);
    for (uint64_t i = first_of(at); i < end_of(at, len); i++, buf += SECTOR) {
        assert(m->s[i].exclusive);
        struct model_value *v = push(&m->s[i]);
        memcpy(v->bytes, buf, SECTOR);
        v->ok = true;
    }
}

void model_flushed(struct model *m, uint64_t began)
{
    m->flushes++;
    for (uint64_t i = 0; i < m->size / SECTOR; i++)
        settle(m, i, began);
}

void model_crashed(struct model *m)
{
    for (uint64_t i = 0; i < m->size / SECTOR; i++) {
        struct model_sector *s = &m->s[i];
        assert(!s->readers && !s->writers);
        fold(m, i);
        for (unsigned k = 0; k < s->n; k++)
            s->v[k].acked = 0;
    }
}

void model_tell(const struct model *m, uint64_t at, uint64_t began)
{
    const struct model_sector *s = &m->s[at / SECTOR];
    unsigned from = first_candidate(s, began);

    for (unsigned i = 0; i <= s->n; i++) {
        fprintf(stderr, "  %s", i < from ? "before: " : "may be: ");
        for (unsigned k = 0; k < 8 && at % SECTOR + k < SECTOR; k++)
            fprintf(stderr, " %02x", candidate(m, at / SECTOR, i)[at % SECTOR + k]);
        fprintf(stderr,
                i && s->v[i - 1].acked ? ", acknowledged at %" PRIu64 "\n" : "\n",
                i ? s->v[i - 1].acked : 0);
    }
}
