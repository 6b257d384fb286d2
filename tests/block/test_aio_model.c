/*
 * Every engine, direct and buffered: seeded random I/O with many in flight, aligned and
 * not, over the end of the file, leaves exactly the bytes and the size that a model has.
 *
 * Requests in flight at the same time never overlap in bytes (their order would be open),
 * but do share blocks, which is where an alignment layer goes wrong.
 */
#include "tests/block/block_test.h"

#define SIZE_MAX_BYTES (1u << 20)
#define DEPTH 24
#define STEPS 1500
#define LEN_MAX 20000

static unsigned char model[SIZE_MAX_BYTES];
static uint64_t model_size;

struct op {
    struct aio aio;
    struct iovec iov[4];
    unsigned char *buf;
    bool busy;
    uint64_t begin, end;
};

struct run {
    struct loop *loop;
    struct blk_file *file;
    uint64_t rng;
    struct op ops[DEPTH];
    unsigned in_flight;
};

static void done(struct aio *aio)
{
    struct op *op = (struct op *)aio;

    assert_int_equal(aio->result, 0);
    if (aio->op == AIO_READ && memcmp(op->buf, model + op->begin, aio->len) != 0)
        fail_msg("read of %" PRIu64 " at %" PRIu64 " differs from the model", aio->len,
                 aio->offset);
    op->busy = false;
}

static bool overlaps(const struct run *r, uint64_t begin, uint64_t end)
{
    for (int i = 0; i < DEPTH; i++)
        if (r->ops[i].busy && begin < r->ops[i].end && r->ops[i].begin < end)
            return true;
    return false;
}

static struct op *idle(struct run *r)
{
    for (int i = 0; i < DEPTH; i++)
        if (!r->ops[i].busy)
            return &r->ops[i];
    return NULL;
}

static void pick_range(struct run *r, uint64_t *begin, uint64_t *end)
{
    static const unsigned grain[] = {1, 512, 4096};
    unsigned g = grain[test_random(&r->rng) % 3];
    uint64_t len = 1 + test_random(&r->rng) % LEN_MAX;

    if (test_random(&r->rng) % 3 == 0)
        len = 1 + len % 700;
    len = (len + g - 1) / g * g;
    *begin = test_random(&r->rng) % (SIZE_MAX_BYTES - len) / g * g;
    *end = *begin + len;
}

/* One to four entries, at addresses that are seldom aligned. */
static void fill_vector(struct run *r, struct op *op)
{
    size_t len = (size_t)op->aio.len, at = 0;
    bool even = len % 4096 == 0 && test_random(&r->rng) % 2;
    int cnt = even || len < 8 ? 1 : 1 + (int)(test_random(&r->rng) % 4);

    if (!even)
        op->buf += test_random(&r->rng) % 2 ? 512 : test_random(&r->rng) % 4096;
    for (int i = 0; i < cnt; i++) {
        size_t part = i == cnt - 1 ? len - at : (len - at) / 2;
        op->iov[i] = (struct iovec){op->buf + at, part};
        at += part;
    }
    op->aio.iov = op->iov;
    op->aio.iovcnt = cnt;
}

static void apply(struct run *r, struct op *op)
{
    struct aio *aio = &op->aio;
    size_t len = (size_t)aio->len;

    if (aio->op == AIO_WRITE) {
        for (size_t i = 0; i < len; i++)
            op->buf[i] = (unsigned char)(test_random(&r->rng) | 1);
        memcpy(model + op->begin, op->buf, len);
    } else if (aio->op == AIO_ZERO || aio->op == AIO_DISCARD) {
        memset(model + op->begin, 0, len);
    }
    if ((aio->op == AIO_WRITE || aio->op == AIO_ZERO || aio->op == AIO_GROW) &&
        op->end > model_size)
        model_size = op->end;
}

