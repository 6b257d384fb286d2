/* Any one change to a written block is found; what was overwritten in flight is not
 * judged; crc32c is the published one, in both versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness/crc32c.h"
#include "harness/rng.h"
#include "harness/verify.h"
#include "tests/harness/seed.h"

enum { BS = 4096, BLOCKS = 16 };
static struct verify v;
static uint8_t block[BS];

static void start(void)
{
    struct error err = {""};
    verify_destroy(&v);
    assert_int_equal(verify_init(&v, 8192, BS, BLOCKS, 42, true, &err), 0);
}

static void write_block(uint64_t offset)
{
    verify_write_begin(&v, offset, block);
    verify_ended(&v, offset);
}

static void what_was_written_is_good(void **state)
{
    (void)state;
    start();
    assert_false(verify_expects(&v, 8192 + BS));
    write_block(8192 + BS);
    assert_true(verify_expects(&v, 8192 + BS));
    assert_true(verify_check(&v, 8192 + BS, block));
    assert_int_equal(v.bad, 0);
    assert_int_equal(v.checked, 1);
}

static void any_flipped_bit_is_found(void **state)
{
    struct rng rng = {test_seed()};
    (void)state;
    start();
    write_block(8192);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t bit = rng_below(&rng, BS * 8);
        if (bit / 8 >= 36 && bit / 8 < 40)
            continue; /* reserved; the crc has it too, see below */
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(verify_check(&v, 8192, block));
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    block[36] ^= 1;
    assert_false(verify_check(&v, 8192, block));
    block[36] ^= 1;
    assert_true(verify_check(&v, 8192, block));
    assert_true(strlen(v.first_bad) > 10);
}

static void an_older_write_is_found(void **state)
{
    uint8_t old[BS];
    (void)state;
    start();
    write_block(8192);
    memcpy(old, block, BS);
    write_block(8192);
    assert_false(verify_check(&v, 8192, old));
    assert_non_null(strstr(v.first_bad, "sequence"));
}

static void a_block_of_another_place_is_found(void **state)
{
    (void)state;
    start();
    write_block(8192);
    write_block(8192 + BS);
    assert_false(verify_check(&v, 8192, block));
    assert_non_null(strstr(v.first_bad, "offset"));
}

static void a_torn_block_is_found(void **state)
{
    uint8_t old[BS];
    (void)state;
    start();
    write_block(8192);
    memcpy(old, block, BS);
    write_block(8192);
    memcpy(block + 2048, old + 2048, BS - 2048);
    assert_false(verify_check(&v, 8192, block));
    assert_non_null(strstr(v.first_bad, "crc32c"));
}

static void overlapping_writes_are_not_judged(void **state)
{
    (void)state;
    start();
    verify_write_begin(&v, 8192, block);
    verify_write_begin(&v, 8192, block);
    verify_ended(&v, 8192);
    verify_ended(&v, 8192);
    assert_false(verify_expects(&v, 8192));
    assert_int_equal(v.unchecked, 1);
}

static void trimmed_blocks_are_not_judged_until_written(void **state)
{
    (void)state;
    start();
    write_block(8192);
    verify_trim_begin(&v, 8192);
    verify_ended(&v, 8192);
    assert_false(verify_expects(&v, 8192));
    write_block(8192);
    assert_true(verify_expects(&v, 8192));
}

static void crc32c_is_the_published_one(void **state)
{
    struct rng rng = {test_seed()};
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c_table(0, "123456789", 9), 0xe3069283);
    for (unsigned i = 0; i < 500; i++) {
        size_t from = rng_below(&rng, 64), len = rng_below(&rng, BS - 64);
        uint64_t noise = rng_next(&rng);
        memcpy(block + rng_below(&rng, BS - 8), &noise, 8);
        uint32_t crc = crc32c(0, block + from, len);
        assert_int_equal(crc, crc32c_table(0, block + from, len));
        size_t half = len / 2; /* in two parts it is the same */
        assert_int_equal(crc, crc32c(crc32c(0, block + from, half), block + from + half,
                                     len - half));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_good),
        cmocka_unit_test(any_flipped_bit_is_found),
        cmocka_unit_test(an_older_write_is_found),
        cmocka_unit_test(a_block_of_another_place_is_found),
        cmocka_unit_test(a_torn_block_is_found),
        cmocka_unit_test(overlapping_writes_are_not_judged),
        cmocka_unit_test(trimmed_blocks_are_not_judged_until_written),
        cmocka_unit_test(crc32c_is_the_published_one),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    verify_destroy(&v);
    return failed;
}
