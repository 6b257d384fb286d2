/*
 * I/Os that lie side by side go down as one, of any order; each gets its own bytes and
 * its own result, whatever the engine; and only those that may.
 */
#include <signal.h>
#include <sys/resource.h>

#include "core/block/loop_int.h"
#include "tests/block/block_test.h"

enum { MANY = 32, BLOCK = 512 };

static struct aio aio[MANY];
static struct iovec iov[MANY][2];
static char memory[MANY][BLOCK];
static unsigned done;
static void ended(struct aio *a)
{
    (void)a;
    done++;
}

static struct loop *open_loop(const char *engine, uint64_t merge_bytes)
{
    struct loop_options o = {.engine = engine, .depth = 64, .merge_bytes = merge_bytes};
    struct loop *loop;

    MUST(loop_create(&loop, test_env, &o, &test_err));
    return loop;
}

static void prepare(struct blk_file *file, unsigned i, enum aio_op op, uint64_t offset)
{
    iov[i][0] = (struct iovec){memory[i], 100};
    iov[i][1] = (struct iovec){memory[i] + 100, BLOCK - 100};
    aio[i] = (struct aio){.op = op,
                          .file = file,
                          .offset = offset,
                          .len = BLOCK,
                          .iov = iov[i],
                          .iovcnt = 2,
                          .done = ended};
}

static struct loop_stats run(struct loop *loop, unsigned n)
{
    struct loop_stats stats;

    done = 0;
    for (unsigned i = 0; i < n; i++)
        aio_submit(loop, &aio[i]);
    while (done < n)
        loop_turn(loop, true);
    loop_get_stats(loop, &stats);
    return stats;
}

static void shuffle(unsigned *order, uint64_t *rng)
{
    for (unsigned i = 0; i < MANY; i++) {
        unsigned k = (unsigned)(test_random(rng) % (i + 1));
        order[i] = order[k];
        order[k] = i;
    }
}

/* Written in any order, read back in another, merged and not. */
static void bytes_stay_where_they_belong(void **state)
{
    uint64_t rng = test_seed();

    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("bytes"), false, true, NULL);
        struct loop *loop = open_loop(test_engines[e], 8 * BLOCK);
        unsigned order[MANY];
        struct loop_stats stats;

        for (int round = 0; round < 4; round++) {
            shuffle(order, &rng);
            for (unsigned i = 0; i < MANY; i++) {
                memset(memory[i], (int)(order[i] * 3 + (unsigned)round), BLOCK);
                prepare(file, i, AIO_WRITE, order[i] * BLOCK);
            }
            run(loop, MANY);
            shuffle(order, &rng);
            memset(memory, 0xff, sizeof(memory));
            for (unsigned i = 0; i < MANY; i++)
                prepare(file, i, AIO_READ, order[i] * BLOCK);
            stats = run(loop, MANY);
            for (unsigned i = 0; i < MANY; i++) {
                assert_int_equal(aio[i].result, 0);
                for (unsigned b = 0; b < BLOCK; b++)
                    assert_int_equal((unsigned char)memory[i][b],
                                     (order[i] * 3 + (unsigned)round) & 0xff);
            }
        }
        assert_true(stats.merged > 0 && stats.carriers <= stats.merged / 2);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

