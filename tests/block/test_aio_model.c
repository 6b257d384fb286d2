/*
 * Every engine, direct and buffered: seeded random I/O with many in flight, aligned and
 * not, over the end of the file, leaves exactly the bytes and the size that a model
 * has.
 *
 * Requests in flight at the same time never overlap in bytes (their order would be
 * open), but do share blocks, which is where an alignment layer goes wrong. With root,
 * also on a loop device with sectors of 4096 bytes, bare and under ext4.
 */
#include "tests/block/block_test.h"

#include "core/env/sim.h"
#include "tests/block/loop_device.h"

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

    if (aio->result < 0)
        fail_msg("op %d of %" PRIu64 " at %" PRIu64 ": %s", aio->op, aio->len,
                 aio->offset, strerror(-aio->result));
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
    static const enum aio_op often[] = {AIO_READ,    AIO_READ,  AIO_READ,
                                        AIO_WRITE,   AIO_WRITE, AIO_WRITE,
                                        AIO_DISCARD, AIO_ZERO,  AIO_GROW};

    if (test_random(&r->rng) % 64 == 0) /* slow on a real disk */
        return AIO_FLUSH;
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
    if (op->aio.op == AIO_DISCARD && !blk_regular(r->file) &&
        (op->begin | op->end) % 4096 != 0)
        op->aio.op = AIO_READ; /* a device may leave the ends as they are */
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

struct target {
    const char *engine, *path;
    bool direct, sim, device;
    unsigned depth;
};

static void open_target(struct run *r, const struct target *t)
{
    struct loop_options lo = {.engine = t->engine, .depth = t->depth};
    struct blk_options bo = {.write = true,
                             .direct = t->direct,
                             .create = !t->device,
                             .truncate = true,
                             .sim = t->sim,
                             .env = test_env};

    MUST(loop_create(&r->loop, test_env, &lo, &test_err));
    MUST(blk_open(&r->file, t->path, &bo, &test_err));
    memset(model, 0, sizeof(model));
    model_size = 0;
    if (t->device) {
        struct aio zero = {.op = AIO_ZERO, .file = r->file, .len = SIZE_MAX_BYTES};
        MUST(aio_run(r->loop, &zero));
        model_size = blk_size(r->file);
    }
}

static void compare_all(struct run *r)
{
    unsigned char *all = malloc(SIZE_MAX_BYTES);

    assert_int_equal(blk_size(r->file), model_size);
    MUST(blk_pread(r->file, 0, all, SIZE_MAX_BYTES));
    for (size_t i = 0; i < SIZE_MAX_BYTES; i++)
        if (all[i] != model[i])
            fail_msg("byte %zu is %u, the model says %u", i, all[i], model[i]);
    free(all);
}

static void random_against_model(const struct target *t)
{
    struct run r = {.rng = test_seed()};
    struct op *op;

    print_message("engine %s\n", t->engine);
    if (t->sim)
        test_env = env_sim(r.rng);
    open_target(&r, t);
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
    compare_all(&r);
    loop_destroy(r.loop);
    MUST(blk_close(r.file));
    for (int i = 0; i < DEPTH; i++)
        free(base[i]);
    if (t->sim)
        env_destroy(test_env);
}

static void on_file(const char *engine, bool direct, unsigned depth)
{
    struct target t = {
        .engine = engine, .path = test_path("model"), .direct = direct, .depth = depth};

    random_against_model(&t);
}

#define TESTS(name, engine)                                                            \
    static void name##_buffered(void **state)                                          \
    {                                                                                  \
        (void)state;                                                                   \
        on_file(engine, false, 64);                                                    \
    }                                                                                  \
    static void name##_direct(void **state)                                            \
    {                                                                                  \
        (void)state;                                                                   \
        on_file(engine, true, 64);                                                     \
    }                                                                                  \
    static void name##_shallow(void **state)                                           \
    {                                                                                  \
        (void)state;                                                                   \
        on_file(engine, true, 3);                                                      \
    }
TESTS(sync, "sync")
TESTS(threads, "threads")
TESTS(posix_aio, "posix-aio")
TESTS(posix_aio_poll, "posix-aio:completion=poll")
TESTS(linux_aio, "linux-aio")
TESTS(io_uring, "io_uring")
TESTS(libuv, "libuv")

static void sim_any(bool direct)
{
    struct env *real = test_env;
    struct target t = {.engine = "sim",
                       .path = "mem:model",
                       .direct = direct,
                       .sim = true,
                       .depth = 8};

    random_against_model(&t);
    test_env = real;
}
static void sim_buffered(void **state)
{
    (void)state;
    sim_any(false);
}
static void sim_direct(void **state)
{
    (void)state;
    sim_any(true);
}

static void device_4096(void **state)
{
    struct target t = {.device = true, .direct = true, .depth = 16};
    char device[64], image[128];

    (void)state;
    snprintf(image, sizeof(image), "%s", test_path("disk"));
    loop_device_make(image, SIZE_MAX_BYTES, device);
    t.path = device;
    for (int i = 0; i < TEST_ENGINES; i++) {
        t.engine = test_engines[i];
        random_against_model(&t);
    }
    loop_device_drop(device);
}

static void file_system_4096(void **state)
{
    struct target t = {.direct = true, .depth = 16};
    char device[64], image[128], mount[128], path[160], command[600];

    (void)state;
    snprintf(image, sizeof(image), "%s", test_path("disk"));
    snprintf(mount, sizeof(mount), "%s", test_path("mount"));
    snprintf(path, sizeof(path), "%s/file", mount);
    t.path = path;
    loop_device_make(image, 32 << 20, device);
    snprintf(command, sizeof(command),
             "mkdir %s && mkfs.ext4 -q -b 4096 %s 2>/dev/null && mount %s %s", mount,
             device, device, mount);
    if (system(command) != 0) {
        loop_device_drop(device);
        print_message("skipped: can't make and mount an ext4 file system here\n");
        skip();
    }
    for (int i = 0; i < TEST_ENGINES; i++) {
        t.engine = test_engines[i];
        random_against_model(&t);
    }
    snprintf(command, sizeof(command), "umount %s", mount);
    assert_int_equal(system(command), 0);
    loop_device_drop(device);
}

#define UNITS(name)                                                                    \
    cmocka_unit_test(name##_buffered), cmocka_unit_test(name##_direct),                \
        cmocka_unit_test(name##_shallow)

int main(void)
{
    const struct CMUnitTest tests[] = {UNITS(sync),
                                       UNITS(threads),
                                       UNITS(posix_aio),
                                       UNITS(posix_aio_poll),
                                       UNITS(linux_aio),
                                       UNITS(io_uring),
                                       UNITS(libuv),
                                       cmocka_unit_test(sim_buffered),
                                       cmocka_unit_test(sim_direct),
                                       cmocka_unit_test(device_4096),
                                       cmocka_unit_test(file_system_4096)};

    if (getenv("TEST_FILTER"))
        cmocka_set_test_filter(getenv("TEST_FILTER"));
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
