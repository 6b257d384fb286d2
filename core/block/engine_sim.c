/*
 * The sim engine: host I/O in virtual time, on simulated files (sim_file.c).
 *
 * An I/O takes effect, whole, at the moment it completes: until then a write's buffer
 * may not change and a read's has not, which is all that a real device promises. When
 * that moment comes is the latency model's to say; among moments that coincide, and
 * between them and the actors that could run, env_choose decides. So the order of
 * everything is a function of the seed.
 *
 * Models, as --sim-model NAME[:key=value,...]:
 *   zero       completes at once (in a turn to come)
 *   fixed      read=80us, write=20us, flush=200us whatever else goes on
 *   lognormal  those are medians of an SSD with channels=8; sigma=40 (percent). An I/O
 *              takes the channel that is free first; a flush waits for all of them
 *
 * All arithmetic is in integers, so that every machine and compiler gets the same
 * times.
 */
#include "core/block/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNELS_MAX 64u

struct sim_params {
    bool lognormal;
    uint64_t read_ns, write_ns, flush_ns;
    uint64_t channels, sigma; /* sigma of ln, in percent */
};
struct sim_engine {
    struct engine engine;
    struct sim_params params;
    uint64_t free_ns[CHANNELS_MAX]; /* when each channel has done what it was given */
};

_Static_assert(sizeof(struct sim_event) <= sizeof(((struct aio *)0)->scratch),
               "the event lives in the aio");

static struct sim_event *event_of(struct aio *a)
{
    return (struct sim_event *)(void *)a->scratch;
}

static struct aio *aio_of(struct sim_event *ev)
{
    return (struct aio *)(void *)((char *)ev - offsetof(struct aio, scratch));
}

/* --- latency ---------------------------------------------------------------------- */

/* 2^x for x in 1/65536, as a factor in 1/65536; x within +-16. Off by 0.3 % at most. */
static uint64_t exp2_q16(int64_t x)
{
    int64_t whole = x >= 0 ? x / 65536 : -((-x + 65535) / 65536),
            part = x - whole * 65536;
    uint64_t f = (uint64_t)part;
    uint64_t m = 65536 + f * (43024 + 22512 * f / 65536) / 65536;

    return whole >= 0 ? m << whole : m >> -whole;
}

/* median * e^(sigma * z), z normal: the sum of twelve uniform draws, less its mean. */
static uint64_t lognormal_ns(struct env *env, uint64_t median_ns, uint64_t sigma)
{
    int64_t z = -6 * 65536;

    for (int i = 0; i < 3; i++) {
        uint64_t r = sim_random(env);
        z += (int64_t)((r & 65535) + (r >> 16 & 65535) + (r >> 32 & 65535) + (r >> 48));
    }
    /* log2(e) * sigma percent */
    int64_t x = z * (int64_t)sigma * 14427 / 1000000;
    return (uint64_t)((unsigned __int128)median_ns * exp2_q16(x) >> 16);
}

static uint64_t median_ns(const struct sim_params *p, enum aio_op op)
{
    return op == AIO_READ ? p->read_ns : op == AIO_FLUSH ? p->flush_ns : p->write_ns;
}

/* When an I/O that begins now will be done, by the models. */
static uint64_t finish_ns(struct sim_engine *e, enum aio_op op)
{
    const struct sim_params *p = &e->params;
    uint64_t now = env_now_ns(e->engine.env);
    uint64_t first = 0, last = 0;

    if (!p->lognormal)
        return now + median_ns(p, op);

    for (unsigned i = 1; i < p->channels; i++) {
        if (e->free_ns[i] < e->free_ns[first])
            first = i;
        if (e->free_ns[i] > e->free_ns[last])
            last = i;
    }
    uint64_t *channel = &e->free_ns[op == AIO_FLUSH ? last : first];
    uint64_t start = *channel > now ? *channel : now;
    *channel = start + lognormal_ns(e->engine.env, median_ns(p, op), p->sigma);
    return *channel;
}

/* --- parameters ------------------------------------------------------------------- */

/* A number with an optional unit: ns, us, ms or s, in nanoseconds; -EINVAL else. */
static int parse_value(const char *s, bool time, uint64_t *out)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"", 1}, {"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    char *end;

    if (*s < '0' || *s > '9')
        return -EINVAL;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    if (errno || n > 1000000000000u)
        return -EINVAL;
    for (size_t i = 0; i < (time ? 5 : 1); i++)
        if (!strcmp(end, units[i].name)) {
            if (n > 3600000000000u / units[i].ns)
                return -EINVAL;
            *out = n * units[i].ns;
            return 0;
        }
    return -EINVAL;
}

static int parse_setting(struct sim_params *p, char *setting, struct error *err)
{
    char *value = strchr(setting, '=');
    uint64_t n;

    if (value)
        *value++ = 0;
    const struct {
        const char *name;
        uint64_t *to, min, max;
        bool time;
    } known[] = {
        {"read", &p->read_ns, 0, UINT64_MAX, true},
        {"write", &p->write_ns, 0, UINT64_MAX, true},
        {"flush", &p->flush_ns, 0, UINT64_MAX, true},
        {"channels", &p->channels, 1, CHANNELS_MAX, false},
        {"sigma", &p->sigma, 0, 200, false},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(setting, known[i].name))
            continue;
        if (!value || parse_value(value, known[i].time, &n) < 0 || n < known[i].min ||
            n > known[i].max)
            return error_set(
                err, -EINVAL, "sim model: %s=%s: %s", setting, value ? value : "",
                known[i].time ? "a time such as 80us is needed"
                              : "channels are 1 to 64, sigma 0 to 200 (%)");
        *known[i].to = n;
        return 0;
    }
    return error_set(
        err, -EINVAL,
        "sim model: no setting %s; there are read, write, flush, channels, "
        "sigma",
        setting);
}

