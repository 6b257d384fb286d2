/* The seed of a random test: from ASYNCOW_SEED, else of the clock; printed. */
#ifndef TEST_HARNESS_SEED_H
#define TEST_HARNESS_SEED_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t test_seed(void)
{
    const char *given = getenv("ASYNCOW_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("ASYNCOW_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

#endif
