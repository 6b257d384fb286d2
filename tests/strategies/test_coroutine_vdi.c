/*
 * A driver that blocks, run by the wrapper: VDI images, as QEMU makes, checks and reads
 * them. What the driver's blocking costs whom is told in virtual time.
 * ASYNCOW_SEED repeats a run.
 */
#include "tests/strategies/strategy_test.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DELAY_NS = 10000000 };

static void begin(struct world *w, uint64_t size, const char *settings,
                  const char *filters)
{
    w->format = "vdi";
    w->settings = settings;
    w->filters = filters;
    shell("qemu-img create -q -f vdi top.vdi %llu", (unsigned long long)size);
    world_model(w, size);
    world_open(w);
}

static uint64_t slow_ones(struct world *w, uint64_t since_ns)
{
    return (env_now_ns(w->env) - since_ns) / DELAY_NS;
}

/* Across blocks, in parts of them, over what QEMU wrote and what nobody did. */
static void keeps_bytes(void **state)
{
    struct world *w = *state;
    shell("qemu-img create -q -f vdi top.vdi 8M");
    shell("qemu-io -f vdi -c 'write -P 0x44 5M 1M' top.vdi");
    w->format = "vdi";
    world_model(w, 8 * MIB);
    memset(w->model + 5 * MIB, 0x44, MIB);
    world_open(w);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, MIB - 1000, 2 * MIB, 1), 0);
    assert_int_equal(run(w, GUEST_WRITE, 5 * MIB + 300, 77, 2), 0);
    assert_int_equal(run(w, GUEST_WRITE, w->size - 1, 1, 3), 0);
    assert_int_equal(run(w, GUEST_ZERO, 2 * MIB - 5, 3 * MIB + MIB / 2, 0), 0);
    assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
    assert_int_equal(run(w, GUEST_DISCARD, 0, w->size, 0), 0); /* not taken */
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
    world_verify(w);
    assert_int_equal(run(w, GUEST_WRITE, 3 * MIB + 1, 100, 4), 0);
}

/* What fails is the request, and what cannot be is said. */
static void refuses(void **state)
{
    struct world *w = *state;
    begin(w, 2 * MIB, w->settings, NULL);
    assert_int_equal(run(w, GUEST_READ, w->size, 1, 0), -EINVAL);
    w->name = "s";
    assert_int_equal(run(w, GUEST_SNAPSHOT_CREATE, 0, 0, 0), -ENOTSUP);
    assert_int_equal(world_close(w), 0);
    static const char *const not [] = {"", "lock=comutex", "lock=rwlock,hold=metadata",
                                       "lock=entry", "lock=none"};
    for (unsigned i = 0; i < sizeof(not ) / sizeof(*not ); i++) {
        struct chain_options co = {
            .env = w->env, .sim = w->env->simulated, .drivers = true};
        struct error err = {""};
        struct strategy_image *image;
        assert_int_equal(chain_open(&w->top, "top.vdi", &co, &err), 0);
        struct strategy_options so = {.loop = w->loop,
                                      .engine = &w->engine,
                                      .top = w->top,
                                      .settings = not [i],
                                      .depth = 1};
        assert_int_equal(w->strategy->open(&image, &so, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "vdi driver blocks"));
        assert_int_equal(chain_close(w->top), 0);
    }
}

/* Two that allocate the same block: the second finds the first one's. */
static void two_allocate_one_block(void **state)
{
    struct world *w = *state;
    begin(w, 4 * MIB, w->settings, "delay:metadata-write=10ms,data-write=10ms");
    struct job *a = job_start(w, GUEST_WRITE, 0, 5000, 1);
    struct job *b = job_start(w, GUEST_WRITE, 9000, 5000, 2);
    struct job *c = job_start(w, GUEST_WRITE, MIB, 5000, 3);
    assert_int_equal(job_end(a), 0);
    assert_int_equal(job_end(b), 0);
    assert_int_equal(job_end(c), 0);
    w->filters = NULL;
    world_verify(w);
}

/* The allocation keeps the mutex over its three writes, so that a read waits for them;
 * data is written with it given back, or not. */
