/* Picks the bijection of a pass; permute.h walks it. */
#include "harness/permute.h"

#include "harness/rng.h"

void permute_init(struct permute *p, uint64_t n, uint64_t seed)
{
    struct rng r = {seed};
    unsigned bits = n <= 2 ? 1 : 64 - (unsigned)__builtin_clzll(n - 1);

    p->n = n;
    p->mask = bits == 64 ? ~0ull : (1ull << bits) - 1;
    /* Half the width: x ^= x >> shift can be undone for any shift > 0. */
    p->shift = (bits + 1) / 2;
    for (int i = 0; i < 3; i++) {
        p->add[i] = rng_next(&r);
        p->mul[i] = rng_next(&r) | 1;
    }
}
