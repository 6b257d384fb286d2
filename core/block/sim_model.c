/* The table of parameters, and reading them from a file and behind a colon: sim_model.h. */
#include "core/block/sim_model.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const sim_kind_names[4] = {"zero", "fixed", "lognormal", "disk"};
const char *const sim_kind_summaries[4] = {
    "every I/O is done at once, in a turn to come",
    "every I/O takes its time, whatever else goes on",
    "an SSD: medians, of which I/Os on several channels draw their times",
    "spindles with seek, rotation, transfer and an elevator"};

#define US 1000ull
#define MS 1000000ull
#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define HOUR 3600000000000ull
#define AT(field) offsetof(struct sim_model, field)

enum {
    F = 1 << SIM_FIXED,
    L = 1 << SIM_LOGNORMAL,
    D = 1 << SIM_DISK,
    ALL = 1 << SIM_ZERO | F | L | D
};
#define ELEVATOR(side, of, who, has)                                                   \
    {side "merge",                                                                     \
     SIM_BYTES,                                                                        \
     AT(of.merge_bytes),                                                               \
     0,                                                                                \
     64 * MIB,                                                                         \
     512 * KIB,                                                                        \
     NULL,                                                                             \
     has,                                                                              \
     who " elevator makes one of neighbours up to so much; 0: none"},                  \
        {side "read-expire",                                                           \
         SIM_TIME,                                                                     \
         AT(of.read_expire_ns),                                                        \
         0,                                                                            \
         HOUR,                                                                         \
         500 * MS,                                                                     \
         NULL,                                                                         \
         has,                                                                          \
         who " elevator passes a read by for so long at most"},                        \
        {side "write-expire",                                                          \
         SIM_TIME,                                                                     \
         AT(of.write_expire_ns),                                                       \
         0,                                                                            \
         HOUR,                                                                         \
         5000 * MS,                                                                    \
         NULL,                                                                         \
         has,                                                                          \
         who " elevator passes a write by for so long at most"},                       \
        {side "batch",                                                                 \
         SIM_COUNT,                                                                    \
         AT(of.batch),                                                                 \
         1,                                                                            \
         1 << 20,                                                                      \
         16,                                                                           \
         NULL,                                                                         \
         has,                                                                          \
         "I/Os in one direction before it looks at the other"},                        \
        {side "starved",                                                               \
         SIM_COUNT,                                                                    \
         AT(of.starved),                                                               \
         1,                                                                            \
         1 << 20,                                                                      \
         2,                                                                            \
         NULL,                                                                         \
         has,                                                                          \
         "batches of reads that may go before waiting writes"},                        \
        {side "antic",                                                                 \
         SIM_TIME,                                                                     \
         AT(of.antic_ns),                                                              \
         0,                                                                            \
         HOUR,                                                                         \
         6667 * US,                                                                    \
         NULL,                                                                         \
         has,                                                                          \
         "anticipatory: how long it waits after a read"},                              \
    {                                                                                  \
        side "near", SIM_BYTES, AT(of.antic_bytes), 0, GIB, 4 * MIB, NULL, has,        \
            "anticipatory: how far from there the next one may be"                     \
    }
#define STEP(name, step, help)                                                         \
    {                                                                                  \
        name, SIM_TIME, AT(costs.ns) + (step) * sizeof(uint64_t), 0, HOUR, 0, NULL,    \
            ALL, help                                                                  \
    }

