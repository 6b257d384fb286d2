/* Sparse counters. See counts.h. */
#include "core/image/counts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int counts_init(struct counts *c, uint64_t n)
{
    c->pages = n / COUNTS_PAGE + 1;
    c->page = calloc(c->pages, sizeof(*c->page));
    return c->page ? 0 : -ENOMEM;
}

void counts_free(struct counts *c)
{
    for (uint64_t i = 0; c->page && i < c->pages; i++)
        free(c->page[i]);
    free(c->page);
    c->page = NULL;
    c->pages = 0;
}

uint32_t counts_get(const struct counts *c, uint64_t i)
{
    uint64_t p = i / COUNTS_PAGE;

    return p < c->pages && c->page[p] ? c->page[p][i % COUNTS_PAGE] : 0;
}

int counts_set(struct counts *c, uint64_t i, uint32_t value)
{
    uint64_t p = i / COUNTS_PAGE;

    assert(p < c->pages);
    if (!c->page[p]) {
        if (!value)
            return 0;
        c->page[p] = calloc(COUNTS_PAGE, sizeof(**c->page));
        if (!c->page[p])
            return -ENOMEM;
    }
    c->page[p][i % COUNTS_PAGE] = value;
    return 0;
}

bool counts_empty(const struct counts *c, uint64_t from, uint64_t to, uint64_t *next)
{
    uint64_t p = from / COUNTS_PAGE;

    bool empty = p >= c->pages || !c->page[p];
    *next = (p + 1) * COUNTS_PAGE;
    if (*next > to)
        *next = to;
    return empty;
}
