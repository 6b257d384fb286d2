/* The report as people read it: tables, then in words what the numbers allow to say. */
#include "harness/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/samples.h"
#include "harness/session.h"

enum { COLUMNS = 32, ROWS = 64, CELL = 28 };

/* ---- a table whose columns are as wide as what is in them ---- */

struct table {
    char cell[ROWS][COLUMNS][CELL];
    char *name[ROWS]; /* first column, not owned */
    unsigned rows, columns;
};

static struct table *table_new(void)
{
    struct table *t = calloc(1, sizeof(*t));
    if (t)
        t->rows = 1; /* the head */
    return t;
}

__attribute__((format(printf, 4, 5))) static void
table_put(struct table *t, unsigned row, const char *head, const char *fmt, ...)
{
    unsigned column = 0;
    va_list ap;

    while (column < t->columns && strcmp(t->cell[0][column], head))
        column++;
    if (column == COLUMNS || row >= ROWS)
        return;
    if (column == t->columns)
        snprintf(t->cell[0][t->columns++], CELL, "%s", head);
    va_start(ap, fmt);
    vsnprintf(t->cell[row][column], CELL, fmt, ap);
    va_end(ap);
}

static unsigned table_row(struct table *t, const char *name)
{
    if (t->rows < ROWS)
        t->name[t->rows] = (char *)(uintptr_t)name;
    return t->rows++;
}

static void table_print(FILE *f, const struct table *t, const char *title)
{
    unsigned rows = t->rows < ROWS ? t->rows : ROWS, first = (unsigned)strlen(title);

    for (unsigned r = 1; r < rows; r++)
        if (strlen(t->name[r]) > first)
            first = (unsigned)strlen(t->name[r]);
    for (unsigned r = 0; r < rows; r++) {
        fprintf(f, "%-*s", (int)first, r ? t->name[r] : title);
        for (unsigned c = 0; c < t->columns; c++) {
            size_t width = 0;
            for (unsigned k = 0; k < rows; k++)
                if (strlen(t->cell[k][c]) > width)
                    width = strlen(t->cell[k][c]);
            fprintf(f, "  %*s", (int)width, t->cell[r][c][0] ? t->cell[r][c] : "-");
        }
        fputc('\n', f);
    }
    fputc('\n', f);
}

/* ---- numbers ---- */

static void put_us(struct table *t, unsigned row, const char *head, double ns)
{
    double us = ns / 1000;
    if (isnan(ns))
        return;
    table_put(t, row, head, "%.*f", us < 10 ? 2 : us < 1000 ? 1 : 0, us);
}

struct view {
    FILE *f;
    const json_t *report;
    const struct job *job;
    unsigned index;
    const struct module_list *l;
};

static double median(const struct view *v, unsigned strategy, const char *metric)
{
    return samples_median(v->report, v->index, v->l->spec[strategy], metric, NAN);
}

static const json_t *summary_of(const struct view *v)
{
    return json_array_get(json_object_get(v->report, "summary"), v->index);
}

static const json_t *ratio_of(const struct view *v, const char *a, const char *b,
                              const char *metric)
{
    const json_t *all = json_object_get(summary_of(v), "comparison");

    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *c = json_array_get(all, i);
        if (!strcmp(json_string_value(json_object_get(c, "a")), a) &&
            !strcmp(json_string_value(json_object_get(c, "b")), b) &&
            !strcmp(json_string_value(json_object_get(c, "metric")), metric))
            return c;
    }
    return NULL;
}

static double pair_item(const json_t *o, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(o, key), i));
}

static json_int_t whole(const json_t *o, const char *path)
{
    return json_integer_value(samples_at(o, path));
}

/* ---- tables ---- */

static unsigned trials_of(const struct view *v, unsigned strategy)
{
    struct samples s;
    samples_take(&s, v->report, v->index, v->l->spec[strategy], "total/iops");
    unsigned n = s.n;
    samples_drop(&s);
    return n;
}

/* How this strategy compares with the first one of the list. */
static void put_ratio(struct table *t, unsigned row, const struct view *v, unsigned s,
                      const json_t *ratio)
{
    bool interval = trials_of(v, s) > 1;

    if (v->l->n < 2)
        return;
    if (!ratio) {
        table_put(t, row, "median/1st", "1");
        table_put(t, row, "mean/1st", "1");
        table_put(t, row, "95 % of it", "-");
        return;
    }
    table_put(t, row, "median/1st", "%.3f",
              json_number_value(json_object_get(ratio, "ratio_of_medians")));
    table_put(t, row, "mean/1st", "%.3f",
              json_number_value(json_object_get(ratio, "ratio_of_means")));
    if (interval)
        table_put(t, row, "95 % of it", "%.3f..%.3f",
                  pair_item(ratio, "means_interval", 0),
                  pair_item(ratio, "means_interval", 1));
}

