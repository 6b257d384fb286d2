/*
 * Filters parse what they document, name what they don't, stack, and delay by what they
 * were told, in real and in virtual time.
 */
#include "tests/block/block_test.h"

static void parse_fails(const char *spec, const char *word)
{
    struct blk_options bo = {.env = test_env, .filters = spec};
    struct blk_file *file;
    struct error err = {""};

    assert_int_equal(blk_open(&file, test_path("f"), &bo, &err), -EINVAL);
    if (!strstr(err.msg, word))
        fail_msg("\"%s\" says \"%s\", without \"%s\"", spec, err.msg, word);
}

static void bad_specs_are_named(void **state)
{
    (void)state;
    MUST(blk_close(test_open(test_path("f"), false, true, NULL)));
    parse_fails("slow", "slow");
    parse_fails("delay:reed=1ms", "reed");
    parse_fails("delay:read=1 fortnight", "fortnight");
    parse_fails("delay:read", "read");
    parse_fails("delay:read=uniform(2ms,1ms)", "uniform(2ms,1ms)");
    parse_fails("delay:read=lognormal(1ms)", "lognormal(1ms)");
    parse_fails("delay:read=lognormal(1ms,x)", "lognormal(1ms,x)");
    parse_fails("delay:metadata-reed=1ms", "metadata-reed");
    parse_fails("delay:read=1ms;fault:n=0", "n=0");
    parse_fails("fault:n=many", "many");
    parse_fails("fault:error=EWHAT", "EWHAT");
    parse_fails("fault:op=scribble", "scribble");
    parse_fails("fault:colour=red", "colour");
    parse_fails("fault:n=1,stuck=long", "stuck=long");
    parse_fails("fault:from=here", "from=here");
    parse_fails("delay:read=1ms,from=8k,to=4k", "to=4k");
    parse_fails("delay:read=1ms,to=-1", "to=-1");
    parse_fails("throttle:iops=0", "iops=0");
}

/* ---- offset ranges ---- */

static int write_at(struct blk_file *file, struct loop *loop, uint64_t offset,
                    size_t len)
{
    static char buf[16384];
    struct iovec iov = {buf, len};
    struct aio aio = {.op = AIO_WRITE,
                      .file = file,
                      .offset = offset,
                      .len = len,
                      .iov = &iov,
                      .iovcnt = 1};

    return aio_run(loop, &aio);
}

