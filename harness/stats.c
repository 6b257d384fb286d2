/* Medians, bootstrap, Student's t: stats.h. */
#include "harness/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/rng.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double stats_mean(const double *v, unsigned n)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += v[i];
    return n ? sum / n : 0;
}

static double sorted_median(const double *v, unsigned n)
{
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double stats_median(const double *v, unsigned n)
{
    double *copy = malloc(n * sizeof(*copy));
    if (!copy)
        return stats_mean(v, n);
    memcpy(copy, v, n * sizeof(*copy));
    qsort(copy, n, sizeof(*copy), by_value);
    double m = sorted_median(copy, n);
    free(copy);
    return m;
}

static struct interval middle_95(double *v, unsigned n)
{
    qsort(v, n, sizeof(*v), by_value);
    return (struct interval){v[n * 25 / 1000], v[n - 1 - n * 25 / 1000]};
}

struct interval stats_median_interval(const double *v, unsigned n, uint64_t seed)
{
    double *all = malloc(STATS_RESAMPLES * sizeof(*all)),
           *one = malloc(n * sizeof(*one));
    struct rng rng = {seed};
    double m = stats_median(v, n);
    struct interval in = {m, m};

    if (all && one && n > 1) {
        for (unsigned i = 0; i < STATS_RESAMPLES; i++) {
            for (unsigned k = 0; k < n; k++)
                one[k] = v[rng_below(&rng, n)];
            qsort(one, n, sizeof(*one), by_value);
            all[i] = sorted_median(one, n);
        }
        in = middle_95(all, STATS_RESAMPLES);
    }
    free(all);
    free(one);
    return in;
}

static double quotient(double a, double b) { return b > 0 ? a / b : 0; }

/* Student's t, two-sided 95 %; from ten degrees on by its expansion about 1.96. */
static double t95(unsigned freedom)
{
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571,
                               2.447,  2.365, 2.306, 2.262};
    double f = freedom;
    return freedom < 10 ? t[freedom - 1] : 1.96 + 2.37 / f + 2.8 / (f * f);
}

/* Of the ratio of two means, paired: what the ratio leaves of each round is what is
 * uncertain. A bootstrap of the usual five trials would call too much certain. */
static struct interval ratio_interval(const double *a, const double *b, unsigned n,
                                      double ratio)
{
    double sum = 0, mean_b = stats_mean(b, n);
    for (unsigned i = 0; i < n; i++) {
        double left = a[i] - ratio * b[i];
        sum += left * left;
    }
    double half = mean_b > 0 ? t95(n - 1) * sqrt(sum / (n - 1) / n) / mean_b : 0;
    return (struct interval){fmax(0, ratio - half), ratio + half};
}

struct ratio stats_ratio(const double *a, const double *b, unsigned n, uint64_t seed)
{
    double *memory = malloc((STATS_RESAMPLES + 2 * n) * sizeof(*memory));
    struct rng rng = {seed};
    struct ratio r = {.of_medians = quotient(stats_median(a, n), stats_median(b, n)),
                      .of_means = quotient(stats_mean(a, n), stats_mean(b, n))};

    r.medians = (struct interval){r.of_medians, r.of_medians};
    r.means = (struct interval){r.of_means, r.of_means};
    if (memory && n > 1) {
        double *medians = memory, *x = memory + STATS_RESAMPLES, *y = x + n;
        for (unsigned i = 0; i < STATS_RESAMPLES; i++) {
            for (unsigned k = 0; k < n; k++) {
                uint64_t round = rng_below(&rng, n);
                x[k] = a[round];
                y[k] = b[round];
            }
            qsort(x, n, sizeof(*x), by_value);
            qsort(y, n, sizeof(*y), by_value);
            medians[i] = quotient(sorted_median(x, n), sorted_median(y, n));
        }
        r.medians = middle_95(medians, STATS_RESAMPLES);
        r.means = ratio_interval(a, b, n, r.of_means);
        r.apart = n >= STATS_TRIALS_MIN && (r.means.low > 1 || r.means.high < 1);
    }
    free(memory);
    return r;
}