static int parse_model(struct sim_params *p, const char *text, struct error *err)
{
    char copy[256], *save, *name;
    int ret = 0;

    *p = (struct sim_params){.read_ns = 80000,
                             .write_ns = 20000,
                             .flush_ns = 200000,
                             .channels = 8,
                             .sigma = 40};
    if (!text || !*text)
        text = "fixed";
    if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
        return error_set(err, -EINVAL, "sim model: longer than %zu characters",
                         sizeof(copy) - 1);
    name = strtok_r(copy, ":", &save);
    if (name && !strcmp(name, "zero"))
        p->read_ns = p->write_ns = p->flush_ns = 0;
    else if (name && !strcmp(name, "lognormal"))
        p->lognormal = true;
    else if (!name || strcmp(name, "fixed"))
        return error_set(err, -EINVAL,
                         "sim model: no model %s; there are zero, fixed, "
                         "lognormal",
                         name ? name : text);
    for (char *s; ret == 0 && (s = strtok_r(NULL, ",", &save));)
        ret = parse_setting(p, s, err);
    return ret;
}

/* --- the engine ------------------------------------------------------------------- */

static int sim_probe(const char *path, bool direct, struct error *err)
{
    (void)path;
    (void)direct;
    (void)err;
    return 0;
}

static int sim_check(const struct loop_options *o, struct error *err)
{
    struct sim_params params;

    return parse_model(&params, o->sim_model, err);
}

static int sim_open(struct engine **out, struct loop *loop,
                    const struct loop_options *o, struct error *err)
{
    struct sim_engine *e;

    if (!loop_env(loop)->simulated)
        return error_set(
            err, -EINVAL,
            "engine sim: works in simulated time only, not on the machine");
    e = calloc(1, sizeof(*e));
    if (!e)
        return error_set(err, -ENOMEM, "engine sim: out of memory");
    int ret = parse_model(&e->params, o->sim_model, err);
    if (ret < 0) {
        free(e);
        return ret;
    }
    *out = &e->engine;
    return 0;
}

static void sim_close(struct engine *engine) { free(engine); }

/* As the kernel would of a direct file. */
static bool misaligned(struct aio *a)
{
    size_t align = sim_file_align(blk_sim(a->file));
    const struct iovec *iov;
    uint64_t offset;
    int cnt;
    size_t len = engine_piece(a, &iov, &cnt, &offset);

    if (align == 1 || (a->op != AIO_READ && a->op != AIO_WRITE))
        return false;
    if ((offset | len) & (align - 1))
        return true;
    for (int i = 0; i < cnt; i++)
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (align - 1))
            return true;
    return false;
}

#define TOUCH_BYTES 512 /* I/Os that share no sector commute */
#define SIZE_PART UINT64_MAX

/* Which parts of the file the I/O reads or changes, its size included. */
static void touch(struct env *env, struct aio *a)
{
    struct sim_file *f = blk_sim(a->file);
    uint64_t end = a->offset + a->len, size = sim_file_size(f);
    bool reads = a->op == AIO_READ;

    if (a->op == AIO_FLUSH)
        return;
    if (end > size || a->op == AIO_GROW)
        sim_touch_part(env, f, SIZE_PART, !reads);
    if (a->op == AIO_GROW)
        return;
    for (uint64_t at = a->offset / TOUCH_BYTES; at * TOUCH_BYTES < end; at++)
        sim_touch_part(env, f, at, !reads);
}

static void finish(struct sim_event *ev)
{
    struct aio *a = aio_of(ev);
    struct sim_engine *e = a->engine_data;

    e->engine.inflight--;
    if (sim_history_kept(e->engine.env))
        touch(e->engine.env, a);
    file_arrives(a);
    engine_complete(a, misaligned(a) ? -EINVAL : sim_file_io(a));
}

const struct aio *sim_event_aio(const struct sim_event *ev)
{
    return ev->fn == finish ? aio_of((struct sim_event *)ev) : NULL;
}

static void sim_submit(struct engine *engine, struct aio_queue *q, unsigned max)
{
    struct sim_engine *e = (struct sim_engine *)engine;
    struct aio *a;

    while (max-- && (a = aio_queue_pop(q))) {
        struct sim_event *ev = event_of(a);
        engine->inflight++;
        a->engine_data = e;
        memset(ev, 0, sizeof(*ev));
        ev->fn = finish;
        sim_schedule_for(engine->env, ev, finish_ns(e, a->op), a);
    }
}

/* Some devices manage to, some don't: both can happen. */
static void sim_cancel_aio(struct engine *engine, struct aio *a)
{
    if (env_choose(engine->env, 2) == 1 && sim_cancel(engine->env, event_of(a))) {
        engine->inflight--;
        engine_complete(a, -ECANCELED);
    }
}

const struct engine_ops engine_sim = {
    .name = "sim",
    .summary = "virtual time and files in memory, all order from one seed",
    .native = 1 << AIO_READ | 1 << AIO_WRITE | 1 << AIO_FLUSH | 1 << AIO_DISCARD |
              1 << AIO_ZERO | 1 << AIO_GROW,
    .simulated = true,
    .check = sim_check,
    .probe = sim_probe,
    .open = sim_open,
    .close = sim_close,
    .submit = sim_submit,
    .cancel = sim_cancel_aio,
};
