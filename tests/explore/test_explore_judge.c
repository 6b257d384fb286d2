/* The judge of one sector: what some order of the operations makes is possible, and
 * nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness/explore_judge.h"

#define WRITE(b, e, v)                                                                 \
    {                                                                                  \
        .begin = (b), .end = (e), .value = (v)                                         \
    }
#define READ(b, e, v)                                                                  \
    {                                                                                  \
        .begin = (b), .end = (e), .value = (v), .reads = true                          \
    }
#define JUDGE(first, ...)                                                              \
    explore_possible((const struct explore_access[]){__VA_ARGS__},                     \
                     sizeof((const struct explore_access[]){__VA_ARGS__}) /            \
                         sizeof(struct explore_access),                                \
                     first)

static void in_order(void **state)
{
    (void)state;
    assert_true(JUDGE(1, READ(1, 2, 1)));
    assert_false(JUDGE(1, READ(1, 2, 0)));
    assert_true(JUDGE(1, WRITE(1, 2, 5), READ(3, 4, 5)));
    assert_false(JUDGE(1, WRITE(1, 2, 5), READ(3, 4, 1)));
    assert_false(JUDGE(1, WRITE(1, 2, 5), WRITE(3, 4, 6), READ(5, 6, 5)));
}

static void at_the_same_time(void **state)
{
    (void)state;
    assert_true(JUDGE(1, WRITE(1, 4, 5), READ(2, 3, 5)));
    assert_true(JUDGE(1, WRITE(1, 4, 5), READ(2, 3, 1)));
    assert_false(JUDGE(1, WRITE(1, 4, 5), READ(2, 3, 0)));
    assert_true(JUDGE(1, WRITE(1, 4, 5), WRITE(2, 3, 6), READ(5, 6, 5)));
    assert_true(JUDGE(1, WRITE(1, 4, 5), WRITE(2, 3, 6), READ(5, 6, 6)));
}

/* What one has seen, a later one can't unsee. */
static void no_way_back(void **state)
{
    (void)state;
    assert_false(JUDGE(1, WRITE(1, 8, 5), READ(2, 3, 5), READ(4, 5, 1)));
    assert_true(JUDGE(1, WRITE(1, 8, 5), READ(2, 3, 1), READ(4, 5, 5)));
    /* two readers that differ about the order of two writes */
    assert_false(JUDGE(1, WRITE(1, 20, 5), WRITE(2, 21, 6), READ(3, 4, 5),
                       READ(5, 6, 6), READ(7, 8, 5)));
}

static void cancelled_perhaps(void **state)
{
    (void)state;
    const struct explore_access w = {.begin = 1, .end = 2, .value = 5, .perhaps = true};
    assert_true(JUDGE(1, w, READ(3, 4, 5)));
    assert_true(JUDGE(1, w, READ(3, 4, 1)));
    assert_false(JUDGE(1, w, READ(3, 4, 0)));
    assert_false(JUDGE(1, w, READ(3, 4, 5), READ(5, 6, 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),
        cmocka_unit_test(at_the_same_time),
        cmocka_unit_test(no_way_back),
        cmocka_unit_test(cancelled_perhaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