const struct sim_param sim_params[] = {
    {"read", SIM_TIME, AT(read_ns), 0, HOUR, 80 * US, NULL, F | L,
     "a read takes (lognormal: the median)"},
    {"write", SIM_TIME, AT(write_ns), 0, HOUR, 20 * US, NULL, F | L, "a write takes"},
    {"flush", SIM_TIME, AT(flush_ns), 0, HOUR, 200 * US, NULL, F | L | D,
     "a flush takes"},
    {"channels", SIM_COUNT, AT(channels), 1, SIM_CHANNELS_MAX, 8, NULL, L,
     "I/Os served at a time; one takes the channel that is free first"},
    {"sigma", SIM_COUNT, AT(sigma), 0, 200, 40, NULL, L,
     "of the times' logarithm, in percent"},
    {"write-busy", SIM_TIME, AT(write_busy_ns), 0, HOUR, 0, NULL, L,
     "a write keeps its channel for so long at least, though it is done before"},
    {"bandwidth", SIM_BYTES, AT(bandwidth), 0, 1ull << 50, 0, NULL, L,
     "bytes a second of the interface that all channels share; 0: no limit"},
    {"flush-waits", SIM_CHOICE, AT(flush_waits), 0, 0, 1, "none|all", L,
     "whether a flush begins when all channels have done what they were given"},
    {"rpm", SIM_COUNT, AT(disk.rpm), 60, 100000, 7200, NULL, D, "turns a minute"},
    {"cylinders", SIM_COUNT, AT(disk.cylinders), 2, 10000000, 170000, NULL, D, ""},
    {"heads", SIM_COUNT, AT(disk.heads), 1, 64, 4, NULL, D, "tracks a cylinder"},
    {"track", SIM_BYTES, AT(disk.track_bytes), 4096, 64 * MIB, 458 * KIB, NULL, D,
     "bytes a track, the same everywhere"},
    {"seek-track", SIM_TIME, AT(disk.seek_track_ns), 0, HOUR, 1000 * US, NULL, D,
     "to the next cylinder"},
    {"seek-average", SIM_TIME, AT(disk.seek_average_ns), 0, HOUR, 8500 * US, NULL, D,
     "over a third of the disk"},
    {"seek-full", SIM_TIME, AT(disk.seek_full_ns), 0, HOUR, 18000 * US, NULL, D,
     "over all of it"},
    {"head-switch", SIM_TIME, AT(disk.head_switch_ns), 0, HOUR, 800 * US, NULL, D,
     "to another track of the cylinder"},
    {"command", SIM_TIME, AT(disk.command_ns), 0, HOUR, 200 * US, NULL, D,
     "what a command costs the drive before anything moves"},
    {"interface", SIM_BYTES, AT(disk.interface), MIB, 1ull << 50, 300 * MIB, NULL, D,
     "bytes a second out of the drive's buffer"},
    {"readahead", SIM_BYTES, AT(disk.readahead), 0, GIB, MIB, NULL, D,
     "what the drive reads on into its buffer while it has nothing to do; 0: nothing"},
    {"spindles", SIM_COUNT, AT(spindles), 1, SIM_SPINDLES_MAX, 1, NULL, D,
     "disks, striped"},
    {"stripe", SIM_BYTES, AT(stripe), 4096, GIB, 64 * KIB, NULL, D,
     "bytes on one before the next"},
    {"file-gap", SIM_BYTES, AT(file_gap), 0, 1ull << 50, 64 * GIB, NULL, D,
     "from where one file begins on the disk to the next one; a file lies in one "
     "piece"},
    {"host-elevator", SIM_CHOICE, AT(host.kind), 0, 0, ELEVATOR_DEADLINE,
     "noop|deadline|anticipatory", D, "before each spindle"},
    ELEVATOR("host-", host, "the host's", D),
    {"guest-queue", SIM_CHOICE, AT(guest_queue), 0, 0, 0, "off|on", ALL,
     "an elevator in the guest, above the image's requests"},
    {"guest-depth", SIM_COUNT, AT(guest_depth), 1, 4096, 1, NULL, ALL,
     "requests that the guest's virtual disk takes at a time"},
    {"guest-elevator", SIM_CHOICE, AT(guest.kind), 0, 0, ELEVATOR_NOOP,
     "noop|deadline|anticipatory", ALL, "in the guest"},
    ELEVATOR("guest-", guest, "the guest's", ALL),
    {"cpus", SIM_COUNT, AT(costs.cpus), 1, 1024, 2, NULL, ALL,
     "simulated threads that compute at a time"},
    STEP("cpu-request", SIM_REQUEST, "CPU of a guest's request, whatever it does"),
    STEP("cpu-turn", SIM_TURN, "of a turn of a loop"),
    STEP("cpu-batch", SIM_BATCH, "of handing I/Os to the kernel, however many"),
    STEP("cpu-submit", SIM_SUBMIT, "of each of them"),
    STEP("cpu-complete", SIM_COMPLETE, "of taking a host I/O's completion"),
    STEP("cpu-coroutine", SIM_COROUTINE, "of a switch to a coroutine or from one"),
    STEP("cpu-lock", SIM_LOCK, "of taking a thread's mutex or lock and letting it go"),
    STEP("cpu-wake", SIM_WAKES, "of waking a thread"),
    STEP("cpu-handover", SIM_HANDOVER,
         "of a thread that slept, until it goes on: the switch to it"),
    {.name = NULL},
};

static uint64_t *value_at(const struct sim_model *m, const struct sim_param *p)
{
    return (uint64_t *)(void *)((char *)(uintptr_t)m + p->at);
}

/* ---- values ---- */

struct unit {
    const char *name;
    uint64_t factor;
};
static const struct unit times[] = {
    {"s", 1000 * MS}, {"ms", MS}, {"us", US}, {"ns", 1}, {NULL, 0}};
static const struct unit sizes[] = {{"t", 1024 * GIB}, {"g", GIB}, {"m", MIB},
                                    {"k", KIB},        {"", 1},    {NULL, 0}};
