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
    char op[16], kind[16], header[200];
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
            assert_int_equal(fscanf(f, "%lu %lu %lu %15s %15s %lu %lu %d", &seq,
                                    &submitted, &done, op, kind, &offset, &len,
                                    &result),
                             8);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(bad_specs_are_named),
                                       cmocka_unit_test(precise_names_win),
                                       cmocka_unit_test(helpers_are_delayed_too),
                                       cmocka_unit_test(distributions_have_their_mean),
                                       cmocka_unit_test(throttle_keeps_the_rate),
                                       cmocka_unit_test(record_writes_all_down)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
