/* The table of options, and setting one by its name: options.h. */
#include "harness/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "harness/iothreads.h"
#include "harness/options_int.h"
#include "harness/values.h"

const struct option_def option_defs[] = {
    {"image", "filename", TEXT, AT(image), .group = "What to run on",
     .help = "the image file"},
    {"format", NULL, CHOICE, AT(format), .choices = "raw|qcow2|vdi",
     .help = "of the image; probed by its magic if not given"},
    {"strategy", NULL, TEXT, AT(strategy), .global = true,
     .help = "NAME[:setting=value,...], ./mine.so, a comma list, or all (coroutines)"},
    {"engine", "ioengine", TEXT, AT(engine),
     .help =
         "NAME[:setting=value,...]: sync, threads, posix-aio, linux-aio (libaio), "
         "io_uring, libuv, sim; auto (unless given) chooses; `asyncow engines` lists "
         "them"},
    {"direct", NULL, FLAG, AT(direct), .help = "O_DIRECT on the host"},
    {"metadata-writes", NULL, CHOICE, AT(through), .choices = "back|through",
     .of_bool = true,
     .help = "when changed metadata goes to the disk: on flush and "
             "eviction, or before each request completes"},
    {"cache-size", NULL, BYTES, AT(cache), 4096, 1ull << 40,
     .help = "metadata cache of the top image"},
    {"grow", NULL, BYTES, AT(grow), 0, 1ull << 40,
     .help = "the file grows ahead of need by this much; 0: off"},
    {"punch", NULL, FLAG, AT(punch), .help = "give freed clusters back to the host"},
    {"filter", NULL, TEXT, AT(filters),
     .help = "I/O filters, e.g. delay:read=100us;fault:op=write,n=3,error=EIO; "
             "`asyncow engines` lists what they can be told"},
    {"batch", NULL, COUNT, AT(batch), 0, 4096,
     .help = "most host I/Os per submission; 0: no limit"},
    {"merge", NULL, BYTES, AT(merge), 0, 1u << 30,
     .help = "host I/Os side by side go down as one of at most so many bytes; 0: off"},
    {"workers", NULL, COUNT, AT(workers), 0, 1024,
     .help = "threads of the engines threads, posix-aio, libuv; 0: their default"},
    {"loop", NULL, CHOICE, AT(loop), .choices = "native|libuv",
     .help = "where the loop sleeps: in the engine's own wait, or in libuv's loop"},
    {"iothreads", NULL, COUNT, AT(iothreads), 1, IOTHREADS_MAX,
     .help = "event loops, a thread each, that serve the image together and share "
             "iodepth; `asyncow strategies` says which can"},
    {"poll-us", NULL, COUNT, AT(poll_us), 0, 1000000,
     .help = "look for completions so long before sleeping, at most; adapts; 0: off"},
    {"completion", NULL, CHOICE, AT(completion), .choices = "bh|inline",
     .help = "callbacks from a turn of the loop, or from inside the submission, too"},
    {"waiter", NULL, CHOICE, AT(waiter), .choices = "event|select|blind",
     .help =
         "how who waits for one thing sleeps: until it comes; or for waiter-us, with "
         "an eye on the engine's descriptor, or on nothing"},
    {"waiter-us", NULL, COUNT, AT(waiter_us), 1, 10000000,
     .help = "the bound of the last two"},
    {"sim-model", NULL, TEXT, AT(sim_model),
     .help = "world of the engine sim: zero, fixed, lognormal, disk, or a file's path; "
             "with "
             ":name=value,... behind it; `asyncow engines` lists what there is to set"},
    {"allow-write", NULL, FLAG, AT(allow_write),
     .help = "let a writing workload loose on an image that holds data"},
    {"copy", NULL, FLAG, AT(copy),
     .help =
         "work on a temporary copy beside the image (always so with several trials)"},
    {"allow-backing", NULL, FLAG, AT(allow_backing),
     .help = "open the backing files that the image names"},
    {"no-lock", NULL, FLAG, AT(no_lock),
     .help = "do not lock the image (qemu's -U); for reading, or with --copy"},

    {"name", NULL, TEXT, AT(name), .group = "Workload, as in fio",
     .help = "of the job"},
    {"rw", "readwrite", RW, AT(rw),
     .help = "[rand]read, write, rw, trim, trimwrite; `:NR` skips NR bytes after each "
             "request (random: NR requests in a row)"},
    {"bs", "blocksize", BYTES, AT(bs), 1, 64u << 20, .help = "bytes per request"},
    {"iodepth", NULL, COUNT, AT(iodepth), 1, OPTION_DEPTH_MAX,
     .help = "requests kept in flight"},
    {"size", NULL, AMOUNT, AT(size), .help = "of the region worked on; N% of the disk"},
    {"offset", NULL, AMOUNT, AT(offset),
     .help = "where the region begins; N% of the disk"},
    {"io_size", "io_limit", AMOUNT, AT(io_size),
     .help = "bytes to transfer; the region is gone round again if need be"},
    {"number_ios", NULL, COUNT, AT(number_ios), 0, UINT64_MAX,
     .help = "requests to make, at most"},
    {"loops", NULL, COUNT, AT(loops), 1, 1u << 30, .help = "passes over the region"},
    {"runtime", NULL, TIME, AT(runtime_ns),
     .help = "at most this long; plain: seconds"},
    {"time_based", NULL, FLAG, AT(time_based), .help = "go on until runtime is over"},
    {"ramp_time", NULL, TIME, AT(ramp_ns), .help = "run this long before measuring"},
    {"streams", NULL, COUNT, AT(streams), 1, OPTION_DEPTH_MAX,
     .help = "sequential: so many processes share iodepth, each with a part of the "
             "region that it goes through by itself"},
    {"thinktime", NULL, TIME, AT(think_ns),
     .help = "pause between a request's end and the next one in its place"},
    {"rwmixread", NULL, COUNT, AT(rwmixread), 0, 100,
     .help = "per cent reads in a mix"},
    {"randseed", NULL, COUNT, AT(randseed), 0, UINT64_MAX,
     .help = "of offsets, mix and data (--seed)"},
    {"norandommap", NULL, FLAG, AT(norandommap),
     .help = "draw offsets freely instead of each block once a pass"},
    {"fsync", NULL, COUNT, AT(fsync), 0, 1u << 30,
     .help = "flush after every N writes"},
    {"fdatasync", NULL, COUNT, AT(fdatasync), 0, 1u << 30, .help = "the same"},
    {"end_fsync", NULL, FLAG, AT(end_fsync), .help = "one flush at the end, measured"},
    {"verify", NULL, CHOICE, AT(verify), .choices = "none|crc32c",
     .help = "headers with checksums in what is written; read back and compared"},
    {"do_verify", NULL, FLAG, AT(do_verify), .help = "read back after writing"},
    {"verify_only", NULL, FLAG, AT(verify_only),
     .help = "write nothing: check what the same job wrote before"},
    {"verify_fatal", NULL, FLAG, AT(verify_fatal),
     .help = "stop at the first bad block"},
    {"verify-content", NULL, FLAG, AT(verify_content),
     .help = "crc32c over the whole disk at the end; must agree between strategies"},
    {"snapshot-every", NULL, EVERY, AT(snapshot_every),
     .help = "make an internal snapshot so often, 500ms or every so many requests, and "
             "delete the one before the last"},
    {"global-mutex", NULL, CHOICE, AT(global_mutex), .choices = "none|loop|dedicated",
     .help = "a virtual CPU takes a global mutex to submit and to complete; the loop "
             "runs under it, or is dedicated and does not"},
    {"vcpu-tick", NULL, TIME, AT(vcpu_tick_ns),
     .help = "the virtual CPU computes for so long between two takings"},
    {"read_iolog", NULL, TEXT, AT(read_iolog),
     .help = "make the requests that the filter record wrote down, instead of rw's"},
    {"replay_no_stall", NULL, FLAG, AT(replay_no_stall),
     .help = "as fast as iodepth allows, not at the times recorded"},
    {"replay_order", NULL, CHOICE, AT(replay_order), .choices = "seq|arrival",
     .help = "in the order of submission, or in that in which they reached the file"},
    {"zero_buffers", NULL, FLAG, AT(zero_buffers), .help = "write zeros, not noise"},
    {"numjobs", NULL, COUNT, AT(numjobs), 1, UINT64_MAX,
     .help = "only 1 is possible: an image has one writer"},
    {"kb_base", NULL, COUNT, AT(kb_base), 1000, 1024,
     .help = "what k means, 1024 or 1000; KiB is 1024 always, unlike in fio"},
    {"percentile_list", NULL, PERCENTILES, 0, .help = "e.g. 50:90:99.9"},
    {"stonewall", "wait_for_previous", NOOP, 0,
     .help = "accepted: jobs always run one after the other"},
    {"group_reporting", NULL, NOOP, 0, .help = "accepted: numjobs is 1"},
    {"thread", NULL, NOOP, 0, .help = "accepted: numjobs is 1"},

    {"trials", NULL, COUNT, AT(trials), 1, 10000, .global = true,
     .group = "How to measure", .help = "per strategy (1; for several strategies 5)"},
    {"cpus", NULL, COUNT, AT(cpus), 0, 1024, .global = true,
     .help = "pin the process to so many CPUs; 0: all"},
    {"seed", NULL, COUNT, AT(seed), 0, UINT64_MAX, .global = true,
     .help = "of all that is random: order of trials, simulator, randseed"},
    {"stall", NULL, FLAG, AT(stall), .global = true,
     .help = "one more trial each with a heartbeat on the loop: its lateness"},
    {"turn-probe", NULL, FLAG, AT(turn_probe), .global = true,
     .help = "measure how long each turn of the loop keeps it busy"},
    {"invalidate", NULL, FLAG, AT(invalidate), .global = true,
     .help = "drop the image from the host's page cache before each job"},
    {"no-fork", NULL, FLAG, AT(no_fork), .global = true,
     .help = "run trials in this process, for debuggers"},
    {"output-format", NULL, CHOICE, AT(output_format), .choices = "text|json|json+",
     .global = true, .group = "Output", .help = "json+ has the histograms too"},
    {"output", NULL, TEXT, AT(output), .global = true, .help = "to this file"},
    {"no-manifest-host", NULL, FLAG, AT(no_manifest_host), .global = true,
     .help = "leave out what differs between machines and moments"},
    {"quiet", NULL, FLAG, AT(quiet), .global = true, .help = "no progress, no notes"},
    {.name = NULL},
};
enum { DEFS = sizeof(option_defs) / sizeof(option_defs[0]) - 1 };

