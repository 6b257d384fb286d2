/*
 * fault: the n-th I/O of a kind fails, is shortened, torn, or gets stuck.
 *
 * It counts what it sees even when it is not armed, so a test first runs a workload to
 * learn how many I/Os it makes and then fails each in turn. Arming again while I/O is
 * in flight is allowed; the count then starts from that moment.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/file.h"
#include "core/block/filter.h"

#define KINDS (2 * KIND_METADATA_SHIFT)
#define SECTOR 512
#define STUCK_NS 30000000000u /* what Linux gives a disk */

struct fault {
    struct filter base;
    atomic_flag lock; /* over the plan, for a few instructions */
    struct fault_plan plan;
    uint64_t seen; /* since armed */
    uint64_t hits;
    _Atomic uint64_t passed[KINDS];
};

static const struct {
    const char *name;
    int code;
} errors[] = {
    {"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EAGAIN", EAGAIN},
    {"EINVAL", EINVAL}, {"ENOMEM", ENOMEM}, {"EPERM", EPERM},
    {"EBADF", EBADF},   {"EDQUOT", EDQUOT}, {"EROFS", EROFS},
    {"ENXIO", ENXIO},   {"EFBIG", EFBIG},   {"ETIMEDOUT", ETIMEDOUT},
};

static int parse_error(const char *text, int *error)
{
    char *end;
    long n;

    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (strcmp(text, errors[i].name) == 0) {
            *error = -errors[i].code;
            return 0;
        }
    }
    n = strtol(text, &end, 10);
    if (end == text || *end || n <= 0 || n >= 4096)
        return -EINVAL;
    *error = -(int)n;
    return 0;
}

static int parse_count(const char *text, uint64_t *n)
{
    char *end;

    if (strcmp(text, "forever") == 0) {
        *n = UINT64_MAX;
        return 0;
    }
    if (*text < '0' || *text > '9')
        return -EINVAL;
    *n = strtoull(text, &end, 10);
    return *end || *n == 0 ? -EINVAL : 0;
}

static int set_stuck(struct fault_plan *plan, const char *value, struct error *err)
{
    plan->action = FAULT_STUCK;
    plan->stuck_ns = STUCK_NS;
    if (*value && filter_time(value, &plan->stuck_ns) < 0)
        return error_set(err, -EINVAL, "stuck=%s: not a time; 500ms or 30s would be",
                         value);
    return 0;
}

static int set(struct fault_plan *plan, const char *key, const char *value,
               struct error *err)
{
    unsigned precision;
    int ret;

    if (strcmp(key, "op") == 0)
        return filter_kind(value, &plan->kinds, &precision) == 0
                   ? 0
                   : error_set(
                         err, -EINVAL,
                         "op=%s: not a kind of I/O; read, write, flush, "
                         "discard, zero, grow, any, metadata, data, or metadata-read "
                         "and so on would be",
                         value);
    if (strcmp(key, "n") == 0)
        return parse_count(value, &plan->n) == 0
                   ? 0
                   : error_set(err, -EINVAL, "n=%s: a number from 1 is needed", value);
    if (strcmp(key, "times") == 0)
        return parse_count(value, &plan->times) == 0
                   ? 0
                   : error_set(err, -EINVAL,
                               "times=%s: a number from 1 or \"forever\" is "
                               "needed",
                               value);
    if (strcmp(key, "error") == 0)
        return parse_error(value, &plan->error) == 0
                   ? 0
                   : error_set(err, -EINVAL,
                               "error=%s: EIO, ENOSPC, another errno's name "
                               "or its number is needed",
                               value);
    if (*value && filter_kind(key, &plan->kinds, &precision) == 0)
        return set(plan, "n", value, err); /* write=3: op=write,n=3 */
    ret = filter_range_set(&plan->range, key, value, err);
    if (ret)
        return ret < 0 ? ret : 0;
    if (strcmp(key, "stuck") == 0)
        return set_stuck(plan, value, err);
    if (strcmp(key, "short") == 0)
        plan->action = FAULT_SHORT;
    else if (strcmp(key, "torn") == 0)
        plan->action = FAULT_TORN;
    else
        return error_set(err, -EINVAL,
                         "\"%s\": no such parameter; there are op, n, times, from, to, "
                         "error, short, torn and stuck",
                         key);
    return 0;
}

static int fault_open(struct filter **out, struct env *env, const char *params,
                      struct error *err)
{
    struct fault *f = calloc(1, sizeof(*f));
    char key[32], value[96];
    int ret = 0;

