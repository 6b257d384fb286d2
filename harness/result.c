/* The JSON of what was measured, in the shape that README.md documents. result.h. */
#include "harness/result.h"

#include <stdlib.h>
#include <string.h>

static const char *const dir_name[LOAD_DIRS] = {"read", "write", "trim", "sync"};

struct result *result_new(void)
{
    struct result *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->load = calloc(1, sizeof(*r->load));
    r->verify_load = calloc(1, sizeof(*r->verify_load));
    r->stall = calloc(1, sizeof(*r->stall));
    if (r->load && r->verify_load && r->stall)
        return r;
    result_free(r);
    return NULL;
}

void result_free(struct result *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < r->lanes; i++)
        free(r->lane[i].lat);
    free(r->lane);
    free(r->load);
    free(r->verify_load);
    free(r->stall);
    free(r);
}

void result_lanes(struct result *r, struct lanes *lanes)
{
    if (lanes->n < 2 || !(r->lane = calloc(lanes->n, sizeof(*r->lane))))
        return;
    r->lanes = lanes->n;
    for (unsigned i = 0; i < lanes->n; i++) {
        struct lane *from = &lanes->lane[i];
        r->lane[i] = (struct lane_result){.lat = from->lat, .loop = from->loop};
        from->lat = NULL;
    }
}

void counters_since(struct counters *c, const struct counters *then)
{
    /* qcow2_stats is nothing but counters. */
    uint64_t *now = (uint64_t *)&c->strategy.top;
    const uint64_t *was = (const uint64_t *)&then->strategy.top;

    for (size_t i = 0; i < sizeof(c->strategy.top) / sizeof(*now); i++)
        now[i] -= was[i];
    c->sim.usage.cpu_ns -= then->sim.usage.cpu_ns;
    for (int i = 0; i < SIM_STEPS; i++)
        c->sim.usage.steps[i] -= then->sim.usage.steps[i];
    c->sim.device.commands -= then->sim.device.commands;
    c->sim.device.merged -= then->sim.device.merged;
    c->sim.device.waits -= then->sim.device.waits;
    c->sim.device.waits_won -= then->sim.device.waits_won;
    c->sim.device.expired -= then->sim.device.expired;
    c->sim.device.busy_ns -= then->sim.device.busy_ns;
    c->strategy.wakeups -= then->strategy.wakeups;
    c->strategy.locks -= then->strategy.locks;
    c->strategy.lock_waits -= then->strategy.lock_waits;
    c->strategy.coroutines -= then->strategy.coroutines;
    c->strategy.bytes_copied -= then->strategy.bytes_copied;
    for (int op = 0; op < AIO_OPS; op++) {
        c->io.ios[op] -= then->io.ios[op];
        c->io.bytes[op] -= then->io.bytes[op];
    }
    c->io.metadata_ios -= then->io.metadata_ios;
    c->loop.slept -= then->loop.slept;
    c->loop.polled -= then->loop.polled;
    c->loop.merged -= then->loop.merged;
    c->loop.carriers -= then->loop.carriers;
    c->loop.inlined -= then->loop.inlined;
    c->loop.inline_declined -= then->loop.inline_declined;
    c->delay.count -= then->delay.count;
    c->delay.asked_ns -= then->delay.asked_ns;
    c->delay.realised_ns -= then->delay.realised_ns;
    c->usage.user_ns -= then->usage.user_ns;
    c->usage.system_ns -= then->usage.system_ns;
    c->usage.switches_own -= then->usage.switches_own;
    c->usage.switches_forced -= then->usage.switches_forced;
    c->usage.faults_major -= then->usage.faults_major;
}

/* ---- JSON ---- */

static void set_count(json_t *o, const char *name, uint64_t value)
{
    json_object_set_new(o, name, json_integer((json_int_t)value));
}

static void set_real(json_t *o, const char *name, double value)
{
    json_object_set_new(o, name, json_real(value));
}

static json_t *percentiles(const struct hist *h, const struct job *j)
{
    static const double usual[] = {1,  5,  10, 20, 30,   40,   50,    60,   70,
                                   80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};
    const double *list = j->percentiles ? j->percentile : usual;
    unsigned n = j->percentiles ? j->percentiles : sizeof(usual) / sizeof(usual[0]);
    json_t *o = json_object();

    for (unsigned i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof(key), "%f", list[i]);
        set_count(o, key, hist_percentile(h, list[i]));
    }
    return o;
}

