/*
 * Drain, cancel and failing I/O: every request is heard of exactly once, with the
 * truth, and the image stays right.
 */
#include "tests/strategies/strategy_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/filter.h"

static void fresh(struct world *w, const char *options, uint64_t size)
{
    shell("qemu-img create -q -f qcow2 -o %s top.qcow2 %llu", options,
          (unsigned long long)size);
    world_model(w, size);
    world_open(w);
}

/* More than there are slots: they queue, and all come to their end. */
static void queue_beyond_depth(void **state)
{
    struct world *w = *state;
    struct job *jobs[20];
    w->depth = 3;
    w->filters = "delay:data-write=200us";
    fresh(w, "cluster_size=64k", 4 * MIB);
    for (unsigned i = 0; i < 20; i++)
        jobs[i] = job_start(w, GUEST_WRITE, i * 128 * KIB, 5000, i);
    run_all(w);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(job_end(jobs[i]), 0);
}

static unsigned count_done(struct job *const *jobs, unsigned n)
{
    unsigned done = 0;
    for (unsigned i = 0; i < n; i++)
        done += jobs[i]->done;
    return done;
}

/* What was admitted ends before drain_begin() returns, all else waits for the last end:
 * also what a strategy has not admitted yet for reasons of its own, as a frozen
 * queue. */
static void drain_nests(void **state)
{
    struct world *w = *state;
    w->filters = "delay:data-write=1ms";
    fresh(w, "cluster_size=64k", 4 * MIB);
    struct job *jobs[6];
    for (unsigned i = 0; i < 4; i++)
        jobs[i] = job_start(w, GUEST_WRITE, i * 100000, 70000, i);
    w->strategy->drain_begin(w->image);
    assert_true(jobs[0]->done);
    unsigned done = count_done(jobs, 4);
    jobs[4] = job_start(w, GUEST_WRITE, 3 * MIB, 100, 9);
    w->strategy->drain_begin(w->image);
    jobs[5] = job_start(w, GUEST_READ, 0, 100, 0);
    w->strategy->drain_end(w->image);
    for (int i = 0; i < 10; i++)
        loop_turn(w->loop, false);
    assert_int_equal(count_done(jobs, 6), done);
    w->strategy->drain_end(w->image);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(job_end(jobs[i]), 0);
}

/* Not yet admitted: never begun. Its bytes are as they were. */
static void cancel_in_queue(void **state)
{
    struct world *w = *state;
    w->depth = 1;
    w->filters = "delay:data-write=1ms";
    fresh(w, "cluster_size=64k", MIB);
    struct job *first = job_start(w, GUEST_WRITE, 0, 100, 1);
    struct job *second = job_start(w, GUEST_WRITE, 1000, 100, 2);
    struct job *third = job_start(w, GUEST_WRITE, 2000, 100, 3);
    w->strategy->cancel(w->image, &second->g);
    assert_false(second->done); /* from a turn, as always */
    assert_int_equal(job_end(second), -ECANCELED);
    assert_int_equal(job_end(first), 0);
    assert_int_equal(job_end(third), 0);
    assert_int_equal(run(w, GUEST_READ, 0, MIB, 0), 0);
}

/* In whatever state it is: cancelled or done, and the image knows which. */
static void cancel_in_flight(void **state)
{
    struct world *w = *state;
    unsigned cancelled = 0;
    w->filters = "delay:data-write=1ms";
    fresh(w, "cluster_size=4k", 2 * MIB);
    for (unsigned i = 0; i < 30; i++) {
        uint64_t offset = i * 40000;
        struct job *j = job_start(w, GUEST_WRITE, offset, 30000, i);
        struct job *other = job_start(w, GUEST_WRITE, offset + 30000, 5000, i + 100);
        for (unsigned turns = i % 5; turns > 0; turns--)
            loop_turn(w->loop, false);
        w->strategy->cancel(w->image, &j->g);
        int ret = job_end(j);
        assert_true(ret == 0 || ret == -ECANCELED);
        assert_int_equal(job_end(other), 0);
        cancelled += ret != 0;
        /* Parts may have been written before: settle what the model can't know. */
        assert_int_equal(run(w, GUEST_WRITE, offset, 30000, i), 0);
    }
    printf("%u of 30 cancelled\n", cancelled);
}

static void failed_data_write(void **state)
{
    struct world *w = *state;
    w->filters = "fault:op=data-write,n=2,error=ENOSPC";
    fresh(w, "cluster_size=64k", MIB);
    w->filters = NULL;
    assert_int_equal(run(w, GUEST_WRITE, 0, 1000, 1), 0);
    assert_int_equal(run(w, GUEST_WRITE, 256 * KIB, 1000, 2), -ENOSPC);
    assert_int_equal(run(w, GUEST_READ, 0, MIB, 0), 0); /* not a trace of it */
    assert_int_equal(run(w, GUEST_WRITE, 256 * KIB, 1000, 3), 0);
}

/* Arms the fault filter, which until then only counts: opening is none of its
 * business. */
