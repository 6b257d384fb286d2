/*
 * The ends of files: reads beyond, partial last blocks, size, holes, no space, and what
 * opening says when it can't.
 */
#include "tests/block/block_test.h"
#include "tests/block/loop_device.h"

static int run(struct loop *loop, struct blk_file *file, enum aio_op op,
               uint64_t offset, void *buf, size_t len)
{
    struct iovec iov = {buf, len};
    struct aio aio = {.op = op, .file = file, .offset = offset, .len = len};

    if (buf) {
        aio.iov = &iov;
        aio.iovcnt = 1;
    }
    return aio_run(loop, &aio);
}

static void reads_beyond_the_end_are_zero(void **state)
{
    static char buf[65536] __attribute__((aligned(4096)));
    static const char nothing[65536];

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        for (int direct = 0; direct < 2; direct++) {
            struct blk_file *file = test_open(test_path("short"), direct, true, NULL);
            struct loop *loop = test_loop(test_engines[e], 4);

            memset(buf, 1, sizeof(buf));
            MUST(run(loop, file, AIO_READ, 0, buf, sizeof(buf))); /* empty file */
            assert_memory_equal(buf, nothing, sizeof(buf));
            MUST(run(loop, file, AIO_WRITE, 1000, (char[]){"end"}, 3));
            assert_int_equal(blk_size(file), 1003);
            memset(buf, 1, sizeof(buf));
            MUST(run(loop, file, AIO_READ, 0, buf, sizeof(buf)));
            assert_memory_equal(buf + 1000, "end", 3);
            assert_memory_equal(buf + 1003, nothing, sizeof(buf) - 1003);
            memset(buf, 1, sizeof(buf));
            MUST(run(loop, file, AIO_READ, 1 << 20, buf, 4096));
            assert_memory_equal(buf, nothing, 4096);
            loop_destroy(loop);
            MUST(blk_close(file));
        }
    }
}

static void growth_and_zeroes_keep_what_is_there(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("grow"), true, true, NULL);
        struct loop *loop = test_loop(test_engines[e], 4);
        char buf[10];
        uint64_t len = 1 << 20;

        MUST(blk_pwrite(file, 0, "0123456789", 10));
        MUST(run(loop, file, AIO_GROW, 0, NULL, 1 << 20));
        assert_int_equal(blk_size(file), 1 << 20);
        MUST(run(loop, file, AIO_ZERO, 3, NULL, 4));
        MUST(blk_pread(file, 0, buf, 10));
        assert_memory_equal(buf, "012\0\0\0\000789", 10);
        MUST(run(loop, file, AIO_DISCARD, 0, NULL, 1 << 20));
        assert_int_equal(blk_size(file), 1 << 20);
        assert_false(blk_is_data(file, 0, &len));
        assert_int_equal(len, 1 << 20);
        MUST(blk_pwrite(file, 65536, "x", 1));
        len = 1 << 20;
        assert_false(blk_is_data(file, 0, &len));
        assert_int_equal(len, 65536);
        assert_true(blk_is_data(file, 65536, &len));
        MUST(run(loop, file, AIO_FLUSH, 0, NULL, 0));
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

/* tmpfs can't zero a range in place: punched and allocated again, or written. */
static void zeroes_where_the_kernel_lacks_them(void **state)
{
    char path[64], buf[8192];

    (void)state;
    snprintf(path, sizeof(path), "/dev/shm/block-test.%d", (int)getpid());
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(path, false, true, NULL);
        struct loop *loop = test_loop(test_engines[e], 4);
        struct stat st;

        memset(buf, 'x', sizeof(buf));
        MUST(blk_pwrite(file, 0, buf, sizeof(buf)));
        MUST(run(loop, file, AIO_ZERO, 100, NULL, 20000));
        MUST(run(loop, file, AIO_ZERO, 200, NULL, 5000));
        assert_int_equal(blk_size(file), 20100);
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_blocks * 512 >= 20100);
        MUST(blk_pread(file, 0, buf, sizeof(buf)));
        for (unsigned i = 0; i < sizeof(buf); i++)
            assert_int_equal(buf[i], i < 100 ? 'x' : 0);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
    unlink(path);
}