static json_t *hist_json(const struct hist *h, const struct job *j, bool bins)
{
    json_t *o = json_object();

    set_count(o, "min", h->min);
    set_count(o, "max", h->max);
    set_real(o, "mean", h->mean);
    set_real(o, "stddev", hist_stddev(h));
    set_count(o, "N", h->n);
    if (!h->n)
        return o;
    json_object_set_new(o, "percentile", percentiles(h, j));
    if (!bins)
        return o;
    json_t *all = json_object();
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        char key[24];
        if (!h->bucket[i])
            continue;
        snprintf(key, sizeof(key), "%llu", (unsigned long long)hist_bucket_mid(i));
        set_count(all, key, h->bucket[i]);
    }
    json_object_set_new(o, "bins", all);
    return o;
}

static json_t *dir_json(const struct load_result *l, int dir, const struct job *j,
                        bool bins)
{
    double seconds = (double)(l->end_ns - l->start_ns) / 1e9;
    const struct hist *h = &l->lat[dir];
    json_t *o = json_object();

    set_count(o, "total_ios", h->n);
    set_count(o, "io_bytes", l->bytes[dir]);
    set_count(o, "runtime", (l->end_ns - l->start_ns) / 1000000);
    set_real(o, "iops", seconds > 0 ? (double)h->n / seconds : 0);
    set_real(o, "bw_bytes", seconds > 0 ? (double)l->bytes[dir] / seconds : 0);
    set_count(o, "bw",
              seconds > 0 ? (uint64_t)((double)l->bytes[dir] / seconds / 1024) : 0);
    json_object_set_new(o, "lat_ns", hist_json(h, j, bins));
    return o;
}

struct part {
    const char *name;
    const struct hist *h;
};

static json_t *parts_json(const struct part *part, unsigned n, const struct job *j,
                          bool bins)
{
    json_t *all = json_object();

    for (; n--; part++) {
        json_t *o = json_object();
        set_count(o, "total_ios", part->h->n);
        json_object_set_new(o, "lat_ns", hist_json(part->h, j, bins));
        json_object_set_new(all, part->name, o);
    }
    return all;
}

static json_t *snapshot_json(const struct load_result *l, const struct job *j,
                             bool bins)
{
    const struct part part[] = {
        {"create", &l->create}, {"delete", &l->delete}, {"during", &l->during}};
    return parts_json(part, 3, j, bins);
}

static json_t *vcpu_json(const struct load_result *l, const struct job *j, bool bins)
{
    const struct part part[] = {{"late", &l->vcpu_late}, {"idle", &l->vcpu_idle}};
    return parts_json(part, 2, j, bins);
}

static json_t *total_json(const struct load_result *l)
{
    double seconds = (double)(l->end_ns - l->start_ns) / 1e9;
    uint64_t ios = 0, bytes = 0;
    json_t *o = json_object();

    for (int dir = 0; dir < LOAD_SYNC; dir++) {
        ios += l->lat[dir].n;
        bytes += l->bytes[dir];
    }
    set_count(o, "total_ios", ios);
    set_count(o, "io_bytes", bytes);
    set_count(o, "runtime_ns", l->end_ns - l->start_ns);
    set_real(o, "iops", seconds > 0 ? (double)ios / seconds : 0);
    set_real(o, "bw_bytes", seconds > 0 ? (double)bytes / seconds : 0);
    return o;
}

static uint64_t requests_of(const struct load_result *l)
{
    uint64_t n = 0;
    for (int dir = 0; dir < LOAD_DIRS; dir++)
        n += l->lat[dir].n;
    return n;
}

static double per(double value, uint64_t n) { return n ? value / (double)n : 0; }

/* Sums over the I/Os that the filter held back. */
static json_t *delay_json(const struct delay_stats *d)
{
    json_t *o = json_object();

    set_count(o, "ios", d->count);
    set_count(o, "asked_ns", d->asked_ns);
    set_count(o, "realised_ns", d->realised_ns);
    return o;
}

static json_t *loop_json(const struct loop_stats *l)
{
    json_t *o = json_object();

    set_count(o, "slept", l->slept);
    set_count(o, "polled", l->polled);
    set_count(o, "poll_bound_ns", l->poll_bound_ns);
    set_count(o, "inlined", l->inlined);
    set_count(o, "inline_declined", l->inline_declined);
    set_count(o, "inline_deepest", l->inline_deepest);
    set_count(o, "merged", l->merged);
    set_count(o, "merged_into", l->carriers);
    return o;
}

/* One entry a loop. */
static json_t *lanes_json(const struct result *r, const struct trial *t,
                          const struct job *j, bool bins)
{
    json_t *all = json_array();

    for (unsigned i = 0; i < r->lanes; i++) {
        const struct lane_result *lane = &r->lane[i];
        json_t *o = json_object();
        set_count(o, "total_ios", lane->lat->n);
        json_object_set_new(o, "lat_ns", hist_json(lane->lat, j, bins));
        if (!t->run->no_manifest_host) {
            set_count(o, "slept", lane->loop.slept);
            set_count(o, "polled", lane->loop.polled);
        }
        json_array_append_new(all, o);
    }
    return all;
}