/* Throughput, its interval, its ratio to the first strategy's, and what it costs. */
static void print_throughput(const struct view *v)
{
    struct table *t = table_new();
    const json_t *strategies = json_object_get(summary_of(v), "strategies");

    if (!t)
        return;
    for (unsigned s = 0; s < v->l->n; s++) {
        const char *name = v->l->spec[s];
        unsigned row = table_row(t, name);
        const json_t *m = samples_at(json_array_get(strategies, s), "metrics");
        const json_t *iops = json_object_get(m, "total/iops");
        const json_t *ratio = s ? ratio_of(v, name, v->l->spec[0], "total/iops") : NULL;
        if (!iops)
            continue;
        table_put(t, row, "IOPS", "%.0f", median(v, s, "total/iops"));
        if (trials_of(v, s) > 1)
            table_put(t, row, "95 % interval", "%.0f..%.0f",
                      pair_item(iops, "interval", 0), pair_item(iops, "interval", 1));
        table_put(t, row, "MiB/s", "%.1f", median(v, s, "total/bw_bytes") / 1048576);
        put_ratio(t, row, v, s, ratio);
        if (isnan(median(v, s, "process/cpu_ns_per_request")))
            continue;
        table_put(t, row, "IOPS/CPU-s", "%.0f",
                  median(v, s, "process/iops_per_cpu_second"));
        if (isnan(median(v, s, "process/usr_ns_per_request"))) { /* in virtual time */
            put_us(t, row, "CPU us/req", median(v, s, "process/cpu_ns_per_request"));
            continue;
        }
        put_us(t, row, "usr us/req", median(v, s, "process/usr_ns_per_request"));
        put_us(t, row, "sys us/req", median(v, s, "process/sys_ns_per_request"));
    }
    table_print(v->f, t, "throughput");
    free(t);
}

static void put_interval_us(struct table *t, unsigned row, const char *head,
                            const struct view *v, unsigned s, const char *metric)
{
    const json_t *one = json_array_get(json_object_get(summary_of(v), "strategies"), s);
    const json_t *o = json_object_get(json_object_get(one, "metrics"), metric);

    if (o)
        table_put(t, row, head, "%.1f..%.1f", pair_item(o, "interval", 0) / 1000,
                  pair_item(o, "interval", 1) / 1000);
}

static void print_latency(const struct view *v, const char *dir, const char *title)
{
    static const double usual[] = {50, 90, 99, 99.9, 99.99};
    const double *list = v->job->percentiles ? v->job->percentile : usual;
    unsigned n = v->job->percentiles ? v->job->percentiles : 5;
    struct table *t = table_new();
    bool any = false;

    for (unsigned s = 0; t && s < v->l->n; s++) {
        char path[64], head[16];
        unsigned row = table_row(t, v->l->spec[s]);
        snprintf(path, sizeof(path), "%s/total_ios", dir);
        if (!(median(v, s, path) > 0))
            continue;
        any = true;
        static const char *const moment[] = {"min", "mean", "stddev"};
        for (unsigned i = 0; i < 3; i++) {
            snprintf(path, sizeof(path), "%s/lat_ns/%s", dir, moment[i]);
            put_us(t, row, moment[i], median(v, s, path));
        }
        for (unsigned i = 0; i < n && i < COLUMNS - 4; i++) {
            snprintf(path, sizeof(path), "%s/lat_ns/percentile/%f", dir, list[i]);
            snprintf(head, sizeof(head), "p%g", list[i]);
            put_us(t, row, head, median(v, s, path));
            if (list[i] == 99 && trials_of(v, s) > 1)
                put_interval_us(t, row, "95 % of it", v, s, path);
        }
        snprintf(path, sizeof(path), "%s/lat_ns/max", dir);
        put_us(t, row, "max", median(v, s, path));
    }
    if (any)
        table_print(v->f, t, title);
    free(t);
}

static double stall_value(const struct view *v, unsigned strategy, const char *path)
{
    const json_t *all = json_object_get(v->report, "jobs");

    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *r = json_array_get(all, i), *value = samples_at(r, path);
        if (value && samples_match(r, v->index, v->l->spec[strategy], true))
            return json_number_value(value);
    }
    return NAN;
}