static void no_space_is_reported(void **state)
{
    static char buf[1 << 20];
    char mount[128], path[160], command[400];

    (void)state;
    snprintf(mount, sizeof(mount), "%s", test_path("full"));
    snprintf(path, sizeof(path), "%s/file", mount);
    snprintf(command, sizeof(command),
             "mkdir -p %s && mount -t tmpfs -o size=256k none %s 2>/dev/null", mount,
             mount);
    if (system(command) != 0) {
        print_message("skipped: can't mount a tmpfs here\n");
        skip();
    }
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(path, false, true, NULL);
        struct loop *loop = test_loop(test_engines[e], 4);

        assert_int_equal(run(loop, file, AIO_WRITE, 0, buf, sizeof(buf)), -ENOSPC);
        MUST(blk_truncate(file, 0));
        assert_int_equal(run(loop, file, AIO_GROW, 0, NULL, 1 << 20), -ENOSPC);
        MUST(run(loop, file, AIO_WRITE, 0, buf, 4096));
        loop_destroy(loop);
        MUST(blk_close(file));
    }
    snprintf(command, sizeof(command), "umount %s", mount);
    assert_int_equal(system(command), 0);
}

static void opening_explains_what_is_wrong(void **state)
{
    struct blk_options bo = {.env = test_env};
    struct blk_file *file;
    struct error err = {""};

    (void)state;
    assert_int_equal(blk_open(&file, "/nonexistent/x", &bo, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/x"));
    err.msg[0] = '\0';
    assert_int_equal(blk_open(&file, "/", &bo, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "regular file"));
    err.msg[0] = '\0';
    bo.direct = true;
    assert_int_equal(blk_open(&file, "/proc/self/status", &bo, &err), -ENOTSUP);
    assert_non_null(strstr(err.msg, "direct"));
    err.msg[0] = '\0';
    bo.direct = false;
    bo.create = true;
    MUST(blk_close(test_open(test_path("exists"), false, true, NULL)));
    assert_int_equal(blk_open(&file, test_path("exists"), &bo, &err), -EEXIST);
    err.msg[0] = '\0';
    bo = (struct blk_options){.env = test_env, .sim = true};
    assert_int_equal(blk_open(&file, test_path("exists"), &bo, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "simulated"));
}

static void sectors_of_4096_are_found(void **state)
{
    struct blk_options bo = {.write = true, .direct = true, .env = test_env};
    char device[64], image[128], buf[3] = "";
    struct blk_file *file;
    uint64_t len = 100;

    (void)state;
    snprintf(image, sizeof(image), "%s", test_path("disk"));
    loop_device_make(image, 1 << 20, device);
    MUST(blk_open(&file, device, &bo, &test_err));
    assert_int_equal(blk_align(file), 4096);
    assert_int_equal(blk_size(file), 1 << 20);
    assert_false(blk_regular(file));
    assert_true(blk_is_data(file, 0, &len));
    MUST(blk_pwrite(file, 4095, "ab", 2));
    MUST(blk_pread(file, 4095, buf, 2));
    assert_string_equal(buf, "ab");
    assert_true(blk_pwrite(file, (1 << 20) - 1, "ab", 2) <
                0); /* no room behind the end */
    MUST(blk_close(file));
    loop_device_drop(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_beyond_the_end_are_zero),
        cmocka_unit_test(growth_and_zeroes_keep_what_is_there),
        cmocka_unit_test(zeroes_where_the_kernel_lacks_them),
        cmocka_unit_test(no_space_is_reported),
        cmocka_unit_test(opening_explains_what_is_wrong),
        cmocka_unit_test(sectors_of_4096_are_found),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