static json_t *host_io_json(const struct result *r)
{
    static const char *const name[AIO_OPS] = {"reads",    "writes", "flushes",
                                              "discards", "zeroes", "grows"};
    const struct blk_stats *s = &r->counters.io;
    uint64_t n = requests_of(r->load), ios = 0, bytes = 0;
    json_t *o = json_object(), *b = json_object();

    for (int op = 0; op < AIO_OPS; op++) {
        set_count(o, name[op], s->ios[op]);
        ios += s->ios[op];
        if (op == AIO_READ || op == AIO_WRITE) {
            set_count(b, name[op], s->bytes[op]);
            bytes += s->bytes[op];
        }
    }
    json_object_set_new(o, "bytes", b);
    set_count(o, "metadata", s->metadata_ios);
    set_real(o, "ios_per_request", per((double)ios, n));
    set_real(o, "bytes_per_request", per((double)bytes, n));
    set_real(o, "flushes_per_request", per((double)s->ios[AIO_FLUSH], n));
    set_count(o, "at_close_ios", r->close_ios);
    set_count(o, "at_close_ns", r->close_ns);
    return o;
}

static json_t *strategy_json(const struct result *r)
{
    const struct strategy_stats *s = &r->counters.strategy;
    json_t *o = json_object();

    set_count(o, "bytes_copied", s->bytes_copied);
    set_count(o, "wakeups", s->wakeups);
    set_count(o, "locks", s->locks);
    set_count(o, "lock_waits", s->lock_waits);
    set_count(o, "coroutines", s->coroutines);
    json_object_set_new(o, "poisoned", json_boolean(s->poisoned));
    json_t *c = json_object();
#define X(name) set_count(c, #name, s->top.name);
    QCOW2_STATS(X)
#undef X
    json_object_set_new(o, "qcow2", c);
    return o;
}

static json_t *process_json(const struct result *r)
{
    const struct usage *u = &r->counters.usage;
    uint64_t n = requests_of(r->load), guest = n - r->load->lat[LOAD_SYNC].n;
    double cpu_ns = (double)(u->user_ns + u->system_ns);
    double wall_ns = (double)(r->load->end_ns - r->load->start_ns);
    json_t *o = json_object();

    set_real(o, "usr_cpu", wall_ns > 0 ? 100 * (double)u->user_ns / wall_ns : 0);
    set_real(o, "sys_cpu", wall_ns > 0 ? 100 * (double)u->system_ns / wall_ns : 0);
    set_real(o, "usr_ns_per_request", per((double)u->user_ns, n));
    set_real(o, "sys_ns_per_request", per((double)u->system_ns, n));
    set_real(o, "cpu_ns_per_request", per(cpu_ns, n));
    set_real(o, "iops_per_cpu_second", cpu_ns > 0 ? (double)guest / (cpu_ns / 1e9) : 0);
    set_count(o, "ctx", u->switches_own + u->switches_forced);
    set_count(o, "ctx_voluntary", u->switches_own);
    set_count(o, "ctx_involuntary", u->switches_forced);
    set_real(o, "ctx_per_request",
             per((double)(u->switches_own + u->switches_forced), n));
    set_count(o, "majf", u->faults_major);
    set_count(o, "rss_max_bytes", u->rss_max);
    set_real(o, "spin_calibration_ns", r->spin_ns);
    set_count(o, "steal_ns", r->steal_ns);
    return o;
}

/* The same in virtual time, where the model says what steps cost. */
static json_t *virtual_process_json(const struct result *r)
{
    const struct sim_usage *u = &r->counters.sim.usage;
    uint64_t n = requests_of(r->load), guest = n - r->load->lat[LOAD_SYNC].n;
    double cpu_ns = (double)u->cpu_ns;
    double wall_ns = (double)(r->load->end_ns - r->load->start_ns);
    json_t *o = json_object(), *steps = json_object();

    set_real(o, "usr_cpu", wall_ns > 0 ? 100 * cpu_ns / wall_ns : 0);
    set_real(o, "cpu_ns_per_request", per(cpu_ns, n));
    set_real(o, "iops_per_cpu_second", cpu_ns > 0 ? (double)guest / (cpu_ns / 1e9) : 0);
    set_count(o, "ctx", u->steps[SIM_HANDOVER]);
    set_real(o, "ctx_per_request", per((double)u->steps[SIM_HANDOVER], n));
    for (int i = 0; i < SIM_STEPS; i++)
        set_count(steps, sim_step_names[i], u->steps[i]);
    json_object_set_new(o, "steps", steps);
    return o;
}

