/*
 * Is one better than the other, and how sure is that? Medians with percentile bootstrap
 * intervals (Efron 1979), and ratios of means with Student's t intervals, over trials.
 */
#ifndef HARNESS_STATS_H
#define HARNESS_STATS_H
#include <stdbool.h>
#include <stdint.h>

enum { STATS_RESAMPLES = 4000, STATS_TRIALS_MIN = 3 };

struct interval {
    double low, high; /* 95 %; both the value itself with fewer than two trials */
};
double stats_mean(const double *, unsigned n);
double stats_median(const double *, unsigned n); /* n > 0 */
struct interval stats_median_interval(const double *, unsigned n, uint64_t seed);

struct ratio { /* of a to b, trials paired by round */
    double of_medians, of_means;
    struct interval medians, means;
    bool apart; /* the interval of the means' ratio leaves out 1, from enough trials */
};
struct ratio stats_ratio(const double *a, const double *b, unsigned n, uint64_t seed);

#endif