static const struct unit counts[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(const struct sim_param *p)
{
    return p->kind == SIM_TIME ? times : p->kind == SIM_BYTES ? sizes : counts;
}

/* "12", "8.5ms": digits, perhaps a fraction, a unit. */
static int parse_number(const char *s, const struct unit *unit, uint64_t *out)
{
    unsigned __int128 n = 0, scale = 1;
    bool point = false, any = false;

    for (; (*s >= '0' && *s <= '9') || (*s == '.' && any && !point); s++) {
        if (*s == '.') {
            point = true;
            continue;
        }
        any = true;
        n = 10 * n + (unsigned)(*s - '0');
        scale *= point ? 10 : 1;
        if (n > 1000000000000000000u)
            return -EINVAL;
    }
    for (; any && unit->name; unit++) {
        if (strcmp(s, unit->name) != 0 && !(n == 0 && !*s))
            continue;
        n *= unit->factor;
        if (n % scale ||
            n / scale > INT64_MAX) /* not a whole one of the smallest unit */
            return -EINVAL;
        *out = (uint64_t)(n / scale);
        return 0;
    }
    return -EINVAL;
}

static int parse_choice(const char *s, const char *choices, uint64_t *out)
{
    for (*out = 0; *choices; ++*out) {
        size_t n = strcspn(choices, "|");
        if (strlen(s) == n && !memcmp(s, choices, n))
            return 0;
        choices += n + (choices[n] == '|');
    }
    return -EINVAL;
}

void sim_param_text(const struct sim_param *p, uint64_t value, char *out, size_t size)
{
    const struct unit *u = units_of(p);
    const char *c = p->choices;

    if (p->kind == SIM_CHOICE) {
        while (value--)
            c += strcspn(c, "|") + 1;
        snprintf(out, size, "%.*s", (int)strcspn(c, "|"), c);
        return;
    }
    while (value && value % u->factor)
        u++;
    snprintf(out, size, "%llu%s", (unsigned long long)(value ? value / u->factor : 0),
             value ? u->name : "");
}

void sim_param_values(const struct sim_param *p, char *out, size_t size)
{
    char min[32], max[32];

    if (p->kind == SIM_CHOICE) {
        snprintf(out, size, "%s", p->choices);
        return;
    }
    sim_param_text(p, p->min, min, sizeof(min));
    sim_param_text(p, p->max, max, sizeof(max));
    snprintf(out, size, "%s..%s", min, max);
}

/* ---- settings ---- */

static int no_such_kind(const char *name, struct error *err)
{
    return error_set(err, -EINVAL,
                     "no model `%s`; there are zero, fixed, lognormal and disk, or a "
                     "file's path",
                     name);
}

static int set_kind(struct sim_model *m, const char *name, struct error *err)
{
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(name, sim_kind_names[i]) != 0)
            continue;
        *m = (struct sim_model){.kind = i};
        for (const struct sim_param *p = sim_params; p->name; p++)
            if (p->models & 1u << i)
                *value_at(m, p) = p->initial;
        return 0;
    }
    return no_such_kind(name, err);
}

static int no_such_param(const struct sim_model *m, const char *name, struct error *err)
{
    char list[600] = "";
    size_t used = 0;

    for (const struct sim_param *p = sim_params; p->name && used < sizeof(list); p++)
        if (p->models & 1u << m->kind && p->models != ALL)
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s, ", p->name);
    return error_set(err, -EINVAL,
                     "%s: the model %s has no such parameter; it has %sguest-... and "
                     "cpu...; `asyncow engines` lists them",
                     name, sim_kind_names[m->kind], list);
}

static int set(struct sim_model *m, const char *name, const char *value,
               struct error *err)
{
    const struct sim_param *p = sim_params;
    char values[100];
    uint64_t n;

    while (p->name && strcmp(p->name, name) != 0)
        p++;
    if (!p->name || !(p->models & 1u << m->kind))
        return no_such_param(m, name, err);
    int ret = p->kind == SIM_CHOICE ? parse_choice(value, p->choices, &n)
                                    : parse_number(value, units_of(p), &n);
    if (ret == 0 && (p->kind == SIM_CHOICE || (n >= p->min && n <= p->max))) {
        *value_at(m, p) = n;
        return 0;
    }
    sim_param_values(p, values, sizeof(values));
    return error_set(err, -EINVAL, "%s: `%s` is not %s%s: %s would be right", name,
                     value,
                     p->kind == SIM_TIME     ? "a time such as 80us, "
                     : p->kind == SIM_BYTES  ? "a size such as 64k, "
                     : p->kind == SIM_CHOICE ? "one of its words"
                                             : "a whole number, ",
                     p->kind == SIM_CHOICE ? "" : "or not in range", values);
}

