/*
 * Latency histogram with bounded relative error, and exact moments beside it.
 *
 * Values below 256 have a bucket each; above, every power of two is cut in 128 equal
 * buckets. A bucket answers with its middle, so what is reported is within 1/256 of
 * what was measured. The same idea as HdrHistogram (Tene); mean and variance are
 * Welford's, not taken from buckets. One writer, no lock.
 */
#ifndef HARNESS_HIST_H
#define HARNESS_HIST_H
#include <stdint.h>

enum {
    HIST_BITS = 7, /* 128 buckets a power of two */
    HIST_BUCKETS = (64 - HIST_BITS + 1) << HIST_BITS
};

struct hist { /* zero-initialised is empty */
    uint64_t n, min, max;
    double mean, m2;
    uint64_t bucket[HIST_BUCKETS];
};

static inline unsigned hist_bucket(uint64_t v)
{
    if (v < 2u << HIST_BITS)
        return (unsigned)v;
    unsigned shift = 63 - (unsigned)__builtin_clzll(v) - HIST_BITS;
    return (shift << HIST_BITS) + (unsigned)(v >> shift);
}

static inline void hist_add(struct hist *h, uint64_t v)
{
    double d = (double)v - h->mean;

    if (!h->n || v < h->min)
        h->min = v;
    if (v > h->max)
        h->max = v;
    h->n++;
    h->mean += d / (double)h->n;
    h->m2 += d * ((double)v - h->mean);
    h->bucket[hist_bucket(v)]++;
}

uint64_t hist_bucket_low(unsigned bucket); /* smallest value in it */
uint64_t hist_bucket_mid(unsigned bucket);
void hist_reset(struct hist *);
/* to becomes the union of both. */
void hist_merge(struct hist *to, const struct hist *from);
double hist_stddev(const struct hist *); /* of the population, as fio has it */
/* The smallest value v such that at least percent % of the values are <= v, within the
 * bucket's error; never outside min..max. 0 when empty. percent: 0..100. */
uint64_t hist_percentile(const struct hist *, double percent);

#endif