/* ---- names ---- */

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b)))
            return false;
    return *a == *b;
}

static const struct option_def *find(const char *name)
{
    for (unsigned i = 0; i < DEFS; i++)
        if (same_name(name, option_defs[i].name) ||
            (option_defs[i].alias && same_name(name, option_defs[i].alias)))
            return &option_defs[i];
    return NULL;
}

static const char *nth_option(void *opaque, unsigned i)
{
    (void)opaque;
    return i < DEFS                                      ? option_defs[i].name
           : i < 2 * DEFS && option_defs[i - DEFS].alias ? option_defs[i - DEFS].alias
           : i < 2 * DEFS                                ? ""
                                                         : NULL;
}

static int unknown(const char *name, struct error *err)
{
    const char *near = nearest_name(name, nth_option, NULL);

    if (near && *near)
        return error_set(err, -ENOENT, "unknown option `%s`; the nearest is `%s`", name,
                         near);
    return error_set(err, -ENOENT,
                     "unknown option `%s`; `asyncow run --help` lists them all", name);
}

bool job_option_wants_value(const char *name)
{
    const struct option_def *d = find(name);
    return d && d->kind != FLAG && d->kind != NOOP;
}

bool job_option_global(const char *name)
{
    const struct option_def *d = find(name);
    return d && d->global;
}

