/*
 * The header parser on bytes in memory: what it takes out, what it asks for when it was
 * given too little, what it says of each field that cannot be right, and that no single
 * byte of a header can make it crash or believe a table that is out of bounds.
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

/* ---- each field that is wrong, and what is said of it ---- */

#define EXT 112 /* the first extension */
#define BITMAPS(len, count, reserved, size, offset)                                    \
    {QCOW2_H_AUTOCLEAR, 8, 1}, {EXT, 4, QCOW2_EXT_BITMAPS}, {EXT + 4, 4, len},         \
        {EXT + 8, 4, count}, {EXT + 12, 4, reserved}, {EXT + 16, 8, size},             \
    {                                                                                  \
        EXT + 24, 8, offset                                                            \
    }

struct patch {
    unsigned at, width;
    uint64_t value;
};
static const struct {
    const char *told; /* NULL: it is right */
    struct patch patch[8];
    size_t len, file_size; /* 0: as above */
} wrong[] = {
    {"not a qcow2 image", {{QCOW2_H_MAGIC, 4, 0}}, 0, 0},
    {"not a qcow2 image", {{0}}, 3, 3},
    {"at least 72", {{0}}, 71, 71},
    {"version 1 ", {{QCOW2_H_VERSION, 4, 1}}, 0, 0},
    {"version 4 ", {{QCOW2_H_VERSION, 4, 4}}, 0, 0},
    {"at least 104", {{0}}, 103, 103},
    {"cluster_bits 8 ", {{QCOW2_H_CLUSTER_BITS, 4, 8}}, 0, 0},
    {"cluster_bits 22 ", {{QCOW2_H_CLUSTER_BITS, 4, 22}}, 0, 0},
    {"header_length 96 ", {{QCOW2_H_LENGTH, 4, 96}}, 0, 0},
    {"header_length 109 ", {{QCOW2_H_LENGTH, 4, 109}}, 0, 0},
    {"header_length 4104 ", {{QCOW2_H_LENGTH, 4, CLUSTER + 8}}, 0, 0},
    {NULL, {{QCOW2_H_LENGTH, 4, QCOW2_H_COMPRESSION}, {104, 8, 0}}, 0, 0},
    {"refcount_order 7 ", {{QCOW2_H_REFCOUNT_ORDER, 4, 7}}, 0, 0},
    {"end of the header at 112 (0 bytes) lies past", {{0}}, 108, 108},
    {"external data file", {{QCOW2_H_INCOMPAT, 8, 4}}, 0, 0},
    {"extended L2 entries", {{QCOW2_H_INCOMPAT, 8, 16}}, 0, 0},
    {"\"unknown\" (bit 40 ", {{QCOW2_H_INCOMPAT, 8, 1ull << 40}}, 0, 0},
    {"\"Odd?\" (bit 40 ",
     {{QCOW2_H_INCOMPAT, 8, 1ull << 40},
      {EXT, 4, QCOW2_EXT_FEATURE_NAMES},
      {EXT + 4, 4, 48},
      {EXT + 8, 8, 0x00284f6464070000},
      {QCOW2_H_BACKING_OFFSET, 8, 0}},
     0,
     0},
    {"\"Od?\" (bit 40 ", /* another type's, another bit's, ours */
     {{QCOW2_H_INCOMPAT, 8, 1ull << 40},
      {EXT, 4, QCOW2_EXT_FEATURE_NAMES},
      {EXT + 4, 4, 144},
      {EXT + 8, 8, 0x0128410000000000},
      {EXT + 56, 8, 0x0027420000000000},
      {EXT + 104, 8, 0x00284f647f000000},
      {QCOW2_H_BACKING_OFFSET, 8, 0}},
     0,
     0},
    {"crypt_method 1 (AES", {{QCOW2_H_CRYPT, 4, 1}}, 0, 0},
    {"crypt_method 2 (LUKS", {{QCOW2_H_CRYPT, 4, 2}}, 0, 0},
    {"crypt_method 3 (unknown", {{QCOW2_H_CRYPT, 4, 3}}, 0, 0},
    {"crypt_method 1 ", {{QCOW2_H_VERSION, 4, 2}, {QCOW2_H_CRYPT, 4, 1}}, 0, 0},
    {"compression_type 2 ", {{QCOW2_H_COMPRESSION, 1, 2}}, 0, 0},
    {"compression_type 1, ", {{QCOW2_H_COMPRESSION, 1, 1}}, 0, 0},
    {"compression_type 0, ", {{QCOW2_H_INCOMPAT, 8, 8}}, 0, 0},
    {NULL, {{QCOW2_H_INCOMPAT, 8, 8}, {QCOW2_H_COMPRESSION, 1, 1}}, 0, 0},
    {"backing_file_size 1024 ", {{QCOW2_H_BACKING_SIZE, 4, 1024}}, 0, 0},
    {"backing_file_offset 104 ", {{QCOW2_H_BACKING_OFFSET, 8, 104}}, 0, 0},
    {"backing_file_offset 4097 ", {{QCOW2_H_BACKING_OFFSET, 8, CLUSTER + 1}}, 0, 0},
    {"backing_file_offset 4089 ", {{QCOW2_H_BACKING_OFFSET, 8, CLUSTER - 7}}, 0, 0},
    {NULL, {{QCOW2_H_BACKING_SIZE, 4, 0}}, 0, 0},
    {"backing file name contains", {{QCOW2_H_BACKING_SIZE, 4, 9}}, 0, 0},
    {"backing file name at 200 (8 bytes) lies past", {{0}}, 204, 204},
    {"backing format name is 64 ", {{EXT + 4, 4, 64}}, 0, 0},
    {"header extension 0xe2792aca at 112: length 81 ", {{EXT + 4, 4, 81}}, 0, 0},
    {"header extension at 120 (3 bytes) lies past",
     {{QCOW2_H_BACKING_OFFSET, 8, 0}},
     121,
     121},
    {"l1_table_offset 0x3000 ", /* then zeros: the end of the extensions */
     {{QCOW2_H_BACKING_OFFSET, 8, 0}},
     123,
     123},
    {NULL, {{EXT, 4, 0x12345678}}, 0, 0}, /* unknown ones are skipped */
    {NULL, {BITMAPS(24, 1, 0, 32, 0x8000)}, 0, 0},
    {NULL, {BITMAPS(23, 1, 0, 32, 0x8000), {QCOW2_H_AUTOCLEAR, 8, 0}}, 0, 0},
    {"bitmaps extension: length 23 ", {BITMAPS(23, 1, 0, 32, 0x8000)}, 0, 0},
    {"reserved field is 0x9", {BITMAPS(24, 1, 9, 32, 0x8000)}, 0, 0},
    {"nb_bitmaps 0 ", {BITMAPS(24, 0, 0, 32, 0x8000)}, 0, 0},
    {"nb_bitmaps 65536 ", {BITMAPS(24, 65536, 0, 32, 0x8000)}, 0, 0},
    {"bitmap_directory_size 0 ", {BITMAPS(24, 1, 0, 0, 0x8000)}, 0, 0},
    {"bitmap_directory_size 1055 ", {BITMAPS(24, 1, 0, 1055, 0x8000)}, 0, 0},
    {"bitmap_directory_offset 0x0 ", {BITMAPS(24, 1, 0, 32, 0)}, 0, 0},
    {"bitmap_directory_offset 0x8200 ", {BITMAPS(24, 1, 0, 32, 0x8200)}, 0, 0},
    {"bitmap_directory_offset 0x100", {BITMAPS(24, 1, 0, 32, 1ull << 56)}, 0, 0},
    {"appears twice",
     {{EXT, 4, QCOW2_EXT_BITMAPS}, {EXT + 16, 4, QCOW2_EXT_BITMAPS}, {EXT + 20, 4, 8}},
     0,
     0},
    {"size 9223372036854775808 ",
     {{QCOW2_H_SIZE, 8, 1ull << 63}, {QCOW2_H_CLUSTER_BITS, 4, 21}},
     0,
     0},
    {"l1_size 4194305 ", {{QCOW2_H_L1_SIZE, 4, (4u << 20) + 1}}, 0, 0},
    {"l1_size 2 is too small", {{QCOW2_H_L1_SIZE, 4, 2}}, 0, 0},
    {NULL,
     {{QCOW2_H_SIZE, 8, 0}, {QCOW2_H_L1_SIZE, 4, 0}, {QCOW2_H_L1_OFFSET, 8, 7}},
     0,
     0},
    {"l1_table_offset 0x3200 ", {{QCOW2_H_L1_OFFSET, 8, 0x3200}}, 0, 0},
    {"l1_table_offset 0 points", {{QCOW2_H_L1_OFFSET, 8, 0}}, 0, 0},
    {"l1_table_offset 0x100", {{QCOW2_H_L1_OFFSET, 8, 1ull << 56}}, 0, 0},
    {"does not end below 2^56",
     {{QCOW2_H_L1_OFFSET, 8, (1ull << 56) - CLUSTER}, {QCOW2_H_L1_SIZE, 4, 4096}},
     0,
     0},
    {"l1_table_offset 0x101000 ", {{QCOW2_H_L1_OFFSET, 8, FILE_SIZE + CLUSTER}}, 0, 0},
    {NULL, {{QCOW2_H_L1_OFFSET, 8, FILE_SIZE}}, 0, 0}, /* it reads 0 */
    {"refcount_table_clusters 0", {{QCOW2_H_REFTABLE_CLUSTERS, 4, 0}}, 0, 0},
    {"refcount_table_clusters 2049 ", {{QCOW2_H_REFTABLE_CLUSTERS, 4, 2049}}, 0, 0},
    {"refcount_table_offset 0x1001 ", {{QCOW2_H_REFTABLE_OFFSET, 8, 0x1001}}, 0, 0},
    {"nb_snapshots 65537 ", {{QCOW2_H_NB_SNAPSHOTS, 4, 65537}}, 0, 0},
    {"snapshots_offset 0x10 ",
     {{QCOW2_H_NB_SNAPSHOTS, 4, 1}, {QCOW2_H_SNAPSHOTS_OFFSET, 8, 16}},
     0,
     0},
};

