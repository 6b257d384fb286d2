/*
 * The workload's own random numbers: a pure function of its seed.
 *
 * They do not come from env_random(), whose stream the strategies share: every strategy
 * must see the same history of guest requests for the same seed, whatever it draws
 * itself. splitmix64 (Steele, Lea, Flood 2014).
 */
#ifndef HARNESS_RNG_H
#define HARNESS_RNG_H
#include <stdint.h>

struct rng {
    uint64_t state;
};
static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static inline uint64_t rng_next(struct rng *r)
{
    return rng_mix(r->state += 0x9e3779b97f4a7c15ull);
}
/* Uniform in 0..n-1, n > 0 (bias below n/2^64: none that could be seen). */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

#endif