/* In [4096, 12288), whatever touches it; what ends before or begins behind doesn't. */
static void faults_strike_where_they_should(void **state)
{
    static const struct {
        uint64_t offset;
        size_t len;
        int result;
    } cases[] = {
        {0, 4096, 0},     {0, 4097, -EIO},  {4096, 1, -EIO},    {12287, 1, -EIO},
        {12288, 4096, 0}, {0, 16384, -EIO}, {8192, 8192, -EIO}, {1 << 20, 4096, 0},
    };

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file =
            test_open(test_path("range"), false, true,
                      "fault:op=any,n=1,times=forever,from=4k,to=12k");
        struct loop *loop = test_loop(test_engines[e], 4);

        for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
            assert_int_equal(write_at(file, loop, cases[i].offset, cases[i].len),
                             cases[i].result);
        MUST(blk_flush(file)); /* touches no byte */
        assert_int_equal(fault_hits(blk_filter(file, "fault")), 5);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

/* The second in the range: those outside don't count. Once, unless told otherwise. */
static void faults_count_what_they_may_strike(void **state)
{
    struct blk_file *file = test_open(test_path("range"), false, true,
                                      "fault:write=2,error=ENOSPC,from=64k");
    struct loop *loop = test_loop("sync", 4);

    (void)state;
    MUST(write_at(file, loop, 0, 512));
    MUST(write_at(file, loop, 65536, 512));
    MUST(write_at(file, loop, 65536 - 512, 512));
    assert_int_equal(write_at(file, loop, 1 << 20, 512), -ENOSPC);
    MUST(write_at(file, loop, 1 << 20, 512));
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* In virtual time, to the nanosecond: two filters, each with its own part of the
 * file. */
static void delays_have_their_place(void **state)
{
    struct env *real = test_env;
    struct loop_options lo = {.engine = "sim", .depth = 4, .sim_model = "zero"};
    struct blk_options bo = {.write = true,
                             .create = true,
                             .sim = true,
                             .filters = "delay:any=100us,to=1m;"
                                        "delay:write=3ms,from=512k,to=2m"};
    static const struct {
        uint64_t offset, ns;
    } cases[] = {{0, 100000}, {524288, 3100000}, {1 << 20, 3000000}, {2 << 20, 0}};
    struct delay_stats first, second;
    struct blk_file *file;
    struct loop *loop;

    (void)state;
    test_env = bo.env = env_sim(7);
    MUST(loop_create(&loop, test_env, &lo, &test_err));
    MUST(blk_open(&file, "mem:v", &bo, &test_err));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t begin_ns = env_now_ns(test_env);
        MUST(write_at(file, loop, cases[i].offset, 512));
        assert_int_equal(env_now_ns(test_env) - begin_ns, cases[i].ns);
    }
    delay_get_stats(blk_filter(file, "delay"), &first);
    delay_get_stats(filter_find(blk_filter(file, "delay")->next, "delay"), &second);
    assert_int_equal(first.count, 2);
    assert_int_equal(second.count, 2);
    assert_int_equal(second.realised_ns, 6000000);
    loop_destroy(loop);
    MUST(blk_close(file));
    env_destroy(test_env);
    test_env = real;
}

/* ---- stuck ---- */

static unsigned stuck_ended;
static int stuck_result;
static void stuck_end(struct aio *aio)
{
    stuck_ended++;
    stuck_result = aio->result;
}

/* It ends with its error when its time is over, or at once when it is cancelled; others
 * pass meanwhile. */
static void what_is_stuck_ends(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("stuck"), false, true,
                                          "fault:write=1,error=ETIMEDOUT,stuck=5ms");
        struct filter *fault = blk_filter(file, "fault");
        struct loop *loop = test_loop(test_engines[e], 4);
        struct fault_plan plan = {.kinds = ~0u,
                                  .n = 1,
                                  .times = 1,
                                  .error = -EIO,
                                  .action = FAULT_STUCK,
                                  .stuck_ns = UINT64_MAX / 4};
        uint64_t begin_ns = env_now_ns(test_env);
        struct aio aio = {.op = AIO_FLUSH, .file = file, .done = stuck_end};

        assert_int_equal(write_at(file, loop, 0, 512), -ETIMEDOUT);
        assert_true(env_now_ns(test_env) - begin_ns >= 5000000);
        assert_int_equal(blk_size(file), 0); /* nothing was done */
        fault_arm(fault, &plan);
        stuck_ended = 0;
        aio_submit(loop, &aio);
        MUST(write_at(file, loop, 0, 512));
        assert_int_equal(stuck_ended, 0);
        aio_cancel(&aio);
        while (!stuck_ended)
            loop_turn(loop, true);
        assert_int_equal(stuck_result, -ECANCELED);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

static uint64_t time_of(struct blk_file *file, struct loop *loop, enum aio_op op,
                        bool metadata)
{
    char buf[512] = {0};
    struct iovec iov = {buf, sizeof(buf)};
    struct aio aio = {.op = op, .file = file, .metadata = metadata};
    uint64_t begin_ns = env_now_ns(test_env);

    if (op != AIO_FLUSH) {
        aio.len = sizeof(buf);
        aio.iov = &iov;
        aio.iovcnt = 1;
    }
    MUST(aio_run(loop, &aio));
    return env_now_ns(test_env) - begin_ns;
}

static void precise_names_win(void **state)
{

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file =
            test_open(test_path("d"), false, true,
                      "delay:metadata-read=20ms,read=5ms,any=0ms;fault");
        struct loop *loop = test_loop(test_engines[e], 4);
        struct delay_stats stats;

        assert_true(time_of(file, loop, AIO_READ, true) >= 20000000);
        assert_true(time_of(file, loop, AIO_READ, false) >= 5000000);
        delay_get_stats(blk_filter(file, "delay"), &stats);
        assert_int_equal(stats.count, 2);
        assert_int_equal(stats.asked_ns, 25000000);
        assert_true(stats.realised_ns >= stats.asked_ns);
        assert_int_equal(fault_passed(blk_filter(file, "fault"), ~0u), 2);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

static void helpers_are_delayed_too(void **state)
{
    struct blk_file *file = test_open(test_path("d"), false, true, "delay:flush=10ms");
    uint64_t begin_ns = env_now_ns(test_env);

    (void)state;
    MUST(blk_flush(file));
    assert_true(env_now_ns(test_env) - begin_ns >= 10000000u);
    MUST(blk_close(file));
}

static double mean_us(const char *filters, unsigned *distinct)
{
    struct env *real = test_env;
    struct loop_options lo = {.engine = "sim", .depth = 4};
    struct blk_options bo = {
        .write = true, .create = true, .sim = true, .filters = filters};
    struct delay_stats stats;
    struct blk_file *file;
    struct loop *loop;
    uint64_t last = 0;

    test_env = bo.env = env_sim(7);
    *distinct = 0;
    MUST(loop_create(&loop, test_env, &lo, &test_err));
    MUST(blk_open(&file, "mem:v", &bo, &test_err));
    for (int i = 0; i < 2000; i++) {
        uint64_t ns = time_of(file, loop, AIO_WRITE, false);
        *distinct += ns != last;
        last = ns;
    }
    delay_get_stats(blk_filter(file, "delay"), &stats);
    assert_int_equal(stats.count, 2000);
    assert_int_equal(stats.asked_ns, stats.realised_ns); /* virtual time is exact */
    loop_destroy(loop);
    MUST(blk_close(file));
    env_destroy(test_env);
    test_env = real;
    return 1e-3 * (double)stats.asked_ns / 2000;
}

static void distributions_have_their_mean(void **state)
{
    unsigned distinct;
    double us;

    (void)state;
    us = mean_us("delay:write=uniform(100us,300us)", &distinct);
    assert_true(us > 190 && us < 210);
    assert_true(distinct > 1900);
    us = mean_us("delay:data-write=lognormal(200us,0.5)", &distinct);
    assert_true(us > 210 && us < 245); /* median * exp(sigma^2 / 2) is 226.6 */
    us = mean_us("delay:write=150us", &distinct);
    assert_true(us > 149.9 && us < 150.1);
}

static unsigned throttled_done;
static void throttled_end(struct aio *aio)
{
    assert_int_equal(aio->result, 0);
    throttled_done++;
}

/* Virtual time that n writes of len bytes take, all submitted at once. */
static uint64_t throttled_ns(const char *filters, unsigned n, size_t len)
{
    struct env *real = test_env;
    struct loop_options lo = {.engine = "sim", .depth = 256};
    struct blk_options bo = {
        .write = true, .create = true, .sim = true, .filters = filters};
    static char block[65536];
    struct iovec iov = {block, len};
    struct aio aio[200];
    struct blk_file *file;
    struct loop *loop;
    uint64_t begin_ns, ns;

    test_env = bo.env = env_sim(7);
    MUST(loop_create(&loop, test_env, &lo, &test_err));
    MUST(blk_open(&file, "mem:t", &bo, &test_err));
    begin_ns = env_now_ns(test_env);
    throttled_done = 0;
    for (unsigned i = 0; i < n; i++) {
        aio[i] = (struct aio){.op = AIO_WRITE,
                              .file = file,
                              .offset = i * len,
                              .len = len,
                              .iov = &iov,
                              .iovcnt = 1,
                              .done = throttled_end};
        aio_submit(loop, &aio[i]);
    }
    while (throttled_done < n)
        loop_turn(loop, true);
    ns = env_now_ns(test_env) - begin_ns;
    loop_destroy(loop);
    MUST(blk_close(file));
    env_destroy(test_env);
    test_env = real;
    return ns;
}

static void throttle_keeps_the_rate(void **state)
{
    uint64_t ns;

    (void)state;
    ns = throttled_ns("throttle:iops=1000", 101, 512); /* the first goes at once */
    assert_in_range(ns, 100000000, 103000000);
    ns = throttled_ns("throttle:iops=1000,iops-burst=51", 101, 512);
    assert_in_range(ns, 50000000, 53000000);
    ns = throttled_ns("throttle:bps=1m", 17, 65536);
    assert_in_range(ns, 1000000000, 1003000000);
}

static void record_writes_all_down(void **state)
{
    char filters[300], path[128];
    struct blk_file *file;
    struct loop *loop;
    unsigned long seq, submitted, done, offset, len;
    char op[16], kind[16], arrival[16], header[200];
    int result;
    FILE *f;

    (void)state;
    snprintf(path, sizeof(path), "%s", test_path("record"));
    snprintf(filters, sizeof(filters),
             "record:file=%s;record:file=/dev/"
             "null;delay:read=3ms;fault:write=2,error=ENOSPC",
             path);
    for (int e = 0; e < TEST_ENGINES; e++) {
        unlink(path);
        file = test_open(test_path("d"), false, true, filters);
        loop = test_loop(test_engines[e], 4);
        time_of(file, loop, AIO_WRITE, false);
        time_of(file, loop, AIO_READ, true);
        assert_int_equal(blk_pwrite(file, 8192, "x", 1), -ENOSPC);
        loop_destroy(loop);
        MUST(blk_close(file));
        f = fopen(path, "r");
        assert_non_null(f);
        assert_non_null(fgets(header, sizeof(header), f));
        for (unsigned i = 0; i < 3; i++) {
            static const char *const ops[] = {"write", "read", "write"};
            assert_int_equal(fscanf(f, "%lu %15s %lu %lu %15s %15s %lu %lu %d", &seq,
                                    arrival, &submitted, &done, op, kind, &offset, &len,
                                    &result),
                             9);
            assert_int_equal(seq, i);
            assert_string_equal(op, ops[i]);
            assert_string_equal(kind, i == 1 ? "metadata" : "data");
            assert_int_equal(result, i == 2 ? -ENOSPC : 0);
            assert_true(done >= submitted + (i == 1 ? 3000000 : 0));
        }
        assert_int_equal(offset, 8192);
        assert_int_equal(fscanf(f, "%lu", &seq), EOF);
        fclose(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_specs_are_named),
        cmocka_unit_test(faults_strike_where_they_should),
        cmocka_unit_test(faults_count_what_they_may_strike),
        cmocka_unit_test(delays_have_their_place),
        cmocka_unit_test(what_is_stuck_ends),
        cmocka_unit_test(precise_names_win),
        cmocka_unit_test(helpers_are_delayed_too),
        cmocka_unit_test(distributions_have_their_mean),
        cmocka_unit_test(throttle_keeps_the_rate),
        cmocka_unit_test(record_writes_all_down)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
