/*
 * Growing and shrinking the disk of an overlay, cut off at every write and flush: the
 * disk then has its old size and all it held, or its new one and zeros where it grew.
 * Nothing of the backing file ever shows there.
 *
 * Snapshots and resizes whose I/O fails once leak nothing.
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

enum { BASE = 256 << 10, OLD = 100 << 10, CLUSTER = 512, CUTS_MAX = 4000 };
enum { TOP = 'T', BELOW = 'B' };

static struct env *env;
static char base[64], good[64], path[64]; /* files of this run */
static uint8_t bytes[BASE];

static void copy(const char *from, const char *to)
{
    char command[160];

    snprintf(command, sizeof(command), "cp %s %s", from, to);
    assert_int_equal(system(command), 0);
}

static struct image_node *try_to_open(const char *name, bool write, const char *filters)
{
    struct chain_options o = {.env = env,
                              .write = write,
                              .format = "qcow2",
                              .allow_backing = true,
                              .filters = filters};
    struct error err = {""};
    struct image_node *n;

    return chain_open(&n, name, &o, &err) < 0 ? NULL : n;
}

static struct image_node *open_image(const char *name, bool write, const char *filters)
{
    struct image_node *n = try_to_open(name, write, filters);

    assert_non_null(n);
    return n;
}

/* An overlay smaller than its backing file, every other cluster its own. */
static void make_good(unsigned version, bool over_base)
{
    struct create_options o = create_defaults(env, OLD);
    struct error err = {""};
    struct writer *w;

    o.cluster_size = CLUSTER;
    o.version = version;
    o.backing = over_base ? base : NULL;
    o.backing_format = over_base ? "raw" : NULL;
    if (image_create(good, &o, &err) < 0)
        fail_msg("%s", err.msg);
    struct image_node *n = open_image(good, true, NULL);
    assert_int_equal(writer_create(&w, n, &err), 0);
    memset(bytes, TOP, CLUSTER);
    for (uint64_t at = 0; at < OLD; at += 2 * CLUSTER)
        assert_int_equal(writer_write(w, at, bytes, CLUSTER, &err), 0);
    assert_int_equal(writer_finish(w, &err), 0);
    assert_int_equal(chain_close(n), 0);
}

static uint8_t held(uint64_t at) { return at / CLUSTER % 2 ? BELOW : TOP; }

/* Its size. Up to `kept` it holds what it did, from OLD on zeros. */
static uint64_t look(uint64_t kept)
{
    struct image_node *n = open_image(path, false, NULL);
    struct error err = {""};
    struct reader *r;
    uint64_t size = n->size;

    assert_true(size <= BASE);
    assert_int_equal(reader_create(&r, n), 0);
    if (reader_read(r, 0, bytes, size, &err) < 0)
        fail_msg("%s", err.msg);
    for (uint64_t i = 0; i < size; i++)
        if ((i < kept && bytes[i] != held(i)) || (i >= OLD && bytes[i]))
            fail_msg("size %llu, byte %llu is %02x", (unsigned long long)size,
                     (unsigned long long)i, bytes[i]);
    reader_free(r);
    chain_close(n);
    return size;
}

static struct check_result check(void)
{
    struct blk_options o = {.env = env};
    struct check_result res;
    struct error err = {""};
    struct blk_file *f;

