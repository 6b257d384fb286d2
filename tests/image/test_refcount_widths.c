/* Refcounts of every width: what is set is got, and neighbours stay as they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/qcow2/format.h"

enum { BLOCK = 512 };

static uint64_t value_for(uint64_t i, unsigned order)
{
    uint64_t v = (i + 1) * 0x9e3779b97f4a7c15ull;
    return order == 6 ? v : v & ((1ull << (1u << order)) - 1);
}

static void test_set_and_get(void **state)
{
    (void)state;
    for (unsigned order = 0; order <= 6; order++) {
        uint64_t n = BLOCK * 8 >> order;
        uint8_t block[BLOCK] = {0};
        for (uint64_t i = 0; i < n; i++)
            qcow2_refcount_set(block, i * 7919 % n, order,
                               value_for(i * 7919 % n, order));
        for (uint64_t i = 0; i < n; i++)
            assert_int_equal(qcow2_refcount_get(block, i, order), value_for(i, order));
    }
}

static void test_layout(void **state)
{
    uint8_t b[8] = {0};

    (void)state;
    qcow2_refcount_set(b, 0, 0, 1); /* least significant bits first */
    qcow2_refcount_set(b, 7, 0, 1);
    assert_int_equal(b[0], 0x81);
    memset(b, 0, sizeof(b));
    qcow2_refcount_set(b, 1, 2, 0xa);
    assert_int_equal(b[0], 0xa0);
    memset(b, 0, sizeof(b));
    qcow2_refcount_set(b, 1, 4, 0x1234); /* big endian */
    assert_int_equal(b[2], 0x12);
    assert_int_equal(b[3], 0x34);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_get),
        cmocka_unit_test(test_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
