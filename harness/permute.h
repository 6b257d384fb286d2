/*
 * Every number below n exactly once, in an order that looks random: fio's random map
 * without the map.
 *
 * A bijection on the next power of two, made of steps that each can be undone (add,
 * multiply by an odd number, xor with own high bits), and values outside n are walked
 * on until they fall inside (cycle walking: fewer than two steps on average). No
 * memory, so a 64 GiB disk costs nothing to set up.
 */
#ifndef HARNESS_PERMUTE_H
#define HARNESS_PERMUTE_H
#include <stdint.h>

struct permute {
    uint64_t n, mask, add[3], mul[3];
    unsigned shift;
};
void permute_init(struct permute *, uint64_t n, uint64_t seed); /* n > 0 */

static inline uint64_t permute_at(const struct permute *p, uint64_t i) /* i < n */
{
    do {
        for (int round = 0; round < 3; round++) {
            i = ((i + p->add[round]) * p->mul[round]) & p->mask;
            i ^= i >> p->shift;
        }
    } while (i >= p->n);
    return i;
}

#endif
