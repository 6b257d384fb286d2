/*
 * Intent: I/O in the simulated world takes the time that its model says and completes
 * in an order that the seed decides, for the root's loop and for loops in simulated
 * threads alike. ASYNCOW_SEED sets the first seed.
 */
#include "core/block/aio.h"
#include "core/env/sim.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BLOCK 4096u
enum { DEPTH = 32 };

static uint64_t seed0 = 1;
static struct env *env;
static struct loop *loop;
static struct blk_file *file;
static char order[8 * DEPTH + 1];
static unsigned order_n;

struct io {
    struct aio aio;
    struct iovec iov;
    char name;
    uint64_t done_ns;
    uint8_t buf[BLOCK];
};
static struct io io[DEPTH];

static void start(uint64_t seed, const char *model)
{
    struct error err = {""};
    struct loop_options o = {.engine = "sim", .depth = 64, .sim_model = model};

    env = env_sim(seed);
    struct blk_options b = {.env = env, .sim = true, .write = true, .create = true};
    assert_int_equal(loop_create(&loop, env, &o, &err), 0);
    assert_int_equal(blk_open(&file, "mem:disk", &b, &err), 0);
    order_n = 0;
    memset(order, 0, sizeof(order));
}

static void stop(void)
{
    assert_int_equal(blk_close(file), 0);
    loop_destroy(loop);
    env_destroy(env);
}

static void done(struct aio *a)
{
    struct io *i = (struct io *)a;

    i->done_ns = env_now_ns(env);
    order[order_n++] = i->name;
}

static void submit(unsigned i, enum aio_op op, uint64_t block)
{
    memset(&io[i], 0, sizeof(io[i]));
    memset(io[i].buf, (int)('a' + i), BLOCK);
    io[i].name = (char)('a' + i);
    io[i].iov = (struct iovec){io[i].buf, BLOCK};
    io[i].aio = (struct aio){.op = op, .file = file, .done = done};
    if (op != AIO_FLUSH) {
        io[i].aio.offset = block * BLOCK;
        io[i].aio.len = BLOCK;
    }
    if (op == AIO_READ || op == AIO_WRITE) {
        io[i].aio.iov = &io[i].iov;
        io[i].aio.iovcnt = 1;
    }
    aio_submit(loop, &io[i].aio);
}

static void finish(unsigned n)
{
    while (order_n < n)
        loop_turn(loop, true);
}

static void fixed_times_are_exact(void **state)
{
    (void)state;
    start(seed0, "fixed:read=80us,write=20us,flush=1ms");
    uint64_t t0 = env_now_ns(env);
    submit(0, AIO_WRITE, 3);
    assert_int_equal(order_n, 0); /* never from inside the submission */
    finish(1);
    assert_int_equal(io[0].done_ns - t0, 20000);
    submit(1, AIO_READ, 3);
    finish(2);
    assert_int_equal(io[1].done_ns - io[0].done_ns, 80000);
    assert_memory_equal(io[1].buf, io[0].buf, BLOCK);
    submit(2, AIO_FLUSH, 0);
    finish(3);
    assert_int_equal(io[2].done_ns - io[1].done_ns, 1000000);
    submit(3, AIO_DISCARD, 3);
    submit(4, AIO_READ, 9); /* beyond the end: zeros */
    finish(5);
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(io[4].buf[i], 0);
    assert_int_equal(blk_size(file), 4 * BLOCK);
    stop();
}

static void run_batch(uint64_t seed, const char *model)
{
    start(seed, model);
    for (unsigned i = 0; i < 16; i++)
        submit(i, i % 2 ? AIO_WRITE : AIO_READ, i);
    finish(16);
    stop();
}

static void order_is_the_seeds(void **state)
{
    (void)state;
    static const char *const models[] = {"zero", "fixed", "lognormal"};

    for (int m = 0; m < 3; m++) {
        unsigned differ = 0;
        char first[sizeof(order)], base[sizeof(order)];
        run_batch(seed0, models[m]);
        strcpy(base, order);
        for (uint64_t s = seed0; s < seed0 + 20; s++) {
            run_batch(s, models[m]);
            strcpy(first, order);
            run_batch(s, models[m]);
            assert_string_equal(order, first);
            differ += strcmp(base, first) != 0;
        }
        assert_true(differ >= 18);
    }
}

/* A write takes effect when it completes: so of two in flight on the same block, the
 * one that completes last stays, and what the buffer holds then is what counts. */
