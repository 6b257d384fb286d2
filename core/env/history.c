/* See history.h. */
#include "core/env/history.h"

#include <errno.h>
#include <stdlib.h>

/* Of a polynomial over the odd numbers: what is older weighs WEIGHT times more. */
#define WEIGHT 0xd6e8feb86659fd93u
enum { READ = 1, WRITE, NAME, JOIN };

void history_join(uint64_t *past, uint64_t other)
{
    *past = history_mix(*past + JOIN, other);
}

/* x * inverse(x) == 1 (mod 2^64): Newton, each step doubles the bits that are right. */
static uint64_t inverse(uint64_t x)
{
    uint64_t y = x;

    for (int i = 0; i < 6; i++)
        y *= 2 - x * y;
    return y;
}

int history_open(struct history *h)
{
    *h = (struct history){.bits = 10, .round = 1};
    h->table = calloc((size_t)1 << h->bits, sizeof(*h->table));
    return h->table ? 0 : -ENOMEM;
}

void history_close(struct history *h) { free(h->table); }

void history_clear(struct history *h)
{
    h->used = 0;
    h->queues = 0;
    h->round++;
}

static struct history_entry *place_of(struct history *h, const void *object,
                                      uint64_t part)
{
    size_t mask = ((size_t)1 << h->bits) - 1;
    size_t i = (size_t)history_mix((uintptr_t)object, part) & mask;
    struct history_entry *e;

    for (; (e = &h->table[i])->round == h->round; i = (i + 1) & mask)
        if (e->object == object && e->part == part)
            break;
    return e;
}

/* Out of memory ends the search: it has no meaning then. */
static void grow(struct history *h)
{
    struct history_entry *old = h->table;
    size_t n = (size_t)1 << h->bits;

    h->table = calloc(2 * n, sizeof(*h->table));
    if (!h->table)
        abort();
    h->bits++;
    for (size_t i = 0; i < n; i++)
        if (old[i].round == h->round)
            *place_of(h, old[i].object, old[i].part) = old[i];
    free(old);
}

static struct history_entry *find(struct history *h, const void *object, uint64_t part)
{
    struct history_entry *e = place_of(h, object, part);

    if (e->round == h->round)
        return e;
    if (2 * ++h->used > (uint32_t)1 << h->bits) {
        grow(h);
        e = place_of(h, object, part);
    }
    *e = (struct history_entry){.object = object, .part = part, .round = h->round};
    return e;
}

void history_touch(struct history *h, uint64_t *past, const void *object, uint64_t part,
                   bool write)
{
    struct history_entry *e = find(h, object, part);

    if (write) {
        *past = history_mix(*past + WRITE, history_mix(e->wrote, e->read));
        e->wrote = *past;
        e->read = 0;
    } else {
        *past = history_mix(*past + READ, e->wrote);
        e->read += *past;
    }
}

void history_name(struct history *h, uint64_t *past, const void *item)
{
    struct history_entry *e = find(h, item, 0);

    *past = history_mix(*past, NAME);
    e->wrote = *past;
    e->read = 0;
}

void history_rename(struct history *h, const void *item, const void *to)
{
    uint64_t hash = history_of(h, item);
    struct history_entry *e = find(h, to, 0);

    e->wrote = hash;
    e->read = 0;
}

uint64_t history_of(struct history *h, const void *item)
{
    return find(h, item, 0)->wrote;
}

void history_push(struct history *h, uint64_t *past, const void *queue,
                  const void *item)
{
    struct history_entry *e;

    history_name(h, past, item);
    e = find(h, queue, 0);
    h->queues -= history_mix(e->wrote, 0);
    e->wrote = e->wrote * WEIGHT + *past;
    e->read = e->read ? e->read * WEIGHT : WEIGHT;
    h->queues += history_mix(e->wrote, 0);
}

void history_pop(struct history *h, uint64_t *past, const void *queue, const void *item)
{
    uint64_t hash = history_of(h, item);
    struct history_entry *e = find(h, queue, 0);

    history_join(past, hash);
    h->queues -= history_mix(e->wrote, 0);
    e->read *= inverse(WEIGHT);
    e->wrote -= hash * e->read;
    h->queues += history_mix(e->wrote, 0);
}
