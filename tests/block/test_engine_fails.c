/*
 * What goes wrong on the machine, under every engine: a full device, a file cut short
 * underneath, a closed descriptor, storms of signals, io_uring forbidden. Each ends in
 * an error of that request or in success, and no request is lost.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "core/block/choose.h"
#include "core/block/engine.h"
#include "tests/block/block_test.h"

#define MANY 64
#define BLOCK 4096

static struct aio aios[MANY];
static struct iovec iovs[MANY];
static char memory[MANY][BLOCK] __attribute__((aligned(BLOCK)));
static unsigned done, failed;
static int last_error;

static void ended(struct aio *aio)
{
    done++;
    if (aio->result < 0) {
        failed++;
        last_error = aio->result;
    }
}

/* All at once; returns when all have ended. */
static void run_many(struct loop *loop, struct blk_file *file, enum aio_op op)
{
    done = failed = 0;
    last_error = 0;
    test_submit_blocks(loop, file, op, MANY, aios, iovs, memory, ended);
    while (done < MANY)
        loop_turn(loop, true);
}

/* The descriptor becomes one of /dev/full, which is what a full device says. */
static void full_device(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("full"), false, true, NULL);
        struct loop *loop = test_loop(test_engines[e], 8);
        int full = open("/dev/full", O_RDWR | O_CLOEXEC);

        assert_true(full >= 0 && dup2(full, blk_fd(file)) >= 0);
        close(full);
        run_many(loop, file, AIO_WRITE);
        assert_int_equal(failed, MANY);
        if (strcmp(test_engines[e], "linux-aio") || last_error != -EINVAL)
            assert_int_equal(last_error, -ENOSPC); /* it may refuse the device itself */
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

static void truncated_underneath(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        for (int direct = 0; direct < 2; direct++) {
            struct blk_file *file = test_open(test_path("cut"), direct, true, NULL);
            struct loop *loop = test_loop(test_engines[e], 8);

            memset(memory, 'x', sizeof(memory));
            run_many(loop, file, AIO_WRITE);
            assert_int_equal(failed, 0);
            assert_int_equal(truncate(blk_path(file), MANY / 2 * BLOCK), 0);
            run_many(loop, file, AIO_READ);
            assert_int_equal(failed, 0);
            for (unsigned i = 0; i < MANY; i++) /* behind the end: zeros */
                assert_int_equal(memory[i][BLOCK - 1], i < MANY / 2 ? 'x' : 0);
            loop_destroy(loop);
            MUST(blk_close(file));
        }
    }
}

static void closed_underneath(void **state)
{
    (void)state;
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(test_path("closed"), false, true, NULL);
        struct loop *loop = test_loop(test_engines[e], 8);
        int copy = dup(blk_fd(file));

        close(blk_fd(file));
        run_many(loop, file, AIO_WRITE);
        assert_int_equal(failed, MANY);
        assert_int_equal(last_error, -EBADF);
        assert_true(dup2(copy, blk_fd(file)) >= 0);
        close(copy);
        run_many(loop, file, AIO_WRITE); /* and it goes on */
        assert_int_equal(failed, 0);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
}

static void nothing(int sig) { (void)sig; }

/* A signal without SA_RESTART every 200 us: every sleep is interrupted. */
static void storm_of_signals(void **state)
{
    struct sigaction sa = {.sa_handler = nothing}, before;
    struct itimerval storm = {{0, 200}, {0, 200}}, calm = {{0, 0}, {0, 0}};

    (void)state;
    sigaction(SIGALRM, &sa, &before);
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file =
            test_open(test_path("storm"), true, true, "delay:read=2ms");
        struct loop *loop = test_loop(test_engines[e], 8);

        setitimer(ITIMER_REAL, &storm, NULL);
        memset(memory, 'y', sizeof(memory));
        run_many(loop, file, AIO_WRITE);
        assert_int_equal(failed, 0);
        memset(memory, 0, sizeof(memory));
        run_many(loop, file, AIO_READ);
        setitimer(ITIMER_REAL, &calm, NULL);
        assert_int_equal(failed, 0);
        for (unsigned i = 0; i < MANY; i++)
            assert_int_equal(memory[i][0], 'y');
        loop_destroy(loop);
        MUST(blk_close(file));
    }
    sigaction(SIGALRM, &before, NULL);
}

