/* The histogram's percentiles are within 1/128 of those of the sorted values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/hist.h"
#include "harness/rng.h"
#include "tests/harness/seed.h"

enum { N = 20000 };
static uint64_t value[N];
static struct hist hist, other;

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void compare_with_sorted(unsigned n)
{
    static const double percent[] = {0, 1, 10, 50, 90, 99, 99.5, 99.9, 99.99, 100};

    qsort(value, n, sizeof(value[0]), by_value);
    assert_int_equal(hist.n, n);
    assert_int_equal(hist.min, value[0]);
    assert_int_equal(hist.max, value[n - 1]);
    for (unsigned i = 0; i < sizeof(percent) / sizeof(percent[0]); i++) {
        double rank = ceil(percent[i] / 100 * n);
        uint64_t exact = value[rank < 1 ? 0 : (unsigned)rank - 1];
        uint64_t ours = hist_percentile(&hist, percent[i]);
        double error = fabs((double)ours - (double)exact);
        if (error * 128 > (double)exact)
            fail_msg("p%g: %llu, exact %llu", percent[i], (unsigned long long)ours,
                     (unsigned long long)exact);
    }
}

static void percentiles_follow_the_sorted_values(void **state)
{
    struct rng rng = {test_seed()};
    (void)state;

    for (unsigned bits = 4; bits <= 63; bits++) {
        hist_reset(&hist);
        unsigned n = 1 + (unsigned)rng_below(&rng, N);
        for (unsigned i = 0; i < n; i++) { /* all magnitudes up to bits */
            value[i] = rng_next(&rng) >> (64 - 1 - rng_below(&rng, bits));
            hist_add(&hist, value[i]);
        }
        compare_with_sorted(n);
    }
}

static void moments_are_exact(void **state)
{
    struct rng rng = {test_seed()};
    double sum = 0, squares = 0;
    (void)state;

    hist_reset(&hist);
    for (unsigned i = 0; i < N; i++) {
        value[i] = 1000000 + rng_below(&rng, 1000);
        hist_add(&hist, value[i]);
        sum += (double)value[i];
    }
    for (unsigned i = 0; i < N; i++)
        squares += pow((double)value[i] - sum / N, 2);
    assert_true(fabs(hist.mean - sum / N) < 1e-6);
    assert_true(fabs(hist_stddev(&hist) - sqrt(squares / N)) < 1e-6);
}

static void buckets_are_contiguous_and_narrow(void **state)
{
    (void)state;
    for (unsigned b = 0; b + 1 < HIST_BUCKETS; b++) {
        uint64_t low = hist_bucket_low(b), next = hist_bucket_low(b + 1);
        assert_true(next > low);
        assert_int_equal(hist_bucket(low), b);
        assert_int_equal(hist_bucket(next - 1), b);
        assert_true(low < 256 || (next - low) <= low / 128);
    }
    assert_int_equal(hist_bucket(UINT64_MAX), HIST_BUCKETS - 1);
}

static void merge_is_as_if_added_to_one(void **state)
{
    struct rng rng = {test_seed()};
    static struct hist all;
    (void)state;

    hist_reset(&hist);
    hist_reset(&other);
    hist_reset(&all);
    for (unsigned i = 0; i < N; i++) {
        uint64_t v = rng_next(&rng) >> (20 + rng_below(&rng, 40));
        hist_add(i % 3 ? &hist : &other, v);
        hist_add(&all, v);
    }
    hist_merge(&hist, &other);
    assert_int_equal(hist.n, all.n);
    assert_int_equal(hist.min, all.min);
    assert_int_equal(hist.max, all.max);
    assert_memory_equal(hist.bucket, all.bucket, sizeof(all.bucket));
    assert_true(fabs(hist.mean - all.mean) <= all.mean * 1e-9);
    assert_true(fabs(hist_stddev(&hist) - hist_stddev(&all)) <=
                hist_stddev(&all) * 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_follow_the_sorted_values),
        cmocka_unit_test(moments_are_exact),
        cmocka_unit_test(buckets_are_contiguous_and_narrow),
        cmocka_unit_test(merge_is_as_if_added_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