static enum aio_op pick_op(struct run *r)
{
    static const enum aio_op often[] = {AIO_READ,  AIO_READ,  AIO_READ,    AIO_WRITE,
                                        AIO_WRITE, AIO_WRITE, AIO_DISCARD, AIO_ZERO,
                                        AIO_GROW,  AIO_FLUSH};

    return often[test_random(&r->rng) % (sizeof(often) / sizeof(often[0]))];
}

static unsigned char *base[DEPTH];

static void start_one(struct run *r, struct op *op)
{
    memset(&op->aio, 0xa5, sizeof(op->aio)); /* private fields need no set-up */
    op->aio.op = pick_op(r);
    op->aio.file = r->file;
    op->aio.done = done;
    op->aio.metadata = test_random(&r->rng) % 4 == 0;
    do
        pick_range(r, &op->begin, &op->end);
    while (overlaps(r, op->begin, op->end));
    op->buf = base[op - r->ops];
    if (op->aio.op == AIO_FLUSH) {
        op->begin = op->end = op->aio.offset = op->aio.len = 0;
    } else {
        op->aio.offset = op->begin;
        op->aio.len = op->end - op->begin;
        if (op->aio.op == AIO_READ || op->aio.op == AIO_WRITE)
            fill_vector(r, op);
        apply(r, op);
    }
    op->busy = true;
    aio_submit(r->loop, &op->aio);
}

static void random_against_model(const char *engine, bool direct, unsigned depth)
{
    struct run r = {.rng = test_seed()};
    const char *path = test_path("model");
    unsigned char *all = malloc(SIZE_MAX_BYTES);
    struct op *op;

    memset(model, 0, sizeof(model));
    model_size = 0;
    r.loop = test_loop(engine, depth);
    r.file = test_open(path, direct, true, NULL);
    for (int i = 0; i < DEPTH; i++)
        assert_int_equal(posix_memalign((void **)&base[i], 4096, LEN_MAX + 16384), 0);
    for (int step = 0; step < STEPS; step++) {
        while (!(op = idle(&r)))
            loop_turn(r.loop, true);
        start_one(&r, op);
        if (test_random(&r.rng) % 4 == 0)
            loop_turn(r.loop, false);
    }
    for (int i = 0; i < DEPTH; i++)
        while (*(volatile bool *)&r.ops[i].busy)
            loop_turn(r.loop, true);
    assert_int_equal(blk_size(r.file), model_size);
    MUST(blk_pread(r.file, 0, all, SIZE_MAX_BYTES));
    for (size_t i = 0; i < SIZE_MAX_BYTES; i++)
        if (all[i] != model[i])
            fail_msg("byte %zu is %u, the model says %u", i, all[i], model[i]);
    loop_destroy(r.loop);
    MUST(blk_close(r.file));
    for (int i = 0; i < DEPTH; i++)
        free(base[i]);
    free(all);
}

#define TESTS(name, engine)                                                            \
    static void name##_buffered(void **state)                                          \
    {                                                                                  \
        (void)state;                                                                   \
        random_against_model(engine, false, 64);                                       \
    }                                                                                  \
    static void name##_direct(void **state)                                            \
    {                                                                                  \
        (void)state;                                                                   \
        random_against_model(engine, true, 64);                                        \
    }                                                                                  \
    static void name##_shallow(void **state)                                           \
    {                                                                                  \
        (void)state;                                                                   \
        random_against_model(engine, true, 3);                                         \
    }
TESTS(sync, "sync")
TESTS(threads, "threads")
TESTS(linux_aio, "linux-aio")
TESTS(io_uring, "io_uring")

#define UNITS(name)                                                                    \
    cmocka_unit_test(name##_buffered), cmocka_unit_test(name##_direct),                \
        cmocka_unit_test(name##_shallow)

int main(void)
{
    const struct CMUnitTest tests[] = {UNITS(sync), UNITS(threads), UNITS(linux_aio),
                                       UNITS(io_uring)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
