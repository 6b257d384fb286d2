/*
 * delay: holds chosen kinds of I/O back for a fixed or random time before they go on.
 *
 * So their latency is the delay and what is below. Random times come from a counter
 * that is hashed, one draw per delayed I/O: any number of loops may draw at once, and
 * in simulation the same seed gives the same times. What timers and scheduling add is
 * measured: asked and realised time are both reported.
 */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/filter.h"
#include "core/block/loop_int.h"

#define KINDS (2 * KIND_METADATA_SHIFT)

struct latency {
    enum { NONE, FIXED, UNIFORM, LOGNORMAL } shape;
    unsigned precision;  /* of the name it was given for */
    uint64_t a_ns, b_ns; /* fixed, uniform: low and high; lognormal: median */
    double sigma;
};

struct delay {
    struct filter base;
    struct latency latency[KINDS];
    struct filter_range range;
    uint64_t seed;
    _Atomic uint64_t draws, count, asked_ns, realised_ns;
};

static uint64_t hash(uint64_t x) /* splitmix64's finaliser */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* In (0, 1). */
static double draw(struct delay *d)
{
    uint64_t i = atomic_fetch_add_explicit(&d->draws, 1, memory_order_relaxed) + 1;

    return ((double)(hash(d->seed + i * 0x9e3779b97f4a7c15u) >> 11) + 0.5) * 0x1p-53;
}

static uint64_t sample(struct delay *d, const struct latency *l)
{
    if (l->shape == UNIFORM)
        return l->a_ns + (uint64_t)(draw(d) * (double)(l->b_ns - l->a_ns));
    if (l->shape == LOGNORMAL) {
        double u = draw(d), v = draw(d);
        double normal = sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
        double ns = (double)l->a_ns * exp(l->sigma * normal);
        return ns < 1e12 ? (uint64_t)ns : (uint64_t)1e12;
    }
    return l->a_ns;
}

/* "name(first,second)" split in place. */
static bool call(char *text, const char *name, char **first, char **second)
{
    size_t len = strlen(name), end = strlen(text);

    if (strncmp(text, name, len) != 0 || text[len] != '(' || text[end - 1] != ')')
        return false;
    text[end - 1] = '\0';
    *first = text + len + 1;
    *second = strchr(*first, ',');
    if (!*second)
        return false;
    *(*second)++ = '\0';
    return true;
}

static int parse_latency(char *text, struct latency *l)
{
    char *first, *second, *end;

    if (call(text, "uniform", &first, &second)) {
        l->shape = UNIFORM;
        return filter_time(first, &l->a_ns) < 0 || filter_time(second, &l->b_ns) < 0 ||
                       l->b_ns < l->a_ns
                   ? -EINVAL
                   : 0;
    }
    if (call(text, "lognormal", &first, &second)) {
        l->shape = LOGNORMAL;
        l->sigma = strtod(second, &end);
        return filter_time(first, &l->a_ns) < 0 || end == second || *end ||
                       !(l->sigma >= 0 && l->sigma <= 10)
                   ? -EINVAL
                   : 0;
    }
    l->shape = FIXED;
    return filter_time(text, &l->a_ns);
}

static int set(struct delay *d, const char *key, char *value, struct error *err)
{
    char given[96];
    struct latency l = {.shape = NONE};
    unsigned bits;
    int ret = filter_range_set(&d->range, key, value, err);

    if (ret)
        return ret < 0 ? ret : 0;
    if (strcmp(key, "seed") == 0) {
        char *end;
        d->seed = strtoull(value, &end, 0);
        return *value && !*end
                   ? 0
                   : error_set(err, -EINVAL, "seed=%s: not a number", value);
    }
    if (filter_kind(key, &bits, &l.precision) < 0)
        return error_set(
            err, -EINVAL,
            "\"%s\": not a kind of I/O; read, write, flush, "
            "discard, zero, grow, any, metadata, data, or metadata-read and so "
            "on would be",
            key);
    snprintf(given, sizeof(given), "%s", value);
    if (parse_latency(value, &l) < 0)
        return error_set(err, -EINVAL,
                         "%s=%s: not a time; 100us, uniform(50us,200us) or "
                         "lognormal(200us,0.5) would be",
                         key, given);
    for (unsigned kind = 0; kind < KINDS; kind++)
        if (bits & 1u << kind && l.precision >= d->latency[kind].precision)
            d->latency[kind] = l;
    return 0;
}

static int delay_open(struct filter **out, struct env *env, const char *params,
                      struct error *err)
{
    struct delay *d = calloc(1, sizeof(*d));
    char key[32], value[96];
    int ret = 0;

    (void)env;
    if (!d)
        return error_set(err, -ENOMEM, "out of memory");
    d->seed = 1;
    while (ret == 0 && filter_param(&params, key, value))
        ret = set(d, key, value, err);
    if (ret < 0)
        free(d);
    else
        *out = &d->base;
    return ret;
}

static void delay_close(struct filter *f) { free(f); }

static void over(struct loop_timer *t)
{
    struct aio *aio = (struct aio *)((char *)t - offsetof(struct aio, timer));
    struct delay *d = aio->engine_data;
    uint64_t asked_ns = aio->scratch[0];
    uint64_t late_ns = env_now_ns(aio->loop->env) - t->deadline_ns;

    atomic_fetch_add_explicit(&d->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->asked_ns, asked_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->realised_ns, asked_ns + late_ns,
                              memory_order_relaxed);
    filter_next(&d->base, aio);
}

static void delay_submit(struct filter *f, struct aio *aio)
{
    struct delay *d = (struct delay *)f;
    unsigned kind = (unsigned)__builtin_ctz(filter_kind_bit(aio));
    const struct latency *l = &d->latency[kind];
    uint64_t ns;

    if (l->shape == NONE || !filter_touches(&d->range, aio)) {
        filter_next(f, aio);
        return;
    }
    ns = sample(d, l);
    aio->state = AIO_DELAYED;
    aio->engine_data = d;
    aio->scratch[0] = ns;
    aio->timer.fn = over;
    aio->timer.heap_index = 0;
    loop_timer_arm(aio->loop, &aio->timer, env_now_ns(aio->loop->env) + ns);
}

void delay_get_stats(struct filter *f, struct delay_stats *stats)
{
    struct delay *d = (struct delay *)f;

    assert(f->ops == &filter_delay);
    stats->count = atomic_load(&d->count);
    stats->asked_ns = atomic_load(&d->asked_ns);
    stats->realised_ns = atomic_load(&d->realised_ns);
}

const struct filter_ops filter_delay = {
    .name = "delay",
    .summary = "holds I/O back, by kind: read=100us, any=uniform(1ms,2ms), "
               "metadata-flush=lognormal(2ms,0.5); of a part: from=64k, to=1m; seed=N",
    .open = delay_open,
    .close = delay_close,
    .submit = delay_submit,
};