static void blocking_costs_the_others(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *settings;
        uint64_t rewrites; /* one after the other */
    } locks[] = {{"lock=big", 1}, {"lock=big-held", 4}, {"lock=serialize", 4}};
    for (unsigned i = 0; i < sizeof(locks) / sizeof(*locks); i++) {
        begin(w, 4 * MIB, locks[i].settings,
              "delay:metadata-write=10ms,data-write=10ms");
        assert_int_equal(run(w, GUEST_WRITE, 0, MIB, 1), 0);
        struct job *allocates = job_start(w, GUEST_WRITE, MIB, 512, 2);
        loop_turn(w->loop, false);
        uint64_t since_ns = env_now_ns(w->env);
        assert_int_equal(run(w, GUEST_READ, 0, 512, 0), 0);
        assert_int_equal(slow_ones(w, since_ns), 3);
        assert_int_equal(job_end(allocates), 0);
        struct job *jobs[4];
        for (unsigned j = 0; j < 4; j++)
            jobs[j] = job_start(w, GUEST_WRITE, j * 512, 512, j);
        since_ns = env_now_ns(w->env);
        run_all(w);
        assert_int_equal(slow_ones(w, since_ns), locks[i].rewrites);
        for (unsigned j = 0; j < 4; j++)
            assert_int_equal(job_end(jobs[j]), 0);
        assert_int_equal(world_close(w), 0);
    }
}

/* Each of an allocation's writes fails in turn: the guest hears of it, nothing else is
 * hurt, and the image can go on, once reopened too. */
static void half_an_allocation(void **state)
{
    struct world *w = *state;
    for (int nth = 1; nth <= 3; nth++) {
        char filters[64];
        snprintf(filters, sizeof(filters), "fault:metadata-write=%d", nth);
        begin(w, 4 * MIB, w->settings, filters);
        assert_int_equal(run(w, GUEST_WRITE, MIB, 512, 1), -EIO);
        assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
        assert_int_equal(run(w, GUEST_WRITE, 2 * MIB, 512, 2), 0);
        assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
        assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
        assert_int_equal(world_close(w), 0);
        w->filters = NULL;
        world_open(w);
        assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
        assert_int_equal(run(w, GUEST_WRITE, 0, 512, 3), 0);
        assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
        assert_int_equal(world_close(w), 0);
    }
}

/* Sixteen at a time, each in a place of its own, many in one block. */
static void a_crowd(void **state)
{
    struct world *w = *state;
    enum { ROUNDS = 12, CROWD = 16, CELL = 200000 };
    const char *text = getenv("ASYNCOW_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    printf("ASYNCOW_SEED=%llu\n", (unsigned long long)seed);
    srand((unsigned)seed);
    begin(w, (uint64_t)CROWD * CELL, w->settings,
          "delay:data-write=lognormal(100us,1),metadata-write=lognormal(50us,1)");
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct job *jobs[CROWD];
        for (unsigned i = 0; i < CROWD; i++) {
            static const enum guest_op ops[] = {GUEST_WRITE, GUEST_WRITE, GUEST_READ,
                                                GUEST_ZERO, GUEST_FLUSH};
            enum guest_op op = ops[rand() % 5];
            uint64_t at = (uint64_t)(rand() % CELL);
            uint64_t len = 1 + (uint64_t)rand() % (CELL - at);
            bool flush = op == GUEST_FLUSH;
            jobs[i] = job_start(w, op, flush ? 0 : i * (uint64_t)CELL + at,
                                flush ? 0 : len, (unsigned)rand());
        }
        for (unsigned i = 0; i < CROWD; i++)
            assert_int_equal(job_end(jobs[i]), 0);
    }
    w->filters = NULL;
    world_verify(w);
}

static void write_at(const char *path, long at, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void bad_images_are_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        long at;
        uint32_t value;
        const char *says;
    } bad[] = {
        {0x44, 2, "version"},       {0x4c, 3, "type"},
        {0x154, 1, "map"},          {0x154, 0, "map"},
        {0x158, 0x0fffff00, "map"}, {0x168, 4096, "sector size"},
        {0x174, 1, "disk size"},    {0x178, 1 << 21, "block size"},
        {0x17c, 1, "extra"},        {0x180, UINT32_MAX, "map"},
        {0x1a8, 1, "linked"},       {0x200, 4, "beyond"},
        {0x204, 0, "twice"},
    };
    shell("qemu-img create -q -f vdi good.vdi 4M;"
          " qemu-io -f vdi -c 'write 0 2M' good.vdi");
    for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct chain_options co = {
            .env = w->env, .sim = w->env->simulated, .drivers = true};
        struct error err = {""};
        uint32_t value = htole32(bad[i].value);
        shell("cp good.vdi bad.vdi");
        write_at("bad.vdi", bad[i].at, &value, sizeof(value));
        int ret = chain_open(&w->top, "bad.vdi", &co, &err);
        if (ret >= 0 || !strstr(err.msg, bad[i].says) || !strstr(err.msg, "bad.vdi"))
            fail_msg("0x%lx: %d: %s", bad[i].at, ret, err.msg);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {
    T(keeps_bytes),
    T(refuses),
    T(two_allocate_one_block),
    T(blocking_costs_the_others),
    T(half_an_allocation),
    T(a_crowd),
    T(bad_images_are_refused),
};
TEST_MAIN(tests)