/* All in one, if it may be so large; at most so large else; none when it is off. */
static void as_large_as_allowed(void **state)
{
    static const struct {
        uint64_t bytes;
        unsigned merged, carriers;
    } cases[] = {{1 << 20, MANY, 1},
                 {4 * BLOCK, MANY, MANY / 4},
                 {5 * BLOCK, MANY, (MANY + 4) / 5},
                 {2 * BLOCK - 1, 0, 0},
                 {0, 0, 0}};

    (void)state;
    for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct blk_file *file = test_open(test_path("large"), false, true, NULL);
        struct loop *loop = open_loop("io_uring", cases[c].bytes);
        struct loop_stats stats;

        for (unsigned i = 0; i < MANY; i++)
            prepare(file, i, AIO_WRITE, i * BLOCK);
        stats = run(loop, MANY);
        assert_int_equal(stats.merged, cases[c].merged);
        assert_int_equal(stats.carriers, cases[c].carriers);
        assert_int_equal(blk_size(file), MANY * BLOCK);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

/* Another file, another direction, a gap, a flush. */
static void strangers_stay_apart(void **state)
{
    struct blk_file *one = test_open(test_path("one"), false, true, NULL);
    struct blk_file *two = test_open(test_path("two"), false, true, NULL);
    struct loop *loop = open_loop("sync", 1 << 20);
    struct loop_stats stats;

    (void)state;
    prepare(one, 0, AIO_WRITE, 0);
    prepare(two, 1, AIO_WRITE, BLOCK);
    prepare(one, 2, AIO_READ, BLOCK);
    prepare(one, 3, AIO_WRITE, BLOCK + 1);
    prepare(one, 4, AIO_WRITE, 4 * BLOCK);
    aio[5] = (struct aio){.op = AIO_FLUSH, .file = one, .done = ended};
    stats = run(loop, 6);
    assert_int_equal(stats.merged, 0);
    loop_destroy(loop);
    MUST(blk_close(one));
    MUST(blk_close(two));
}

/* The file may not grow beyond a limit in the middle of the group; who lies below it
 * gets his bytes written, the others the error. */
static void each_gets_its_own_result(void **state)
{
    struct rlimit before, limit;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = MANY / 2 * BLOCK;
    signal(SIGXFSZ, SIG_IGN);
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("result"), false, true, NULL);
        struct loop *loop = open_loop(test_engines[e], 1 << 20);
        struct loop_stats stats;

        for (unsigned i = 0; i < MANY; i++)
            prepare(file, i, AIO_WRITE, i * BLOCK);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        stats = run(loop, MANY);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(stats.carriers, 1);
        for (unsigned i = 0; i < MANY; i++)
            assert_int_equal(aio[i].result, i < MANY / 2 ? 0 : -EFBIG);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

static void behind_the_end_are_zeros(void **state)
{
    struct blk_file *file = test_open(test_path("end"), false, true, NULL);
    struct loop *loop = open_loop("linux-aio", 1 << 20);

    (void)state;
    memset(memory, 'e', sizeof(memory));
    MUST(blk_pwrite(file, 0, memory, 3 * BLOCK / 2));
    for (unsigned i = 0; i < 4; i++)
        prepare(file, i, AIO_READ, i * BLOCK);
    assert_int_equal(run(loop, 4).merged, 4);
    assert_int_equal(memory[1][BLOCK / 2 - 1], 'e');
    assert_int_equal(memory[1][BLOCK / 2], 0);
    assert_int_equal(memory[3][BLOCK - 1], 0);
    loop_destroy(loop);
    MUST(blk_close(file));
}

static void members_of_a_group_can_not_be_cancelled(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("cancel"), false, true, NULL);
        struct loop *loop = open_loop(test_engines[e], 1 << 20);

        for (unsigned i = 0; i < MANY; i++)
            prepare(file, i, AIO_WRITE, i * BLOCK);
        done = 0;
        for (unsigned i = 0; i < MANY; i++)
            aio_submit(loop, &aio[i]);
        loop_turn(loop, false);
        aio_cancel(&aio[3]); /* may have ended: then nothing happens either */
        while (done < MANY)
            loop_turn(loop, true);
        for (unsigned i = 0; i < MANY; i++)
            assert_int_equal(aio[i].result, 0);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_stay_where_they_belong),
        cmocka_unit_test(as_large_as_allowed),
        cmocka_unit_test(strangers_stay_apart),
        cmocka_unit_test(each_gets_its_own_result),
        cmocka_unit_test(behind_the_end_are_zeros),
        cmocka_unit_test(members_of_a_group_can_not_be_cancelled),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
