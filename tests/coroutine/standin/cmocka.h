/*
 * As much of cmocka as the tests of core/coroutine use, for machines that we
 * cross-compile to and that have no cmocka here.
 */
#ifndef ASYNCOW_STANDIN_CMOCKA_H
#define ASYNCOW_STANDIN_CMOCKA_H
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
    int (*setup)(void **state);
};
/* clang-format off */
#define cmocka_unit_test(fn) {#fn, fn, NULL}
#define cmocka_unit_test_setup(fn, setup) {#fn, fn, setup}
/* clang-format on */
#define cmocka_run_group_tests(tests, a, b)                                            \
    standin_run(tests, sizeof(tests) / sizeof(tests[0]))

static inline int standin_run(const struct CMUnitTest *t, size_t n)
{
    void *state = NULL;

    for (size_t i = 0; i < n; i++) {
        printf("[ RUN      ] %s\n", t[i].name);
        fflush(stdout);
        if (t[i].setup)
            t[i].setup(&state);
        t[i].run(&state);
        printf("[       OK ] %s\n", t[i].name);
    }
    return 0;
}

#define fail_msg(...)                                                                  \
    do {                                                                               \
        fprintf(stderr, __VA_ARGS__);                                                  \
        fprintf(stderr, "\n%s:%d: failed\n", __FILE__, __LINE__);                      \
        exit(1);                                                                       \
    } while (0)
#define assert_true(x)                                                                 \
    do {                                                                               \
        if (!(x))                                                                      \
            fail_msg("%s", #x);                                                        \
    } while (0)
#define assert_false(x) assert_true(!(x))
#define assert_null(x) assert_true((x) == NULL)
#define assert_non_null(x) assert_true((x) != NULL)
#define assert_ptr_equal(a, b) assert_true((a) == (b))
#define assert_int_equal(a, b)                                                         \
    do {                                                                               \
        intmax_t a_ = (intmax_t)(a), b_ = (intmax_t)(b);                               \
        if (a_ != b_)                                                                  \
            fail_msg("%s is %jd, not %jd", #a, a_, b_);                                \
    } while (0)
#define assert_in_range(x, low, high)                                                  \
    do {                                                                               \
        uintmax_t x_ = (uintmax_t)(x), low_ = (uintmax_t)(low);                        \
        if (x_ < low_ || x_ > (uintmax_t)(high))                                       \
            fail_msg("%s is %ju", #x, x_);                                             \
    } while (0)
#define assert_string_equal(a, b) assert_int_equal(strcmp(a, b), 0)
#define assert_memory_equal(a, b, n) assert_int_equal(memcmp(a, b, n), 0)

#endif
