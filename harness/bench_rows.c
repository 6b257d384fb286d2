/* Rows measured, printed, and written as JSON: bench_rows.h. */
#include "harness/bench_rows.h"

#include <stdio.h>

#include "harness/stats.h"

const char *const bench_state_names[] = {"existing", "growing", "fallocated"};

/* ---- measuring ---- */

/* What fio can't do is no reason to give up. */
static void measure_fio(struct bench_row *r, unsigned round)
{
    struct error err = {""};

    for (int how = 0; r->has_fio && how < FIO_REGISTERED; how++)
        if (bench_fio(&r->cell, (enum bench_fio_how)how, &r->fio[how][round], &err) < 0)
            r->has_fio = false;
    r->has_registered &= r->has_fio;
    if (r->has_registered &&
        bench_fio(&r->cell, FIO_REGISTERED, &r->fio[FIO_REGISTERED][round], &err) < 0)
        r->has_registered = false; /* little locked memory, most likely */
    if (err.msg[0])
        fprintf(stderr, "asyncow microbench engine: %s\n", err.msg);
}

int bench_row_measure(const struct bench_rows *b, struct bench_row *r,
                      struct error *err)
{
    int ret = 0;

    r->has_registered = r->has_fio && bench_fio_registers(&r->cell);
    for (unsigned round = 0; round < b->trials && ret == 0; round++) {
        struct bench_cost cost = {.ns = 0};
        if ((ret = bench_prepare(&r->cell, err)) < 0 ||
            (ret = bench_stream(&r->cell, &cost, err)) < 0)
            return ret;
        r->ns[round] = cost.ns;
        r->cpu_ns[round] = cost.cpu_ns;
        measure_fio(r, round);
    }
    if (ret == 0 && !b->sync && (ret = bench_prepare(&r->cell, err)) == 0)
        ret = bench_batches(&r->cell, &r->cost, err);
    if (ret == 0 && b->calls && (ret = bench_prepare(&r->cell, err)) == 0)
        ret = bench_calls(&r->cell, &r->cost, err);
    return ret;
}

/* ---- reporting ---- */

static const char *head =
    "%-24s %-10s %-8s %-5s %5s %9s %19s %9s %8s %9s %6s %9s %9s %10s %7s "
    "%15s\n";

void bench_row_head(void)
{
    printf(head, "engine", "file", "I/O", "", "depth", "us/req", "95 % interval",
           "CPU us", "calls", "submit us", "held", "fio us", "batched", "registered",
           "x fio", "95 % interval");
}

/* Throughput: ours to that of the best fio. */
static struct ratio against_fio(const struct bench_rows *b, const struct bench_row *r)
{
    unsigned n = (unsigned)b->trials;
    int best = FIO_AS_IT_COMES;

    for (int how = FIO_BATCHED; how < FIO_REGISTERED + r->has_registered; how++)
        if (stats_median(r->fio[how], n) < stats_median(r->fio[best], n))
            best = how;
    return stats_ratio(r->fio[best], r->ns, n, 1);
}

void bench_row_print(const struct bench_rows *b, const struct bench_row *r)
{
    const struct bench_cell *c = &r->cell;
    unsigned n = (unsigned)b->trials;
    struct interval in;
    struct ratio x;

    printf("%-24s %-10s %-8s %-5s %5u ", c->loop.engine, bench_state_names[c->state],
           c->direct ? "direct" : "buffered", c->write ? "write" : "read",
           c->loop.depth);
    if (*r->error) {
        printf("%s\n", r->error);
        return;
    }
    in = stats_median_interval(r->ns, n, 1);
    printf("%9.3f %9.3f..%8.3f %9.3f ", stats_median(r->ns, n) / 1e3, in.low / 1e3,
           in.high / 1e3, stats_median(r->cpu_ns, n) / 1e3);
    if (b->calls)
        printf("%8.3f ", r->cost.calls);
    else
        printf("%8s ", "-");
    printf("%9.3f %6.2f ", r->cost.submit_ns / 1e3, r->cost.submit_share);
    if (r->has_fio) {
        x = against_fio(b, r);
        printf("%9.3f %9.3f ", stats_median(r->fio[FIO_AS_IT_COMES], n) / 1e3,
               stats_median(r->fio[FIO_BATCHED], n) / 1e3);
        if (r->has_registered)
            printf("%10.3f ", stats_median(r->fio[FIO_REGISTERED], n) / 1e3);
        else
            printf("%10s ", "-");
        printf("%7.3f %6.3f..%.3f\n", x.of_medians, x.medians.low, x.medians.high);
    } else {
        printf("%9s %9s %10s %7s\n", "-", "-", "-", "-");
    }
}

json_t *bench_row_json(const struct bench_rows *b, const struct bench_row *r)
{
    const struct bench_cell *c = &r->cell;
    unsigned n = (unsigned)b->trials;
    json_t *o = json_pack("{s:s, s:s, s:b, s:s, s:i}", "engine", c->loop.engine, "file",
                          bench_state_names[c->state], "direct", c->direct, "rw",
                          c->write ? "write" : "read", "iodepth", (int)c->loop.depth);
    struct interval in;

    if (*r->error) {
        json_object_set_new(o, "error", json_string(r->error));
        return o;
    }
    in = stats_median_interval(r->ns, n, 1);
    json_object_update_new(
        o, json_pack("{s:f, s:[f,f], s:f, s:f, s:f}", "ns_per_request",
                     stats_median(r->ns, n), "ns_interval", in.low, in.high,
                     "cpu_ns_per_request", stats_median(r->cpu_ns, n),
                     "submit_ns_per_request", r->cost.submit_ns, "submit_share",
                     r->cost.submit_share));
    if (b->calls)
        json_object_set_new(o, "system_calls_per_request", json_real(r->cost.calls));
    if (r->has_fio) {
        struct ratio x = against_fio(b, r);
        json_object_update_new(
            o,
            json_pack("{s:f, s:f, s:f, s:[f,f]}", "fio_ns_per_request",
                      stats_median(r->fio[FIO_AS_IT_COMES], n),
                      "fio_batched_ns_per_request",
                      stats_median(r->fio[FIO_BATCHED], n), "times_fio", x.of_medians,
                      "times_fio_interval", x.medians.low, x.medians.high));
        if (r->has_registered)
            json_object_set_new(o, "fio_registered_ns_per_request",
                                json_real(stats_median(r->fio[FIO_REGISTERED], n)));
    }
    return o;
}
