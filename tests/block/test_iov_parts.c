/* Parts of I/O vectors against the flat buffer they stand for, at every offset. */
#include "tests/block/block_test.h"

static const size_t lens[] = {3, 0, 5, 1, 0, 7};
#define CNT 6
#define TOTAL 16

static void make(struct iovec iov[CNT], char *memory)
{
    for (int i = 0; i < CNT; i++) {
        iov[i] = (struct iovec){memory, lens[i]};
        memory += lens[i];
    }
}

static void every_part(void **state)
{
    char memory[TOTAL], flat[TOTAL], expect[TOTAL], src[TOTAL];
    struct iovec iov[CNT], out[CNT];

    (void)state;
    make(iov, memory);
    for (size_t skip = 0; skip <= TOTAL; skip++) {
        for (size_t len = 0; skip + len <= TOTAL; len++) {
            size_t sum = 0;
            int n;

            for (int i = 0; i < TOTAL; i++) {
                memory[i] = expect[i] = (char)('a' + i);
                src[i] = (char)('A' + i);
            }
            iov_to_buf(iov, CNT, skip, flat, len);
            assert_memory_equal(flat, memory + skip, len);
            n = iov_slice(out, CNT, iov, CNT, skip, len);
            for (int i = 0; i < n; i++) {
                assert_ptr_equal(out[i].iov_base, memory + skip + sum);
                assert_true(out[i].iov_len > 0);
                sum += out[i].iov_len;
            }
            assert_int_equal(sum, len);
            iov_from_buf(iov, CNT, skip, src, len);
            memcpy(expect + skip, src, len);
            assert_memory_equal(memory, expect, TOTAL);
            iov_zero(iov, CNT, skip, len);
            memset(expect + skip, 0, len);
            assert_memory_equal(memory, expect, TOTAL);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_part)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
