/*
 * Intent: a simulated file holds what was written to it: random reads, writes, zeroes,
 * discards, growth and truncation against an array of bytes, on top of a sparse real
 * file whose bytes show through; holes read zero; the last close leaves the real file
 * equal. ASYNCOW_SEED sets the seed. Links sim_file.c alone, with a stand-in for struct
 * blk_file.
 */
#include "core/block/engine.h"
#include "core/env/random.h"
#include "core/env/sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE_MAX_TEST (300u << 10)

struct blk_file {
    struct sim_file *sim;
};
struct sim_file *blk_sim(const struct blk_file *f) { return f->sim; }
size_t engine_piece_partial(struct aio *a, const struct iovec **iov, int *cnt,
                            uint64_t *off)
{
    (void)a, (void)iov, (void)cnt, (void)off;
    abort(); /* nothing here is partial */
}

static uint64_t rng = 1;
static char path[64];
static uint8_t model[SIZE_MAX_TEST], buf[SIZE_MAX_TEST];
static uint64_t model_size;

static uint64_t below(uint64_t n) { return splitmix_next(&rng) % n; }

static int64_t io(struct blk_file *f, enum aio_op op, uint64_t offset, size_t len)
{
    struct iovec iov[2] = {{buf, len / 3}, {buf + len / 3, len - len / 3}};
    struct aio a = {
        .op = op, .file = f, .offset = offset, .len = len, .iov = iov, .iovcnt = 2};

    return sim_file_io(&a);
}

/* A real file with data here and there, not ending at a page's end. */
static void make_real(void)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    memset(model, 0, sizeof(model));
    model_size = (100u << 10) + 123;
    for (int i = 0; i < 4; i++) {
        uint64_t at = below(90u << 10), len = below(9000) + 1;
        for (uint64_t k = at; k < at + len; k++)
            model[k] = (uint8_t)splitmix_next(&rng);
        assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
        assert_int_equal(fwrite(model + at, 1, len, file), len);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(truncate(path, (off_t)model_size), 0);
}

static void one_step(struct blk_file *f)
{
    bool large = below(8) == 0;
    uint64_t len = below(large ? 60000 : 6000) + 1, offset = below(SIZE_MAX_TEST - len);
    uint64_t end = offset + len, in = end < model_size ? end : model_size;

    switch (below(7)) {
    case 0:
    case 1:
        memset(buf, 0xa5, len);
        assert_int_equal(io(f, AIO_READ, offset, len), offset < in ? in - offset : 0);
        if (offset < in)
            assert_memory_equal(buf, model + offset, in - offset);
        break;
    case 2:
    case 3:
        for (uint64_t i = 0; i < len; i++)
            buf[i] = model[offset + i] = (uint8_t)splitmix_next(&rng);
        assert_int_equal(io(f, AIO_WRITE, offset, len), len);
        model_size = end > model_size ? end : model_size;
        break;
    case 4:
        assert_int_equal(io(f, AIO_DISCARD, offset, len), 0);
        if (offset < in)
            memset(model + offset, 0, in - offset);
        break;
    case 5:
        if (below(2)) {
            assert_int_equal(io(f, AIO_ZERO, offset, len), 0);
            memset(model + offset, 0, len);
        } else {
            assert_int_equal(io(f, AIO_GROW, offset, len), 0);
        }
        model_size = end > model_size ? end : model_size;
        break;
    case 6:
        if (below(4))
            break;
        assert_int_equal(sim_file_truncate(f->sim, offset), 0);
        if (offset < model_size)
            memset(model + offset, 0, model_size - offset);
        model_size = offset;
        break;
    }
    assert_int_equal(sim_file_size(f->sim), model_size);
}

static void check_extents(struct blk_file *f)
{
    uint64_t offset = 0, len;

    while (offset < model_size) {
        bool data = sim_file_is_data(f->sim, offset, &len);
        assert_true(len > 0 && len <= model_size - offset);
        for (uint64_t i = 0; !data && i < len; i++)
            assert_int_equal(model[offset + i], 0);
        offset += len;
    }
    assert_false(sim_file_is_data(f->sim, model_size, &len));
}

static void check_real(void)
{
    struct stat st;
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &st), 0);
    assert_int_equal(st.st_size, model_size);
    assert_int_equal(fread(buf, 1, model_size, file), model_size);
    assert_memory_equal(buf, model, model_size);
    fclose(file);
}

