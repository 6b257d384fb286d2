/* Settings of engines: what is refused and how; posix-aio when its signals are lost. */
#include <sys/resource.h>

#include "tests/block/block_test.h"

static void refused(const char *engine, const char *expected)
{
    struct loop_options o = {.engine = engine};
    struct loop *loop;
    struct error err = {""};

    assert_int_equal(loop_create(&loop, test_env, &o, &err), -EINVAL);
    if (!strstr(err.msg, expected))
        fail_msg("%s: \"%s\" does not say \"%s\"", engine, err.msg, expected);
}

static void what_is_unknown_is_refused(void **state)
{
    (void)state;
    refused("posix-aio:colour=blue", "engine posix-aio: unknown setting \"colour\"");
    refused("posix-aio:colour=blue", "completion=signal|poll, threads=1..1024");
    refused("posix-aio:completion=maybe", "signal|poll");
    refused("posix-aio:threads=0", "1..1024");
    refused("sync:threads=4", "known: none");
    refused("posix", "no such engine; there are sync, threads, posix-aio");
}

static void the_loop_keeps_the_plain_name(void **state)
{
    struct loop *loop = test_loop("posix-aio:completion=poll", 4);

    (void)state;
    assert_string_equal(loop_engine(loop), "posix-aio");
    loop_destroy(loop);
}

static void a_pool_in_use_keeps_its_size(void **state)
{
    struct loop_options o = {.engine = "posix-aio:threads=3"};
    struct loop *first = test_loop("posix-aio", 4), *loop;
    struct error err = {""};

    (void)state;
    assert_int_equal(loop_create(&loop, test_env, &o, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "set up with 20"));
    loop_destroy(first);
}

/* The kernel says nothing when it drops a signal; the sweep finds what is done. */
static void lost_signals_lose_no_request(void **state)
{
    struct rlimit before, none;
    struct blk_file *file = test_open(test_path("lost"), false, true, NULL);
    struct loop *loop = test_loop("posix-aio", 8);
    char out[512], in[512];
    struct iovec iov = {out, sizeof(out)};

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_SIGPENDING, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &none), 0);
    for (unsigned i = 0; i < 20; i++) {
        struct aio aio = {.op = AIO_WRITE,
                          .file = file,
                          .offset = i * sizeof(out),
                          .len = sizeof(out),
                          .iov = &iov,
                          .iovcnt = 1};
        memset(out, (int)i + 1, sizeof(out));
        MUST(aio_run(loop, &aio));
    }
    assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &before), 0);
    for (unsigned i = 0; i < 20; i++) {
        MUST(blk_pread(file, i * sizeof(in), in, sizeof(in)));
        assert_int_equal(in[0], i + 1);
    }
    loop_destroy(loop);
    MUST(blk_close(file));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_unknown_is_refused),
                                       cmocka_unit_test(the_loop_keeps_the_plain_name),
                                       cmocka_unit_test(a_pool_in_use_keeps_its_size),
                                       cmocka_unit_test(lost_signals_lose_no_request)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
