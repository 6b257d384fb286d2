/*
 * Every engine: more submissions than it has room for, completions only from a turn,
 * batches, cancelling, errors and short transfers.
 */
#include "tests/block/block_test.h"

#define MANY 100
#define BLOCK 4096

struct many {
    struct aio aio[MANY];
    struct iovec iov[MANY];
    char *memory;
    unsigned done;
    bool submitting;
};
static struct many *current;

static void count(struct aio *aio)
{
    assert_false(current->submitting);
    assert_int_equal(aio->result, 0);
    current->done++;
}

static void submit_many(struct many *m, struct loop *loop, struct blk_file *file,
                        enum aio_op op)
{
    current = m;
    m->done = 0;
    m->submitting = true;
    for (int i = 0; i < MANY; i++) {
        m->iov[i] = (struct iovec){m->memory + i * BLOCK, BLOCK};
        m->aio[i] = (struct aio){.op = op,
                                 .file = file,
                                 .offset = (uint64_t)i * BLOCK,
                                 .len = BLOCK,
                                 .iov = &m->iov[i],
                                 .iovcnt = 1,
                                 .done = count};
        aio_submit(loop, &m->aio[i]);
    }
    m->submitting = false;
}

static void overrun(const char *engine, unsigned depth, unsigned batch)
{
    struct loop_options options = {.engine = engine, .depth = depth, .batch = batch};
    struct blk_file *file = test_open(test_path("many"), true, true, NULL);
    struct many m = {.done = 0};
    struct loop *loop;
    struct blk_stats stats;

    assert_int_equal(posix_memalign((void **)&m.memory, BLOCK, MANY * BLOCK), 0);
    for (int i = 0; i < MANY; i++)
        memset(m.memory + i * BLOCK, i + 1, BLOCK);
    MUST(loop_create(&loop, test_env, &options, &test_err));
    submit_many(&m, loop, file, AIO_WRITE);
    while (m.done < MANY)
        loop_turn(loop, true);
    memset(m.memory, 0, MANY * BLOCK);
    submit_many(&m, loop, file, AIO_READ);
    while (m.done < MANY)
        loop_turn(loop, true);
    for (int i = 0; i < MANY * BLOCK; i++)
        assert_int_equal((unsigned char)m.memory[i], i / BLOCK + 1);
    blk_get_stats(file, &stats);
    assert_int_equal(stats.ios[AIO_READ], MANY);
    assert_int_equal(stats.bytes[AIO_WRITE], MANY * BLOCK);
    loop_destroy(loop);
    MUST(blk_close(file));
    free(m.memory);
}

static void more_than_depth(void **state)
{
    (void)state;
    for (int i = 0; i < TEST_ENGINES; i++)
        overrun(test_engines[i], 4, 0);
}

static void batches_of_one(void **state)
{
    (void)state;
    for (int i = 0; i < TEST_ENGINES; i++)
        overrun(test_engines[i], 64, 1);
}

/* ---- cancel ---- */

static unsigned cancelled, succeeded;
static void end_either_way(struct aio *aio)
{
    cancelled += aio->result == -ECANCELED;
    succeeded += aio->result == 0;
}

static void cancel_at_every_station(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file =
            test_open(test_path("cancel"), true, true, "delay:flush=1s");
        struct loop *loop = test_loop(test_engines[e], 4);
        struct aio aio[40];
        struct iovec iov[40];
        char *memory = NULL;

        cancelled = succeeded = 0;
        assert_int_equal(posix_memalign((void **)&memory, BLOCK, BLOCK), 0);
        memset(memory, 0, BLOCK);
        for (int i = 0; i < 40; i++) {
            iov[i] = (struct iovec){memory, BLOCK};
            aio[i] = (struct aio){.op = i % 10 == 9 ? AIO_FLUSH : AIO_WRITE,
                                  .file = file,
                                  .done = end_either_way};
            if (aio[i].op == AIO_WRITE) {
                aio[i].len = BLOCK;
                aio[i].iov = &iov[i];
                aio[i].iovcnt = 1;
            }
            aio_submit(loop, &aio[i]);
        }
        aio_cancel(&aio[3]); /* gathered */
        loop_turn(loop, false);
        for (int i = 39; i >= 20; i--)
            if (aio[i].state != 0)
                aio_cancel(&aio[i]); /* engine, queue or delayed */
        aio_cancel(&aio[9]);
        aio_cancel(&aio[19]);
        while (cancelled + succeeded < 40)
            loop_turn(loop, true);
        assert_true(cancelled >=
                    5); /* the gathered one and the four that were delayed */
        loop_destroy(loop);
        MUST(blk_close(file));
        free(memory);
    }
}

/* With one worker, the last of many is still in its queue, and comes out; unless we
 * lost the CPU in between, so it may take a few attempts. */
static bool cancel_last(struct loop *loop, struct blk_file *file)
{
    struct aio aio[50];

    cancelled = succeeded = 0;
    for (int i = 0; i < 50; i++) {
        aio[i] = (struct aio){.op = AIO_GROW,
                              .file = file,
                              .offset = (uint64_t)i << 20,
                              .len = 1 << 20,
                              .done = end_either_way};
        aio_submit(loop, &aio[i]);
    }
    loop_turn(loop, false);
    aio_cancel(&aio[49]);
    aio_cancel(&aio[49]);
    while (cancelled + succeeded < 50)
        loop_turn(loop, true);
    assert_int_equal(cancelled, aio[49].result == -ECANCELED);
    return cancelled;
}

