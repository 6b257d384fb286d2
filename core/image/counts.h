/*
 * A counter for each host cluster, sparse: memory only where something was counted, in
 * pages so small that references far apart cannot ask for much. Single-threaded.
 */
#ifndef ASYNCOW_COUNTS_H
#define ASYNCOW_COUNTS_H
#include <stdbool.h>
#include <stdint.h>

enum { COUNTS_PAGE = 256 };

struct counts {
    uint32_t **page; /* NULL: all zero */
    uint64_t pages;
};

/* For counters 0..n-1. 0 or -ENOMEM. */
int counts_init(struct counts *, uint64_t n);
void counts_free(struct counts *);
uint32_t counts_get(const struct counts *, uint64_t i);      /* past the end: 0 */
int counts_set(struct counts *, uint64_t i, uint32_t value); /* 0 or -ENOMEM */
/* No counter in [from, to) has a page, up to *next (> from, at most to). */
bool counts_empty(const struct counts *, uint64_t from, uint64_t to, uint64_t *next);

#endif
