/* The model objects to what must never be read, and to nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/differential/model.h"

enum { SIZE = 4 * SECTOR };

static struct model m;
static uint8_t a[SIZE], b[SIZE], zeros[SIZE];

static void begin(bool crash)
{
    model_init(&m, calloc(1, SIZE), SIZE, crash);
    memset(a, 'a', SIZE);
    memset(b, 'b', SIZE);
}

static bool may_read(const uint8_t *buf, uint64_t began)
{
    uint64_t bad;
    return model_check(&m, 0, SIZE, buf, began, &bad);
}

static bool may_read_now(const uint8_t *buf) { return may_read(buf, m.clock); }

static uint64_t write_begin(const uint8_t *buf)
{
    assert_true(model_claim(&m, 0, SIZE, false));
    return model_write(&m, 0, SIZE, buf);
}

static void write_end(uint64_t writer, bool ok)
{
    model_written(&m, 0, SIZE, writer, ok);
    model_release(&m, 0, SIZE);
}

static void acknowledged_is_all_there_is(void **state)
{
    (void)state;
    begin(false);
    write_end(write_begin(a), true);
    assert_true(may_read_now(a));
    assert_false(may_read_now(zeros));
    a[700]++;
    assert_false(may_read_now(a));
    model_free(&m);
}

static void in_flight_is_old_or_new_bytes(void **state)
{
    (void)state;
    begin(false);
    uint64_t began = model_read(&m, 0, SIZE), w = write_begin(a);
    uint8_t mixed[SIZE] = {0};
    memset(mixed, 'a', 300);
    assert_true(may_read(zeros, began) && may_read(a, began) && may_read(mixed, began));
    assert_false(may_read(b, began));
    write_end(w, true);
    assert_true(may_read(zeros, began) && may_read(mixed, began)); /* it began before */
    assert_false(may_read_now(zeros) || may_read_now(mixed));
    model_read_end(&m, 0, SIZE);
    model_free(&m);
}

static void failed_stays_beside_the_old(void **state)
{
    (void)state;
    begin(false);
    write_end(write_begin(a), false);
    assert_true(may_read_now(a) && may_read_now(zeros));
    assert_false(may_read_now(b) || model_certain(&m, 0, SIZE));
    write_end(write_begin(b), true);
    assert_false(may_read_now(a) || may_read_now(zeros));
    assert_true(may_read_now(b) && model_certain(&m, 0, SIZE));
    model_free(&m);
}

static void overlapping_writes_end_in_either(void **state)
{
    (void)state;
    begin(false);
    uint64_t first = write_begin(a), second = write_begin(b);
    write_end(first, true);
    assert_true(may_read_now(zeros)); /* the other may not have begun yet */
    write_end(second, true);
    assert_true(may_read_now(a) && may_read_now(b));
    assert_false(may_read_now(zeros) || model_certain(&m, 0, SIZE));
    write_end(write_begin(zeros), true);
    assert_false(may_read_now(a) || may_read_now(b));
    model_free(&m);
}

static void claims_exclude(void **state)
{
    (void)state;
    begin(false);
    assert_true(model_claim(&m, 0, 2 * SECTOR, false));
    assert_false(model_claim(&m, SECTOR, 10, true));
    assert_true(model_claim(&m, 2 * SECTOR, 10, true));
    assert_false(model_claim(&m, 2 * SECTOR + 100, SECTOR, false));
    model_free(&m);
}

static void part_of_a_sector_keeps_the_rest(void **state)
{
    uint8_t want[SIZE] = {0};
    (void)state;
    begin(false);
    assert_true(model_claim(&m, 100, 500, true));
    uint64_t w = model_write(&m, 100, 500, a);
    model_written(&m, 100, 500, w, true);
    model_release(&m, 100, 500);
    memset(want + 100, 'a', 500);
    assert_true(may_read_now(want));
    assert_false(may_read_now(zeros));
    model_free(&m);
}

static void flushed_outlives_a_crash_and_the_rest_may(void **state)
{
    (void)state;
    begin(true);
    write_end(write_begin(a), true);
    uint64_t flush = m.clock;
    write_end(write_begin(b), true);
    model_flushed(&m, flush);
    assert_true(may_read_now(b));
    assert_false(may_read_now(a));
    model_crashed(&m);
    assert_true(may_read_now(a) && may_read_now(b));
    assert_false(may_read_now(zeros));
    model_free(&m);
}

static void overlapping_is_flushed_as_one(void **state)
{
    (void)state;
    begin(true);
    uint64_t first = write_begin(a), second = write_begin(b);
    write_end(second, true);
    write_end(first, true);
    model_flushed(&m, m.clock);
    model_crashed(&m);
    assert_true(may_read_now(a) && may_read_now(b));
    assert_false(may_read_now(zeros));
    model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_is_all_there_is),
        cmocka_unit_test(in_flight_is_old_or_new_bytes),
        cmocka_unit_test(failed_stays_beside_the_old),
        cmocka_unit_test(overlapping_writes_end_in_either),
        cmocka_unit_test(claims_exclude),
        cmocka_unit_test(part_of_a_sector_keeps_the_rest),
        cmocka_unit_test(flushed_outlives_a_crash_and_the_rest_may),
        cmocka_unit_test(overlapping_is_flushed_as_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