static void print_stall(const struct view *v)
{
    static const struct {
        const char *path, *head;
        bool heartbeat;
    } columns[] = {{"stall/turn_ns/mean", "turn mean", false},
                   {"stall/turn_ns/percentile/99.000000", "p99", false},
                   {"stall/turn_ns/max", "max", false},
                   {"stall/late_ns/mean", "beat late: mean", true},
                   {"stall/late_ns/percentile/99.000000", " p99", true},
                   {"stall/late_ns/max", " max", true},
                   {"stall/idle_late_ns/mean", "idle: mean", true},
                   {"stall/idle_late_ns/percentile/99.000000", "  p99", true},
                   {"stall/idle_late_ns/max", "  max", true}};
    struct table *t = table_new();

    for (unsigned s = 0; t && s < v->l->n; s++) {
        unsigned row = table_row(t, v->l->spec[s]);
        for (unsigned i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
            double ns = columns[i].heartbeat ? stall_value(v, s, columns[i].path)
                                             : median(v, s, columns[i].path);
            put_us(t, row, columns[i].head, ns);
        }
    }
    if (t && t->columns)
        table_print(v->f, t, "stall of the loop, us");
    free(t);
}

static void print_cost(const struct view *v)
{
    struct table *t = table_new();

    for (unsigned s = 0; t && s < v->l->n; s++) {
        unsigned row = table_row(t, v->l->spec[s]);
        double n = median(v, s, "total/total_ios");
        if (isnan(n))
            continue;
        table_put(t, row, "host I/Os", "%.3f", median(v, s, "host_io/ios_per_request"));
        table_put(t, row, "host bytes", "%.0f",
                  median(v, s, "host_io/bytes_per_request"));
        table_put(t, row, "flushes", "%.4f",
                  median(v, s, "host_io/flushes_per_request"));
        table_put(t, row, "copied B", "%.0f",
                  median(v, s, "counters/bytes_copied") / (n > 0 ? n : 1));
        if (isnan(median(v, s, "process/ctx")))
            continue;
        double requests = n > 0 ? n : 1;
        if (isnan(median(v, s, "process/ctx_voluntary"))) {
            table_put(t, row, "ctx", "%.3f", median(v, s, "process/ctx") / requests);
            continue;
        }
        table_put(t, row, "ctx vol", "%.3f",
                  median(v, s, "process/ctx_voluntary") / requests);
        table_put(t, row, "invol", "%.4f",
                  median(v, s, "process/ctx_involuntary") / requests);
        table_put(t, row, "RSS MiB", "%.1f",
                  median(v, s, "process/rss_max_bytes") / 1048576);
    }
    if (t && t->columns)
        table_print(v->f, t, "per request");
    free(t);
}

/* Rare paths: counters that are not zero, a line a strategy. */
static void print_counters(const struct view *v)
{
    const json_t *all = json_object_get(v->report, "jobs");

    for (unsigned s = 0; s < v->l->n; s++) {
        const json_t *counters = NULL, *value;
        const char *key;
        for (size_t i = 0; !counters && i < json_array_size(all); i++) {
            const json_t *r = json_array_get(all, i);
            if (samples_match(r, v->index, v->l->spec[s], false))
                counters = samples_at(r, "counters/qcow2");
        }
        bool any = false;
        json_object_foreach((json_t *)(uintptr_t)counters, key, value)
        {
            json_int_t n = json_integer_value(value);
            if (!n)
                continue;
            fprintf(v->f, "%s %s %lld", any ? "," : v->l->spec[s], key, (long long)n);
            any = true;
        }
        if (any)
            fputc('\n', v->f);
    }
}

/* ---- words ---- */

static void print_header(const struct view *v)
{
    const struct job *j = v->job;
    unsigned trials = v->l->n ? trials_of(v, 0) : 0;

    fprintf(v->f, "%s: rw=%s bs=%llu iodepth=%llu engine=%s %s metadata-writes=%s",
            j->name, j->rw.text, (unsigned long long)j->bs,
            (unsigned long long)j->iodepth, session_engine(j),
            j->direct ? "direct" : "buffered", j->through ? "through" : "back");
    if (trials > 1)
        fprintf(v->f, "; medians of %u trials each, interleaved", trials);
    fputc('\n', v->f);
}

/* Which pairs cannot be told apart by throughput. */
static void print_verdicts(const struct view *v)
{
    const json_t *all = json_object_get(summary_of(v), "comparison");
    unsigned trials = v->l->n ? trials_of(v, 0) : 0;

    if (v->l->n < 2)
        return;
    if (trials < 3) {
        fprintf(v->f, "Too few trials to tell strategies apart: --trials=5 or more.\n");
        return;
    }
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *c = json_array_get(all, i);
        if (strcmp(json_string_value(json_object_get(c, "metric")), "total/iops"))
            continue;
        const char *a = json_string_value(json_object_get(c, "a"));
        const char *b = json_string_value(json_object_get(c, "b"));
        double mean = json_number_value(json_object_get(c, "ratio_of_means"));
        double low = pair_item(c, "means_interval", 0);
        double high = pair_item(c, "means_interval", 1);
        if (!json_is_true(json_object_get(c, "apart")))
            fprintf(v->f,
                    "IOPS: %s and %s cannot be told apart (%.3f, 95 %% %.3f..%.3f)\n",
                    a, b, mean, low, high);
        else
            fprintf(v->f, "IOPS: %s is %.1f %% %s than %s (95 %% %.1f..%.1f)\n", a,
                    100 * fabs(mean - 1), mean > 1 ? "faster" : "slower", b,
                    100 * fmin(fabs(low - 1), fabs(high - 1)),
                    100 * fmax(fabs(low - 1), fabs(high - 1)));
    }
}

