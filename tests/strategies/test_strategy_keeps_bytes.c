/*
 * Every operation, in every way that an image can hold bytes, does to the bytes what it
 * says, and leaves an image in which qemu-img finds no fault.
 */
#include "tests/strategies/strategy_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fresh(struct world *w, const char *options, uint64_t size)
{
    shell("qemu-img create -q -f qcow2 -o %s top.qcow2 %llu", options,
          (unsigned long long)size);
    world_model(w, size);
    world_open(w);
}

/* Parts of clusters, whole ones, many at once, rewrites, at odd offsets. */
static void write_and_read(void **state)
{
    struct world *w = *state;
    fresh(w, "cluster_size=4k", 8 * MIB + 512);
    assert_int_equal(run(w, GUEST_READ, 0, 100, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, 5000, 100, 1), 0);
    assert_int_equal(run(w, GUEST_WRITE, 4096, 4096, 2), 0);
    assert_int_equal(run(w, GUEST_WRITE, 3, 300 * KIB, 3), 0);
    assert_int_equal(run(w, GUEST_WRITE, 2 * MIB - 7, 3 * MIB + 9, 4), 0);
    assert_int_equal(run(w, GUEST_WRITE, 8 * MIB, 512, 5), 0); /* the last bytes */
    assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
    assert_int_equal(run(w, GUEST_READ, 4097, 1, 0), 0);
    assert_int_equal(run(w, GUEST_READ, 77, 0, 0), 0);
}

static void zero_and_discard(void **state)
{
    struct world *w = *state;
    fresh(w, "cluster_size=64k", 4 * MIB);
    assert_int_equal(run(w, GUEST_WRITE, 0, 4 * MIB, 1), 0);
    assert_int_equal(run(w, GUEST_ZERO, 1000, 300 * KIB, 0),
                     0);                                       /* parts at both ends */
    assert_int_equal(run(w, GUEST_ZERO, 600 * KIB, 10, 0), 0); /* one part alone */
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
    assert_int_equal(run(w, GUEST_DISCARD, 1 * MIB + 1, 200 * KIB, 0), 0);
    memset(w->model + MIB + 64 * KIB, 0, 128 * KIB); /* the whole clusters */
    assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, 1000, 5000, 2), 0);
    assert_int_equal(run(w, GUEST_WRITE, MIB + 70 * KIB, 9, 3), 0);
}

/* Version 2 has no zero clusters: over a backing file, zeros are written as data. */
static void version_2_over_backing(void **state)
{
    struct world *w = *state;
    shell("qemu-img create -q -f raw base.raw 3M");
    shell("qemu-io -f raw -c 'write -P 0x41 0 3M' base.raw");
    shell("qemu-img create -q -f qcow2 -o compat=0.10,backing_fmt=raw -b base.raw "
          "top.qcow2 4M");
    world_model(w, 4 * MIB);
    memset(w->model, 0x41, 3 * MIB);
    world_open(w);
    assert_int_equal(run(w, GUEST_ZERO, 100, 2 * MIB + 100 * KIB, 0), 0);
    assert_int_equal(run(w, GUEST_ZERO, 3 * MIB - 10, 20, 0), 0);
    assert_int_equal(run(w, GUEST_DISCARD, 2 * MIB + 512 * KIB, 64 * KIB, 0), 0);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
}

/* Raw at the bottom, qcow2 between, each of another size; the middle one is
 * compressed. */
static void backing_chain(void **state)
{
    struct world *w = *state;
    shell("qemu-img create -q -f raw base.raw 2097000");
    shell("qemu-io -f raw -c 'write -P 0x11 0 2097000' base.raw");
    shell("qemu-img create -q -f qcow2 -o cluster_size=16k,backing_fmt=raw -b base.raw "
          "plain.qcow2 1M");
    shell("qemu-io -c 'write -P 0x22 100k 100k' plain.qcow2");
    shell("qemu-img convert -c -O qcow2 -o cluster_size=32k,backing_fmt=qcow2 "
          "-B plain.qcow2 plain.qcow2 middle.qcow2");
    shell("qemu-io -c 'write -c -P 0x33 320k 32k' -c 'write -c -P 0x34 352k 32k' "
          "middle.qcow2");
    shell("qemu-img create -q -f qcow2 -o backing_fmt=qcow2 -b middle.qcow2 top.qcow2 "
          "3M");
    world_model(w, 3 * MIB);
    memset(w->model, 0x11, MIB);
    memset(w->model + 100 * KIB, 0x22, 100 * KIB);
    memset(w->model + 320 * KIB, 0x33, 32 * KIB);
    memset(w->model + 352 * KIB, 0x34, 32 * KIB);
    world_open(w);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, 110 * KIB, 1000, 1), 0);
    assert_int_equal(run(w, GUEST_WRITE, 340 * KIB, 1000, 2), 0);
    assert_int_equal(run(w, GUEST_WRITE, MIB - 9, 18, 3), 0);
    assert_int_equal(run(w, GUEST_ZERO, 200 * KIB, 130 * KIB, 0), 0);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
}