/* ---- values ---- */

/* The index of value among "a|b|c", or -1. */
static int choice_index(const char *choices, const char *value)
{
    size_t len = strlen(value);

    for (int i = 0; *choices; i++) {
        size_t n = strcspn(choices, "|");
        if (n == len && !strncmp(choices, value, n))
            return i;
        choices += n + (choices[n] == '|');
    }
    return -1;
}

static int set_choice(struct job *j, const struct option_def *d, const char *value,
                      struct error *err)
{
    int i = choice_index(d->choices, value);

    if (i < 0 && d->at == AT(output_format) && !strcmp(value, "normal"))
        i = 0; /* fio's name */
    if (i < 0)
        return error_set(err, -EINVAL, "%s: `%s` is not one of %s", d->name, value,
                         d->choices);
    if (d->at == AT(format)) {
        free(j->format);
        j->format = strdup(value);
        return j->format ? 0 : -ENOMEM;
    }
    if (d->of_bool)
        *(bool *)option_field(j, d) = i;
    else
        *(uint64_t *)option_field(j, d) = (uint64_t)i;
    return 0;
}

static int set_flag(struct job *j, const struct option_def *d, const char *value,
                    struct error *err)
{
    bool on = !value || !strcmp(value, "1") || !strcmp(value, "on") ||
              !strcmp(value, "yes") || !strcmp(value, "true");