/* What an elevator has done. */
static void put_elevator(json_t *o, uint64_t merged, uint64_t waits, uint64_t won,
                         uint64_t expired)
{
    set_count(o, "merged", merged);
    set_count(o, "waits", waits);
    set_count(o, "waits_won", won);
    set_count(o, "expired", expired);
}

static void put_simulated(json_t *into, const struct result *r)
{
    const struct sim_device_stats *d = &r->counters.sim.device;
    const struct guestq_stats *g = &r->guest;

    if (r->disk) {
        json_t *o = json_object();
        set_count(o, "commands", d->commands);
        set_count(o, "busy_ns", d->busy_ns);
        put_elevator(o, d->merged, d->waits, d->waits_won, d->expired);
        json_object_set_new(into, "disk", o);
    }
    if (r->guest_queue) {
        json_t *o = json_object();
        set_count(o, "requests", g->requests);
        put_elevator(o, g->merged, g->waits, g->waits_won, g->expired);
        json_object_set_new(into, "guest_queue", o);
    }
}

static json_t *verify_json(const struct result *r)
{
    json_t *o = json_object();

    set_count(o, "checked", r->verify.checked);
    set_count(o, "bad", r->verify.bad);
    set_count(o, "unchecked", r->verify.unchecked);
    if (r->verify.bad)
        json_object_set_new(o, "first_bad", json_string(r->verify.first_bad));
    return o;
}

static void measured(json_t *o, const struct result *r, const struct trial *t,
                     const struct job *j)
{
    bool bins = t->run->output_format == OUTPUT_JSON_PLUS;
    json_t *stall = json_object();
    char crc[16];

    json_object_set_new(o, "engine", json_string(r->engine));
    if (*r->engine_notes)
        json_object_set_new(o, "engine_notes", json_string(r->engine_notes));
    set_count(o, "seed", r->seed);
    set_count(o, "disk_size", r->disk_size);
    if (r->load->interrupted)
        json_object_set_new(o, "interrupted", json_true());
    json_object_set_new(o, "total", total_json(r->load));
    for (int dir = 0; dir < LOAD_DIRS; dir++)
        json_object_set_new(o, dir_name[dir], dir_json(r->load, dir, j, bins));
    if (r->lanes)
        json_object_set_new(o, "iothreads", lanes_json(r, t, j, bins));
    if (job_snapshots(j))
        json_object_set_new(o, "snapshot", snapshot_json(r->load, j, bins));
    if (j->global_mutex)
        json_object_set_new(o, "virtual_cpu", vcpu_json(r->load, j, bins));
    if (t->run->turn_probe)
        json_object_set_new(stall, "turn_ns", hist_json(&r->stall->turn, j, bins));
    if (t->heartbeat) {
        json_object_set_new(stall, "late_ns", hist_json(&r->stall->late, j, bins));
        json_object_set_new(stall, "idle_late_ns", hist_json(&r->stall->idle, j, bins));
    }
    json_object_set_new(o, "stall", stall);
    json_object_set_new(o, "host_io", host_io_json(r));
    if (r->counters.delay.count)
        json_object_set_new(o, "host_delay", delay_json(&r->counters.delay));
    json_object_set_new(o, "counters", strategy_json(r));
    if (j->verify)
        json_object_set_new(o, "verify", verify_json(r));
    if (r->content) {
        snprintf(crc, sizeof(crc), "%08x", r->content_crc);
        json_object_set_new(o, "content_crc32c", json_string(crc));
    }
    if (!t->run->no_manifest_host)
        json_object_set_new(o, "loop", loop_json(&r->counters.loop));
    put_simulated(o, r);
    if (r->costly)
        json_object_set_new(o, "process", virtual_process_json(r));
    else if (!t->run->no_manifest_host)
        json_object_set_new(o, "process", process_json(r));
}

json_t *result_json(const struct result *r, const struct trial *t, const struct job *j,
                    int error, const struct error *err)
{
    json_t *o = json_object();

    json_object_set_new(o, "jobname", json_string(j->name));
    json_object_set_new(o, "strategy", json_string(t->spec));
    set_count(o, "job", (uint64_t)(j - t->jobs->job));
    set_count(o, "round", t->round);
    if (t->heartbeat)
        json_object_set_new(o, "heartbeat", json_true());
    json_object_set_new(o, "error", json_integer(-error));
    if (error)
        json_object_set_new(o, "error_text",
                            json_string(err->msg[0] ? err->msg : strerror(-error)));
    if (r)
        measured(o, r, t, j);
    return o;
}