/* A compressed cluster that is partly written takes its other bytes along. */
static void compressed_top(void **state)
{
    struct world *w = *state;
    for (int zstd = 0; zstd < 2; zstd++) {
        shell("qemu-img create -q -f qcow2 -o cluster_size=64k,compression_type=%s "
              "top.qcow2 1M",
              zstd ? "zstd" : "zlib");
        shell("qemu-io -c 'write -c -P 0x51 0 64k' -c 'write -c -P 0x52 64k 64k' "
              "-c 'write -c -P 0x53 128k 64k' top.qcow2");
        world_model(w, MIB);
        memset(w->model, 0x51, 64 * KIB);
        memset(w->model + 64 * KIB, 0x52, 64 * KIB);
        memset(w->model + 128 * KIB, 0x53, 64 * KIB);
        world_open(w);
        assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
        assert_int_equal(run(w, GUEST_WRITE, 70 * KIB, 100, 1), 0);
        assert_int_equal(run(w, GUEST_DISCARD, 0, 64 * KIB, 0), 0);
        memset(w->model, 0, 64 * KIB);
        world_verify(w);
        assert_int_equal(world_close(w), 0);
    }
    world_open(w);
}

/* What a snapshot shares is copied before it is written. */
static void shared_with_snapshot(void **state)
{
    struct world *w = *state;
    shell("qemu-img create -q -f qcow2 top.qcow2 2M");
    shell("qemu-io -c 'write -P 0x61 0 1M' top.qcow2");
    shell("qemu-img snapshot -c s top.qcow2");
    world_model(w, 2 * MIB);
    memset(w->model, 0x61, MIB);
    world_open(w);
    assert_int_equal(run(w, GUEST_WRITE, 100, 70 * KIB, 1), 0);
    assert_int_equal(run(w, GUEST_ZERO, 512 * KIB, 64 * KIB, 0), 0);
    world_verify(w);
    assert_int_equal(world_close(w), 0);
    shell("qemu-img snapshot -a s top.qcow2");
    memset(w->model, 0x61, MIB);
    world_open(w);
}

/* A preallocated zero cluster is filled around what is written. */
static void preallocated(void **state)
{
    struct world *w = *state;
    fresh(w, "preallocation=metadata,cluster_size=8k", MIB);
    assert_int_equal(run(w, GUEST_WRITE, 10000, 100, 1), 0);
    assert_int_equal(run(w, GUEST_ZERO, 0, 64 * KIB, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, 20000, 100, 2), 0);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
}

static void raw_top(void **state)
{
    struct world *w = *state;
    w->format = "raw";
    shell("qemu-img create -q -f raw top.raw 1M");
    world_model(w, MIB);
    world_open(w);
    assert_int_equal(run(w, GUEST_WRITE, 1234, 300 * KIB, 1), 0);
    assert_int_equal(run(w, GUEST_ZERO, 5000, 100 * KIB, 0), 0);
    for (enum guest_op op = GUEST_READ; op <= GUEST_DISCARD; op++)
        assert_int_equal(run(w, op, MIB, 0, 0), 0);
    assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
}

static void beyond_the_end(void **state)
{
    struct world *w = *state;
    fresh(w, "cluster_size=64k", MIB);
    assert_int_equal(run(w, GUEST_READ, MIB - 1, 2, 0), -EINVAL);
    assert_int_equal(run(w, GUEST_WRITE, UINT64_MAX, 2, 0), -EINVAL);
    assert_int_equal(run(w, GUEST_ZERO, 1, UINT64_MAX, 0), -EINVAL);
}

/* metadata-writes=through: what is acknowledged can be found in the file as it is. */
static void through(void **state)
{
    struct world *w = *state;
    w->through = true;
    fresh(w, "cluster_size=64k", 4 * MIB);
    assert_int_equal(run(w, GUEST_WRITE, 100 * KIB, 300 * KIB, 1), 0);
    assert_int_equal(run(w, GUEST_ZERO, 192 * KIB, 64 * KIB, 0), 0);
    if (w->env->simulated)
        return; /* the file is in memory */
    shell("cp top.qcow2 copy.qcow2; qemu-img check -q copy.qcow2; "
          "test $? = 0 -o $? = 3"); /* 3: leaks, of an image still open */
    shell("qemu-img convert -O raw copy.qcow2 copy.raw");
    FILE *f = fopen("copy.raw", "rb");
    uint8_t *seen = malloc(w->size);
    assert_int_equal(fread(seen, 1, w->size, f), w->size);
    assert_memory_equal(seen, w->model, w->size);
    free(seen);
    fclose(f);
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {
    T(write_and_read), T(zero_and_discard), T(version_2_over_backing),
    T(backing_chain),  T(compressed_top),   T(shared_with_snapshot),
    T(preallocated),   T(raw_top),          T(beyond_the_end),
    T(through),
};
TEST_MAIN(tests)
