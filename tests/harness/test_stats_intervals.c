/* Bootstrap intervals hold the truth about as often as they say; equal things are not
 * told apart, different ones are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness/rng.h"
#include "harness/stats.h"
#include "tests/harness/seed.h"

enum { TRIALS = 15, FEW = 4, RUNS = 60 };

/* About normal, mean 100, deviation 5: the sum of twelve uniform ones. */
static double draw(struct rng *rng)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (double)rng_below(rng, 1000000) / 1e6;
    return 100 + 5 * (sum - 6);
}

static void equal_is_seldom_told_apart(void **state)
{
    struct rng rng = {test_seed()};
    unsigned apart = 0;
    (void)state;

    for (unsigned run = 0; run < RUNS; run++) {
        double a[TRIALS], b[TRIALS];
        for (unsigned i = 0; i < TRIALS; i++) {
            a[i] = draw(&rng);
            b[i] = draw(&rng);
        }
        apart += stats_ratio(a, b, TRIALS, run).apart;
    }
    assert_true(apart < RUNS * 25 / 100); /* 5 % promised; few trials make it rougher */
}

/* With as few trials as people make, too: 5 % promised, and 1000 runs make more than 8
 * % no chance. */
static void few_trials_promise_no_more_than_they_hold(void **state)
{
    struct rng rng = {test_seed()};
    unsigned apart = 0;
    (void)state;

    for (unsigned run = 0; run < 1000; run++) {
        double a[FEW], b[FEW];
        for (unsigned i = 0; i < FEW; i++) {
            a[i] = draw(&rng);
            b[i] = draw(&rng);
        }
        apart += stats_ratio(a, b, FEW, run).apart;
    }
    assert_in_range(apart, 10, 80);
}

static void ten_per_cent_are_told_apart(void **state)
{
    struct rng rng = {test_seed()};
    unsigned apart = 0;
    (void)state;

    for (unsigned run = 0; run < RUNS; run++) {
        double a[TRIALS], b[TRIALS];
        for (unsigned i = 0; i < TRIALS; i++) {
            a[i] = draw(&rng) * 1.1;
            b[i] = draw(&rng);
        }
        struct ratio r = stats_ratio(a, b, TRIALS, run);
        apart += r.apart && r.means.low > 1;
        assert_true(r.of_means > 1);
        assert_true(r.means.low <= r.of_means && r.of_means <= r.means.high);
    }
    /* The means lie 5.5 deviations apart: one miss in some thousand runs is chance. */
    assert_true(apart >= RUNS - 3);
}

static void the_median_interval_holds_the_median(void **state)
{
    struct rng rng = {test_seed()};
    unsigned held = 0;
    (void)state;

    for (unsigned run = 0; run < RUNS; run++) {
        double a[TRIALS];
        for (unsigned i = 0; i < TRIALS; i++)
            a[i] = draw(&rng);
        struct interval in = stats_median_interval(a, TRIALS, run);
        held += in.low <= 100 && 100 <= in.high;
    }
    assert_true(held > RUNS * 78 / 100);
}

static void few_trials_tell_nothing(void **state)
{
    double a[] = {200, 200}, b[] = {100, 100};
    (void)state;
    assert_false(stats_ratio(a, b, 1, 1).apart);
    assert_false(stats_ratio(a, b, 2, 1).apart);
    struct interval one = stats_median_interval(a, 1, 1);
    assert_true(one.low == 200 && one.high == 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_is_seldom_told_apart),
        cmocka_unit_test(few_trials_promise_no_more_than_they_hold),
        cmocka_unit_test(ten_per_cent_are_told_apart),
        cmocka_unit_test(the_median_interval_holds_the_median),
        cmocka_unit_test(few_trials_tell_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