    if (blk_open(&f, path, &o, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(image_check(f, 0, &res, NULL, NULL, &err), 0);
    blk_close(f);
    return res;
}

/* --- cut off ---------------------------------------------------------------------- */

/* false: it wasn't cut any more. */
static bool cut_resize(uint64_t size, const char *op, unsigned k)
{
    struct error err = {""};
    struct writer *w;
    char filters[96];

    copy(good, path);
    snprintf(filters, sizeof(filters), "fault:op=%s,n=%u,times=forever,error=EIO", op,
             k);
    struct image_node *n = open_image(path, true, filters);
    assert_int_equal(writer_create(&w, n, &err), 0);
    (void)writer_resize(w, size, &err);
    (void)writer_finish(w, &err);
    bool hit = fault_hits(blk_filter(n->file, "fault")) > 0;
    chain_close(n);
    return hit;
}

static void cut_everywhere(uint64_t size, const char *op)
{
    bool before = false, after = false;
    unsigned k;

    for (k = 1; cut_resize(size, op, k) && k < CUTS_MAX; k++) {
        uint64_t now = look(size < OLD ? size : OLD);
        assert_true(now == OLD || now == size);
        before |= now == OLD;
        after |= now == size;
        struct check_result res = check();
        assert_int_equal(res.corruptions + res.check_errors, 0);
    }
    assert_in_range(k, 3, CUTS_MAX - 1);
    assert_true(before);
    assert_int_equal(look(size < OLD ? size : OLD), size);
    (void)after;
}

static void nothing_below_shows_in_a_resize_that_is_cut(void **state)
{
    (void)state;
    for (unsigned version = 2; version <= 3; version++) {
        make_good(version, true);
        cut_everywhere(220 << 10, "write");
        cut_everywhere(220 << 10, "flush");
        cut_everywhere(30 << 10, "write");
    }
}

/* --- an error once ---------------------------------------------------------------- */

enum action { GROW, CREATE, APPLY, DELETE };

static int act(struct writer *w, enum action action, struct error *err)
{
    switch (action) {
    case GROW: /* the L1 table moves */
        return writer_resize(w, 64 << 20, err);
    case CREATE:
        return writer_snapshot(w, QCOW2_SNAPSHOT_CREATE, "new", 1, err);
    case APPLY:
        return writer_snapshot(w, QCOW2_SNAPSHOT_APPLY, "old", 1, err);
    default:
        return writer_snapshot(w, QCOW2_SNAPSHOT_DELETE, "old", 1, err);
    }
}

/* A snapshot, and a disk that is not the same any more. */
static void add_snapshot(void)
{
    struct error err = {""};
    struct writer *w;
    struct image_node *n = open_image(good, true, NULL);

    assert_int_equal(writer_create(&w, n, &err), 0);
    for (unsigned i = 0; i < 2; i++) {
        const char *name = i ? "old" : "older";
        assert_int_equal(writer_snapshot(w, QCOW2_SNAPSHOT_CREATE, name, 1, &err), 0);
        memset(bytes, TOP, CLUSTER);
        assert_int_equal(writer_write(w, i * (40 << 10), bytes, CLUSTER, &err), 0);
    }
    assert_int_equal(writer_finish(w, &err), 0);
    assert_int_equal(chain_close(n), 0);
}

/* The k-th I/O of the action fails. false: there is none any more. */
static bool fail_once(enum action action, const char *op, unsigned k, unsigned *failed)
{
    struct error err = {""};
    struct writer *w;
    char filters[96];

    copy(good, path);
    snprintf(filters, sizeof(filters), "fault:op=%s,n=%u,error=EIO", op, k);
    struct image_node *n = try_to_open(path, true, filters);
    if (!n)
        return true; /* before it began */
    if (writer_create(&w, n, &err) < 0) {
        chain_close(n);
        return true;
    }
    int ret = act(w, action, &err);
    uint64_t hits = fault_hits(blk_filter(n->file, "fault"));
    int finished = writer_finish(w, &err);
    chain_close(n);
    if (!hits)
        return false;
    struct check_result res = check();
    assert_int_equal(res.check_errors, 0);
    *failed += ret < 0;
    if (!finished) { /* the image goes on */
        if (res.leaks || res.corruptions)
            fail_msg("action %d, %s %u: %llu leaks, %llu errors", (int)action, op, k,
                     (unsigned long long)res.leaks,
                     (unsigned long long)res.corruptions);
    }
    return true;
}

static void what_fails_leaks_nothing(void **state)
{
    (void)state;
    make_good(3, false);
    add_snapshot();
    for (enum action action = GROW; action <= DELETE; action++) {
        unsigned failed[2] = {0};
        for (unsigned k = 1; fail_once(action, "read", k, &failed[0]); k++)
            assert_in_range(k, 1, CUTS_MAX);
        for (unsigned k = 1; fail_once(action, "write", k, &failed[1]); k++)
            assert_in_range(k, 1, CUTS_MAX);
        assert_true(failed[0] + failed[1] > 0);
    }
}

static int set_up(void **state)
{
    const char *dir = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)state;
    snprintf(base, sizeof(base), "%s/asyncow-resize-%d.base", dir, getpid());
    snprintf(good, sizeof(good), "%s/asyncow-resize-%d.good", dir, getpid());
    snprintf(path, sizeof(path), "%s/asyncow-resize-%d.qcow2", dir, getpid());
    env = env_real(0);
    int fd = open(base, O_CREAT | O_TRUNC | O_RDWR, 0600);
    memset(bytes, BELOW, BASE);
    bool written = write(fd, bytes, BASE) == BASE;
    close(fd);
    return written ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    env_destroy(env);
    return unlink(base) | unlink(good) | unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_below_shows_in_a_resize_that_is_cut),
        cmocka_unit_test(what_fails_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