static char *trimmed(char *s)
{
    s += strspn(s, " \t");
    size_t n = strlen(s);
    while (n && strchr(" \t\r\n", s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* "name = value", or nothing. */
static int set_line(struct sim_model *m, char *line, bool *has_kind, struct error *err)
{
    line[strcspn(line, "#")] = '\0';
    char *name = trimmed(line), *value = strchr(name, '=');

    if (!*name)
        return 0;
    if (!value)
        return error_set(err, -EINVAL, "`%s`: `name = value` would be right", name);
    *value++ = '\0';
    name = trimmed(name);
    value = trimmed(value);
    if (!strcmp(name, "model")) {
        if (*has_kind)
            return error_set(
                err, -EINVAL,
                "model: `%s` comes after others; once, and first, would be "
                "right",
                value);
        *has_kind = true;
        return set_kind(m, value, err);
    }
    if (!*has_kind)
        return error_set(err, -EINVAL,
                         "%s: comes before `model = ...`, which says what there is to "
                         "set",
                         name);
    return set(m, name, value, err);
}

static int read_file(struct sim_model *m, const char *path, struct error *err)
{
    FILE *f = fopen(path, "re");
    char line[400];
    bool has_kind = false;
    int ret = 0;

    if (!f)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    for (unsigned no = 1; ret == 0 && fgets(line, sizeof(line), f); no++) {
        if (strlen(line) == sizeof(line) - 1)
            ret =
                error_set(err, -EINVAL, "longer than %zu characters", sizeof(line) - 2);
        else
            ret = set_line(m, line, &has_kind, err);
        if (ret < 0)
            error_prefix(err, "%s:%u", path, no);
    }
    if (ret == 0 && ferror(f))
        ret = error_set(err, -EIO, "%s: cannot be read", path);
    if (ret == 0 && !has_kind)
        ret = error_set(err, -EINVAL, "%s: has no line `model = ...`", path);
    fclose(f);
    return ret;
}

/* What only holds between parameters. */
static int check(const struct sim_model *m, struct error *err)
{
    const struct sim_disk_model *d = &m->disk;

    if (m->kind != SIM_DISK)
        return 0;
    if (d->seek_track_ns > d->seek_average_ns || d->seek_average_ns > d->seek_full_ns)
        return error_set(err, -EINVAL,
                         "seek-track, seek-average, seek-full: %llu, %llu, %llu ns: "
                         "ascending would be right",
                         (unsigned long long)d->seek_track_ns,
                         (unsigned long long)d->seek_average_ns,
                         (unsigned long long)d->seek_full_ns);
    /* Else the curve of sim_disk.c would fall somewhere. */
    uint64_t low = (2 * d->seek_track_ns + d->seek_full_ns + 2) / 3,
             high = (4 * d->seek_track_ns + 11 * d->seek_full_ns) / 15;
    if (d->seek_average_ns < low || d->seek_average_ns > high)
        return error_set(err, -EINVAL,
                         "seek-average: %llu ns: %llu to %llu would be right for these "
                         "seek-track and seek-full",
                         (unsigned long long)d->seek_average_ns,
                         (unsigned long long)low, (unsigned long long)high);
    if (d->track_bytes % 512 || m->stripe % 512)
        return error_set(err, -EINVAL,
                         "track, stripe: %llu, %llu bytes: whole sectors of 512 would "
                         "be right",
                         (unsigned long long)d->track_bytes,
                         (unsigned long long)m->stripe);
    return 0;
}

static int parse(struct sim_model *m, const char *text, struct error *err)
{
    char copy[1024], *settings, *save;
    int ret;

    if (snprintf(copy, sizeof(copy), "%s", text && *text ? text : "fixed") >=
        (int)sizeof(copy))
        return error_set(err, -EINVAL, "longer than %zu characters", sizeof(copy) - 1);
    settings = strchr(copy, ':');
    if (settings)
        *settings++ = '\0';
    bool file = strchr(copy, '/') || strchr(copy, '.');
    ret = file ? read_file(m, copy, err) : set_kind(m, copy, err);
    for (char *s = settings ? strtok_r(settings, ",", &save) : NULL; s && ret == 0;
         s = strtok_r(NULL, ",", &save)) {
        char *value = strchr(s, '=');
        if (value)
            *value++ = '\0';
        ret = set(m, s, value ? value : "", err);
    }
    return ret < 0 ? ret : check(m, err);
}

int sim_model_parse(struct sim_model *m, const char *text, struct error *err)
{
    int ret = parse(m, text, err);

    if (ret < 0)
        error_prefix(err, "sim model");
    return ret;
}

void sim_model_each(const struct sim_model *m,
                    void (*fn)(void *, const char *name, const char *value),
                    void *opaque)
{
    char text[64];

    fn(opaque, "model", sim_kind_names[m->kind]);
    for (const struct sim_param *p = sim_params; p->name; p++) {
        if (!(p->models & 1u << m->kind))
            continue;
        sim_param_text(p, *value_at(m, p), text, sizeof(text));
        fn(opaque, p->name, text);
    }
}