static void random_steps_match_the_model(void **state)
{
    (void)state;
    struct error err = {""};

    for (int round = 0; round < 40; round++) {
        struct env *env = env_sim(below(UINT64_MAX));
        struct blk_options o = {.env = env, .sim = true, .write = true};
        struct blk_file f;
        make_real();
        for (int again = 0; again < 3; again++) {
            assert_int_equal(sim_file_open(&f.sim, env, path, &o, &err), 0);
            for (int i = 0; i < 60; i++)
                one_step(&f);
            check_extents(&f);
            assert_int_equal(sim_file_close(f.sim), 0);
            check_real();
        }
        env_destroy(env);
    }
}

static void readers_change_nothing(void **state)
{
    (void)state;
    struct error err = {""};
    struct env *env = env_sim(1);
    struct blk_options o = {.env = env, .sim = true};
    struct blk_file f;

    make_real();
    assert_int_equal(sim_file_open(&f.sim, env, path, &o, &err), 0);
    assert_int_equal(io(&f, AIO_WRITE, 0, 100), -EBADF);
    assert_int_equal(io(&f, AIO_DISCARD, 0, 100), -EBADF);
    assert_int_equal(sim_file_truncate(f.sim, 0), -EBADF);
    check_extents(&f);
    assert_int_equal(sim_file_close(f.sim), 0);
    check_real();
    env_destroy(env);
}

static void huge_ranges_cost_nothing(void **state)
{
    (void)state;
    struct error err = {""};
    struct env *env = env_sim(1);
    struct blk_options o = {.env = env, .sim = true, .write = true, .create = true};
    struct blk_file f;
    uint64_t tib = (uint64_t)1 << 40, len;

    assert_int_equal(sim_file_open(&f.sim, env, "mem:huge", &o, &err), 0);
    assert_int_equal(io(&f, AIO_WRITE, 5 * tib, 10), 10);
    struct aio a = {.op = AIO_ZERO, .file = &f, .offset = 1, .len = 8 * tib};
    assert_int_equal(sim_file_io(&a), 0);
    assert_int_equal(sim_file_size(f.sim), 8 * tib + 1);
    assert_false(sim_file_is_data(f.sim, 5 * tib, &len));
    a.offset = INT64_MAX;
    assert_int_equal(sim_file_io(&a), -EFBIG);
    assert_int_equal(sim_file_close(f.sim), 0);

    /* and memory files stay for the next open */
    assert_int_equal(sim_file_open(&f.sim, env, "mem:huge", &o, &err), -EEXIST);
    assert_non_null(strstr(err.msg, "mem:huge"));
    o.create = false;
    err.msg[0] = 0;
    assert_int_equal(sim_file_open(&f.sim, env, "mem:huge", &o, &err), 0);
    assert_int_equal(sim_file_size(f.sim), 8 * tib + 1);
    assert_int_equal(sim_file_close(f.sim), 0);
    assert_int_equal(sim_file_open(&f.sim, env, "mem:none", &o, &err), -ENOENT);
    env_destroy(env);
}

static void two_opens_share_a_file(void **state)
{
    (void)state;
    struct error err = {""};
    struct env *env = env_sim(1);
    struct blk_options ro = {.env = env, .sim = true}, rw = ro;
    struct blk_file a, b;

    rw.write = true;
    make_real();
    assert_int_equal(sim_file_open(&a.sim, env, path, &ro, &err), 0);
    assert_int_equal(sim_file_open(&b.sim, env, path, &rw, &err), 0);
    memset(buf, 'x', 100);
    memset(model + 5000, 'x', 100);
    assert_int_equal(io(&b, AIO_WRITE, 5000, 100), 100);
    assert_int_equal(sim_file_close(b.sim), 0);
    assert_int_equal(io(&a, AIO_READ, 4990, 200), 200);
    assert_memory_equal(buf, model + 4990, 200);
    assert_int_equal(sim_file_close(a.sim), 0);
    check_real();
    env_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_match_the_model),
        cmocka_unit_test(readers_change_nothing),
        cmocka_unit_test(huge_ranges_cost_nothing),
        cmocka_unit_test(two_opens_share_a_file),
    };
    if (getenv("ASYNCOW_SEED"))
        rng = strtoull(getenv("ASYNCOW_SEED"), NULL, 0);
    print_message("ASYNCOW_SEED=%llu\n", (unsigned long long)rng);
    snprintf(path, sizeof(path), "sim_file.%ld.tmp", (long)getpid());
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return ret;
}
