/* Chain, loop and module, opened and closed: disk.h. */
#include "tests/differential/disk.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/image/check.h"

static int find_module(char *path, size_t size, const char *name, struct error *err)
{
    const char *dirs = getenv("ASYNCOW_STRATEGY_PATH");

    if (strchr(name, '/')) {
        snprintf(path, size, "%s", name);
        return 0;
    }
    while (dirs && *dirs) {
        int n = (int)strcspn(dirs, ":");
        snprintf(path, size, "%.*s/%s.so", n, dirs, name);
        if (!access(path, F_OK))
            return 0;
        dirs += n + (dirs[n] == ':');
    }
    return error_set(err, -ENOENT, "no %s.so in ASYNCOW_STRATEGY_PATH", name);
}

static int load(struct disk *d, const char *name, struct error *err)
{
    char path[4096];
    int ret = find_module(path, sizeof(path), name, err);

    if (ret < 0)
        return ret;
    d->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    d->table = d->handle ? dlsym(d->handle, STRATEGY_SYMBOL) : NULL;
    if (!d->table)
        return error_set(err, -ENOEXEC, "%s: %s", path, dlerror());
    if (d->table->abi != STRATEGY_ABI)
        return error_set(err, -ENOEXEC, "%s: another ABI", path);
    return 0;
}

int disk_open_files(struct disk *d, const struct disk_options *o, struct error *err)
{
    bool sim = !strcmp(o->engine, "sim");
    struct chain_options c = {.write = !o->read_only,
                              .direct = o->direct,
                              .sim = sim,
                              .allow_backing = true,
                              .filters = o->filters};

    *d = (struct disk){.engine = {.engine = o->engine, .depth = 64}};
    d->env = c.env = sim ? env_sim(o->seed) : env_real(o->seed);
    int ret = load(d, o->strategy, err);
    if (!ret)
        ret = loop_create(&d->loop, d->env, &d->engine, err);
    if (!ret)
        ret = iothreads_open(&d->threads, d->loop, &d->engine, o->iothreads, err);
    if (!ret)
        ret = chain_open(&d->top, o->path, &c, err);
    if (ret < 0)
        disk_close_files(d);
    else
        d->size = d->top->size;
    return ret;
}

int disk_open_image(struct disk *d, const struct disk_options *o, struct error *err)
{
    struct strategy_options so = {.loop = d->loop,
                                  .more = d->threads.loop,
                                  .more_count = d->threads.n,
                                  .engine = &d->engine,
                                  .top = d->top,
                                  .settings = o->settings,
                                  .depth = o->depth,
                                  .cache = o->cache,
                                  .grow = o->grow,
                                  .through = o->through,
                                  .punch = o->punch};
    int ret = d->table->open(&d->image, &so, err);

    if (ret < 0)
        d->image = NULL;
    return ret;
}

int disk_close_image(struct disk *d, struct strategy_stats *stats)
{
    if (stats)
        d->table->stats(d->image, stats);
    int ret = d->table->close(d->image);
    d->image = NULL;
    return ret;
}

int disk_close_files(struct disk *d)
{
    int ret = d->top ? chain_close(d->top) : 0;

    iothreads_close(&d->threads);
    if (d->loop)
        loop_destroy(d->loop);
    co_pool_drain();
    env_destroy(d->env);
    /* The module stays loaded: leak reports can name its functions then. */
    *d = (struct disk){0};
    return ret;
}

int disk_open(struct disk *d, const struct disk_options *o, struct error *err)
{
    int ret = disk_open_files(d, o, err);

    if (ret < 0)
        return ret;
    ret = disk_open_image(d, o, err);
    if (ret < 0)
        disk_close_files(d);
    return ret;
}

int disk_close(struct disk *d, struct strategy_stats *stats)
{
    int ret = disk_close_image(d, stats);
    int files = disk_close_files(d);

    return ret ? ret : files;
}

struct one {
    struct guest_req req;
    bool ended;
};

static void ended(struct guest_req *req) { ((struct one *)req)->ended = true; }

int disk_run(struct disk *d, enum guest_op op, uint64_t offset, void *buf, uint64_t len)
{
    struct iovec iov = {buf, len};
    struct one one = {.req = {.op = op, .offset = offset, .len = len, .done = ended}};

    if (op == GUEST_READ || op == GUEST_WRITE) {
        one.req.iov = &iov;
        one.req.iovcnt = 1;
    }
    d->table->submit(d->image, &one.req);
    loop_run_until(d->loop, &one.ended);
    return one.req.result;
}

static void print_line(void *opaque, const char *line)
{
    (void)opaque;
    fprintf(stderr, "  check: %s\n", line);
}

int disk_check(const char *path, uint64_t *leaks)
{
    struct env *env = env_real(1);
    struct blk_options bo = {.env = env};
    struct blk_file *file;
    struct check_result res = {0};
    struct error err = {""};
    int ret = blk_open(&file, path, &bo, &err);

    if (!ret) {
        ret = image_check(file, 0, &res, NULL, NULL, &err);
        if (!ret && (res.corruptions || res.check_errors)) {
            (void)image_check(file, 0, &res, print_line, NULL, &err);
            ret = -EUCLEAN;
        }
        int closed = blk_close(file);
        ret = ret ? ret : closed;
    }
    if (err.msg[0])
        fprintf(stderr, "  check: %s\n", err.msg);
    env_destroy(env);
    *leaks = res.leaks;
    return ret;
}

static const char *const names[] = {
#define X(name) #name,
    QCOW2_STATS(X)
#undef X
};

void disk_stats_add(struct strategy_stats *sum, const struct strategy_stats *s)
{
    const uint64_t *from = (const uint64_t *)&s->top;
    uint64_t *to = (uint64_t *)&sum->top;

    for (size_t i = 0; i < sizeof(s->top) / sizeof(*to); i++)
        to[i] += from[i];
    sum->wakeups += s->wakeups;
    sum->locks += s->locks;
    sum->lock_waits += s->lock_waits;
    sum->coroutines += s->coroutines;
}

void disk_stats_print(const struct strategy_stats *s)
{
    const uint64_t *n = (const uint64_t *)&s->top;

    printf("stats {");
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
        printf("\"%s\": %" PRIu64 ", ", names[i], n[i]);
    printf("\"wakeups\": %" PRIu64 ", \"locks\": %" PRIu64 ", ", s->wakeups, s->locks);
    printf("\"lock_waits\": %" PRIu64 ", \"coroutines\": %" PRIu64 "}\n", s->lock_waits,
           s->coroutines);
}
