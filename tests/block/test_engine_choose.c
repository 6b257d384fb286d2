/* auto and auto=recipe: what they choose works, and they say why. */
#include "core/block/choose.h"
#include "tests/block/block_test.h"

static struct engine_choice choose(const char *how, const char *path, bool direct)
{
    struct engine_choice c;

    MUST(engine_choose(&c, how, test_env, path, direct, &test_err));
    assert_non_null(c.engine);
    assert_true(strlen(c.reason) > 10);
    print_message("%s direct=%d %s: %s: %s\n", how, direct, path, c.engine, c.reason);
    loop_destroy(test_loop(c.engine, 4));
    return c;
}

static const char *make_file(const char *path, size_t size)
{
    static char block[65536];
    struct blk_file *file = test_open(path, false, true, NULL);

    for (size_t at = 0; at < size; at += sizeof(block))
        MUST(blk_pwrite(file, at, block, sizeof(block)));
    MUST(blk_close(file));
    return path;
}

static void buffered_is_never_linux_aio(void **state)
{
    const char *path = make_file(test_path("buffered"), 1 << 20);

    (void)state;
    assert_string_not_equal(choose("auto", path, false).engine, "linux-aio");
    assert_string_equal(choose("auto=recipe", path, false).engine, "posix-aio");
}

static void the_recipe_wants_a_known_file_system(void **state)
{
    char name[] = "/dev/shm/asyncow-choose-XXXXXX";
    int fd = mkstemp(name);
    struct engine_choice c;
    struct error err = {""};
    int ret;

    (void)state;
    if (fd < 0)
        skip();
    close(fd);
    ret = engine_choose(&c, "auto=recipe", test_env, name, true, &err);
    unlink(name);
    if (ret < 0)
        skip(); /* this kernel's tmpfs has no O_DIRECT */
    assert_string_equal(c.engine, "posix-aio");
    assert_non_null(strstr(c.reason, "step 3"));
}

static void an_empty_file_is_no_obstacle(void **state)
{
    const char *path = make_file(test_path("empty"), 0);

    (void)state;
    choose("auto", path, false);
    choose("auto", path, true);
    choose("auto=recipe", path, true);
}

static void what_cannot_be_opened_is_named(void **state)
{
    struct engine_choice c;
    struct error err = {""};

    (void)state;
    assert_int_equal(engine_choose(&c, "auto", test_env, "no/such", false, &err),
                     -ENOENT);
    assert_non_null(strstr(err.msg, "no/such"));
    err.msg[0] = '\0';
    assert_int_equal(engine_choose(&c, "auto=best", test_env, "x", false, &err),
                     -EINVAL);
    assert_non_null(strstr(err.msg, "auto=recipe"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffered_is_never_linux_aio),
        cmocka_unit_test(the_recipe_wants_a_known_file_system),
        cmocka_unit_test(an_empty_file_is_no_obstacle),
        cmocka_unit_test(what_cannot_be_opened_is_named)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