    if (!f)
        return error_set(err, -ENOMEM, "out of memory");
    (void)env;
    f->plan = (struct fault_plan){.kinds = ~0u, .times = 1, .error = -EIO};
    while (ret == 0 && filter_param(&params, key, value))
        ret = set(&f->plan, key, value, err);
    if (ret < 0) {
        free(f);
        return ret;
    }
    *out = &f->base;
    return 0;
}

static void fault_close(struct filter *filter) { free(filter); }

static void lock(struct fault *f)
{
    while (atomic_flag_test_and_set_explicit(&f->lock, memory_order_acquire))
        ;
}

static void unlock(struct fault *f)
{
    atomic_flag_clear_explicit(&f->lock, memory_order_release);
}

static bool strikes(struct fault *f, unsigned bit, const struct aio *aio,
                    struct fault_plan *plan)
{
    bool hit = false;

    lock(f);
    if (f->plan.n && f->plan.kinds & bit && filter_touches(&f->plan.range, aio)) {
        f->seen++;
        hit = f->seen >= f->plan.n && f->seen - f->plan.n < f->plan.times;
        f->hits += hit;
        *plan = f->plan;
    }
    unlock(f);
    return hit;
}

/* Half of its sectors, or of its bytes where there is only one; a direct file's blocks
 * can't be halved. */
static uint64_t half(const struct aio *aio)
{
    unsigned align = aio->file->align;
    uint64_t unit = align > SECTOR ? align : SECTOR;

    if (aio->len <= unit)
        unit = align;

    return aio->len / unit / 2 * unit;
}

static void over(struct loop_timer *t)
{
    struct aio *aio = (struct aio *)((char *)t - offsetof(struct aio, timer));

    aio_finish(aio, (int)(int64_t)aio->scratch[0]);
}

/* Can be cancelled meanwhile, as what waits in a queue can. */
static void hold(struct aio *aio, const struct fault_plan *plan)
{
    aio->state = AIO_DELAYED;
    aio->scratch[0] = (uint64_t)(int64_t)plan->error;
    aio->timer.fn = over;
    aio->timer.heap_index = 0;
    loop_timer_arm(aio->loop, &aio->timer, env_now_ns(aio->loop->env) + plan->stuck_ns);
}

static void fault_submit(struct filter *filter, struct aio *aio)
{
    struct fault *f = (struct fault *)filter;
    unsigned bit = filter_kind_bit(aio);
    struct fault_plan plan;
    bool partial;

    atomic_fetch_add_explicit(&f->passed[__builtin_ctz(bit)], 1, memory_order_relaxed);
    if (likely(!strikes(f, bit, aio, &plan))) {
        filter_next(filter, aio);
        return;
    }
    partial = (aio->op == AIO_READ || aio->op == AIO_WRITE) && half(aio) > 0;
    if (plan.action == FAULT_STUCK) {
        hold(aio, &plan);
    } else if (plan.action == FAULT_SHORT && !partial) {
        filter_next(filter, aio); /* nothing to shorten */
    } else if (plan.action == FAULT_FAIL || !partial) {
        aio_finish(aio, plan.error);
    } else {
        aio->flags |= AIO_PARTIAL;
        aio->limit = half(aio);
        if (plan.action == FAULT_TORN)
            aio->verdict = plan.error;
        filter_next(filter, aio);
    }
}

void fault_arm(struct filter *filter, const struct fault_plan *plan)
{
    struct fault *f = (struct fault *)filter;

    assert(filter->ops == &filter_fault);
    lock(f);
    f->plan = *plan;
    f->seen = 0;
    unlock(f);
}

uint64_t fault_passed(struct filter *filter, unsigned kinds)
{
    struct fault *f = (struct fault *)filter;
    uint64_t sum = 0;

    assert(filter->ops == &filter_fault);
    for (unsigned kind = 0; kind < KINDS; kind++)
        if (kinds & 1u << kind)
            sum += atomic_load_explicit(&f->passed[kind], memory_order_relaxed);
    return sum;
}

uint64_t fault_hits(struct filter *filter)
{
    struct fault *f = (struct fault *)filter;
    uint64_t hits;

    assert(filter->ops == &filter_fault);
    lock(f);
    hits = f->hits;
    unlock(f);
    return hits;
}

const struct filter_ops filter_fault = {
    .name = "fault",
    .summary = "the n-th I/O of a kind (op=write,n=3 or write=3; times=N|forever; "
               "from=64k, to=1m) fails (error=EIO), is short or torn, or stuck=30s",
    .open = fault_open,
    .close = fault_close,
    .submit = fault_submit,
};
