/* The world of strategy_test.h. */
#include "tests/strategies/strategy_test.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *module_path, *engine_name, *settings;
static char dir[] = "strategy-test.XXXXXX";
static char home[4096];

void shell(const char *fmt, ...)
{
    char command[2048] = "(";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command + 1, sizeof(command) - 64, fmt, ap);
    va_end(ap);
    strcat(command, ") >shell.log 2>&1"); /* what it says matters only if it fails */
    if (system(command) != 0) {
        (void)!system("cat shell.log");
        fail_msg("failed: %s", command);
    }
}

int world_setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct error err = {""};
    bool sim = !strcmp(engine_name, "sim");
    w->env = sim ? env_sim(1) : env_real(1);
    w->engine = (struct loop_options){.engine = engine_name, .depth = 64};
    w->format = "qcow2";
    w->settings = settings;
    w->depth = 16;
    w->grow = 4 * MIB;
    w->cache = 256 * KIB;
    w->idle = true;
    void *handle = dlopen(module_path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        fail_msg("%s", dlerror());
    w->strategy = dlsym(handle, STRATEGY_SYMBOL);
    assert_non_null(w->strategy);
    assert_int_equal(w->strategy->abi, STRATEGY_ABI);
    if (loop_create(&w->loop, w->env, &w->engine, &err) < 0)
        fail_msg("%s", err.msg);
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    assert_non_null(getcwd(home, sizeof(home)));
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    *state = w;
    return 0;
}

void world_model(struct world *w, uint64_t size)
{
    w->size = size;
    free(w->model);
    w->model = calloc(1, size);
    assert_non_null(w->model);
}

void world_open(struct world *w)
{
    struct error err = {""};
    char path[64];
    snprintf(path, sizeof(path), "top.%s", w->format);
    struct chain_options co = {
        .env = w->env,
        .write = true,
        .direct = w->direct,
        .sim = w->env->simulated,
        .allow_backing = true,
        .format = w->format,
        .filters = w->filters,
        .drivers = true,
    };
    if (chain_open(&w->top, path, &co, &err) < 0)
        fail_msg("%s", err.msg);
    struct strategy_options so = {
        .loop = w->loop,
        .more = w->more,
        .more_count = w->more_count,
        .engine = &w->engine,
        .top = w->top,
        .settings = w->settings,
        .depth = w->depth,
        .cache = w->cache,
        .grow = w->grow,
        .through = w->through,
        .punch = true,
    };
    if (w->strategy->open(&w->image, &so, &err) < 0)
        fail_msg("%s", err.msg);
}

int world_close(struct world *w)
{
    run_all(w);
    int ret = w->strategy->close(w->image);
    int closed = chain_close(w->top);
    w->image = NULL;
    return ret < 0 ? ret : closed;
}

void world_verify(struct world *w)
{
    assert_int_equal(world_close(w), 0);
    if (strcmp(w->format, "raw") != 0)
        shell("qemu-img check top.%s", w->format);
    shell("qemu-img convert -O raw top.%s seen.raw", w->format);
    uint8_t *seen = malloc(w->size);
    FILE *f = fopen("seen.raw", "rb");
    assert_non_null(f);
    assert_int_equal(fread(seen, 1, w->size, f), w->size);
    fclose(f);
    for (uint64_t i = 0; i < w->size; i++)
        if (seen[i] != w->model[i])
            fail_msg("qemu-img reads 0x%02x at %llu, the model has 0x%02x", seen[i],
                     (unsigned long long)i, w->model[i]);
    free(seen);
    world_open(w);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
}

int world_teardown(void **state)
{
    struct world *w = *state;
    if (w->image) {
        world_verify(w);
        assert_int_equal(world_close(w), 0);
    }
    loop_destroy(w->loop);
    env_destroy(w->env);
    free(w->model);
    free(w);
    assert_int_equal(chdir(home), 0);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static void job_done(struct guest_req *g)
{
    struct job *j = (struct job *)g;
    struct world *w = j->w;
    assert_false(w->submitting);
    assert_false(j->done);
    j->done = true;
    w->idle = --w->pending == 0;
}

static void fill(uint8_t *p, uint64_t len, unsigned seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (uint64_t i = 0; i < len; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (uint8_t)(x >> 24);
    }
}

struct job *job_start(struct world *w, enum guest_op op, uint64_t offset, uint64_t len,
                      unsigned seed)
{
    struct job *j = calloc(1, sizeof(*j));
    assert_non_null(j);
    j->w = w;
    j->g = (struct guest_req){
        .op = op, .offset = offset, .len = len, .name = w->name, .done = job_done};
    if (op == GUEST_READ || op == GUEST_WRITE) {
        j->buf = malloc(len + 1);
        assert_non_null(j->buf);
        if (op == GUEST_WRITE)
            fill(j->buf, len, seed);
        else
            memset(j->buf, 0xee, len);
        uint64_t at = 0, cut[] = {len / 7, len / 3, 0}; /* and what is left */
        for (int i = 0; i < 4; i++) {
            uint64_t part = i < 3 ? cut[i] : len - at;
            j->iov[i] = (struct iovec){j->buf + at, part};
            at += part;
        }
        j->g.iov = j->iov;
        j->g.iovcnt = 4;
    }
    w->pending++;
    w->idle = false;
    w->submitting = true;
    w->strategy->submit(w->image, &j->g);
    w->submitting = false;
    return j;
}

int job_end(struct job *j)
{
    struct world *w = j->w;
    loop_run_until(w->loop, &j->done);
    struct guest_req *g = &j->g;
    int ret = g->result;
    if (ret == 0) {
        switch (g->op) {
        case GUEST_READ:
            for (uint64_t i = 0; i < g->len; i++)
                if (j->buf[i] != w->model[g->offset + i])
                    fail_msg("read 0x%02x at %llu, the model has 0x%02x", j->buf[i],
                             (unsigned long long)(g->offset + i),
                             w->model[g->offset + i]);
            break;
        case GUEST_WRITE:
            memcpy(w->model + g->offset, j->buf, g->len);
            break;
        case GUEST_ZERO:
            memset(w->model + g->offset, 0, g->len);
            break;
        default:
            break; /* what a discard does to the model is for the test to say */
        }
    }
    free(j->buf);
    free(j);
    return ret;
}

int run(struct world *w, enum guest_op op, uint64_t offset, uint64_t len, unsigned seed)
{
    return job_end(job_start(w, op, offset, len, seed));
}

void run_all(struct world *w) { loop_run_until(w->loop, &w->idle); }

int test_main(int argc, char **argv, const struct CMUnitTest *tests, size_t count)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODULE ENGINE [SETTINGS]\n", argv[0]);
        return 2;
    }
    module_path = argv[1];
    engine_name = argv[2];
    settings = argc > 3 ? argv[3] : NULL;
    return _cmocka_run_group_tests("strategy", tests, count, NULL, NULL);
}
