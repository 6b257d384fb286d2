/*
 * A submission that is refused for now (EAGAIN), or taken in part, waits and goes on:
 * every request is done once, in any engine that the kernel or a library can refuse.
 *
 * The calls that submit are this program's own here; every so often they take nothing,
 * or only the first of what they are given. Those that set up are, too: they lack what
 * an older kernel lacks, which is done without, and said.
 */
#include <dlfcn.h>
#include <libaio.h>
#include <liburing.h>

#include "core/block/loop_int.h"
#include "tests/block/block_test.h"

enum { MANY = 100, BLOCK = 4096 };

static bool refusing;
static unsigned calls, refused;

static void *real(const char *name)
{
    void *fn = dlsym(RTLD_NEXT, name);

    assert_non_null(fn);
    return fn;
}

/* Twice in three times. */
static bool refuse(void)
{
    bool no = refusing && calls++ % 3 != 2;

    refused += no;
    return no;
}

/* What the kernel is too old for. */
static unsigned lacks; /* IORING_SETUP_... */
static bool lacks_poll;

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                               struct io_uring_params *p)
{
    static int (*fn)(unsigned, struct io_uring *, struct io_uring_params *);

    if (!fn)
        fn = (int (*)(unsigned, struct io_uring *, struct io_uring_params *))real(
            "io_uring_queue_init_params");
    return p->flags & lacks ? -EINVAL : fn(entries, ring, p);
}

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    struct io_uring_params p = {.flags = flags};

    return io_uring_queue_init_params(entries, ring, &p);
}

int io_submit(io_context_t ctx, long n, struct iocb **iocbs)
{
    static int (*fn)(io_context_t, long, struct iocb **);

    if (!fn)
        fn = (int (*)(io_context_t, long, struct iocb **))real("io_submit");
    if (lacks_poll && iocbs[0]->aio_lio_opcode == IO_CMD_POLL)
        return -EINVAL;
    if (refuse())
        return -EAGAIN;
    return fn(ctx, refusing && n > 1 ? n / 2 : n, iocbs);
}

int io_uring_submit(struct io_uring *ring)
{
    static int (*fn)(struct io_uring *);

    if (!fn)
        fn = (int (*)(struct io_uring *))real("io_uring_submit");
    return refuse() ? -EAGAIN : fn(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
    static int (*fn)(struct io_uring *, unsigned);

    if (!fn)
        fn = (int (*)(struct io_uring *, unsigned))real("io_uring_submit_and_wait");
    return refuse() ? -EBUSY : fn(ring, n);
}

/* Those of aio.h, whose names clash with ours. */
struct aiocb64;
#define REFUSING(name)                                                                 \
    int name(struct aiocb64 *);                                                        \
    int name(struct aiocb64 *cb)                                                       \
    {                                                                                  \
        static int (*fn)(struct aiocb64 *);                                            \
                                                                                       \
        if (!fn)                                                                       \
            fn = (int (*)(struct aiocb64 *))real(#name);                               \
        if (!refuse())                                                                 \
            return fn(cb);                                                             \
        errno = EAGAIN;                                                                \
        return -1;                                                                     \
    }
REFUSING(aio_read64)
REFUSING(aio_write64)

static struct aio aios[MANY];
static struct iovec iovs[MANY];
static char memory[MANY][BLOCK] __attribute__((aligned(BLOCK)));
static unsigned done;

static void ended(struct aio *aio)
{
    assert_int_equal(aio->result, 0);
    done++;
}

static void run_many(struct loop *loop, struct blk_file *file, enum aio_op op)
{
    done = 0;
    test_submit_blocks(loop, file, op, MANY, aios, iovs, memory, ended);
    while (done < MANY)
        loop_turn(loop, true);
    assert_int_equal(loop->pending, 0);
}

static void what_is_refused_goes_on(void **state)
{
    static const char *const engines[] = {"linux-aio", "io_uring",
                                          "io_uring:taskrun=now", "posix-aio",
                                          "posix-aio:completion=poll"};

    (void)state;
    for (unsigned e = 0; e < sizeof(engines) / sizeof(engines[0]); e++) {
        for (unsigned direct = 0; direct < 2; direct++) {
            unsigned depth = direct ? 16 : 1;
            struct blk_file *file = test_open(test_path("refused"), direct, true, NULL);
            struct loop *loop = test_loop(engines[e], depth);

            for (unsigned i = 0; i < MANY; i++)
                memset(memory[i], (int)i + 1, BLOCK);
            calls = refused = 0;
            refusing = true;
            run_many(loop, file, AIO_WRITE);
            memset(memory, 0, sizeof(memory));
            run_many(loop, file, AIO_READ);
            refusing = false;
            assert_true(refused > 2);
            for (unsigned i = 0; i < MANY; i++)
                assert_int_equal((unsigned char)memory[i][BLOCK - 1], i + 1);
            loop_destroy(loop);
            MUST(blk_close(file));
        }
    }
}

/* ---- older kernels ---- */

static void works(const char *engine, const char *note, const char *other)
{
    struct blk_file *file = test_open(test_path("old"), true, true, NULL);
    struct loop *loop = test_loop(engine, 16);

    if (!strstr(loop_notes(loop), note) || !strstr(loop_notes(loop), other))
        fail_msg("%s: \"%s\" is noted", engine, loop_notes(loop));
    memset(memory, 'o', sizeof(memory));
    run_many(loop, file, AIO_WRITE);
    memset(memory, 0, sizeof(memory));
    run_many(loop, file, AIO_READ);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(memory[i][BLOCK - 1], 'o');
    loop_destroy(loop);
    MUST(blk_close(file));
}

static void io_uring_does_without(void **state)
{
    (void)state;
#ifdef IORING_SETUP_DEFER_TASKRUN
    lacks = IORING_SETUP_DEFER_TASKRUN; /* before 6.1 */
    works("io_uring", "taskrun=defer: the kernel lacks it", "");
    lacks |= IORING_SETUP_COOP_TASKRUN; /* before 5.19 */
    works("io_uring", "taskrun=defer: the kernel", "taskrun=coop: the kernel lacks it");
    lacks |= IORING_SETUP_R_DISABLED; /* before 5.10 */
    works("io_uring", "taskrun=coop: the kernel", "taskrun=now: the kernel lacks it");
#endif
    lacks = IORING_SETUP_SQPOLL;
    works("io_uring:sqpoll=1", "sqpoll: Invalid argument", "");
    lacks = 0;
    works("io_uring:sqpoll=1", "", "");
}

static bool worked;
static void work_fn(struct loop_work *w) { (void)w, usleep(2000); }
static void work_done(struct loop_work *w) { (void)w, worked = true; }

/* Before 4.18 it has two descriptors to wait for. */
static void linux_aio_does_without(void **state)
{
    struct loop_work work = {.fn = work_fn, .done = work_done};
    struct loop *loop;

    (void)state;
    lacks_poll = true;
    works("linux-aio", "", "");
    loop = test_loop("linux-aio", 4);
    loop_work(loop, &work); /* a helper wakes it */
    loop_run_until(loop, &worked);
    assert_non_null(strstr(loop_notes(loop), "IOCB_CMD_POLL"));
    loop_destroy(loop);
    lacks_poll = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_refused_goes_on),
                                       cmocka_unit_test(io_uring_does_without),
                                       cmocka_unit_test(linux_aio_does_without)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