/* What was verified, summed over trials, and each failure. */
static void print_checks(const struct view *v)
{
    const json_t *all = json_object_get(v->report, "jobs");

    for (unsigned s = 0; s < v->l->n; s++) {
        json_int_t checked = 0, bad = 0, unchecked = 0;
        for (size_t i = 0; i < json_array_size(all); i++) {
            const json_t *r = json_array_get(all, i);
            const char *name = json_string_value(json_object_get(r, "strategy"));
            if (whole(r, "job") != (json_int_t)v->index || strcmp(name, v->l->spec[s]))
                continue;
            if (whole(r, "error"))
                fprintf(v->f, "%s: FAILED: %s\n", name,
                        json_string_value(json_object_get(r, "error_text")));
            checked += whole(r, "verify/checked");
            bad += whole(r, "verify/bad");
            unchecked += whole(r, "verify/unchecked");
        }
        if (v->job->verify)
            fprintf(v->f,
                    "%s: verify: %lld blocks checked, %lld bad, %lld not checkable\n",
                    v->l->spec[s], (long long)checked, (long long)bad,
                    (long long)unchecked);
    }
}

static const char *text_at(const json_t *o, const char *path)
{
    const char *text = json_string_value(samples_at(o, path));
    return text ? text : "?";
}

static void print_manifest(FILE *f, const json_t *report)
{
    const json_t *m = json_object_get(report, "manifest");

    fprintf(f, "asyncow %s, seed %lld", text_at(m, "versions/asyncow"),
            (long long)whole(m, "seed"));
    if (json_object_get(m, "machine"))
        fprintf(f, "; %s, %s, CPUs %s", text_at(m, "machine/kernel"),
                text_at(m, "machine/cpu"), text_at(m, "machine/cpus_allowed"));
    fputc('\n', f);
}

static void print_image(const struct view *v)
{
    const json_t *jobs = samples_at(v->report, "manifest/jobs");
    const json_t *o = json_object_get(json_array_get(jobs, v->index), "image");

    fprintf(v->f, "%s: %s, %g MiB", text_at(o, "filename"), text_at(o, "format"),
            (double)whole(o, "virtual-size") / 1048576);
    if (json_object_get(o, "cluster-size"))
        fprintf(v->f, ", version %lld, clusters of %g KiB",
                (long long)whole(o, "version"),
                (double)whole(o, "cluster-size") / 1024);
    if (json_object_get(o, "backing"))
        fprintf(v->f, ", over %s", text_at(o, "backing/filename"));
    if (json_object_get(o, "file-system"))
        fprintf(v->f, ", on %s", text_at(o, "file-system"));
    fputc('\n', v->f);
}

/* Any trial of this job that came to its end. */
static bool measured(const struct view *v)
{
    for (unsigned s = 0; s < v->l->n; s++)
        if (trials_of(v, s))
            return true;
    return false;
}

static void print_tables(const struct view *v)
{
    print_throughput(v);
    print_latency(v, "read", "read latency, us");
    print_latency(v, "write", "write latency, us");
    print_latency(v, "trim", "trim latency, us");
    print_latency(v, "sync", "flush latency, us");
    print_latency(v, "snapshot/create", "snapshot made in, us");
    print_latency(v, "snapshot/delete", "snapshot deleted in, us");
    print_latency(v, "snapshot/during", "latency meanwhile, us");
    print_latency(v, "virtual_cpu/late", "virtual CPU late, us");
    print_latency(v, "virtual_cpu/idle", "virtual CPU late without load, us");
    print_stall(v);
    print_cost(v);
    print_counters(v);
}

void report_text(FILE *f, const json_t *report, const struct job_list *jobs,
                 const struct module_list *strategies)
{
    print_manifest(f, report);
    for (unsigned i = 0; i < jobs->n; i++) {
        struct view v = {f, report, &jobs->job[i], i, strategies};
        fputc('\n', f);
        print_header(&v);
        print_image(&v);
        report_io(f, report, i, strategies);
        fputc('\n', f);
        if (measured(&v))
            print_tables(&v);
        print_checks(&v);
        if (measured(&v))
            print_verdicts(&v);
    }
}
