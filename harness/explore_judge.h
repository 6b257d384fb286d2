/*
 * Is what the guest saw of one sector possible? Linearisability (Herlihy and Wing 1990):
 * each operation takes effect at some moment between its submission and its end.
 *
 * A sector holds one small number: 0 zeros, others are tags that only one write has.
 */
#ifndef HARNESS_EXPLORE_JUDGE_H
#define HARNESS_EXPLORE_JUDGE_H
#include <stdbool.h>

struct explore_access {
    unsigned begin, end; /* moments of submission and of done(); distinct */
    unsigned value;      /* that it wrote, or saw */
    bool reads;
    bool perhaps; /* a write that was cancelled: it may never have happened */
};
enum { EXPLORE_ACCESSES_MAX = 8 };

/* first: what the sector held before. */
bool explore_possible(const struct explore_access *, unsigned n, unsigned first);

#endif
