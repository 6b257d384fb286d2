/*
 * Two threads with loops of their own write neighbouring bytes of the same blocks of a
 * direct file, beside aligned writes, and no byte is ever lost.
 */
#include "tests/block/block_test.h"

#define PIECE 100
#define PIECES 300
#define ROUNDS 40
#define DEPTH 8
#define FILLS 64 /* aligned blocks behind the pieces, to turn tracking off and on */

struct writer {
    const char *engine;
    struct blk_file *file;
    unsigned parity;
    uint64_t rng;
    unsigned in_flight, failed;
    struct slot {
        struct writer *writer;
        struct aio aio;
        struct iovec iov;
        unsigned char *buf;
        bool busy;
    } slots[DEPTH];
    unsigned char last[PIECES];
    bool busy[PIECES];
};

static struct slot *slot_of(struct aio *aio)
{
    return (struct slot *)((char *)aio - offsetof(struct slot, aio));
}

static void done(struct aio *aio)
{
    struct slot *s = slot_of(aio);

    s->writer->failed += aio->result != 0;
    s->writer->in_flight--;
    s->busy = false;
    if (aio->len == PIECE)
        s->writer->busy[aio->offset / PIECE] = false;
}

static void write_one(struct writer *w, struct loop *loop, struct slot *s)
{
    unsigned piece;

    s->aio = (struct aio){
        .op = AIO_WRITE, .file = w->file, .done = done, .iov = &s->iov, .iovcnt = 1};
    if (test_random(&w->rng) % 4 == 0) {
        s->aio.offset = 65536 + 4096 * (2 * (test_random(&w->rng) % FILLS) + w->parity);
        s->aio.len = 4096;
        memset(s->buf, 0x77, 4096);
    } else {
        do
            piece = (unsigned)(test_random(&w->rng) % (PIECES / 2)) * 2 + w->parity;
        while (w->busy[piece]);
        w->busy[piece] = true;
        w->last[piece] = (unsigned char)test_random(&w->rng);
        memset(s->buf, w->last[piece], PIECE);
        s->aio.offset = (uint64_t)piece * PIECE;
        s->aio.len = PIECE;
    }
    s->iov = (struct iovec){s->buf, (size_t)s->aio.len};
    s->writer = w;
    s->busy = true;
    w->in_flight++;
    aio_submit(loop, &s->aio);
}

static void run(void *opaque)
{
    struct writer *w = opaque;
    struct loop *loop = test_loop(w->engine, 32);

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < DEPTH; i++)
            if (!w->slots[i].busy)
                write_one(w, loop, &w->slots[i]);
        loop_turn(loop, true);
    }
    while (w->in_flight)
        loop_turn(loop, true);
    loop_destroy(loop);
}

static void check_pieces(struct blk_file *file, const struct writer *writers)
{
    unsigned char got[PIECES * PIECE];

    MUST(blk_pread(file, 0, got, sizeof(got)));
    for (unsigned i = 0; i < sizeof(got); i++)
        if (got[i] != writers[i / PIECE % 2].last[i / PIECE])
            fail_msg("byte %u is %u, thread %u wrote %u", i, got[i], i / PIECE % 2,
                     writers[i / PIECE % 2].last[i / PIECE]);
}

static void two_loops(const char *path, const char *a, const char *b, uint64_t seed)
{
    static struct writer writers[2];
    struct env_thread threads[2] = {0};
    struct blk_options bo = {.write = true,
                             .direct = true,
                             .create = true,
                             .sim = test_env->simulated,
                             .env = test_env};
    struct blk_file *file;

    MUST(blk_open(&file, path, &bo, &test_err));
    MUST(blk_truncate(file, 1 << 20));
    for (unsigned i = 0; i < 2; i++) {
        struct writer *w = &writers[i];
        memset(w, 0, sizeof(*w));
        w->engine = i ? b : a;
        w->file = file;
        w->parity = i;
        w->rng = seed + i;
        for (int k = 0; k < DEPTH; k++)
            assert_int_equal(posix_memalign((void **)&w->slots[k].buf, 4096, 4096), 0);
        MUST(env_thread_start(test_env, &threads[i], run, w));
    }
    for (unsigned i = 0; i < 2; i++)
        env_thread_join(test_env, &threads[i]);
    check_pieces(file, writers);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(writers[i].failed, 0);
        for (int k = 0; k < DEPTH; k++)
            free(writers[i].slots[k].buf);
    }
    MUST(blk_close(file));
}

static void linux_aio_beside_io_uring(void **state)
{
    (void)state;
    two_loops(test_path("a"), "linux-aio", "io_uring", test_seed());
}
static void threads_beside_sync(void **state)
{
    (void)state;
    two_loops(test_path("b"), "threads", "sync", test_seed());
}

/* The same in many orders. */
static void simulated_threads(void **state)
{
    struct env *real = test_env;
    uint64_t seed = test_seed();

    (void)state;
    for (int i = 0; i < 20; i++) {
        test_env = env_sim(seed + (uint64_t)i);
        two_loops("mem:shared", "sim", "sim", seed + (uint64_t)i);
        env_destroy(test_env);
    }
    test_env = real;
}

