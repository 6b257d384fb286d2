/* Which requests come: order, wrap, skip, mix and amount, as fio has them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "harness/workload.h"
#include "tests/harness/seed.h"

static struct error err;

/* A workload from "name=value" words on a disk of 1 MiB. */
static struct workload make(const char *const *words, uint64_t seed)
{
    struct workload w;
    struct job j;

    job_init(&j);
    for (; *words; words += 2)
        assert_int_equal(job_set(&j, words[0], words[1], &err), 0);
    assert_int_equal(workload_init(&w, &j, 1 << 20, seed, &err), 0);
    job_free(&j);
    return w;
}
#define MAKE(seed, ...) make((const char *const[]){__VA_ARGS__, NULL, NULL}, seed)

static void sequential_wraps(void **state)
{
    struct workload w = MAKE(1, "rw", "read", "offset", "64k", "size", "12k");
    uint64_t at;
    (void)state;

    assert_int_equal(w.requests, 3);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(workload_next(&w, &at), LOAD_READ);
        assert_int_equal(at, 65536 + i % 3 * 4096);
    }
}

static void skip_leaves_bytes_out(void **state)
{
    struct workload w = MAKE(1, "rw", "write:60k", "io_size", "80k");
    uint64_t at;
    (void)state;

    assert_int_equal(w.requests, 20);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(workload_next(&w, &at), LOAD_WRITE);
        assert_int_equal(at, i % 16 * 65536); /* 16 fit the disk */
    }
}

static void a_pass_with_skips_ends_at_the_end(void **state)
{
    struct workload once = MAKE(1, "rw", "write:60k"),
                    thrice = MAKE(1, "rw", "write:60k", "loops", "3"),
                    odd = MAKE(1, "rw", "read:5000", "size", "12k");
    (void)state;
    assert_int_equal(once.requests, 16); /* as fio 3.33 does */
    assert_int_equal(thrice.requests, 48);
    assert_int_equal(odd.requests, 1);
}

static void random_covers_each_block_once_a_pass(void **state)
{
    struct workload w = MAKE(test_seed(), "rw", "randwrite", "loops", "3");
    bool seen[256];
    uint64_t at, first[256] = {0};
    unsigned same = 0;
    (void)state;

    assert_int_equal(w.requests, 3 * 256);
    for (unsigned pass = 0; pass < 3; pass++) {
        memset(seen, 0, sizeof(seen));
        for (unsigned i = 0; i < 256; i++) {
            workload_next(&w, &at);
            assert_int_equal(at % 4096, 0);
            assert_false(seen[at / 4096]);
            seen[at / 4096] = true;
            same += pass && first[i] == at;
            if (!pass)
                first[i] = at;
        }
    }
    assert_true(same < 100); /* the passes differ */
}

static void norandommap_draws_freely(void **state)
{
    struct workload w = MAKE(7, "rw", "randread", "norandommap", "1");
    bool seen[256] = {false};
    unsigned distinct = 0;
    uint64_t at;
    (void)state;

    for (unsigned i = 0; i < 256; i++) {
        workload_next(&w, &at);
        distinct += !seen[at / 4096];
        seen[at / 4096] = true;
    }
    assert_in_range(distinct, 130, 190); /* 1 - 1/e of 256 is 162 */
}

static void random_with_rows(void **state)
{
    struct workload w = MAKE(3, "rw", "randread:4");
    uint64_t at, last = 0;
    unsigned follows = 0;
    (void)state;

    for (unsigned i = 0; i < 4000; i++, last = at) {
        workload_next(&w, &at);
        follows += i && at == last + 4096;
    }
    assert_in_range(follows, 2800, 3100); /* three of four */
}

static void mix_keeps_its_share(void **state)
{
    struct workload w = MAKE(5, "rw", "randrw", "rwmixread", "70", "loops", "100");
    uint64_t at;
    unsigned reads = 0;
    (void)state;

    for (unsigned i = 0; i < 10000; i++)
        reads += workload_next(&w, &at) == LOAD_READ;
    assert_in_range(reads, 6800, 7200);
}

static void sequential_mix_has_a_position_each(void **state)
{
    struct workload w = MAKE(5, "rw", "rw");
    uint64_t at, next[LOAD_DIRS] = {0};
    (void)state;

    for (unsigned i = 0; i < 200; i++) {
        enum load_dir dir = workload_next(&w, &at);
        assert_int_equal(at, next[dir]);
        next[dir] += 4096;
    }
}

static void trimwrite_trims_then_writes(void **state)
{
    struct workload w = MAKE(5, "rw", "randtrimwrite");
    (void)state;
    assert_int_equal(w.requests, 512);
    for (unsigned i = 0; i < 256; i++) {
        uint64_t trimmed, written;
        assert_int_equal(workload_next(&w, &trimmed), LOAD_TRIM);
        assert_int_equal(workload_next(&w, &written), LOAD_WRITE);
        assert_int_equal(trimmed, written);
    }
}

static void the_same_seed_is_the_same_history(void **state)
{
    struct workload a = MAKE(9, "rw", "randrw"), b = MAKE(9, "rw", "randrw"),
                    c = MAKE(10, "rw", "randrw");
    unsigned differ = 0;
    (void)state;

    for (unsigned i = 0; i < 1000; i++) {
        uint64_t x, y, z;
        assert_int_equal(workload_next(&a, &x), workload_next(&b, &y));
        assert_int_equal(x, y);
        workload_next(&c, &z);
        differ += x != z;
    }
    assert_true(differ > 900);
}

static void a_region_that_does_not_fit_is_refused(void **state)
{
    static const char *const bad[][2] = {
        {"offset", "1m"}, {"size", "2m"}, {"bs", "2m"}, {"size", "100"}};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct workload w;
        struct job j;
        job_init(&j);
        err.msg[0] = '\0';
        assert_int_equal(job_set(&j, bad[i][0], bad[i][1], &err), 0);
        assert_int_equal(workload_init(&w, &j, 1 << 20, 1, &err), -EINVAL);
        assert_true(strlen(err.msg) > 20);
        job_free(&j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequential_wraps),
        cmocka_unit_test(skip_leaves_bytes_out),
        cmocka_unit_test(a_pass_with_skips_ends_at_the_end),
        cmocka_unit_test(random_covers_each_block_once_a_pass),
        cmocka_unit_test(norandommap_draws_freely),
        cmocka_unit_test(random_with_rows),
        cmocka_unit_test(mix_keeps_its_share),
        cmocka_unit_test(sequential_mix_has_a_position_each),
        cmocka_unit_test(trimwrite_trims_then_writes),
        cmocka_unit_test(the_same_seed_is_the_same_history),
        cmocka_unit_test(a_region_that_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