static void put(uint8_t *b, const struct patch *p)
{
    if (p->width == 8)
        qcow2_put_be64(b + p->at, p->value);
    else if (p->width == 4)
        qcow2_put_be32(b + p->at, (uint32_t)p->value);
    else if (p->width == 1)
        b[p->at] = (uint8_t)p->value;
}

static void test_each_field_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        uint8_t b[CLUSTER];
        struct qcow2_header h;
        struct error err = {""};
        size_t len = wrong[i].len ? wrong[i].len : CLUSTER;
        make(b);
        for (int k = 0; k < 8; k++)
            put(b, &wrong[i].patch[k]);
        uint8_t *exact = malloc(len);
        memcpy(exact, b, len);
        int r = qcow2_header_parse(
            &h, exact, len, wrong[i].file_size ? wrong[i].file_size : FILE_SIZE, &err);
        free(exact);
        if (!wrong[i].told && r)
            fail_msg("row %zu: refused: %s", i, err.msg);
        if (wrong[i].told && (!r || !strstr(err.msg, wrong[i].told)))
            fail_msg("row %zu: not \"%s\" but \"%s\"", i, wrong[i].told, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_come_out),
        cmocka_unit_test(test_version_2_ignores_later_fields),
        cmocka_unit_test(test_asks_for_the_whole_cluster),
        cmocka_unit_test(test_any_byte_may_be_wrong),
        cmocka_unit_test(test_compressed_range),
        cmocka_unit_test(test_each_field_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
