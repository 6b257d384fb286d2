/*
 * What is explored: a few operations at a time, and where on the disk they meet.
 */
#ifndef HARNESS_EXPLORE_SET_H
#define HARNESS_EXPLORE_SET_H
#include <stdbool.h>
#include <stddef.h>

#include "core/env/error.h"

enum { EXPLORE_OPS_MAX = 3, EXPLORE_TEXT = 64 };

enum explore_kind {
    EXPLORE_ALLOC,   /* write to a cluster that nothing is allocated for */
    EXPLORE_REWRITE, /* write to one that is allocated */
    EXPLORE_DISCARD,
    EXPLORE_ZERO,
    EXPLORE_READ,
    EXPLORE_FLUSH,
    EXPLORE_SNAPSHOT, /* create one */
    EXPLORE_CANCEL,   /* of any of the others that is in flight */
    EXPLORE_KINDS
};
enum explore_place { /* the operations' clusters: */
                     EXPLORE_SAME,
                     EXPLORE_NEIGHBOUR, /* next to each other */
                     EXPLORE_L2,        /* apart, mapped by the same L2 table */
                     EXPLORE_REFBLOCK, /* by tables of their own, counted by the same refcount block */
                     EXPLORE_PLACES
};
struct explore_set {
    enum explore_kind op[EXPLORE_OPS_MAX];
    unsigned n;
    enum explore_place place;
};

const char *explore_kind_name(enum explore_kind);
/* It has a place on the disk. */
static inline bool explore_located(enum explore_kind k) { return k < EXPLORE_FLUSH; }

/* From "alloc,read@same" (without @: same). -EINVAL: err says what would be right. */
int explore_set_parse(struct explore_set *, const char *text, struct error *);
void explore_set_text(const struct explore_set *, char text[EXPLORE_TEXT]);
/* The i-th of all sets of 1 to most operations, each at every place that differs. false:
 * there are no more. */
bool explore_set_nth(unsigned most, unsigned i, struct explore_set *);

#endif