static void cancel_takes_from_the_workers_queue(void **state)
{
    struct loop_options options = {.engine = "threads", .depth = 64, .workers = 1};
    struct blk_file *file = test_open(test_path("queue"), false, true, NULL);
    struct loop *loop;
    int attempts = 0;

    (void)state;
    MUST(loop_create(&loop, test_env, &options, &test_err));
    while (!cancel_last(loop, file))
        assert_true(++attempts < 100);
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* ---- faults ---- */

static int run_one(struct loop *loop, struct blk_file *file, enum aio_op op,
                   uint64_t offset, void *buf, size_t len)
{
    struct iovec iov[2] = {{buf, len / 2}, {(char *)buf + len / 2, len - len / 2}};
    struct aio aio = {.op = op, .file = file, .offset = offset, .len = len};

    if (op == AIO_READ || op == AIO_WRITE) {
        aio.iov = iov;
        aio.iovcnt = 2;
    }
    return aio_run(loop, &aio);
}

static void short_transfers_go_on(void **state)
{
    static char out[40000], in[40000];

    (void)state;
    memset(out, 'x', sizeof(out));
    for (int e = 0; e < TEST_ENGINES; e++) {
        for (int direct = 0; direct < 2; direct++) {
            struct blk_file *file = test_open(test_path("short"), direct, true,
                                              "fault:op=any,n=1,times=forever,short");
            struct loop *loop = test_loop(test_engines[e], 4);

            MUST(run_one(loop, file, AIO_WRITE, 0, out, sizeof(out)));
            memset(in, 0, sizeof(in));
            MUST(run_one(loop, file, AIO_READ, 0, in, sizeof(in)));
            assert_memory_equal(in, out, sizeof(in));
            assert_true(fault_hits(blk_filter(file, "fault")) >= 2);
            loop_destroy(loop);
            MUST(blk_close(file));
        }
    }
}

static void faults_fail_as_told(void **state)
{
    static char out[8192], in[8192];

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("fail"), false, true, "fault");
        struct filter *fault = blk_filter(file, "fault");
        struct loop *loop = test_loop(test_engines[e], 4);
        struct fault_plan plan = {
            .kinds = 1u << AIO_WRITE, .n = 2, .times = 2, .error = -ENOSPC};
        struct fault_plan torn = {
            .kinds = ~0u, .n = 1, .times = 1, .error = -EIO, .action = FAULT_TORN};

        memset(out, 'a', sizeof(out));
        MUST(run_one(loop, file, AIO_WRITE, 0, out, sizeof(out)));
        assert_int_equal(fault_passed(fault, ~0u), 1);
        fault_arm(fault, &plan);
        MUST(run_one(loop, file, AIO_WRITE, 0, out, sizeof(out)));
        MUST(run_one(loop, file, AIO_FLUSH, 0, NULL, 0));
        assert_int_equal(run_one(loop, file, AIO_WRITE, 0, out, 512), -ENOSPC);
        assert_int_equal(blk_pwrite(file, 0, out, 512), -ENOSPC);
        MUST(run_one(loop, file, AIO_WRITE, 0, out, sizeof(out)));
        assert_int_equal(fault_hits(fault), 2);

        memset(out, 'b', sizeof(out));
        fault_arm(fault, &torn);
        assert_int_equal(run_one(loop, file, AIO_WRITE, 0, out, sizeof(out)), -EIO);
        MUST(run_one(loop, file, AIO_READ, 0, in, sizeof(in)));
        for (unsigned i = 0; i < sizeof(in); i++)
            assert_int_equal(in[i], i < sizeof(in) / 2 ? 'b' : 'a');
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

static void fault_in_short(void **state)
{
    struct blk_file *file =
        test_open(test_path("fault"), false, true, "fault:write=2,error=ENOSPC");

    (void)state;
    MUST(blk_pwrite(file, 0, "a", 1));
    MUST(blk_flush(file));
    assert_int_equal(blk_pwrite(file, 0, "b", 1), -ENOSPC);
    MUST(blk_pwrite(file, 0, "c", 1));
    MUST(blk_close(file));
}

static void bad_file_is_an_error(void **state)
{
    struct blk_options bo = {.env = test_env};
    struct blk_file *file;

    (void)state;
    MUST(blk_close(test_open(test_path("ro"), false, true, NULL)));
    MUST(blk_open(&file, test_path("ro"), &bo, &test_err));
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct loop *loop = test_loop(test_engines[e], 4);
        char buf[512] = {0};

        assert_int_equal(run_one(loop, file, AIO_WRITE, 0, buf, sizeof(buf)), -EBADF);
        assert_int_equal(run_one(loop, file, AIO_GROW, 0, NULL, 4096), -EBADF);
        loop_destroy(loop);
    }
    MUST(blk_close(file));
}

static void unknown_engine_is_explained(void **state)
{
    struct loop_options options = {.engine = "turbo"};
    struct loop *loop;
    struct error err = {""};

    (void)state;
    assert_int_equal(loop_create(&loop, test_env, &options, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "turbo"));
    options.engine = "sim";
    err.msg[0] = '\0';
    assert_int_equal(loop_create(&loop, test_env, &options, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "simulated time"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_depth),
        cmocka_unit_test(batches_of_one),
        cmocka_unit_test(cancel_at_every_station),
        cmocka_unit_test(cancel_takes_from_the_workers_queue),
        cmocka_unit_test(short_transfers_go_on),
        cmocka_unit_test(faults_fail_as_told),
        cmocka_unit_test(fault_in_short),
        cmocka_unit_test(bad_file_is_an_error),
        cmocka_unit_test(unknown_engine_is_explained)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
