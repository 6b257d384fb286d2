/*
 * Repair, and making an image ready for write, cut off at every I/O they make: whatever
 * was reached, what the guest sees is unharmed, and the next repair brings all in
 * order.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/block/filter.h"
#include "core/image/chain.h"
#include "core/image/check.h"
#include "core/image/create.h"
#include "core/image/reader.h"
#include "core/image/writer.h"

enum { SIZE = 1 << 20, CLUSTER = 512, IMAGE_MAX = 4 << 20, CUTS_MAX = 4000 };
enum { BOTH = CHECK_REPAIR_LEAKS | CHECK_REPAIR_ERRORS };

static struct env *env;
static char good[64], path[64]; /* files of this run */
static uint8_t expected[SIZE], seen[SIZE];

static uint64_t get(const char *name, uint64_t at)
{
    uint8_t b[8];
    int fd = open(name, O_RDONLY);

    assert_int_equal(pread(fd, b, sizeof(b), (off_t)at), sizeof(b));
    close(fd);
    return qcow2_be64(b);
}

static void put(uint64_t at, uint64_t value, unsigned bytes)
{
    uint8_t b[8];
    int fd = open(path, O_RDWR);

    qcow2_put_be64(b, value);
    assert_int_equal(pwrite(fd, b + 8 - bytes, bytes, (off_t)at), bytes);
    close(fd);
}

static void copy(const char *from, const char *to)
{
    static uint8_t all[IMAGE_MAX];
    int in = open(from, O_RDONLY), out = open(to, O_CREAT | O_TRUNC | O_RDWR, 0600);
    ssize_t n = read(in, all, sizeof(all));

    assert_true(n > 0 && n < IMAGE_MAX);
    assert_int_equal(write(out, all, (size_t)n), n);
    close(in);
    close(out);
}

static struct image_node *open_image(const char *name, bool write)
{
    struct chain_options o = {.env = env, .write = write, .format = "qcow2"};
    struct error err = {""};
    struct image_node *n;

    if (chain_open(&n, name, &o, &err) < 0)
        fail_msg("%s", err.msg);
    return n;
}

/* An image with data in half of its clusters. */
static void make_good(void)
{
    struct create_options o = create_defaults(env, SIZE);
    struct error err = {""};
    struct writer *w;

    o.cluster_size = CLUSTER;
    assert_int_equal(image_create(good, &o, &err), 0);
    struct image_node *n = open_image(good, true);
    assert_int_equal(writer_create(&w, n, &err), 0);
    for (uint64_t at = 0; at < SIZE; at += 16 * CLUSTER) {
        memset(expected + at, (int)(at / CLUSTER % 251 + 1), 8 * CLUSTER);
        assert_int_equal(writer_write(w, at, expected + at, 8 * CLUSTER, &err), 0);
    }
    assert_int_equal(writer_finish(w, &err), 0);
    assert_int_equal(chain_close(n), 0);
}

static int run_check(unsigned repair, const char *filters, struct check_result *res,
                     uint64_t *hits)
{
    struct blk_options o = {.env = env, .write = repair, .filters = filters};
    struct error err = {""};
    struct blk_file *f;

    if (blk_open(&f, path, &o, &err) < 0)
        fail_msg("%s", err.msg);
    int r = image_check(f, repair, res, NULL, NULL, &err);
    if (hits)
        *hits = fault_hits(blk_filter(f, "fault"));
    blk_close(f);
    return r;
}

static void assert_unharmed(void)
{
    struct image_node *n = open_image(path, false);
    struct error err = {""};
    struct reader *r;

    assert_int_equal(reader_create(&r, n), 0);
    if (reader_read(r, 0, seen, SIZE, &err) < 0)
        fail_msg("%s", err.msg);
    assert_memory_equal(seen, expected, SIZE);
    reader_free(r);
    chain_close(n);
}

static void assert_clean(void)
{
    struct check_result res;

    assert_int_equal(run_check(0, NULL, &res, NULL), 0);
    assert_int_equal(res.corruptions + res.leaks + res.check_errors, 0);
}

/* --- damage ----------------------------------------------------------------------- */

static uint64_t reftable(void) { return get(path, QCOW2_H_REFTABLE_OFFSET); }

