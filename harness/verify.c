/* The table of last writes, headers, and judging what is read: verify.h. */
#include "harness/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/crc32c.h"

#define VERIFY_MAGIC 0x61637766u /* "fwca" */
enum { SECTOR = 512 };

struct verify_header {
    uint32_t magic, crc; /* crc: over the whole block, counted as zero itself */
    uint64_t offset, sequence, seed;
    uint32_t len, reserved;
};

/* An entry of the table: the sequence number, and */
#define IN_FLIGHT 0x80000000u
#define MIXED 0x40000000u /* several in flight at once: nobody knows the last */
#define TRIMMED 0x20000000u
#define SEQUENCE 0x1fffffffu

int verify_init(struct verify *v, uint64_t start, uint64_t bs, uint64_t blocks,
                uint64_t seed, bool table, struct error *err)
{
    *v = (struct verify){.start = start, .bs = bs, .blocks = blocks, .seed = seed};
    if (table && !(v->last = calloc(blocks, sizeof(*v->last))))
        return error_set(
            err, -ENOMEM,
            "verify: no memory for a table of %llu blocks; use a smaller size",
            (unsigned long long)blocks);
    return 0;
}

void verify_destroy(struct verify *v)
{
    free(v->last);
    v->last = NULL;
}

static uint32_t *entry(struct verify *v, uint64_t offset)
{
    return v->last ? &v->last[(offset - v->start) / v->bs] : NULL;
}

static void begin(uint32_t *e, uint32_t value)
{
    *e = *e & IN_FLIGHT ? *e | MIXED : IN_FLIGHT | value;
}

void verify_write_begin(struct verify *v, uint64_t offset, void *buf)
{
    uint32_t *e = entry(v, offset);
    struct verify_header h = {.magic = VERIFY_MAGIC,
                              .offset = offset,
                              .seed = v->seed,
                              .len = (uint32_t)v->bs};

    v->sequence = v->sequence % SEQUENCE + 1; /* 0 means never written */
    h.sequence = v->sequence;
    if (e)
        begin(e, v->sequence);
    if (!buf)
        return;
    for (size_t at = SECTOR; at + 16 <= v->bs;
         at += SECTOR) { /* every sector differs */
        memcpy((char *)buf + at, &h.offset, 8);
        memcpy((char *)buf + at + 8, &h.sequence, 8);
    }
    memcpy(buf, &h, sizeof(h));
    h.crc = crc32c(0, buf, v->bs);
    memcpy(buf, &h, sizeof(h));
}

void verify_trim_begin(struct verify *v, uint64_t offset)
{
    uint32_t *e = entry(v, offset);
    if (e)
        begin(e, TRIMMED);
}

void verify_ended(struct verify *v, uint64_t offset)
{
    uint32_t *e = entry(v, offset);
    if (e && !(*e & MIXED))
        *e &= ~IN_FLIGHT;
}

bool verify_expects(struct verify *v, uint64_t offset)
{
    uint32_t *e = entry(v, offset);

    if (!e)
        return true;
    if (*e & (MIXED | TRIMMED))
        v->unchecked++;
    return (*e & SEQUENCE) && !(*e & (MIXED | TRIMMED));
}

static bool bad(struct verify *v, uint64_t offset, const char *field, uint64_t found,
                uint64_t expected)
{
    if (!v->bad++)
        snprintf(v->first_bad, sizeof(v->first_bad),
                 "block at offset %llu: %s is 0x%llx, expected 0x%llx",
                 (unsigned long long)offset, field, (unsigned long long)found,
                 (unsigned long long)expected);
    return false;
}

bool verify_check(struct verify *v, uint64_t offset, void *buf)
{
    struct verify_header h;
    uint32_t *e = entry(v, offset), zero = 0;

    v->checked++;
    memcpy(&h, buf, sizeof(h));
    if (h.magic != VERIFY_MAGIC)
        return bad(v, offset, "magic", h.magic, VERIFY_MAGIC);
    if (h.len != v->bs)
        return bad(v, offset, "block length", h.len, v->bs);
    if (h.offset != offset)
        return bad(v, offset, "offset", h.offset, offset);
    if (e && h.seed != v->seed)
        return bad(v, offset, "seed", h.seed, v->seed);
    if (e && h.sequence != (*e & SEQUENCE))
        return bad(v, offset, "sequence number", h.sequence, *e & SEQUENCE);
    memcpy((char *)buf + offsetof(struct verify_header, crc), &zero, 4);
    uint32_t crc = crc32c(0, buf, v->bs);
    memcpy((char *)buf + offsetof(struct verify_header, crc), &h.crc, 4);
    return crc == h.crc || bad(v, offset, "crc32c", crc, h.crc);
}
