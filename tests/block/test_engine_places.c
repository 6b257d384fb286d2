/*
 * Where files live: the disk that the tests run on, tmpfs, a loop device, FUSE. On
 * each, buffered and direct, every engine does its work; auto and auto=recipe choose
 * one that does, and say why.
 */
#include "core/block/choose.h"
#include "tests/block/fuse_mount.h"
#include "tests/block/loop_device.h"

enum { BLOCK = 4096, BLOCKS = 64, SIZE = BLOCK * BLOCKS };

static struct aio aio[BLOCKS];
static struct iovec iov[BLOCKS];
static char memory[BLOCKS][BLOCK] __attribute__((aligned(BLOCK)));
static unsigned done, failed;
static void ended(struct aio *a)
{
    done++;
    failed += a->result < 0;
}

static void run(struct loop *loop, struct blk_file *file, enum aio_op op)
{
    done = failed = 0;
    test_submit_blocks(loop, file, op, BLOCKS, aio, iov, memory, ended);
    while (done < BLOCKS)
        loop_turn(loop, true);
    assert_int_equal(failed, 0);
}

/* Opens what is there; NULL: this place has no direct I/O. */
static struct blk_file *open_place(const char *path, bool direct)
{
    struct blk_options o = {
        .write = true, .direct = direct, .no_lock = true, .env = test_env};
    struct error err = {""};
    struct blk_file *file;
    int ret = blk_open(&file, path, &o, &err);

    if (ret == -ENOTSUP && direct) {
        print_message("%s\n", err.msg);
        return NULL;
    }
    if (ret < 0)
        fail_msg("%s", err.msg);
    return file;
}

static void works_with(const char *engine, const char *path, bool direct, int mark)
{
    struct blk_file *file = open_place(path, direct);
    struct loop *loop = test_loop(engine, 16);

    assert_non_null(file);
    memset(memory, mark, sizeof(memory));
    run(loop, file, AIO_WRITE);
    run(loop, file, AIO_FLUSH);
    memset(memory, 0, sizeof(memory));
    run(loop, file, AIO_READ);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(memory[i][BLOCK - 1], mark);
    loop_destroy(loop);
    MUST(blk_close(file));
}

static struct engine_choice choose(const char *how, const char *path, bool direct)
{
    struct engine_choice c;

    MUST(engine_choose(&c, how, test_env, path, direct, &test_err));
    print_message("%s, %s, %s: %s: %s\n", path, direct ? "direct" : "buffered", how,
                  c.engine, c.reason);
    assert_true(strlen(c.reason) > 10);
    works_with(c.engine, path, direct, 'c');
    return c;
}

/* recipe: what its reason must say for direct I/O, if it is not linux-aio. */
static void place(const char *path, const char *recipe)
{
    for (int direct = 0; direct < 2; direct++) {
        struct blk_file *file = open_place(path, direct);
        struct engine_choice c;

        if (!file)
            continue;
        MUST(blk_close(file));
        for (int e = 0; e < TEST_ENGINES; e++)
            works_with(test_engines[e], path, direct, 'a' + e);
        c = choose("auto", path, direct);
        if (!direct) /* it would block in io_submit */
            assert_string_not_equal(c.engine, "linux-aio");
        c = choose("auto=recipe", path, direct);
        if (!direct) {
            assert_string_equal(c.engine, "posix-aio");
            assert_non_null(strstr(c.reason, "step 1"));
        } else if (!recipe) {
            assert_string_equal(c.engine, "linux-aio");
        } else {
            assert_string_equal(c.engine, "posix-aio");
            assert_non_null(strstr(c.reason, recipe));
        }
    }
}

static const char *make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
    close(fd);
    return path;
}

/* What the recipe says of it depends on the file system and the device there are. */
static void the_disk(void **state)
{
    const char *path = make_file(test_path("file"));
    char host[200];
    const char *on;
    bool disk = false, listed;

    (void)state;
    engine_host(path, host, sizeof(host));
    print_message("%s\n", host);
    listed = strstr(host, ", ext4") || strstr(host, ", xfs");
    on = strstr(host, " on ");
    for (const char *const *d =
             (const char *const[]){"sd", "hd", "vd", "xvd", "nvme", "mmcblk", NULL};
         on && *d; d++)
        disk |= !strncmp(on + 4, *d, strlen(*d));
    place(path, !listed ? "step 3" : disk ? NULL : "step 4");
}

static void tmpfs(void **state)
{
    char path[] = "/dev/shm/asyncow-place-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    if (fd < 0)
        skip();
    close(fd);
    place(make_file(path), "step 3: tmpfs");
    unlink(path);
}

static void loop_device(void **state)
{
    char image[128], device[64];

    (void)state;
    snprintf(image, sizeof(image), "%s", test_path("image"));
    loop_device_make(image, SIZE, device);
    place(device, "step 4: loop");
    loop_device_drop(device);
}

static void fuse_file(void **state)
{
    char dir[128], path[160];
    pid_t server;

    (void)state;
    snprintf(dir, sizeof(dir), "%s", test_path("fuse"));
    snprintf(path, sizeof(path), "%s/file", dir);
    server = fuse_mount(dir, SIZE);
    place(path, "step 3: fuse");
    fuse_unmount(dir, server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fuse_file), /* forks: before there are threads */
        cmocka_unit_test(the_disk),
        cmocka_unit_test(tmpfs),
        cmocka_unit_test(loop_device),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
