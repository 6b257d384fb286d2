/* What is not done for each request: buckets' bounds, merging, percentiles. hist.h. */
#include "harness/hist.h"

#include <math.h>
#include <string.h>

uint64_t hist_bucket_low(unsigned bucket)
{
    if (bucket < 2u << HIST_BITS)
        return bucket;
    unsigned shift = (bucket >> HIST_BITS) - 1;
    return ((uint64_t)bucket - ((uint64_t)shift << HIST_BITS)) << shift;
}

uint64_t hist_bucket_mid(unsigned bucket)
{
    if (bucket < 2u << HIST_BITS)
        return bucket;
    return hist_bucket_low(bucket) + ((1ull << ((bucket >> HIST_BITS) - 1)) - 1) / 2;
}

void hist_reset(struct hist *h) { memset(h, 0, sizeof(*h)); }

void hist_merge(struct hist *to, const struct hist *from)
{
    if (!from->n)
        return;
    double n = (double)to->n + (double)from->n, d = from->mean - to->mean;

    to->m2 += from->m2 + d * d * (double)to->n * (double)from->n / n;
    to->mean += d * (double)from->n / n;
    if (!to->n || from->min < to->min)
        to->min = from->min;
    if (from->max > to->max)
        to->max = from->max;
    to->n += from->n;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        to->bucket[i] += from->bucket[i];
}

double hist_stddev(const struct hist *h)
{
    return h->n > 1 ? sqrt(h->m2 / (double)h->n) : 0;
}

uint64_t hist_percentile(const struct hist *h, double percent)
{
    double want = ceil(percent / 100 * (double)h->n);
    uint64_t rank = want < 1 ? 1 : (uint64_t)want, seen = 0;

    if (!h->n)
        return 0;
    if (rank >= h->n) /* the last one is known exactly */
        return h->max;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank) {
            uint64_t v = hist_bucket_mid(i);
            return v < h->min ? h->min : v > h->max ? h->max : v;
        }
    }
    return h->max;
}
