/*
 * splitmix64 (Steele, Lea, Flood 2014): 64 bits of state, every seed is a good one, and
 * the state is a plain counter, so that threads can share it with one atomic addition.
 */
#ifndef ASYNCOW_RANDOM_H
#define ASYNCOW_RANDOM_H
#include <stdint.h>

#define SPLITMIX_GAMMA 0x9e3779b97f4a7c15u

static inline uint64_t splitmix_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t splitmix_next(uint64_t *state)
{
    return splitmix_mix(*state += SPLITMIX_GAMMA);
}

#endif
