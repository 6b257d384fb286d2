/*
 * Opened for write, an image loses its bitmaps: the extension that names them goes with
 * one write inside one sector, whatever comes behind it, and what comes behind it
 * stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/aio.h"
#include "core/image/bitmaps.h"
#include "core/image/check.h"
#include "core/image/ready.h"

enum { CLUSTER = 4096, SPACE = 1 << 20 };
#define STRANGE 0x12345678u

static uint64_t image_with_bitmap(uint8_t *bytes)
{
    char path[] = "/tmp/asyncow-ready-XXXXXX", command[256];
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    snprintf(command, sizeof(command),
             "qemu-img create -q -f qcow2 -o cluster_size=4096 %s 1M && "
             "qemu-img bitmap --add %s one",
             path, path);
    assert_int_equal(system(command), 0);
    FILE *f = fdopen(fd, "rb");
    uint64_t size = fread(bytes, 1, SPACE, f);
    fclose(f);
    remove(path);
    return size;
}

/* Where the bitmaps' extension is, and behind it another of len bytes; 0: none. */
static uint32_t prepare(uint8_t *b, uint64_t push, uint32_t len)
{
    struct qcow2_header h;
    struct error err;

    assert_int_equal(qcow2_header_parse(&h, b, CLUSTER, SPACE, &err), 0);
    uint32_t at = h.bitmaps_ext_at;
    assert_true(h.has_bitmaps);
    if (push) { /* one before it, so that it lies further back */
        memmove(b + at + 8 + push, b + at, 32);
        qcow2_put_be32(b + at, STRANGE + 1);
        qcow2_put_be32(b + at + 4, (uint32_t)push);
        memset(b + at + 8, 0x33, push);
        at += 8 + (uint32_t)push;
    }
    memset(b + at + 32, 0, CLUSTER - at - 32);
    if (len) {
        qcow2_put_be32(b + at + 32, STRANGE);
        qcow2_put_be32(b + at + 36, len);
        memset(b + at + 40, 0x5a, len);
    }
    return at;
}

static bool extension(const uint8_t *b, uint32_t type, uint32_t *at)
{
    for (*at = qcow2_be32(b + QCOW2_H_LENGTH); *at + 8 <= CLUSTER;) {
        uint32_t t = qcow2_be32(b + *at);
        if (t == type || t == QCOW2_EXT_END)
            return t == type;
        *at += 8 + ((qcow2_be32(b + *at + 4) + 7) & ~7u);
    }
    return false;
}

static unsigned sectors_changed(const uint8_t *a, const uint8_t *b)
{
    unsigned n = 0;

    for (int i = 0; i < CLUSTER; i += 512)
        n += memcmp(a + i, b + i, 512) != 0;
    return n;
}

static void drops(uint64_t push, uint32_t len)
{
    static uint8_t bytes[SPACE], before[CLUSTER];
    struct env *env = env_real(1);
    struct blk_memory m = {.bytes = bytes, .cap = SPACE};
    struct image_node n = {.format = IMAGE_QCOW2, .write = true};
    struct check_result res;
    struct error err = {""};
    uint32_t at, strange;

    m.size = image_with_bitmap(bytes);
    at = prepare(bytes, push, len);
    assert_int_equal(blk_open_memory(&n.file, env, &m), 0);
    assert_int_equal(image_read_header(&n, &err), 0);
    memcpy(before, bytes, CLUSTER);
    assert_int_equal(image_make_ready(&n, false, &err), 0);

    memset(before + QCOW2_H_AUTOCLEAR, 0, 8); /* that is a write of its own */
    assert_int_equal(sectors_changed(before, bytes), 1);
    assert_memory_equal(before, bytes, at);
    assert_false(extension(bytes, QCOW2_EXT_BITMAPS, &at));
    assert_false(n.header->has_bitmaps);
    if (len) {
        assert_true(extension(bytes, STRANGE, &strange));
        assert_int_equal(qcow2_be32(bytes + strange + 4), len);
        for (uint32_t i = 0; i < len; i++)
            assert_int_equal(bytes[strange + 8 + i], 0x5a);
    }
    assert_int_equal(image_check(n.file, 0, &res, NULL, NULL, &err), 0);
    assert_int_equal(res.corruptions + res.leaks, 0);
    free(n.header);
    free(n.header_cluster);
    blk_close(n.file);
    env_destroy(env);
}

static void nothing_behind(void **state)
{
    (void)state;
    drops(0, 0);
    drops(1000, 0);
}

static void in_one_sector(void **state)
{
    struct qcow2_header h;
    static uint8_t bytes[SPACE];
    struct error err;

    (void)state;
    image_with_bitmap(bytes);
    assert_int_equal(qcow2_header_parse(&h, bytes, CLUSTER, SPACE, &err), 0);
    drops(1024 + 64 - 8 - h.bitmaps_ext_at, 40);
}

static void over_several_sectors(void **state)
{
    (void)state;
    drops(0, 1000);
    drops(600, 700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_behind),
        cmocka_unit_test(in_one_sector),
        cmocka_unit_test(over_several_sectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