static void arm(struct world *w, const char *kind, uint64_t n, uint64_t times)
{
    struct fault_plan plan = {.n = n, .times = times, .error = -EIO};
    unsigned precision;
    assert_int_equal(filter_kind(kind, &plan.kinds, &precision), 0);
    fault_arm(blk_filter(w->top->file, "fault"), &plan);
}

static void failed_data_read(void **state)
{
    struct world *w = *state;
    w->filters = "fault:op=any";
    fresh(w, "cluster_size=64k", MIB);
    assert_int_equal(run(w, GUEST_WRITE, 0, 256 * KIB, 1), 0);
    arm(w, "data-read", 2, 1);
    assert_int_equal(run(w, GUEST_READ, 0, 1000, 0), 0);
    assert_int_equal(run(w, GUEST_READ, 0, 1000, 0), -EIO);
    assert_int_equal(run(w, GUEST_READ, 0, MIB, 0), 0);
}

/* The write fails that needs the bytes around it, and leaves no trace. */
static void failed_copy(void **state)
{
    struct world *w = *state;
    shell("qemu-img create -q -f qcow2 top.qcow2 1M");
    shell("qemu-io -c 'write -P 0x73 0 256k' top.qcow2");
    shell("qemu-img snapshot -c s top.qcow2");
    world_model(w, MIB);
    memset(w->model, 0x73, 256 * KIB);
    w->filters = "fault:op=any";
    world_open(w);
    arm(w, "data-read", 2, 1); /* the tail's */
    assert_int_equal(run(w, GUEST_WRITE, 70 * KIB, 1000, 1), -EIO);
    assert_int_equal(run(w, GUEST_READ, 0, MIB, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, 70 * KIB, 1000, 1), 0);
}

/* The slice is forgotten; who asks again reads it again. */
static void failed_metadata_read(void **state)
{
    struct world *w = *state;
    shell("qemu-img create -q -f qcow2 top.qcow2 1M");
    shell("qemu-io -c 'write -P 0x72 0 256k' top.qcow2");
    world_model(w, MIB);
    memset(w->model, 0x72, 256 * KIB);
    w->filters = "fault:op=any";
    world_open(w);
    arm(w, "metadata-read", 1, 1);
    struct job *a = job_start(w, GUEST_READ, 0, 1000, 0);
    struct job *b = job_start(w, GUEST_READ, 5000, 1000, 0);
    int ret_a = job_end(a), ret_b = job_end(b);
    assert_true((ret_a == -EIO) + (ret_b == -EIO) == 1);
    assert_true((ret_a == 0) + (ret_b == 0) == 1);
    assert_int_equal(run(w, GUEST_READ, 0, MIB, 0), 0);
}

static int check_status(void)
{
    int status = system("qemu-img check top.qcow2 >shell.log 2>&1");
    return status < 0 ? status : status >> 8;
}

/* From then on nothing changes any more, reads go on, and what was flushed is there. */
static void failed_metadata_write(void **state)
{
    struct world *w = *state;
    struct strategy_stats stats;
    w->filters = "fault:op=any";
    fresh(w, "cluster_size=64k", 4 * MIB);
    assert_int_equal(run(w, GUEST_WRITE, 0, 1000, 1), 0);
    assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), 0);
    assert_int_equal(run(w, GUEST_WRITE, 64 * KIB, 1000, 1), 0);
    arm(w, "metadata-write", 1, UINT64_MAX);
    assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), -EIO);
    w->strategy->stats(w->image, &stats);
    assert_true(stats.poisoned);
    assert_int_equal(run(w, GUEST_WRITE, 3 * MIB, 1000, 5), -EIO);
    assert_int_equal(run(w, GUEST_FLUSH, 0, 0, 0), -EIO);
    assert_int_equal(run(w, GUEST_READ, 0, MIB, 0), 0); /* the unflushed bytes too */
    assert_true(world_close(w) < 0);
    int status = check_status();
    assert_true(status == 0 || status == 3); /* leaks at most */
    shell("qemu-img check -r leaks top.qcow2 || true");
    w->filters = NULL;
    world_open(w);
    memset(w->model + 64 * KIB, 0, w->size - 64 * KIB);
    assert_int_equal(run(w, GUEST_READ, 0, 64 * KIB, 0), 0);
    assert_int_equal(run(w, GUEST_ZERO, 64 * KIB, w->size - 64 * KIB, 0), 0);
}

static void unknown_setting(void **state)
{
    struct world *w = *state;
    struct error err = {""};
    struct strategy_image *image;
    struct strategy_options so = {
        .loop = w->loop, .engine = &w->engine, .settings = "colour=blue", .depth = 1};
    assert_int_equal(w->strategy->open(&image, &so, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "colour"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {
    T(queue_beyond_depth), T(drain_nests),          T(cancel_in_queue),
    T(cancel_in_flight),   T(failed_data_write),    T(failed_data_read),
    T(failed_copy),        T(failed_metadata_read), T(failed_metadata_write),
    T(unknown_setting),
};
TEST_MAIN(tests)
