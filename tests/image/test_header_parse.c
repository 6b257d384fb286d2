/*
 * The header parser on bytes in memory: what it takes out, what it asks for when it was
 * given too little, and that no single byte of a header can make it crash or believe a
 * table that is out of bounds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/qcow2/format.h"

enum { CLUSTER = 4096, FILE_SIZE = 1 << 20 };

/* A version 3 image of 4 KiB clusters over "base.img" (raw). */
static void make(uint8_t b[CLUSTER])
{
    memset(b, 0, CLUSTER);
    qcow2_put_be32(b, QCOW2_MAGIC);
    qcow2_put_be32(b + QCOW2_H_VERSION, 3);
    qcow2_put_be32(b + QCOW2_H_CLUSTER_BITS, 12);
    qcow2_put_be64(b + QCOW2_H_SIZE, 5 << 20);
    qcow2_put_be32(b + QCOW2_H_L1_SIZE, 3);
    qcow2_put_be64(b + QCOW2_H_L1_OFFSET, 0x3000);
    qcow2_put_be64(b + QCOW2_H_REFTABLE_OFFSET, 0x1000);
    qcow2_put_be32(b + QCOW2_H_REFTABLE_CLUSTERS, 1);
    qcow2_put_be32(b + QCOW2_H_REFCOUNT_ORDER, 4);
    qcow2_put_be32(b + QCOW2_H_LENGTH, 112);
    qcow2_put_be64(b + QCOW2_H_COMPAT, QCOW2_COMPAT_LAZY_REFCOUNTS);
    qcow2_put_be32(b + 112, QCOW2_EXT_BACKING_FORMAT);
    qcow2_put_be32(b + 116, 3);
    memcpy(b + 120, "raw", 3);
    qcow2_put_be64(b + QCOW2_H_BACKING_OFFSET, 200);
    qcow2_put_be32(b + QCOW2_H_BACKING_SIZE, 8);
    memcpy(b + 200, "base.img", 8);
}

static void test_fields_come_out(void **state)
{
    uint8_t b[CLUSTER];
    struct qcow2_header h;
    struct error err = {""};

    (void)state;
    make(b);
    assert_int_equal(qcow2_header_parse(&h, b, CLUSTER, FILE_SIZE, &err), 0);
    assert_int_equal(h.version, 3);
    assert_int_equal(h.cluster_bits, 12);
    assert_int_equal(h.size, 5 << 20);
    assert_int_equal(h.l1_size, 3);
    assert_int_equal(h.l1_offset, 0x3000);
    assert_int_equal(h.reftable_offset, 0x1000);
    assert_int_equal(h.reftable_clusters, 1);
    assert_int_equal(h.refcount_order, 4);
    assert_int_equal(h.compat, QCOW2_COMPAT_LAZY_REFCOUNTS);
    assert_true(h.has_backing);
    assert_string_equal(h.backing, "base.img");
    assert_string_equal(h.backing_format, "raw");
    assert_false(h.has_bitmaps);
}

static void test_version_2_ignores_later_fields(void **state)
{
    uint8_t b[CLUSTER];
    struct qcow2_header h;
    struct error err = {""};

    (void)state;
    make(b);
    qcow2_put_be32(b + QCOW2_H_VERSION, 2);
    memset(b + QCOW2_H_V2_END, 0, 112 - QCOW2_H_V2_END);
    qcow2_put_be32(b + QCOW2_H_REFCOUNT_ORDER, 99);
    assert_int_equal(qcow2_header_parse(&h, b, CLUSTER, FILE_SIZE, &err), 0);
    assert_int_equal(h.refcount_order, 4);
    assert_int_equal(h.length, 72);
}

static void test_asks_for_the_whole_cluster(void **state)
{
    uint8_t b[CLUSTER];
    struct qcow2_header h;

    (void)state;
    make(b);
    for (size_t len = 104; len < CLUSTER; len++) {
        struct error err = {""};
        uint8_t *exact = malloc(len); /* what lies past it must not be touched */
        memcpy(exact, b, len);
        int r = qcow2_header_parse(&h, exact, len, FILE_SIZE, &err);
        free(exact);
        assert_int_equal(r, len < 208 ? -EAGAIN : 0);
        memset(&err, 0, sizeof(err));
        r = qcow2_header_parse(&h, b, len, len, &err); /* a file as short as that */
        assert_int_not_equal(r, -EAGAIN);
    }
}

static void check_bounds(const struct qcow2_header *h)
{
    uint64_t cluster = 1ull << h->cluster_bits;

    assert_in_range(h->cluster_bits, 9, 21);
    assert_in_range(h->refcount_order, 0, 6);
    assert_true(8ull * h->l1_size <= QCOW2_MAX_L1_BYTES);
    assert_true(h->reftable_clusters * cluster <= QCOW2_MAX_REFTABLE_BYTES);
    assert_true(h->nb_snapshots <= QCOW2_MAX_SNAPSHOTS);
    assert_true(h->l1_size == 0 || h->l1_offset % cluster == 0);
    assert_true(h->l1_size == 0 || h->l1_offset < FILE_SIZE + cluster);
    assert_true(h->reftable_offset % cluster == 0);
    assert_true(h->reftable_offset < FILE_SIZE + cluster);
    assert_true(h->nb_snapshots == 0 || h->snapshots_offset < FILE_SIZE + cluster);
    assert_true(strlen(h->backing) <= QCOW2_MAX_BACKING_NAME);
    assert_false(h->incompat & ~11ull);
}

static void test_any_byte_may_be_wrong(void **state)
{
    static const uint8_t values[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    uint8_t good[CLUSTER], b[CLUSTER];
    struct qcow2_header h;

    (void)state;
    make(good);
    for (size_t i = 0; i < 256; i++)
        for (size_t j = 0; j < 256; j += 3)
            for (size_t k = 0; k < sizeof(values); k++) {
                struct error err = {""};
                memcpy(b, good, CLUSTER);
                b[i] = values[k];
                b[j] = values[(k + i) % sizeof(values)];
                int r = qcow2_header_parse(&h, b, CLUSTER, FILE_SIZE, &err);
                if (r == 0)
                    check_bounds(&h);
                else
                    assert_true(err.msg[0]);
            }
}

static void test_compressed_range(void **state)
{
    uint64_t host, len;

    (void)state;
    qcow2_compressed_range(16, QCOW2_COMPRESSED_FLAG | 3ull << 54 | 0x12345, &host,
                           &len);
    assert_int_equal(host, 0x12345);
    assert_int_equal(len, 4 * 512 - 0x145);
    qcow2_compressed_range(9, QCOW2_COMPRESSED_FLAG | 1ull << 61 | 0x200, &host, &len);
    assert_int_equal(host, 0x200);
    assert_int_equal(len, 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_come_out),
        cmocka_unit_test(test_version_2_ignores_later_fields),
        cmocka_unit_test(test_asks_for_the_whole_cluster),
        cmocka_unit_test(test_any_byte_may_be_wrong),
        cmocka_unit_test(test_compressed_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