/* The second of two that share a block waits; cancelled there, it changes nothing. */
static void cancelled_while_waiting(void **state)
{
    struct blk_file *file = test_open(test_path("cancel"), true, true, NULL);
    struct loop *loop = test_loop("threads", 8);
    char a[10] = "aaaaaaaaaa", b[10] = "bbbbbbbbbb", got[20];
    struct iovec iov[2] = {{a, 10}, {b, 10}};
    struct aio first = {
        .op = AIO_WRITE, .file = file, .len = 10, .iov = iov, .iovcnt = 1};
    struct aio second = {.op = AIO_WRITE,
                         .file = file,
                         .offset = 10,
                         .len = 10,
                         .iov = iov + 1,
                         .iovcnt = 1};

    (void)state;
    second.result = first.result = 1;
    aio_submit(loop, &first);
    aio_submit(loop, &second);
    aio_cancel(&second);
    while (first.result == 1 || second.result == 1)
        loop_turn(loop, true);
    loop_turn(loop, false);
    assert_int_equal(first.result, 0);
    assert_int_equal(second.result, -ECANCELED);
    assert_int_equal(blk_size(file), 10);
    MUST(blk_pread(file, 0, got, 20));
    assert_memory_equal(got, "aaaaaaaaaa\0\0\0\0\0\0\0\0\0\0", 20);
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* A thread with two loops asks for a block that its own write on the other has: it
 * isn't left waiting for a loop that nobody turns. */
static void run_now_does_not_wait_for_another_loop(void **state)
{
    struct blk_file *file = test_open(test_path("now"), true, true, NULL);
    struct loop *loop = test_loop("threads", 8), *own = test_loop("sync", 1);
    char a[10] = "aaaaaaaaaa", b[10] = "bbbbbbbbbb", got[20];
    struct iovec iov[2] = {{a, 10}, {b, 10}};
    struct aio first = {
        .op = AIO_WRITE, .file = file, .len = 10, .iov = iov, .iovcnt = 1};
    struct aio second = {.op = AIO_WRITE,
                         .file = file,
                         .offset = 10,
                         .len = 10,
                         .iov = iov + 1,
                         .iovcnt = 1};

    (void)state;
    first.result = 1;
    aio_submit(loop, &first);
    assert_int_equal(aio_run_now(own, &second), -ECANCELED);
    while (first.result == 1)
        loop_turn(loop, true);
    assert_int_equal(first.result, 0);
    assert_int_equal(blk_size(file), 10);
    assert_int_equal(aio_run_now(own, &second), 0);
    MUST(blk_pread(file, 0, got, 20));
    assert_memory_equal(got, "aaaaaaaaaabbbbbbbbbb", 20);
    loop_destroy(own);
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* An aligned write is under way, uncounted for by any list, when the first request
 * comes that rewrites part of its block: that one's read has to wait for it. */
static void rewrite_waits_for_earlier_writes(void **state)
{
    struct blk_file *file =
        test_open(test_path("drain"), true, true, "delay:write=20ms");
    struct loop *loop = test_loop("linux-aio", 8);
    static char block[4096] __attribute__((aligned(4096))), got[4096];
    struct iovec iov[2] = {{block, 4096}, {(char[]){"b"}, 1}};
    struct aio whole = {
        .op = AIO_WRITE, .file = file, .len = 4096, .iov = iov, .iovcnt = 1};
    struct aio part = {.op = AIO_WRITE,
                       .file = file,
                       .offset = 7,
                       .len = 1,
                       .iov = iov + 1,
                       .iovcnt = 1};

    (void)state;
    memset(block, 'a', sizeof(block));
    whole.result = part.result = 1;
    aio_submit(loop, &whole);
    aio_submit(loop, &part);
    while (whole.result == 1 || part.result == 1)
        loop_turn(loop, true);
    loop_turn(loop, false);
    MUST(blk_pread(file, 0, got, sizeof(got)));
    block[7] = 'b';
    assert_memory_equal(got, block, sizeof(got));
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* The last block is written whole and cut off again. Who comes in between sees a file that
 * reaches further than it will; it must cut its own part off all the same. */
static void size_between_write_and_cut(void **state)
{
    struct loop *loop = test_loop("threads", 8);
    char bytes[100] = "x";
    struct iovec iov = {bytes, 100};
    unsigned between = 0;
    (void)state;

    for (int i = 0; i < 50; i++) {
        struct blk_file *file = test_open(test_path("size"), true, true, NULL);
        struct aio one = {
            .op = AIO_WRITE, .file = file, .len = 100, .iov = &iov, .iovcnt = 1};
        struct aio two = one;

        two.offset = 100;
        one.result = two.result = 1;
        aio_submit(loop, &one);
        while (blk_size(file) == 0) { /* then its completion has not been delivered */
            uint64_t until = env_now_ns(test_env) + 200000;
            loop_turn(loop, false);
            while (blk_size(file) == 0 && env_now_ns(test_env) < until)
                ;
        }
        between += blk_size(file) > 100;
        aio_submit(loop, &two);
        while (one.result == 1 || two.result == 1)
            loop_turn(loop, true);
        assert_int_equal(blk_size(file), 200);
        MUST(blk_close(file));
    }
    print_message("%u of 50 came between\n", between);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_between_write_and_cut),
        cmocka_unit_test(linux_aio_beside_io_uring),
        cmocka_unit_test(threads_beside_sync),
        cmocka_unit_test(simulated_threads),
        cmocka_unit_test(cancelled_while_waiting),
        cmocka_unit_test(run_now_does_not_wait_for_another_loop),
        cmocka_unit_test(rewrite_waits_for_earlier_writes)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
