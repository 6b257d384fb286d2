/* Over trials: medians, intervals, ratios. The numbers of report.h's "summary". */
#include <stdlib.h>
#include <string.h>

#include "harness/report.h"
#include "harness/samples.h"
#include "harness/stats.h"

static const char *const metrics[] = {"total/iops",
                                      "total/bw_bytes",
                                      "process/cpu_ns_per_request",
                                      "process/iops_per_cpu_second",
                                      "host_io/ios_per_request",
                                      "host_io/flushes_per_request",
                                      "stall/turn_ns/max",
                                      NULL};

static void add_summary(json_t *into, const struct samples *s, uint64_t seed)
{
    struct interval in = stats_median_interval(s->v, s->n, seed);
    json_t *o = json_pack("{s:f, s:f, s:[f, f]}", "median", stats_median(s->v, s->n),
                          "mean", stats_mean(s->v, s->n), "interval", in.low, in.high);
    json_object_set_new(into, s->metric, o);
}

/* Latency of each direction that the job has, at mean and p99 beside the rest. */
static void each_metric(const struct job *j, void (*fn)(void *, const char *),
                        void *opaque)
{
    static const char *const of_dir[][2] = {
        {"read/lat_ns/mean", "read/lat_ns/percentile/99.000000"},
        {"write/lat_ns/mean", "write/lat_ns/percentile/99.000000"},
        {"trim/lat_ns/mean", "trim/lat_ns/percentile/99.000000"}};
    const bool has[] = {j->rw.read, j->rw.write, j->rw.trim};

    for (unsigned i = 0; metrics[i]; i++)
        fn(opaque, metrics[i]);
    for (unsigned dir = 0; dir < 3; dir++)
        for (unsigned i = 0; has[dir] && i < 2; i++)
            fn(opaque, of_dir[dir][i]);
}

struct context {
    const json_t *report;
    unsigned job;
    const char *a, *b; /* strategies */
    uint64_t seed;
    json_t *into;
};

static void summarise_metric(void *opaque, const char *metric)
{
    struct context *c = opaque;
    struct samples s;

    samples_take(&s, c->report, c->job, c->a, metric);
    if (s.n)
        add_summary(c->into, &s, c->seed);
    samples_drop(&s);
}

static void compare_metric(void *opaque, const char *metric)
{
    struct context *c = opaque;
    struct samples a, b;

    samples_take(&a, c->report, c->job, c->a, metric);
    samples_take(&b, c->report, c->job, c->b, metric);
    if (a.n && a.n == b.n && (stats_mean(a.v, a.n) > 0 || stats_mean(b.v, b.n) > 0)) {
        struct ratio r = stats_ratio(a.v, b.v, a.n, c->seed);
        json_t *o = json_pack(
            "{s:s, s:s, s:s, s:f, s:[f, f], s:f, s:[f, f], s:b}", "a", c->a, "b", c->b,
            "metric", metric, "ratio_of_medians", r.of_medians, "medians_interval",
            r.medians.low, r.medians.high, "ratio_of_means", r.of_means,
            "means_interval", r.means.low, r.means.high, "apart", r.apart);
        json_array_append_new(c->into, o);
    }
    samples_drop(&a);
    samples_drop(&b);
}

static json_t *summarise_job(const json_t *report, unsigned i, const struct job *j,
                             const struct module_list *l, uint64_t seed)
{
    json_t *o = json_object(), *all = json_array(), *pairs = json_array();

    json_object_set_new(o, "jobname", json_string(j->name));
    for (unsigned s = 0; s < l->n; s++) {
        json_t *one = json_object(), *values = json_object();
        struct context c = {report, i, l->spec[s], NULL, seed, values};
        json_object_set_new(one, "strategy", json_string(l->spec[s]));
        each_metric(j, summarise_metric, &c);
        json_object_set_new(one, "metrics", values);
        json_array_append_new(all, one);
        for (unsigned b = 0; b < s; b++) {
            struct context pair = {report, i, l->spec[s], l->spec[b], seed, pairs};
            each_metric(j, compare_metric, &pair);
        }
    }
    json_object_set_new(o, "strategies", all);
    json_object_set_new(o, "comparison", pairs);
    return o;
}

void report_summarise(json_t *report, const struct job_list *jobs,
                      const struct module_list *strategies, uint64_t seed)
{
    json_t *all = json_array();

    for (unsigned i = 0; i < jobs->n; i++)
        json_array_append_new(
            all, summarise_job(report, i, &jobs->job[i], strategies, seed));
    json_object_set_new(report, "summary", all);
}
