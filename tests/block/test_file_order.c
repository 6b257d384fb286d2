/*
 * The order in which I/O reaches the file is recorded: that of submission where one
 * thread submits it, some order where several do. That it is the order at the file shows
 * where the file is told to append: Linux then puts what is written behind one another,
 * whatever the offset (pwrite(2), BUGS).
 */
#include "core/block/loop_int.h"
#include "tests/block/block_test.h"

enum { MANY = 100, BLOCK = 512 };

static struct aio aio[MANY];
static struct iovec iov[MANY];
static char block[MANY][BLOCK];
static unsigned done;
static void ended(struct aio *a)
{
    assert_int_equal(a->result, 0);
    done++;
}

static void write_many(const char *engine, unsigned workers, bool counted)
{
    struct loop_options o = {.engine = engine, .depth = 16, .workers = workers};
    struct blk_file *file = test_open(test_path("order"), false, true, NULL);
    struct loop *loop;

    MUST(loop_create(&loop, test_env, &o, &test_err));
    if (counted)
        blk_count_arrivals(file);
    assert_int_equal(fcntl(blk_fd(file), F_SETFL, O_APPEND), 0);
    done = 0;
    for (unsigned i = 0; i < MANY; i++) {
        memset(block[i], (int)i, BLOCK);
        iov[i] = (struct iovec){block[i], BLOCK};
        aio[i] = (struct aio){.op = AIO_WRITE,
                              .file = file,
                              .offset = i * BLOCK,
                              .len = BLOCK,
                              .iov = &iov[i],
                              .iovcnt = 1,
                              .done = ended};
        aio_submit(loop, &aio[i]);
    }
    while (done < MANY)
        loop_turn(loop, true);
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* Which I/O was the k-th to be written. */
static unsigned found_at(unsigned k)
{
    unsigned char byte = 0xff;
    int fd = open(test_path("order"), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0 && pread(fd, &byte, 1, k * BLOCK) == 1);
    close(fd);
    return byte;
}

static void is_that_of_the_file(void)
{
    for (unsigned k = 0; k < MANY; k++)
        assert_int_equal(aio[found_at(k)].arrival, k + 1);
}

static void one_thread_keeps_it(void **state)
{
    static const struct {
        const char *engine;
        unsigned workers;
    } cases[] = {{"sync", 0},     {"linux-aio", 0},
                 {"io_uring", 0}, {"io_uring:sqpoll=1", 0},
                 {"threads", 1},  {"threads:order=bound", 1},
                 {"libuv", 1}};

    (void)state;
    for (unsigned e = 0; e < sizeof(cases) / sizeof(cases[0]); e++) {
        write_many(cases[e].engine, cases[e].workers, true);
        for (unsigned i = 0; i < MANY; i++)
            assert_int_equal(aio[i].arrival, i + 1);
        if (strncmp(cases[e].engine, "io_uring", 8)) /* its kernel may use threads */
            is_that_of_the_file();
    }
}

/* Many threads, but one request of a descriptor at a time, in order. */
static void glibc_keeps_it(void **state)
{
    static const char *const engines[] = {"posix-aio", "posix-aio:completion=poll"};

    (void)state;
    for (unsigned e = 0; e < 2; e++) {
        write_many(engines[e], 0, true);
        is_that_of_the_file();
    }
}

static void several_threads_have_one(void **state)
{
    static const char *const engines[] = {"threads", "threads:order=bound",
                                          "threads:pool=elastic"};

    (void)state;
    for (unsigned e = 0; e < 3; e++) {
        bool seen[MANY + 1] = {false};

        write_many(engines[e], 4, true);
        for (unsigned i = 0; i < MANY; i++) {
            assert_in_range(aio[i].arrival, 1, MANY);
            assert_false(seen[aio[i].arrival]);
            seen[aio[i].arrival] = true;
        }
    }
}

static void nobody_pays_who_did_not_ask(void **state)
{
    (void)state;
    write_many("io_uring", 0, false);
    assert_int_equal(aio[MANY - 1].arrival, 0);
    write_many("libuv", 0, false);
    assert_int_equal(aio[MANY - 1].arrival, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_keeps_it),
        cmocka_unit_test(several_threads_have_one),
        cmocka_unit_test(glibc_keeps_it),
        cmocka_unit_test(nobody_pays_who_did_not_ask),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
