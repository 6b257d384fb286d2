/*
 * throttle: a token bucket over all I/O of the file: so many a second, so many bytes a
 * second, with a burst.
 *
 * A bucket is a moment: the time at which it would be full again. An I/O moves it on by
 * what it costs and waits until it is no further ahead than the burst. So there is no
 * counting and no timer of the bucket's own, and I/O leaves in the order it came.
 * Flushes and what carries no data cost an I/O and no bytes.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/filter.h"
#include "core/block/loop_int.h"

struct bucket {
    double ns_each;           /* one unit's time; 0: no limit */
    double burst;             /* units */
    _Atomic uint64_t full_ns; /* when it will be full */
};

struct throttle {
    struct filter base;
    struct bucket ios, bytes;
};

static int set(struct throttle *t, const char *key, const char *value,
               struct error *err)
{
    double amount;

    if (strcmp(key, "iops") && strcmp(key, "bps") && strcmp(key, "iops-burst") &&
        strcmp(key, "bps-burst"))
        return error_set(err, -EINVAL,
                         "\"%s\": unknown; iops, bps, iops-burst and bps-burst are "
                         "known",
                         key);
    if (filter_amount(value, &amount) < 0 || amount < 1)
        return error_set(err, -EINVAL, "%s=%s: not an amount; 1000 or 64k would be",
                         key, value);
    if (!strcmp(key, "iops"))
        t->ios.ns_each = 1e9 / amount;
    else if (!strcmp(key, "bps"))
        t->bytes.ns_each = 1e9 / amount;
    else if (!strcmp(key, "iops-burst"))
        t->ios.burst = amount;
    else
        t->bytes.burst = amount;
    return 0;
}

static int throttle_open(struct filter **out, struct env *env, const char *params,
                         struct error *err)
{
    struct throttle *t = calloc(1, sizeof(*t));
    char key[32], value[96];
    int ret = 0;

    (void)env;
    if (!t)
        return error_set(err, -ENOMEM, "out of memory");
    t->ios.burst = 1;
    while (ret == 0 && filter_param(&params, key, value))
        ret = set(t, key, value, err);
    if (ret == 0 && t->ios.ns_each == 0 && t->bytes.ns_each == 0)
        ret = error_set(err, -EINVAL, "no limit given; iops=1000 or bps=64m would be");
    if (ret < 0)
        free(t);
    else
        *out = &t->base;
    return ret;
}

static void throttle_close(struct filter *f) { free(f); }

/* When I/O that costs so many units may go. */
static uint64_t take(struct bucket *b, double units, uint64_t now_ns)
{
    uint64_t cost_ns = (uint64_t)(units * b->ns_each), full_ns, next_ns;
    uint64_t slack_ns = (uint64_t)(b->burst * b->ns_each);

    if (b->ns_each == 0)
        return now_ns;
    full_ns = atomic_load_explicit(&b->full_ns, memory_order_relaxed);
    do
        next_ns = (full_ns > now_ns ? full_ns : now_ns) + cost_ns;
    while (!atomic_compare_exchange_weak(&b->full_ns, &full_ns, next_ns));
    /* Without a burst as large, one I/O may always go when the bucket is full. */
    if (slack_ns < cost_ns)
        slack_ns = cost_ns;
    return next_ns > now_ns + slack_ns ? next_ns - slack_ns : now_ns;
}

static void over(struct loop_timer *timer)
{
    struct aio *aio = (struct aio *)((char *)timer - offsetof(struct aio, timer));
    struct throttle *t = aio->engine_data;

    filter_next(&t->base, aio);
}

static void throttle_submit(struct filter *f, struct aio *aio)
{
    struct throttle *t = (struct throttle *)f;
    bool data = aio->op == AIO_READ || aio->op == AIO_WRITE;
    uint64_t now_ns = env_now_ns(aio->loop->env);
    uint64_t ios_ns = take(&t->ios, 1, now_ns);
    uint64_t bytes_ns = data ? take(&t->bytes, (double)aio->len, now_ns) : now_ns;
    uint64_t at_ns = ios_ns > bytes_ns ? ios_ns : bytes_ns;

    if (at_ns <= now_ns) {
        filter_next(f, aio);
        return;
    }
    aio->state = AIO_DELAYED;
    aio->engine_data = t;
    aio->timer.fn = over;
    aio->timer.heap_index = 0;
    loop_timer_arm(aio->loop, &aio->timer, at_ns);
}

const struct filter_ops filter_throttle = {
    .name = "throttle",
    .summary = "a token bucket: iops=1000, bps=64m, iops-burst=N, bps-burst=N",
    .open = throttle_open,
    .close = throttle_close,
    .submit = throttle_submit,
};