    if (!on && strcmp(value, "0") && strcmp(value, "off") && strcmp(value, "no") &&
        strcmp(value, "false"))
        return error_set(err, -EINVAL, "%s: `%s` is neither 0 nor 1", d->name, value);
    *(bool *)option_field(j, d) = on;
    return 0;
}

static int set_count(struct job *j, const struct option_def *d, const char *value,
                     struct error *err)
{
    uint64_t v = 0;
    int ret = d->kind == TIME    ? parse_time_ns(value, &v)
              : d->kind == BYTES ? parse_bytes(value, j->kb_base, &v)
                                 : parse_count(value, &v);

    if (ret < 0)
        return error_set(err, ret, "%s: `%s` is not %s", d->name, value,
                         d->kind == TIME    ? "a time such as 10, 500ms or 2m"
                         : d->kind == BYTES ? "a size such as 4096, 4k or 1m"
                                            : "a whole number");
    if (d->at == AT(numjobs) && v != 1)
        return error_set(err, -EINVAL,
                         "numjobs: %s is not supported: an image has one writer; 1 is "
                         "(use iodepth for parallel requests)",
                         value);
    if (d->max && (v < d->min || v > d->max))
        return error_set(err, -EINVAL, "%s: %s is out of range, %llu to %llu", d->name,
                         value, (unsigned long long)d->min, (unsigned long long)d->max);
    *(uint64_t *)option_field(j, d) = v;
    if (d->at == AT(trials))
        j->trials_set = true;
    if (d->at == AT(randseed))
        j->randseed_set = true;
    return 0;
}

/* A plain number counts requests; with a unit it is a time. */
static int set_every(struct job *j, const char *value, struct error *err)
{
    uint64_t n = 0, ns = 0;

    if (parse_count(value, &n) < 0 && parse_time_ns(value, &ns) < 0)
        return error_set(err, -EINVAL,
                         "snapshot-every: `%s` is neither a time with its unit such as "
                         "500ms nor a number of requests",
                         value);
    j->snapshot_every.requests = n;
    j->snapshot_every.ns = ns;
    return 0;
}

int job_set(struct job *j, const char *name, const char *value, struct error *err)
{
    const struct option_def *d = find(name);

    if (!d)
        return unknown(name, err);
    if (d->kind == NOOP)
        return 0;
    if (d->kind == FLAG)
        return set_flag(j, d, value, err);
    if (!value || !*value)
        return error_set(err, -EINVAL, "%s: needs a value (%s)", d->name, d->help);
    switch (d->kind) {
    case COUNT:
    case BYTES:
    case TIME:
        return set_count(j, d, value, err);
    case CHOICE:
        return set_choice(j, d, value, err);
    case RW:
        return parse_rw(value, j->kb_base, &j->rw, err);
    case PERCENTILES:
        return parse_percentiles(j, value, err);
    case EVERY:
        return set_every(j, value, err);
    case AMOUNT:
        if (parse_amount(value, j->kb_base, option_field(j, d)) < 0)
            return error_set(err, -EINVAL,
                             "%s: `%s` is not a size such as 4096 or 1g, nor a share "
                             "of at most 100%%",
                             d->name, value);
        return 0;
    default: {
        char **text = option_field(j, d);
        free(*text);
        *text = strdup(value);
        return *text ? 0 : -ENOMEM;
    }
    }
}

/* ---- the whole ---- */

void job_init(struct job *j)
{
    *j = (struct job){.bs = 4096,
                      .iodepth = 1,
                      .iothreads = 1,
                      .loops = 1,
                      .rwmixread = 50,
                      .streams = 1,
                      .numjobs = 1,
                      .do_verify = true,
                      .kb_base = 1024,
                      .cache = 32u << 20,
                      .grow = 16u << 20,
                      .waiter_us = 1000,
                      .vcpu_tick_ns = 100000,
                      .trials = 1,
                      .seed = 1,
                      .turn_probe = true,
                      .invalidate = true};
    j->rw.read = true;
    strcpy(j->rw.text, "read");
}

static bool owns_text(const struct option_def *d)
{
    return d->kind == TEXT || d->at == AT(format);
}

int job_copy(struct job *to, const struct job *from)
{
    *to = *from;
    int ret = 0;
    for (unsigned i = 0; i < DEFS; i++) {
        char **text = option_field(to, &option_defs[i]);
        if (option_defs[i].kind == NOOP || option_defs[i].kind == PERCENTILES ||
            !owns_text(&option_defs[i]))
            continue;
        if (*text && !(*text = strdup(*text)))
            ret = -ENOMEM;
    }
    return ret;
}

