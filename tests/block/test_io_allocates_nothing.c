/*
 * Nothing is allocated per I/O, by us or by the library that an engine stands on: once
 * warm, thousands of I/Os of every kind don't call malloc.
 *
 * malloc and its like are this program's own here, so that libuv's and the C library's
 * calls are seen, too.
 */
#include <malloc.h>
#include <stdatomic.h>

#include "tests/block/block_test.h"

enum { MANY = 64, BLOCK = 4096, ROUNDS = 6, WARM = 3 };

static atomic_bool counting;
static atomic_uint allocations;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void count(void)
{
    if (atomic_load(&counting))
        atomic_fetch_add(&allocations, 1);
}

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    count();
    return __libc_realloc(old, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    count();
    *out = __libc_memalign(align, size);
    return *out ? 0 : ENOMEM;
}

static char memory[MANY][BLOCK] __attribute__((aligned(BLOCK)));
static struct iovec iovs[MANY][4];
static struct aio aios[MANY];
static unsigned done;

static void ended(struct aio *aio)
{
    assert_int_equal(aio->result, 0);
    done++;
}

/* Vectors of four, transfers in one piece, off the block, and all that has no data. */
static void one_round(struct loop *loop, struct blk_file *file)
{
    static const enum aio_op ops[] = {AIO_WRITE, AIO_READ,    AIO_WRITE, AIO_READ,
                                      AIO_FLUSH, AIO_DISCARD, AIO_ZERO,  AIO_GROW};

    done = 0;
    for (unsigned i = 0; i < MANY; i++) {
        unsigned odd = i % 16 == 8 ? 512 : 0, parts = i % 4 < 2 ? 1 : 4;
        for (unsigned k = 0; k < parts; k++)
            iovs[i][k] = (struct iovec){memory[i] + k * BLOCK / parts, BLOCK / parts};
        aios[i] = (struct aio){.op = ops[i % 8],
                               .file = file,
                               .offset = (uint64_t)i * 2 * BLOCK + odd,
                               .len = ops[i % 8] == AIO_FLUSH ? 0 : BLOCK,
                               .iov = iovs[i],
                               .iovcnt = (int)parts,
                               .done = ended};
        aio_submit(loop, &aios[i]);
    }
    while (done < MANY)
        loop_turn(loop, true);
}

static unsigned allocated(const char *engine, bool direct, const char *filters)
{
    struct blk_file *file = test_open(test_path("file"), direct, true, filters);
    struct loop *loop = test_loop(engine, 16);

    for (int i = 0; i < WARM; i++)
        one_round(loop, file);
    atomic_store(&allocations, 0);
    atomic_store(&counting, true);
    for (int i = 0; i < ROUNDS; i++)
        one_round(loop, file);
    atomic_store(&counting, false);
    loop_destroy(loop);
    MUST(blk_close(file));
    return atomic_load(&allocations);
}

/* A pool may still take on a thread, which has an allocation or two of its own. */
static void almost_none(const char *engine, bool direct, const char *filters)
{
    unsigned n = allocated(engine, direct, filters);

    if (n > (strncmp(engine, "posix-aio", 9) ? 0 : 64))
        fail_msg("%s, %s, %s: %u allocations in %u I/Os", engine,
                 direct ? "direct" : "buffered", filters ? filters : "no filter", n,
                 ROUNDS * MANY);
}

static void nothing_per_io(void **state)
{
    static const char *const engines[] = {
        "sync",      "threads",
        "posix-aio", "posix-aio:completion=poll",
        "linux-aio", "io_uring",
        "libuv",     "io_uring:files=registered,buffers=registered"};

    (void)state;
    for (unsigned e = 0; e < sizeof(engines) / sizeof(engines[0]); e++)
        for (int direct = 0; direct < 2; direct++)
            almost_none(engines[e], direct, NULL);
}

static void nor_in_a_filter(void **state)
{
    (void)state;
    almost_none("io_uring", false, "delay:read=10us;throttle:iops=1000000");
    almost_none("libuv", false, "record:file=/dev/null");
}

/* What is allocated would be seen. */
static void the_count_counts(void **state)
{
    char *volatile one, *volatile two; /* or a compiler may do without */

    (void)state;
    atomic_store(&allocations, 0);
    atomic_store(&counting, true);
    one = strdup("seen"); /* the library's own call */
    two = calloc(1, 100);
    atomic_store(&counting, false);
    free(one);
    free(two);
    assert_int_equal(atomic_load(&allocations), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_count_counts),
                                       cmocka_unit_test(nothing_per_io),
                                       cmocka_unit_test(nor_in_a_filter)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