static void plant_wrong_refcounts(void)
{
    uint64_t block = get(path, reftable());

    for (unsigned i = 3; i < 200; i += 7)
        put(block + 2 * i, i % 2 ? 0 : 5, 2);
    put(QCOW2_H_INCOMPAT, QCOW2_INCOMPAT_DIRTY, 8);
}

static void plant_lost_block(void) { put(reftable() + 8, 0, 8); }

static void plant_bad_block(void) { put(reftable(), get(path, reftable()) + 8, 8); }

static void plant_block_over_l2(void)
{
    put(reftable() + 8, get(path, get(path, QCOW2_H_L1_OFFSET)) & QCOW2_OFFSET_MASK, 8);
}

static void plant_wrong_copied(void)
{
    uint64_t l1 = get(path, QCOW2_H_L1_OFFSET);
    uint64_t l2 = get(path, l1) & QCOW2_OFFSET_MASK;

    put(l1, get(path, l1) ^ QCOW2_COPIED, 8);
    for (unsigned i = 0; i < 5; i++)
        put(l2 + 8 * i, get(path, l2 + 8 * i) ^ QCOW2_COPIED, 8);
}

/* --- cuts ------------------------------------------------------------------------- */

static void cut_everywhere(void (*plant)(void), const char *action)
{
    struct check_result res;
    uint64_t hits = 1;
    char filters[96];
    unsigned k;

    for (k = 1; hits && k < CUTS_MAX; k++) {
        copy(good, path);
        plant();
        snprintf(filters, sizeof(filters), "fault:op=%s,n=%u,times=forever,error=EIO",
                 action, k);
        int r = run_check(BOTH, filters, &res, &hits);
        assert_true(hits == 0 || r < 0 || res.check_errors);
        assert_unharmed();
        assert_int_equal(run_check(BOTH, NULL, &res, NULL), 0);
        assert_clean();
        assert_unharmed();
    }
    assert_in_range(k, 3, CUTS_MAX - 1);
}

static void test_repair_is_cut(void **state)
{
    static void (*const plants[])(void) = {plant_wrong_refcounts, plant_lost_block,
                                           plant_bad_block, plant_block_over_l2,
                                           plant_wrong_copied};

    (void)state;
    for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++) {
        cut_everywhere(plants[i], "write");
        cut_everywhere(plants[i], "write,torn");
        cut_everywhere(plants[i], "flush");
    }
}

static void add_bitmap(void)
{
    char command[160];

    snprintf(command, sizeof(command), "qemu-img bitmap --add -g 512 %s one", path);
    assert_int_equal(system(command), 0);
}

/* Opened for write: bitmaps are dropped. Cut there, the bitmap is either whole, or
 * nobody's, or gone. */
static void test_ready_is_cut(void **state)
{
    struct chain_options o = {.env = env, .write = true, .format = "qcow2"};
    struct check_result res;
    char filters[96];
    int r = -1;

    (void)state;
    for (unsigned k = 1; r < 0; k++) {
        struct error err = {""};
        struct image_node *n;
        assert_in_range(k, 1, 200);
        copy(good, path);
        add_bitmap();
        snprintf(filters, sizeof(filters),
                 "fault:op=write,n=%u,times=forever,error=EIO", k);
        o.filters = filters;
        r = chain_open(&n, path, &o, &err);
        if (!r)
            chain_close(n);
        assert_unharmed();
        assert_int_equal(run_check(0, NULL, &res, NULL), 0);
        assert_int_equal(res.corruptions + res.check_errors, 0);
        n = open_image(path, true); /* and now it gets there */
        assert_false(n->header->has_bitmaps && n->header->bitmaps_count);
        chain_close(n);
        assert_int_equal(run_check(CHECK_REPAIR_LEAKS, NULL, &res, NULL), 0);
        assert_clean();
        assert_unharmed();
    }
}

static int set_up(void **state)
{
    const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)state;
    snprintf(good, sizeof(good), "%s/asyncow-repair-%d.good", dir, getpid());
    snprintf(path, sizeof(path), "%s/asyncow-repair-%d.qcow2", dir, getpid());
    env = env_real(0);
    make_good();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    env_destroy(env);
    return unlink(good) | unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repair_is_cut),
        cmocka_unit_test(test_ready_is_cut),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