/* ---- in a child: what can't be undone in a process ---- */

static void in_child(int (*fn)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(fn());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* From here on that system call says so. */
static int forbid(unsigned number, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0;
}

static char child_path[128];

static int without_io_uring(void)
{
    struct loop_options lo = {.engine = "io_uring"};
    struct engine_choice buffered, direct;
    struct error err = {""};
    struct loop *loop;

    if (forbid(SYS_io_uring_setup, EPERM))
        return 1;
    if (loop_create(&loop, test_env, &lo, &err) != -EPERM ||
        !strstr(err.msg, "seccomp"))
        return 2;
    if (engine_choose(&buffered, "auto", test_env, child_path, false, NULL) < 0 ||
        engine_choose(&direct, "auto", test_env, child_path, true, NULL) < 0)
        return 3;
    fprintf(stderr, "buffered %s: %s\ndirect %s: %s\n", buffered.engine,
            buffered.reason, direct.engine, direct.reason);
    if (strcmp(buffered.engine, "threads") || !strstr(buffered.reason, "forbidden"))
        return 4;
    /* linux-aio or threads: as the timing says on this disk */
    if (!strcmp(direct.engine, "io_uring") || !strstr(direct.reason, "io_submit took"))
        return 5;
    return 0;
}

static void io_uring_forbidden(void **state)
{
    struct blk_file *file;

    (void)state;
    snprintf(child_path, sizeof(child_path), "%s", test_path("forbidden"));
    file = test_open(child_path, true, true, NULL);
    for (unsigned i = 0; i < MANY; i++)
        MUST(blk_pwrite(file, i * BLOCK, memory[i], BLOCK));
    MUST(blk_close(file));
    in_child(without_io_uring);
}

/* What the kernel may say instead of making a ring, and what it means. */
static void refused_rings_are_explained(void **state)
{
    static const struct {
        unsigned call;
        int code;
        const char *engine, *says;
    } cases[] = {
        {SYS_io_uring_setup, ENOSYS, "io_uring", "this kernel has none"},
        {SYS_io_uring_setup, ENOMEM, "io_uring", "ulimit -l"},
        {SYS_io_setup, EAGAIN, "linux-aio", "fs.aio-max-nr"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct loop_options lo = {.engine = cases[i].engine};
        struct error err = {""}, probed = {""};
        struct loop *loop;
        pid_t pid = fork();
        int status = 0;

        (void)state;
        if (pid == 0) {
            if (forbid(cases[i].call, (unsigned)cases[i].code))
                _exit(1);
            if (loop_create(&loop, test_env, &lo, &err) != -cases[i].code ||
                !strstr(err.msg, cases[i].says))
                _exit(2);
            if (engine_find(lo.engine)->probe(&probed) != -cases[i].code ||
                !strstr(probed.msg, cases[i].says))
                _exit(3);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

/* Works with no locked memory at all (Linux 5.12 and later), or says what to raise. */
static int without_memlock(void)
{
    struct rlimit none = {0, 0};
    struct loop_options lo = {.engine = "io_uring"};
    struct error err = {""};
    struct loop *loop;

    if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 || (geteuid() == 0 && setuid(65534) < 0))
        return 1;
    if (loop_create(&loop, test_env, &lo, &err) == 0)
        loop_destroy(loop);
    else if (!strstr(err.msg, "ulimit -l"))
        return 2;
    return 0;
}

static void no_locked_memory(void **state)
{
    (void)state;
    in_child(without_memlock);
}

/* Neither a ring nor a thread is to be had: there is always sync, and what the engine
 * would leave to a helper is done in the turn. */
static int without_threads(void)
{
    struct loop_options lo = {.engine = "threads", .depth = 8};
    struct engine_choice c;
    struct error err = {""};
    struct blk_file *file;
    struct loop *loop;

    if (forbid(SYS_io_uring_setup, EPERM) || forbid(SYS_clone, EAGAIN) ||
        forbid(SYS_clone3, EAGAIN))
        return 1;
    if (loop_create(&loop, test_env, &lo, &err) != -EAGAIN ||
        !strstr(err.msg, "engine threads: no thread"))
        return 2;
    if (engine_choose(&c, "auto", test_env, child_path, false, NULL) < 0 ||
        strcmp(c.engine, "sync") || !strstr(c.reason, "not threads"))
        return 3;
    file = test_open(child_path, false, true, NULL);
    loop = test_loop("linux-aio", 8);
    run_many(loop, file, AIO_WRITE);
    if (failed)
        return 4;
    run_many(loop, file, AIO_ZERO); /* no iocb for that */
    if (failed)
        return 5;
    loop_destroy(loop);
    return blk_close(file) < 0 ? 6 : 0;
}

static void no_threads(void **state)
{
    (void)state;
    snprintf(child_path, sizeof(child_path), "%s", test_path("threadless"));
    MUST(blk_close(test_open(child_path, false, true, NULL)));
    in_child(without_threads);
}

/* Registering memory counts against the limit: it goes unregistered, which is said. */
static int with_too_little_memlock(void)
{
    struct rlimit little = {sizeof(memory) / 2, sizeof(memory) / 2};
    struct loop_options lo = {.engine = "io_uring:buffers=registered", .depth = 8};
    struct blk_file *file = test_open(child_path, false, true, NULL);
    struct loop *loop;

    if (setrlimit(RLIMIT_MEMLOCK, &little) < 0 || (geteuid() == 0 && setuid(65534) < 0))
        return 1;
    if (loop_create(&loop, test_env, &lo, NULL) < 0)
        return 5;
    loop_use_memory(loop, memory, sizeof(memory));
    if (!strstr(loop_notes(loop), "ulimit -l"))
        return 2;
    memset(memory, 'm', sizeof(memory));
    run_many(loop, file, AIO_WRITE);
    if (failed)
        return 3;
    memset(memory, 0, sizeof(memory));
    run_many(loop, file, AIO_READ);
    if (failed || memory[MANY - 1][BLOCK - 1] != 'm')
        return 4;
    loop_destroy(loop);
    return 0;
}

static void too_little_locked_memory(void **state)
{
    (void)state;
    snprintf(child_path, sizeof(child_path), "%s", test_path("memlock"));
    in_child(with_too_little_memlock);
}

/* ---- a device that fills up while many write to it ---- */

static void fills_up(void **state)
{
    char mount[128], path[160], command[400];

    (void)state;
    snprintf(mount, sizeof(mount), "%s", test_path("small"));
    snprintf(path, sizeof(path), "%s/file", mount);
    snprintf(command, sizeof(command),
             "mkdir -p %s && mount -t tmpfs -o size=%u none %s 2>/dev/null", mount,
             MANY / 2 * BLOCK, mount);
    if (system(command) != 0) {
        print_message("skipped: can't mount a tmpfs here\n");
        skip();
    }
    for (int e = 0; e < TEST_ENGINES; e++) {
        struct blk_file *file = test_open(path, false, true, NULL);
        struct loop *loop = test_loop(test_engines[e], 8);
        bool written[MANY];

        memset(memory, 'f', sizeof(memory));
        run_many(loop, file, AIO_WRITE);
        assert_in_range(failed, MANY / 2, MANY - 1);
        assert_int_equal(last_error, -ENOSPC);
        for (unsigned i = 0; i < MANY; i++)
            written[i] = aios[i].result == 0;
        memset(memory, 0, sizeof(memory));
        run_many(loop, file, AIO_READ);
        assert_int_equal(failed, 0);
        for (unsigned i = 0; i < MANY; i++)
            if (written[i]) /* what was acknowledged is there */
                assert_int_equal(memory[i][BLOCK - 1], 'f');
        MUST(blk_truncate(file, 0)); /* and there is room again */
        run_many(loop, file, AIO_FLUSH);
        assert_int_equal(failed, 0);
        loop_destroy(loop);
        MUST(blk_close(file));
    }
    snprintf(command, sizeof(command), "umount %s", mount);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(io_uring_forbidden), /* before there are threads to fork */
        cmocka_unit_test(refused_rings_are_explained),
        cmocka_unit_test(no_threads),
        cmocka_unit_test(too_little_locked_memory),
        cmocka_unit_test(fills_up),
        cmocka_unit_test(no_locked_memory),
        cmocka_unit_test(full_device),
        cmocka_unit_test(truncated_underneath),
        cmocka_unit_test(closed_underneath),
        cmocka_unit_test(storm_of_signals)};

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
