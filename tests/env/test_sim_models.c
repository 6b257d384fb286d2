/*
 * Intent: models are read from names and files, and what is wrong is told with file, line,
 * field, value and what would be right; lognormal times have the quantiles of their
 * distribution, to the last bit the same everywhere; channels serve side by side and a busy
 * one makes wait; several spindles share the work; loops share one device.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/block/engine.h"
#include "core/block/sim_device.h"
#include "core/env/random.h"

#define US 1000u
#define MS 1000000u

/* ---- reading ---- */

static const char *file_of(const char *text)
{
    static char path[64];

    strcpy(path, "/tmp/asyncow-model.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void names_and_settings(void **state)
{
    struct sim_model m;
    struct error err = {""};
    (void)state;

    assert_int_equal(sim_model_parse(&m, NULL, &err), 0);
    assert_int_equal(m.kind, SIM_FIXED);
    assert_int_equal(m.read_ns, 80 * US);
    assert_int_equal(
        sim_model_parse(
            &m, "lognormal:read=1.5ms,channels=3,bandwidth=2k,flush-waits=none", &err),
        0);
    assert_int_equal(m.kind, SIM_LOGNORMAL);
    assert_int_equal(m.read_ns, 1500 * US);
    assert_int_equal(m.channels, 3);
    assert_int_equal(m.bandwidth, 2048);
    assert_int_equal(m.flush_waits, 0);
    assert_int_equal(sim_model_parse(&m, "zero:cpu-turn=7ns,guest-queue=on", &err), 0);
    assert_int_equal(m.costs.ns[SIM_TURN], 7);
    assert_int_equal(m.guest_queue, 1);
    assert_int_equal(sim_model_parse(&m, "disk:host-elevator=anticipatory", &err), 0);
    assert_int_equal(m.host.kind, ELEVATOR_ANTICIPATORY);
    assert_int_equal(m.guest.kind, ELEVATOR_NOOP);
}

static void files(void **state)
{
    struct sim_model m;
    struct error err = {""};
    char text[200];
    const char *path = file_of("# a comment\n\n model = disk # another\n rpm=5400\r\n"
                               "\tseek-full =\t20ms\ntrack = 1.5m");
    (void)state;

    assert_int_equal(sim_model_parse(&m, path, &err), 0);
    assert_int_equal(m.disk.rpm, 5400);
    assert_int_equal(m.disk.seek_full_ns, 20 * MS);
    assert_int_equal(m.disk.track_bytes, 3u << 19);
    snprintf(text, sizeof(text), "%s:rpm=10000,spindles=4", path);
    assert_int_equal(sim_model_parse(&m, text, &err), 0);
    assert_int_equal(m.disk.rpm, 10000);
    assert_int_equal(m.spindles, 4);
    unlink(path);
}

static void refused(const char *text, const char *const *words)
{
    struct sim_model m;
    struct error err = {""};

    assert_true(sim_model_parse(&m, text, &err) < 0);
    for (int i = 0; words[i]; i++)
        if (!strstr(err.msg, words[i]))
            fail_msg("`%s`: no `%s` in: %s", text, words[i], err.msg);
}

static void what_is_wrong_is_told(void **state)
{
    static const struct {
        const char *text, *words[5];
    } names[] = {
        {"ssd", {"sim model", "`ssd`", "lognormal", "path"}},
        {"fixed:read=", {"read", "``", "80us"}},
        {"fixed:read=5m", {"read", "`5m`", "80us"}},
        {"fixed:read=0.5ns", {"`0.5ns`"}},
        {"fixed:read=2h", {"`2h`"}},
        {"fixed:read=3601s", {"`3601s`", "0..3600s"}},
        {"fixed:seek-full=1ms", {"seek-full", "fixed", "read, write, flush"}},
        {"zero:read=1us", {"read", "zero"}},
        {"lognormal:channels=0", {"channels", "`0`", "1..256"}},
        {"lognormal:channels=two", {"channels", "`two`", "whole number"}},
        {"lognormal:channels", {"channels", "``"}},
        {"disk:host-elevator=cfq",
         {"host-elevator", "`cfq`", "noop|deadline|anticipatory"}},
        {"disk:seek-average=30ms", {"seek-average", "ascending"}},
        {"disk:seek-track=1ms,seek-average=3ms,seek-full=20ms",
         {"seek-average", "7333334"}},
        {"disk:track=5000", {"track", "5000", "512"}},
        {"no/such.model", {"no/such.model", "No such file"}},
    };
    static const struct {
        const char *text, *words[5];
    } texts[] = {
        {"rpm = 7200\n", {":1", "rpm", "`model = ...`"}},
        {"# nothing\n", {"`model = ...`"}},
        {"model = tape\n", {":1", "`tape`", "disk"}},
        {"model = disk\nrpm 7200\n", {":2", "`rpm 7200`", "`name = value`"}},
        {"model = disk\n\nrpm = fast\n", {":3", "rpm", "`fast`", "60..100000"}},
        {"model = disk\nchannels = 4\n", {":2", "channels", "disk", "rpm"}},
        {"model = disk\nmodel = fixed\n", {":2", "model", "first"}},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        refused(names[i].text, names[i].words);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *path = file_of(texts[i].text);
        refused(path, (const char *const[]){path, NULL});
        refused(path, texts[i].words);
        unlink(path);
    }
}

static void collect(void *opaque, const char *name, const char *value)
{
    char *text = opaque;

    if (!strcmp(name, "model"))
        sprintf(text, "%s:", value);
    else
        sprintf(text + strlen(text), "%s%s=%s",
                text[strlen(text) - 1] == ':' ? "" : ",", name, value);
}

/* What a report says of a model makes it again. */
static void a_model_can_be_written_down(void **state)
{
    static const char *const models[] = {
        "zero:cpu-turn=1234567ns,guest-queue=on", "fixed:read=1001us",
        "lognormal:bandwidth=1000,flush-waits=none",
        "disk:file-gap=0,seek-full=20ms,guest-depth=7"};
    (void)state;

    for (int i = 0; i < 4; i++) {
        struct sim_model m, again;
        struct error err = {""};
        char text[4000] = "", path_text[4100];
        assert_int_equal(sim_model_parse(&m, models[i], &err), 0);
        sim_model_each(&m, collect, text);
        snprintf(path_text, sizeof(path_text), "model = %s", text);
        for (char *p = path_text; *p; p++)
            *p = *p == ':' || *p == ',' ? '\n' : *p;
        const char *path = file_of(path_text);
        assert_int_equal(sim_model_parse(&again, path, &err), 0);
        unlink(path);
        assert_memory_equal(&m, &again, sizeof(m));
    }
}

/* ---- lognormal times ---- */

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void normal_quantiles(void **state)
{
    enum { N = 400000 };
    static int64_t z[N];
    static const struct {
        double p, z, within;
    } known[] = {{0.5, 0, 0.01},         {0.9, 1.28155, 0.012},  {0.1, -1.28155, 0.012},
                 {0.99, 2.32635, 0.03},  {0.01, -2.32635, 0.03}, {0.999, 3.09023, 0.08},
                 {0.001, -3.09023, 0.08}};
    uint64_t seed = 1; /* one that is known: the bounds are four standard errors */
    uint64_t sum = 0;
    (void)state;

    for (int i = 0; i < N; i++) {
        uint64_t r[3] = {splitmix_next(&seed), splitmix_next(&seed),
                         splitmix_next(&seed)};
        z[i] = sim_normal_q16(r);
        sum = splitmix_mix(sum + (uint64_t)z[i]);
        sum = splitmix_mix(sum + sim_lognormal_ns(80 * US, 40, z[i]));
    }
    qsort(z, N, sizeof(z[0]), by_value);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        double found = (double)z[(int)(known[i].p * N)] / 65536;
        if (fabs(found - known[i].z) > known[i].within)
            fail_msg("the %g quantile is %f, not %f", known[i].p, found, known[i].z);
    }
    /* The same on every machine and compiler. */
    assert_true(sum == 0x747306a9f494f3c0u);
}

static void lognormal_is_exp(void **state)
{
    (void)state;
    assert_int_equal(sim_lognormal_ns(80 * US, 40, 0), 80 * US);
    for (int64_t z = -4 * 65536; z <= 4 * 65536; z += 97) {
        double right = 1e9 * exp(0.4 * (double)z / 65536);
        double found = (double)sim_lognormal_ns(1000000000, 40, z);
        if (fabs(found / right - 1) > 0.0003)
            fail_msg("e^(0.4 * %f) is %f, not %f", (double)z / 65536, found, right);
    }
}

/* ---- devices ---- */

static struct env *env;
static struct sim_device *device_of(const char *text)
{
    struct sim_model m;
    struct error err = {""};

    assert_int_equal(sim_model_parse(&m, text, &err), 0);
    return sim_device_of(env, &m);
}

static void channels(void **state)
{
    (void)state;
    env = env_sim(1);
    struct sim_device *d =
        device_of("lognormal:sigma=0,read=100us,write=10us,flush=50us,channels=2");
#define DONE(op, len) (sim_device_done_ns(d, op, len) / US)
    assert_int_equal(DONE(AIO_READ, 1), 100);
    assert_int_equal(DONE(AIO_READ, 1), 100);
    assert_int_equal(DONE(AIO_READ, 1), 200);
    assert_int_equal(DONE(AIO_WRITE, 1), 110); /* the one that is free first */
    assert_int_equal(DONE(AIO_FLUSH, 0), 250); /* after all that they were given */
    assert_ptr_equal(d, device_of("lognormal:flush=50us,sigma=0,read=100us,write=10us,"
                                  "channels=2"));

    /* A write is done early, but keeps its channel; a flush needs no channel. */
    d = device_of("lognormal:sigma=0,read=100us,write=10us,flush=50us,channels=1,"
                  "write-busy=300us,flush-waits=none");
    assert_int_equal(DONE(AIO_WRITE, 1), 10);
    assert_int_equal(DONE(AIO_FLUSH, 0), 50);
    assert_int_equal(DONE(AIO_READ, 1), 400);

    /* What is moved goes over the wire one after the other: 1 us a byte. */
    d = device_of("lognormal:sigma=0,read=100us,write=10us,flush=50us,channels=4,"
                  "bandwidth=1000000");
    assert_int_equal(DONE(AIO_READ, 30), 130);
    assert_int_equal(DONE(AIO_READ, 40), 170);
    assert_int_equal(DONE(AIO_WRITE, 5), 175);
    assert_int_equal(DONE(AIO_DISCARD, 1000), 10); /* moves nothing */
#undef DONE
    env_destroy(env);
}

/* ---- through the engine ---- */

enum { IOS = 16, BYTES = 4096 };
static struct {
    struct aio aio; /* first */
    struct iovec iov;
    uint64_t done_ns;
    uint8_t buf[BYTES];
} io[IOS];
static unsigned ended, order[IOS];
static struct blk_file *file;

static void done(struct aio *a)
{
    unsigned i = (unsigned)(((char *)a - (char *)io) / (ptrdiff_t)sizeof(io[0]));

    assert_int_equal(a->result, 0);
    io[i].done_ns = env_now_ns(env);
    order[ended++] = i;
}

static void submit(struct loop *loop, unsigned i, enum aio_op op, uint64_t offset)
{
    io[i].iov = (struct iovec){io[i].buf, BYTES};
    io[i].aio = (struct aio){.op = op,
                             .file = file,
                             .offset = offset,
                             .len = BYTES,
                             .iov = &io[i].iov,
                             .iovcnt = 1,
                             .done = done};
    aio_submit(loop, &io[i].aio);
}

/* 6000 rpm, 40960 bytes a track: 1 ms for 4096; nothing else costs anything. */
#define DISK                                                                           \
    "disk:rpm=6000,track=40k,heads=2,cylinders=1000,command=0,head-switch=0,"          \
    "readahead=0,seek-track=1ms,seek-average=7.4ms,seek-full=13ms"

static struct loop *start(const char *model)
{
    struct loop_options o = {.engine = "sim", .depth = IOS, .sim_model = model};
    struct blk_options f = {.write = true, .create = true, .sim = true};
    struct error err = {""};
    struct loop *loop;

    f.env = env = env_sim(1);
    assert_int_equal(loop_create(&loop, env, &o, &err), 0);
    assert_int_equal(blk_open(&file, "mem:disk", &f, &err), 0);
    ended = 0;
    return loop;
}

static void stop(struct loop *loop)
{
    assert_int_equal(blk_close(file), 0);
    loop_destroy(loop);
    env_destroy(env);
}

static void one_arm_serves_in_the_elevators_order(void **state)
{
    static const unsigned come[] = {3, 1, 7, 5}, noop[] = {0, 1, 2, 3},
                          deadline[] = {0, 3, 2, 1};
    (void)state;
    for (int sorted = 0; sorted < 2; sorted++) {
        struct loop *loop =
            start(sorted ? DISK ",host-elevator=deadline" : DISK ",host-elevator=noop");
        for (unsigned i = 0; i < 4; i++)
            submit(loop, i, AIO_WRITE, come[i] * BYTES);
        while (ended < 4)
            loop_turn(loop, true);
        /* The first to come finds the arm idle. */
        assert_memory_equal(order, sorted ? deadline : noop, sizeof(noop));
        assert_int_equal(io[0].done_ns, 4 * MS);
        /* noop: 1 after a turn, 7 in that one, 5 after one more. Else 5, 7, 1 on the way. */
        assert_int_equal(io[1].done_ns, 12 * MS);
        assert_int_equal(io[2].done_ns, sorted ? 8 * MS : 18 * MS);
        assert_int_equal(io[3].done_ns, sorted ? 6 * MS : 26 * MS);
        stop(loop);
    }
}

static void neighbours_go_down_as_one(void **state)
{
    (void)state;
    struct loop *loop = start(DISK);
    submit(loop, 0, AIO_WRITE, 0);
    for (unsigned i = 1; i < 4; i++)
        submit(loop, i, AIO_WRITE, (4 - i) * BYTES);
    while (ended < 4)
        loop_turn(loop, true);
    assert_int_equal(io[0].done_ns, 1 * MS);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(io[i].done_ns, 4 * MS);
    for (unsigned i = 0; i < 4; i++) {
        memset(io[i].buf, 0xff, BYTES);
        submit(loop, i, AIO_READ, i * BYTES);
    }
    while (ended < 8)
        loop_turn(loop, true);
    stop(loop);
}

static void spindles_work_side_by_side(void **state)
{
    (void)state;
    struct loop *loop = start(DISK ",spindles=4,stripe=4k");
    for (unsigned i = 0; i < 8; i++)
        submit(loop, i, AIO_WRITE, i * BYTES);
    while (ended < 8)
        loop_turn(loop, true);
    for (unsigned i = 0; i < 8; i++) /* 4 to 7 lie behind 0 to 3 */
        assert_int_equal(io[i].done_ns, i < 4 ? 1 * MS : 2 * MS);
    /* One that lies on two of them is done when both are: the end of stripe 1 and the
     * beginning of stripe 2. */
    uint64_t begin = env_now_ns(env);
    submit(loop, 0, AIO_WRITE, BYTES + BYTES / 2);
    while (ended < 9)
        loop_turn(loop, true);
    assert_int_equal(begin, 2 * MS);
    assert_int_equal(io[0].done_ns,
                     11 * MS); /* half a millisecond to 1 ms, a turn later */
    stop(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_settings),
        cmocka_unit_test(files),
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(a_model_can_be_written_down),
        cmocka_unit_test(normal_quantiles),
        cmocka_unit_test(lognormal_is_exp),
        cmocka_unit_test(channels),
        cmocka_unit_test(one_arm_serves_in_the_elevators_order),
        cmocka_unit_test(neighbours_go_down_as_one),
        cmocka_unit_test(spindles_work_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
