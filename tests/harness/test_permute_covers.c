/* A permutation gives every number below n exactly once, for any n and seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/permute.h"
#include "harness/rng.h"
#include "tests/harness/seed.h"

static void cover(uint64_t n, uint64_t seed)
{
    struct permute p;
    bool *seen = calloc(n, sizeof(*seen));

    permute_init(&p, n, seed);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = permute_at(&p, i);
        assert_true(v < n);
        assert_false(seen[v]);
        seen[v] = true;
    }
    free(seen);
}

static void small_sizes(void **state)
{
    uint64_t seed = test_seed();
    (void)state;
    for (uint64_t n = 1; n < 300; n++)
        for (uint64_t i = 0; i < 5; i++)
            cover(n, seed + i);
}

static void large_sizes(void **state)
{
    struct rng rng = {test_seed()};
    (void)state;
    cover(1 << 20, rng_next(&rng));
    cover((1 << 20) + 1, rng_next(&rng));
    for (int i = 0; i < 5; i++)
        cover(1 + rng_below(&rng, 1 << 20), rng_next(&rng));
}

/* Neighbours go far apart: at random, the mean distance of two is n/3. */
static void order_is_scattered(void **state)
{
    enum { N = 1 << 16 };
    struct permute p;
    double sum = 0;
    uint64_t seed = test_seed();
    (void)state;

    permute_init(&p, N, seed);
    for (uint64_t i = 1; i < N; i++) {
        uint64_t a = permute_at(&p, i - 1), b = permute_at(&p, i);
        sum += (double)(a > b ? a - b : b - a);
    }
    sum /= N - 1;
    assert_true(sum > N * 0.25 && sum < N * 0.42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_sizes),
        cmocka_unit_test(large_sizes),
        cmocka_unit_test(order_is_scattered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