void job_free(struct job *j)
{
    for (unsigned i = 0; i < DEFS; i++) {
        if (option_defs[i].kind == NOOP || option_defs[i].kind == PERCENTILES ||
            !owns_text(&option_defs[i]))
            continue;
        char **text = option_field(j, &option_defs[i]);
        free(*text);
        *text = NULL;
    }
}

bool job_snapshots(const struct job *j)
{
    return j->snapshot_every.requests || j->snapshot_every.ns;
}

bool job_writes(const struct job *j)
{
    return (j->rw.write || j->rw.trim || job_snapshots(j)) && !j->verify_only;
}

int job_check(const struct job *j, struct error *err)
{
    if (!j->image)
        return error_set(err, -EINVAL, "no image: give --image FILE");
    if (j->time_based && !j->runtime_ns)
        return error_set(err, -EINVAL, "time_based: needs runtime, e.g. runtime=10");
    if (j->no_lock && job_writes(j) && !j->copy)
        return error_set(err, -EINVAL,
                         "no-lock: only for reading: two writers would destroy the "
                         "image; --copy works on a copy");
    if (j->verify == VERIFY_CRC32C && j->bs < 64)
        return error_set(
            err, -EINVAL,
            "verify: the header needs blocks of at least 64 bytes, bs is %llu",
            (unsigned long long)j->bs);
    if (j->streams > 1 && (j->rw.random || j->verify || j->read_iolog))
        return error_set(err, -EINVAL,
                         "streams: of sequential reads or writes, without verify or "
                         "read_iolog");
    if (j->streams > j->iodepth)
        return error_set(err, -EINVAL, "streams: %llu: at most iodepth, which is %llu",
                         (unsigned long long)j->streams,
                         (unsigned long long)j->iodepth);
    if (j->think_ns && (j->global_mutex || j->read_iolog))
        return error_set(err, -EINVAL,
                         "thinktime: does not go with global-mutex or read_iolog");
    if (j->verify_only && (j->verify == VERIFY_NONE || !j->rw.write))
        return error_set(err, -EINVAL,
                         "verify_only: needs verify=crc32c and the rw that wrote");
    if (j->read_iolog && (j->verify || j->time_based || j->fsync || j->fdatasync))
        return error_set(err, -EINVAL,
                         "read_iolog: has its own requests and flushes; verify, "
                         "time_based and fsync don't go with it");
    if (j->read_iolog && j->global_mutex)
        return error_set(err, -EINVAL,
                         "read_iolog: its timers are the loop's, so that it doesn't go "
                         "with global-mutex");
    if (j->iothreads > j->iodepth)
        return error_set(err, -EINVAL,
                         "iothreads: %llu loops share the iodepth, and each needs a "
                         "request; iodepth is %llu",
                         (unsigned long long)j->iothreads,
                         (unsigned long long)j->iodepth);
    if (j->iothreads > 1 &&
        (j->global_mutex || j->read_iolog || j->verify_only || j->streams > 1))
        return error_set(err, -EINVAL, "iothreads: does not go with %s",
                         j->global_mutex  ? "global-mutex, which has one loop"
                         : j->streams > 1 ? "streams: a process submits on one loop"
                         : j->read_iolog  ? "read_iolog, whose order is one loop's"
                                          : "verify_only: which of several loops wrote "
                                            "first isn't known any more");
    if (j->rw.random && j->rw.skip && j->rw.skip > 1u << 30)
        return error_set(err, -EINVAL, "rw: %s: at most 2^30 requests in a row",
                         j->rw.text);
    if (j->global_mutex && (j->ramp_ns || job_snapshots(j) || j->read_iolog))
        return error_set(err, -EINVAL, "global-mutex: does not go with %s",
                         j->ramp_ns         ? "ramp_time"
                         : job_snapshots(j) ? "snapshot-every"
                                            : "read_iolog");
    if (j->vcpu_tick_ns < 1000)
        return error_set(err, -EINVAL, "vcpu-tick: %llu ns: at least 1us",
                         (unsigned long long)j->vcpu_tick_ns);
    if (j->kb_base != 1000 && j->kb_base != 1024)
        return error_set(err, -EINVAL, "kb_base: 1000 or 1024");
    return 0;
}
