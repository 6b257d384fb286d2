/* Built up in the order of the struct, taken down in the opposite one: session.h. */
#include "harness/session.h"

#include <errno.h>
#include <string.h>

#include "core/block/choose.h"
#include "core/block/engine.h"
#include "core/env/env.h"

enum { ENGINE_DEPTH_MIN = 64 };

const char *session_engine(const struct job *j)
{
    static const struct {
        const char *fio, *ours;
    } names[] = {{"libaio", "linux-aio"}, {"psync", "sync"},
                 {"pvsync", "sync"},      {"pvsync2", "sync"},
                 {"vsync", "sync"},       {"posixaio", "posix-aio"},
                 {"iouring", "io_uring"}, {"io-uring", "io_uring"}};

    if (!j->engine)
        return "io_uring";
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(j->engine, names[i].fio))
            return names[i].ours;
    return j->engine; /* perhaps with settings, "posix-aio:threads=4" */
}

bool session_simulated(const struct job *j)
{
    const struct engine_ops *ops = engine_find(session_engine(j));

    return ops && ops->simulated;
}

static void loop_options_of(const struct job *j, struct loop_options *o)
{
    /* A guest request may need several host I/Os at a time: data, copies, metadata. */
    unsigned depth = 2 * (unsigned)j->iodepth;

    *o = (struct loop_options){.engine = session_engine(j),
                               .depth =
                                   depth > ENGINE_DEPTH_MIN ? depth : ENGINE_DEPTH_MIN,
                               .batch = (unsigned)j->batch,
                               .workers = (unsigned)j->workers,
                               .merge_bytes = j->merge,
                               .libuv = j->loop,
                               .poll_ns = j->poll_us * 1000,
                               .inline_completion = j->completion,
                               .waiter = (enum loop_waiter)j->waiter,
                               .waiter_ns = j->waiter_us * 1000,
                               .sim_model = j->sim_model};
}

int session_check(const struct job *j, struct error *err)
{
    struct loop_options o;
    int ret = 0;

    loop_options_of(j, &o);
    if (!engine_is_choice(o.engine))
        ret = engine_check(&o, err);
    return ret < 0 ? ret : filter_check(j->filters, err);
}

static int open_parts(struct session *s, const struct job *j, const char *spec,
                      const char *path, struct error *err)
{
    struct loop_options engine;
    struct chain_options chain = {.env = s->env,
                                  .write = job_writes(j),
                                  .direct = j->direct,
                                  .no_lock = j->no_lock,
                                  .sim = session_simulated(j),
                                  .allow_backing = j->allow_backing,
                                  .drivers = true,
                                  .format = j->format,
                                  .filters = j->filters};
    int ret;

    loop_options_of(j, &engine);
    if (s->env->simulated) {
        if ((ret = sim_model_parse(&s->model, j->sim_model, err)) < 0)
            return ret;
        sim_set_costs(s->env, &s->model.costs);
    }
    if ((ret = module_open(&s->module, spec, err)) < 0 ||
        (ret = loop_create(&s->loop, s->env, &engine, err)) < 0 ||
        (ret = iothreads_open(&s->threads, s->loop, &engine, (unsigned)j->iothreads - 1,
                              err)) < 0 ||
        (ret = chain_open(&s->top, path, &chain, err)) < 0)
        return ret;
    unsigned loops = (unsigned)j->iothreads;
    unsigned each = ((unsigned)j->iodepth + loops - 1) / loops + job_snapshots(j);
    struct strategy_options o = {.loop = s->loop,
                                 .more = s->threads.loop,
                                 .more_count = s->threads.n,
                                 .engine = &engine,
                                 .top = s->top,
                                 .settings = s->module.settings,
                                 .depth = loops * each,
                                 .cache = (size_t)j->cache,
                                 .grow = j->grow,
                                 .through = j->through,
                                 .punch = j->punch};
    ret = s->module.table->open(&s->image, &o, err);
    if (ret < 0 && err && !err->msg[0])
        error_set(err, ret, "strategy %s cannot open %s: %s", s->module.table->name,
                  path, strerror(-ret));
    return ret;
}

int session_open(struct session *s, struct env *env, const struct job *j,
                 const char *spec, const char *path, struct error *err)
{
    *s = (struct session){.env = env};
    int ret = open_parts(s, j, spec, path, err);
    if (ret < 0)
        session_close(s);
    return ret;
}

int session_close(struct session *s)
{
    int ret = s->image ? s->module.table->close(s->image) : 0, chain_ret;

    chain_ret = s->top ? chain_close(s->top) : 0;
    iothreads_close(&s->threads);
    if (s->loop)
        loop_destroy(s->loop);
    module_close(&s->module);
    *s = (struct session){0};
    return ret ? ret : chain_ret;
}

void session_io(const struct session *s, struct blk_stats *sum)
{
    *sum = (struct blk_stats){0};
    for (const struct image_node *n = s->top; n; n = n->backing) {
        struct blk_stats one;
        blk_get_stats(n->file, &one);
        for (int op = 0; op < AIO_OPS; op++) {
            sum->ios[op] += one.ios[op];
            sum->bytes[op] += one.bytes[op];
        }
        sum->metadata_ios += one.metadata_ios;
    }
}

void session_delay(const struct session *s, struct delay_stats *sum)
{
    *sum = (struct delay_stats){0};
    for (const struct image_node *n = s->top; n; n = n->backing) {
        struct filter *f = blk_filter(n->file, "delay");
        for (; f; f = filter_find(f->next, "delay")) {
            struct delay_stats one;
            delay_get_stats(f, &one);
            sum->count += one.count;
            sum->asked_ns += one.asked_ns;
            sum->realised_ns += one.realised_ns;
        }
    }
}

void session_sim(const struct session *s, struct session_sim *sim)
{
    struct sim_device *device;

    *sim = (struct session_sim){.usage = {0}};
    if (!s->env->simulated)
        return;
    sim_get_usage(s->env, &sim->usage);
    device = sim_device_of(s->env, &s->model);
    if (device)
        sim_device_get_stats(device, &sim->device);
}
