/*
 * We and QEMU's programs see each other's image locks, both ways round.
 */
#include "tests/block/block_test.h"

static int shell(char *out, size_t size, const char *fmt, const char *path)
{
    char command[512];
    FILE *pipe;
    size_t n;

    snprintf(command, sizeof(command), fmt, path);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    n = fread(out, 1, size - 1, pipe);
    out[n] = '\0';
    return pclose(pipe);
}

static const char *image(void)
{
    const char *path = test_path("locked.qcow2");
    char out[512];

    if (shell(out, sizeof(out), "qemu-img create -f qcow2 %s 1M 2>&1", path) != 0) {
        print_message("skipped: no qemu-img here: %s\n", out);
        skip();
    }
    return path;
}

static int try_open(struct blk_file **file, const char *path, bool write, bool no_lock)
{
    struct blk_options bo = {.write = write, .no_lock = no_lock, .env = test_env};

    test_err.msg[0] = '\0';
    return blk_open(file, path, &bo, &test_err);
}

static void qemu_sees_our_writer(void **state)
{
    const char *path = image();
    struct blk_file *file;
    char out[1024];

    (void)state;
    MUST(try_open(&file, path, true, false));
    assert_int_not_equal(
        shell(out, sizeof(out), "qemu-io -c 'read 0 512' %s 2>&1", path), 0);
    assert_non_null(strstr(out, "lock"));
    assert_int_not_equal(shell(out, sizeof(out), "qemu-img info %s 2>&1", path), 0);
    assert_non_null(strstr(out, "Failed to get shared \"write\" lock"));
    assert_int_equal(shell(out, sizeof(out), "qemu-img info -U %s 2>&1", path), 0);
    MUST(blk_close(file));
    assert_int_equal(shell(out, sizeof(out), "qemu-io -c 'write 0 512' %s 2>&1", path),
                     0);
}

static void qemu_sees_our_reader(void **state)
{
    const char *path = image();
    struct blk_file *file;
    char out[1024];

    (void)state;
    MUST(try_open(&file, path, false, false));
    assert_int_equal(shell(out, sizeof(out), "qemu-img info %s 2>&1", path), 0);
    assert_int_equal(
        shell(out, sizeof(out), "qemu-io -r -c 'read 0 512' %s 2>&1", path), 0);
    assert_int_not_equal(
        shell(out, sizeof(out), "qemu-io -c 'write 0 512' %s 2>&1", path), 0);
    assert_non_null(strstr(out, "Failed to get \"write\" lock"));
    MUST(blk_close(file));
}

/* Holds the image open until its input ends. */
static FILE *hold(const char *path, const char *mode)
{
    char command[512];
    FILE *in;

    snprintf(command, sizeof(command), "qemu-io %s %s >%s.log 2>&1", mode, path, path);
    in = popen(command, "w");
    assert_non_null(in);
    fprintf(in, "read 0 512\n");
    fflush(in);
    for (int i = 0; i < 3000; i++) { /* its answer says that it has the image */
        char out[512];
        if (shell(out, sizeof(out), "cat %s.log", path) == 0 && strstr(out, "read 512"))
            return in;
        usleep(10000);
    }
    fail_msg("qemu-io did not open %s", path);
    return in;
}

static void we_see_their_writer(void **state)
{
    const char *path = image();
    FILE *qemu = hold(path, "");
    struct blk_file *file;

    (void)state;
    assert_int_equal(try_open(&file, path, true, false), -EAGAIN);
    assert_non_null(strstr(test_err.msg, path));
    assert_non_null(strstr(test_err.msg, "\"write\" lock"));
    assert_int_equal(try_open(&file, path, false, false), -EAGAIN);
    assert_non_null(strstr(test_err.msg, "shared \"write\" lock"));
    MUST(try_open(&file, path, false, true));
    MUST(blk_close(file));
    pclose(qemu);
    MUST(try_open(&file, path, true, false));
    MUST(blk_close(file));
}

static void we_see_their_reader(void **state)
{
    const char *path = image();
    FILE *qemu = hold(path, "-r");
    struct blk_file *file;

    (void)state;
    MUST(try_open(&file, path, false, false));
    MUST(blk_close(file));
    assert_int_equal(try_open(&file, path, true, false), -EAGAIN);
    assert_non_null(strstr(test_err.msg, "failed to get \"write\" lock"));
    pclose(qemu);
}

static void we_see_ourselves(void **state)
{
    struct blk_file *a, *b;
    const char *path = test_path("own");

    (void)state;
    MUST(blk_close(test_open(path, false, true, NULL)));
    MUST(try_open(&a, path, true, false));
    assert_int_equal(try_open(&b, path, false, false), -EAGAIN);
    assert_int_equal(try_open(&b, path, true, false), -EAGAIN);
    MUST(blk_close(a));
    MUST(try_open(&a, path, false, false));
    MUST(try_open(&b, path, false, false));
    MUST(blk_close(a));
    MUST(blk_close(b));
}

/* A file that somebody has open is not cut before its lock is ours. */
static void create_leaves_a_locked_file(void **state)
{
    struct blk_options bo = {
        .write = true, .create = true, .truncate = true, .env = test_env};
    const char *path = test_path("kept");
    struct blk_file *a, *b;

    (void)state;
    a = test_open(path, false, true, NULL);
    MUST(blk_truncate(a, 12345));
    assert_int_equal(blk_open(&b, path, &bo, &test_err), -EAGAIN);
    assert_int_equal(blk_size(a), 12345);
    MUST(blk_close(a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qemu_sees_our_writer),
        cmocka_unit_test(qemu_sees_our_reader),
        cmocka_unit_test(we_see_their_writer),
        cmocka_unit_test(we_see_their_reader),
        cmocka_unit_test(we_see_ourselves),
        cmocka_unit_test(create_leaves_a_locked_file),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