static void effects_come_with_completions(void **state)
{
    (void)state;
    bool seen[2] = {false};

    for (uint64_t s = seed0; s < seed0 + 40; s++) {
        start(s, "fixed");
        submit(0, AIO_WRITE, 0);
        submit(1, AIO_WRITE, 0);
        finish(2);
        char last = order[1];
        submit(2, AIO_READ, 0);
        finish(3);
        assert_int_equal(io[2].buf[77], last);
        seen[last - 'a'] = true;
        stop();
    }
    assert_true(seen[0] && seen[1]);
}

static void channels_bound_the_parallelism(void **state)
{
    (void)state;
    /* no spread: 32 reads on 4 channels are 8 rounds of 10 us */
    start(seed0, "lognormal:read=10us,sigma=0,channels=4");
    uint64_t t0 = env_now_ns(env);
    for (unsigned i = 0; i < DEPTH; i++)
        submit(i, AIO_READ, i);
    finish(DEPTH);
    assert_int_equal(env_now_ns(env) - t0, 80000);
    stop();
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void lognormal_has_its_quantiles(void **state)
{
    (void)state;
    enum { N = 4001 };
    static uint64_t ns[N];

    start(seed0, "lognormal:read=100us,sigma=50,channels=1");
    for (int i = 0; i < N; i++) {
        uint64_t t0 = env_now_ns(env);
        submit(0, AIO_READ, 0);
        order_n = 0;
        finish(1);
        ns[i] = env_now_ns(env) - t0;
    }
    stop();
    qsort(ns, N, sizeof(ns[0]), by_size);
    /* median 100 us; one sigma is a factor e^0.5 = 1.65, 2.33 sigma (p99) e^1.16 =
     * 3.2 */
    assert_in_range(ns[N / 2], 95000, 105000);
    assert_in_range(ns[N * 84 / 100], 155000, 175000);
    assert_in_range(ns[N * 16 / 100], 57000, 65000);
    assert_in_range(ns[N * 99 / 100], 270000, 380000);
}

static void cancelled_may_or_may_not_end_early(void **state)
{
    (void)state;
    bool seen[2] = {false};

    for (uint64_t s = seed0; s < seed0 + 40; s++) {
        start(s, "fixed:write=50us");
        submit(0, AIO_WRITE, 0);
        loop_turn(loop, false); /* it is in the engine now */
        aio_cancel(&io[0].aio);
        assert_int_equal(order_n, 0);
        finish(1);
        assert_true(io[0].aio.result == 0 || io[0].aio.result == -ECANCELED);
        assert_true(io[0].aio.result == 0 || io[0].done_ns < 50000);
        seen[io[0].aio.result == 0] = true;
        stop();
    }
    assert_true(seen[0] && seen[1]);
}

/* --- loops in simulated threads --------------------------------------------------- */

enum { WORKERS = 4, ROUNDS = 20 };
struct worker {
    struct env_thread thread;
    struct loop_bh bh;
    unsigned id;
    uint64_t done;
};
static struct env_mutex mutex;
static struct env_cond cond;
static unsigned turns, posts;
static uint64_t sum;

static void posted(struct loop_bh *bh)
{
    (void)bh;
    posts++;
}

/* Reads and writes, blocking, under a mutex now and then, as a thread pool's worker
 * does; at the end tells the root's loop. */
static void works(void *arg)
{
    struct worker *w = arg;
    struct loop_options o = {.engine = "sim", .depth = 4, .sim_model = "lognormal"};
    struct error err = {""};
    struct loop *mine;
    uint8_t buf[64];

    assert_int_equal(loop_create(&mine, env, &o, &err), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct iovec iov = {buf, sizeof(buf)};
        struct aio a = {.op = AIO_WRITE,
                        .file = file,
                        .iov = &iov,
                        .iovcnt = 1,
                        .offset = w->id * BLOCK + i * sizeof(buf),
                        .len = sizeof(buf)};
        memset(buf, (int)(w->id * ROUNDS + i), sizeof(buf));
        assert_int_equal(aio_run(mine, &a), 0);
        env_mutex_lock(env, &mutex);
        sum = sum * 31 + w->id; /* by order */
        a = (struct aio){.op = AIO_READ,
                         .file = file,
                         .iov = &iov,
                         .iovcnt = 1,
                         .offset = w->id * BLOCK + i * sizeof(buf),
                         .len = sizeof(buf)};
        memset(buf, 0xff, sizeof(buf));
        if (i % 4 == 0) /* holds the mutex across I/O: the others and the root wait */
            assert_int_equal(aio_run(mine, &a), 0);
        turns++;
        env_cond_broadcast(env, &cond);
        env_mutex_unlock(env, &mutex);
        if (i % 4 == 0)
            assert_int_equal(buf[5], (uint8_t)(w->id * ROUNDS + i));
    }
    loop_destroy(mine);
    w->bh.fn = posted;
    loop_post(loop, &w->bh);
}

static uint64_t run_workers(uint64_t seed, uint64_t *order_sum)
{
    static struct worker w[WORKERS];

    start(seed, "lognormal");
    env_mutex_init(&mutex);
    env_cond_init(&cond);
    turns = posts = 0;
    sum = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        w[i] = (struct worker){.id = i};
        assert_int_equal(env_thread_start(env, &w[i].thread, works, &w[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++)
        submit(i, AIO_READ, 100 + i);
    env_mutex_lock(env, &mutex); /* the root contends */
    while (turns < 10)
        env_cond_wait(env, &cond, &mutex);
    env_mutex_unlock(env, &mutex);
    while (posts < WORKERS || order_n < 8)
        loop_turn(loop, true);
    for (unsigned i = 0; i < WORKERS; i++)
        env_thread_join(env, &w[i].thread);
    assert_int_equal(turns, WORKERS * ROUNDS);
    env_mutex_destroy(&mutex);
    env_cond_destroy(&cond);
    *order_sum = sum;
    uint64_t hash = sim_trace_hash(env);
    stop();
    return hash;
}

static void threads_and_root_share_the_world(void **state)
{
    (void)state;
    uint64_t base, order1, order2;
    unsigned differ = 0;

    run_workers(seed0, &base);
    for (uint64_t s = seed0; s < seed0 + 20; s++) {
        uint64_t hash = run_workers(s, &order1);
        assert_int_equal(run_workers(s, &order2), hash);
        assert_int_equal(order1, order2);
        differ += order1 != base;
    }
    assert_true(differ >= 18);
}

/* --- timers ----------------------------------------------------------------------- */

static uint64_t rang_ns;
static void rings(struct loop_timer *t)
{
    (void)t;
    rang_ns = env_now_ns(env);
}

static void timers_keep_virtual_time(void **state)
{
    (void)state;
    struct loop_timer t = {.fn = rings};

    start(seed0, "fixed:read=30us");
    loop_timer_arm(loop, &t, 1000000);
    rang_ns = 0;
    submit(0, AIO_READ, 0);
    while (!rang_ns)
        loop_turn(loop, true);
    assert_int_equal(order_n, 1);
    assert_true(io[0].done_ns < 1000000);
    assert_int_equal(rang_ns, 1000000);
    stop();
}

static void a_loop_with_nothing_to_wait_for_aborts(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        start(seed0, "fixed");
        loop_turn(loop, true);
        loop_turn(loop, true);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void bad_models_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"ssd",
                                      "fixed:read=",
                                      "fixed:read=5m",
                                      "fixed:seek=1",
                                      "lognormal:channels=0",
                                      "lognormal:sigma=1000",
                                      "fixed:read=-1us",
                                      "fixed:read=99999999999999999999"};

    env = env_sim(seed0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct loop_options o = {.engine = "sim", .depth = 4, .sim_model = bad[i]};
        struct error err = {""};
        assert_int_equal(loop_create(&loop, env, &o, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "sim model"));
    }
    env_destroy(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_times_are_exact),
        cmocka_unit_test(order_is_the_seeds),
        cmocka_unit_test(effects_come_with_completions),
        cmocka_unit_test(channels_bound_the_parallelism),
        cmocka_unit_test(lognormal_has_its_quantiles),
        cmocka_unit_test(cancelled_may_or_may_not_end_early),
        cmocka_unit_test(threads_and_root_share_the_world),
        cmocka_unit_test(timers_keep_virtual_time),
        cmocka_unit_test(a_loop_with_nothing_to_wait_for_aborts),
        cmocka_unit_test(bad_models_are_refused),
    };
    if (getenv("ASYNCOW_SEED"))
        seed0 = strtoull(getenv("ASYNCOW_SEED"), NULL, 0);
    print_message("ASYNCOW_SEED=%llu\n", (unsigned long long)seed0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
