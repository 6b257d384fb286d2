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

/* Rule 2 of the head comment. */
static void fold(struct model *m, uint64_t sector)
{
    struct model_sector *s = &m->s[sector];

    if (!s->settled || s->readers)
        return;
    memcpy(m->base + sector * SECTOR, s->v[s->settled - 1].bytes, SECTOR);
    drop_values(s, s->settled);
    s->settled = 0;
}

/* How many values precede the last one acknowledged by then, itself included. */
static unsigned superseded(const struct model_sector *s, uint64_t when)
{
    for (unsigned i = s->n; i > 0; i--)
        if (s->v[i - 1].acked && s->v[i - 1].acked <= when)
            return i;
    return 0;
}

static uint64_t first_of(uint64_t at) { return at / SECTOR; }
static uint64_t end_of(uint64_t at, uint64_t len)
{
    return (at + len + SECTOR - 1) / SECTOR;
}

bool model_claim(struct model *m, uint64_t at, uint64_t len)
{
    uint64_t end = end_of(at, len);

    for (uint64_t i = first_of(at); i < end; i++)
        if (m->s[i].writer)
            return false;
    for (uint64_t i = first_of(at); i < end; i++)
        m->s[i].writer = true;
    return true;
}

void model_release(struct model *m, uint64_t at, uint64_t len)
{
    for (uint64_t i = first_of(at); i < end_of(at, len); i++) {
        assert(m->s[i].writer);
        m->s[i].writer = false;
    }
}

bool model_certain(const struct model *m, uint64_t at, uint64_t len)
{
    for (uint64_t i = first_of(at); i < end_of(at, len); i++)
        if (m->s[i].n && !m->s[i].v[m->s[i].n - 1].acked)
            return false;
    return true;
}

static uint8_t *push(struct model_sector *s, uint64_t acked)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? (uint16_t)(2 * s->cap) : 2;
        s->v = realloc(s->v, s->cap * sizeof(*s->v));
        assert(s->v);
    }
    s->v[s->n] = (struct model_value){malloc(SECTOR), acked};
    assert(s->v[s->n].bytes);
    return s->v[s->n++].bytes;
}

/* The newest value of a sector. */
static const uint8_t *newest(const struct model *m, uint64_t sector)
{
    const struct model_sector *s = &m->s[sector];

    return s->n ? s->v[s->n - 1].bytes : m->base + sector * SECTOR;
}

void model_write(struct model *m, uint64_t at, uint64_t len, const uint8_t *buf)
{
    uint64_t stop = at + len;

    for (uint64_t i = first_of(at); at < stop; i++) {
        uint64_t skip = at % SECTOR;
        uint64_t n = stop - at < SECTOR - skip ? stop - at : SECTOR - skip;
        const uint8_t *old = newest(m, i);
        assert(m->s[i].writer);
        assert(n == SECTOR || model_certain(m, at, n));
        uint8_t *bytes = push(&m->s[i], 0);
        if (n < SECTOR)
            memcpy(bytes, old, SECTOR);
        if (buf)
            memcpy(bytes + skip, buf, n);
        else
            memset(bytes + skip, 0, n);
        buf = buf ? buf + n : NULL;
        at += n;
    }
}

void model_written(struct model *m, uint64_t at, uint64_t len, bool ok)
{
    uint64_t now = ++m->clock;

    for (uint64_t i = first_of(at); i < end_of(at, len) && ok; i++) {
        struct model_sector *s = &m->s[i];
        assert(s->writer && s->n && !s->v[s->n - 1].acked);
        s->v[s->n - 1].acked = now;
        if (!m->crash)
            s->settled = s->n;
        fold(m, i);
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

static const uint8_t *candidate(const struct model *m, uint64_t sector, unsigned i)
{
    return i ? m->s[sector].v[i - 1].bytes : m->base + sector * SECTOR;
}

static bool changing(const struct model *m, const struct model_sector *s,
                     uint64_t began)
{
    if (m->torn && s->n && !s->v[s->n - 1].acked)
        return true;
    return s->writer || (s->n && s->v[s->n - 1].acked > began);
}

/* Bytes [skip, skip + n) of a sector. */
static bool check_sector(const struct model *m, uint64_t sector, uint64_t skip,
                         uint64_t n, const uint8_t *buf, uint64_t began, uint64_t *bad)
{
    const struct model_sector *s = &m->s[sector];
    unsigned from = superseded(s, began), good = 0;

    for (unsigned i = from; i <= s->n; i++)
        if (!memcmp(candidate(m, sector, i) + skip, buf, n))
            return true;
    if (!changing(m, s, began)) {
        const uint8_t *want = newest(m, sector);
        while (good < n && buf[good] == want[skip + good])
            good++;
        *bad = sector * SECTOR + skip + (good < n ? good : 0);
        return false;
    }
    for (uint64_t k = 0; k < n; k++) { /* caught in the middle: byte by byte */
        unsigned i = from;
        while (i <= s->n && candidate(m, sector, i)[skip + k] != buf[k])
            i++;
        if (i > s->n) {
            *bad = sector * SECTOR + skip + k;
            return false;
        }
    }
    return true;
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

void model_adopt(struct model *m, uint64_t at, uint64_t len, const uint8_t *buf)
{
    uint64_t now = ++m->clock;

    assert(at % SECTOR == 0 && len % SECTOR == 0);
    for (uint64_t i = first_of(at); i < end_of(at, len); i++, buf += SECTOR) {
        assert(m->s[i].writer);
        memcpy(push(&m->s[i], now), buf, SECTOR);
        if (!m->crash)
            m->s[i].settled = m->s[i].n;
        fold(m, i);
    }
}

void model_flushed(struct model *m, uint64_t began)
{
    for (uint64_t i = 0; i < m->size / SECTOR; i++) {
        struct model_sector *s = &m->s[i];
        unsigned n = s->n ? superseded(s, began) : 0;
        if (n > s->settled)
            s->settled = (uint16_t)n;
        fold(m, i);
    }
}

void model_crashed(struct model *m)
{
    for (uint64_t i = 0; i < m->size / SECTOR; i++) {
        struct model_sector *s = &m->s[i];
        assert(!s->readers && !s->writer);
        fold(m, i);
        for (unsigned k = 0; k < s->n; k++)
            s->v[k].acked = 0;
    }
}

void model_tell(const struct model *m, uint64_t at, uint64_t began)
{
    const struct model_sector *s = &m->s[at / SECTOR];
    unsigned from = superseded(s, began);

    for (unsigned i = 0; i <= s->n; i++) {
        fprintf(stderr, "  %s", i < from ? "before: " : "may be: ");
        for (unsigned k = 0; k < 8 && at % SECTOR + k < SECTOR; k++)
            fprintf(stderr, " %02x", candidate(m, at / SECTOR, i)[at % SECTOR + k]);
        fprintf(stderr,
                i && s->v[i - 1].acked ? ", acknowledged at %" PRIu64 "\n" : "\n",
                i ? s->v[i - 1].acked : 0);
    }
}
