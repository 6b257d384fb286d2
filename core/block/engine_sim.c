/*
 * The sim engine: host I/O in virtual time, on simulated files (sim_file.c).
 *
 * An I/O takes effect, whole, at the moment it completes: until then a write's buffer
 * may not change and a read's has not, which is all that a real device promises. When
 * that moment comes is the model's to say (--sim-model: sim_model.h, sim_device.h); among
 * moments that coincide, and between them and the actors that could run, env_choose
 * decides. So the order of everything is a function of the seed.
 */
#include "core/block/file.h"
#include "core/block/sim_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sim_engine {
    struct engine engine;
    struct sim_device *device;
    unsigned source; /* to the device's elevator: the thread that submits */
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

static int sim_probe(struct error *err)
{
    (void)err;
    return 0;
}

static int sim_check(const struct loop_options *o, struct error *err)
{
    struct sim_model model;

    return sim_model_parse(&model, o->sim_model, err);
}

static int sim_open(struct engine **out, struct loop *loop,
                    const struct loop_options *o, struct error *err)
{
    struct sim_model model;
    struct sim_engine *e;

    if (!loop_env(loop)->simulated)
        return error_set(
            err, -EINVAL,
            "engine sim: works in simulated time only, not on the machine");
    int ret = sim_model_parse(&model, o->sim_model, err);
    if (ret < 0)
        return ret;
    e = calloc(1, sizeof(*e));
    if (e)
        e->device = sim_device_of(loop_env(loop), &model);
    if (!e || !e->device) {
        free(e);
        return error_set(err, -ENOMEM, "engine sim: out of memory");
    }
    e->source = sim_device_new_source(e->device);
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

static void finish_aio(struct aio *a)
{
    struct sim_engine *e = a->engine_data;

    e->engine.inflight--;
    if (sim_history_kept(e->engine.env))
        touch(e->engine.env, a);
    file_arrives(a);
    engine_complete(a, misaligned(a) ? -EINVAL : sim_file_io(a));
}

static void finish(struct sim_event *ev) { finish_aio(aio_of(ev)); }

const struct aio *sim_event_aio(const struct sim_event *ev)
{
    return ev->fn == finish ? aio_of((struct sim_event *)ev) : NULL;
}

/* Through the elevator of a disk? */
static bool queues(const struct sim_engine *e, const struct aio *a)
{
    return sim_device_is_disk(e->device) && (a->op == AIO_READ || a->op == AIO_WRITE);
}

static void submit_one(struct sim_engine *e, struct aio *a)
{
    struct sim_event *ev = event_of(a);
    struct env *env = e->engine.env;

    e->engine.inflight++;
    a->engine_data = e;
    sim_file_prefetch(blk_sim(a->file), a->offset);
    memset(ev, 0, sizeof(*ev));
    ev->fn = finish;
    if (!queues(e, a) || !a->len)
        sim_schedule_for(env, ev, sim_device_done_ns(e->device, a->op, a->len), a);
    else if (!sim_device_transfer(e->device, a, e->source, finish_aio))
        sim_schedule(env, ev, env_now_ns(env)); /* no memory: it is done at once */
}

static unsigned length(const struct aio_queue *q, unsigned max)
{
    unsigned n = 0;

    for (const struct aio *a = q->head; a && n < max; a = a->next)
        n++;
    return n;
}

/* What handing them down costs is paid before the device sees them. */
static void sim_submit(struct engine *engine, struct aio_queue *q, unsigned max)
{
    struct aio *a;

    if (sim_costs_set(engine->env)) {
        max = length(q, max);
        sim_charge(engine->env, SIM_BATCH, 1);
        sim_charge(engine->env, SIM_SUBMIT, max);
        sim_pay(engine->env);
    }
    while (max-- && (a = aio_queue_pop(q)))
        submit_one((struct sim_engine *)engine, a);
}

/* Some devices manage to, some don't: both can happen. What a disk's elevator has is left
 * to it. */
static void sim_cancel_aio(struct engine *engine, struct aio *a)
{
    if (queues((struct sim_engine *)engine, a))
        return;
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
