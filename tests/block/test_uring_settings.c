/*
 * Each setting of io_uring changes what the kernel does, and is done without, with a
 * note, where the kernel refuses it. All are skipped where there is no io_uring.
 */
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/block/uring.h"
#include "tests/block/block_test.h"

#define BLOCK 4096

static void need_uring(void)
{
    struct error err = {""};

    if (engine_io_uring.probe(&err) < 0) {
        print_message("skipped: %s\n", err.msg);
        skip();
    }
}

static int write_block(struct loop *loop, struct blk_file *file, char *block)
{
    struct iovec iov = {block, BLOCK};
    struct aio aio = {
        .op = AIO_WRITE, .file = file, .len = BLOCK, .iov = &iov, .iovcnt = 1};

    return aio_run(loop, &aio);
}

static char first_byte(const char *path)
{
    char c = '?';
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0 && pread(fd, &c, 1, 0) == 1);
    close(fd);
    return c;
}

static const char *const all[] = {
    "io_uring:taskrun=defer",
    "io_uring:taskrun=coop",
    "io_uring:taskrun=now",
    "io_uring:sqpoll=1",
    "io_uring:files=registered",
    "io_uring:buffers=registered",
    "io_uring:sqpoll=1,files=registered,buffers=registered",
};

static unsigned left;
static void ended(struct aio *aio)
{
    assert_int_equal(aio->result, 0);
    left--;
}

/* Reads and writes in parts and in one, flushes, of two files at once. */
static void all_keep_bytes(void **state)
{
    enum { MANY = 64 };
    static char out[MANY][BLOCK] __attribute__((aligned(BLOCK))),
        in[MANY][BLOCK] __attribute__((aligned(BLOCK)));

    (void)state;
    need_uring();
    for (unsigned e = 0; e < sizeof(all) / sizeof(all[0]); e++) {
        struct blk_file *file[2] = {test_open(test_path("a"), true, true, NULL),
                                    test_open(test_path("b"), false, true, NULL)};
        struct loop *loop = test_loop(all[e], 16);
        struct aio aio[MANY + 2];
        struct iovec iov[MANY][2];

        loop_use_memory(loop, out, sizeof(out) / 2); /* the other half isn't known */
        loop_use_memory(loop, in, sizeof(in) / 2);
        assert_string_equal(loop_notes(loop), "");
        for (int write = 1; write >= 0; write--) {
            char(*memory)[BLOCK] = write ? out : in;
            left = MANY + 2;
            for (unsigned i = 0; i < MANY; i++) {
                if (write)
                    memset(out[i], (int)(e + i + 1), BLOCK);
                iov[i][0] = (struct iovec){memory[i], i % 3 ? BLOCK : BLOCK / 2};
                iov[i][1] = (struct iovec){memory[i] + BLOCK / 2, BLOCK / 2};
                aio[i] = (struct aio){.op = write ? AIO_WRITE : AIO_READ,
                                      .file = file[i % 2],
                                      .offset = i / 2 * BLOCK,
                                      .len = BLOCK,
                                      .iov = iov[i],
                                      .iovcnt = i % 3 ? 1 : 2,
                                      .done = ended};
                aio_submit(loop, &aio[i]);
            }
            for (unsigned i = 0; i < 2; i++) {
                aio[MANY + i] =
                    (struct aio){.op = AIO_FLUSH, .file = file[i], .done = ended};
                aio_submit(loop, &aio[MANY + i]);
            }
            while (left)
                loop_turn(loop, true);
        }
        assert_memory_equal(in, out, sizeof(in));
        memset(in, 0, sizeof(in));
        loop_forget_memory(loop);
        loop_destroy(loop);
        MUST(blk_close(file[0]));
        MUST(blk_close(file[1]));
    }
}

/* The descriptor is made to name another file; who has it registered doesn't notice. */
static char written_to(const char *engine)
{
    static char block[BLOCK] __attribute__((aligned(BLOCK)));
    struct blk_file *file = test_open(test_path("first"), false, true, NULL);
    struct loop *loop = test_loop(engine, 4);
    int other = open(test_path("second"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char found;

    memset(block, '1', BLOCK);
    MUST(write_block(loop, file, block));
    assert_int_equal(pwrite(other, "-", 1, 0), 1);
    assert_true(dup2(other, blk_fd(file)) >= 0);
    close(other);
    memset(block, '2', BLOCK);
    MUST(write_block(loop, file, block));
    found = first_byte(test_path("first"));
    loop_destroy(loop);
    MUST(blk_close(file));
    return found;
}

static void registered_files_are_held(void **state)
{
    (void)state;
    need_uring();
    assert_int_equal(written_to("io_uring:files=plain"), '1');
    assert_int_equal(written_to("io_uring:files=registered"), '2');
}

/* A descriptor's number comes back with another file; more files than there are
 * slots. */
static void a_slot_is_its_files(void **state)
{
    static char block[BLOCK] __attribute__((aligned(BLOCK)));
    struct loop *loop;
    char name[40];

    (void)state;
    need_uring();
    loop = test_loop("io_uring:files=registered", 4);
    for (int i = 0; i < 50; i++) {
        struct blk_file *file;

        snprintf(name, sizeof(name), "slot%d", i % 25);
        file = test_open(test_path(name), false, true, NULL);
        memset(block, 'A' + i, BLOCK);
        MUST(write_block(loop, file, block));
        MUST(blk_close(file));
        assert_int_equal(first_byte(test_path(name)), 'A' + i);
    }
    assert_string_equal(loop_notes(loop), "");
    loop_destroy(loop);
}

/* Other memory is put under the same address; what is registered stays what it was. */
static char written_from(const char *engine)
{
    struct blk_file *file = test_open(test_path("memory"), false, true, NULL);
    struct loop *loop = test_loop(engine, 4);
    int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *block = mmap(NULL, BLOCK, prot, flags, -1, 0);

    assert_true(block != MAP_FAILED);
    memset(block, 'o', BLOCK);
    loop_use_memory(loop, block, BLOCK);
    assert_true(mmap(block, BLOCK, prot, flags | MAP_FIXED, -1, 0) == block);
    memset(block, 'n', BLOCK);
    MUST(write_block(loop, file, block));
    loop_forget_memory(loop);
    assert_string_equal(loop_notes(loop), "");
    loop_destroy(loop);
    MUST(blk_close(file));
    munmap(block, BLOCK);
    return first_byte(test_path("memory"));
}

static void registered_memory_is_held(void **state)
{
    (void)state;
    need_uring();
    assert_int_equal(written_from("io_uring:buffers=plain"), 'n');
    assert_int_equal(written_from("io_uring:buffers=registered"), 'o');
}

static void forgotten_memory_is_plain(void **state)
{
    struct blk_file *file = test_open(test_path("forgotten"), false, true, NULL);
    struct loop *loop;
    char *block = NULL;

    (void)state;
    need_uring();
    loop = test_loop("io_uring:buffers=registered", 4);
    for (char c = 'a'; c < 'z'; c++) { /* more often than there are places */
        assert_int_equal(posix_memalign((void **)&block, BLOCK, BLOCK), 0);
        loop_use_memory(loop, block, BLOCK);
        memset(block, c, BLOCK);
        MUST(write_block(loop, file, block));
        assert_int_equal(first_byte(test_path("forgotten")), c);
        loop_forget_memory(loop);
        free(block);
    }
    assert_string_equal(loop_notes(loop), "");
    loop_destroy(loop);
    MUST(blk_close(file));
}

/* Threads of this process whose name begins so. The kernel's own are among them. */
static unsigned threads_named(const char *prefix)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned n = 0;
    struct dirent *d;

    assert_non_null(dir);
    while ((d = readdir(dir))) {
        char path[300], name[32] = "";
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", d->d_name);
        f = fopen(path, "r");
        if (f && fgets(name, sizeof(name), f))
            n += !strncmp(name, prefix, strlen(prefix));
        if (f)
            fclose(f);
    }
    closedir(dir);
    return n;
}

static void sqpoll_has_a_thread(void **state)
{
    struct loop *loop;

    (void)state;
    need_uring();
    while (
        threads_named("iou-sqp-")) /* of an earlier ring: the kernel takes its time */
        usleep(1000);
    loop = test_loop("io_uring", 4);
    assert_int_equal(threads_named("iou-sqp-"), 0);
    loop_destroy(loop);
    loop = test_loop("io_uring:sqpoll=1", 4);
    for (int i = 0; i < 10000 && !threads_named("iou-sqp-"); i++)
        usleep(1000); /* it takes its name once it runs */
    assert_int_equal(threads_named("iou-sqp-"), 1);
    loop_destroy(loop);
}

/* What the kernel says to a thread that doesn't own the ring and asks for
 * completions. */
static void *ask(void *ring_fd)
{
    long ret = syscall(SYS_io_uring_enter, *(int *)ring_fd, 0, 0,
                       IORING_ENTER_GETEVENTS, NULL, 0);

    return (void *)(intptr_t)(ret < 0 ? -errno : 0);
}

static int from_another_thread(const char *engine)
{
    struct loop *loop = test_loop(engine, 4);
    struct uring *u = (struct uring *)loop->engine;
    pthread_t thread;
    void *ret;

    loop_turn(loop, false); /* from here on the ring is this thread's */
    assert_int_equal(pthread_create(&thread, NULL, ask, &u->ring.ring_fd), 0);
    pthread_join(thread, &ret);
    loop_destroy(loop);
    return (int)(intptr_t)ret;
}

static void taskrun_says_whose_the_ring_is(void **state)
{
    (void)state;
    need_uring();
#ifdef IORING_SETUP_DEFER_TASKRUN
    struct loop *loop = test_loop("io_uring:taskrun=defer", 4);
    bool deferred = !*loop_notes(loop); /* an old kernel's note says that it can't */

    loop_destroy(loop);
    if (deferred)
        assert_int_equal(from_another_thread("io_uring:taskrun=defer"), -EEXIST);
#endif
    assert_int_equal(from_another_thread("io_uring:taskrun=coop"), 0);
    assert_int_equal(from_another_thread("io_uring:taskrun=now"), 0);
}

/* ---- done without ---- */

static int forbid_registering(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IORING_REGISTER_FILES, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IORING_REGISTER_BUFFERS2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0;
}

static int without_registering(void)
{
    static char block[BLOCK] __attribute__((aligned(BLOCK)));
    struct blk_file *file = test_open(test_path("without"), false, true, NULL);
    struct loop *loop;
    int ret;

    if (forbid_registering())
        return 1;
    loop = test_loop("io_uring:files=registered,buffers=registered", 4);
    if (!strstr(loop_notes(loop), "files=registered: Invalid") ||
        !strstr(loop_notes(loop), "buffers=registered: Invalid"))
        return 2;
    loop_use_memory(loop, block, BLOCK);
    memset(block, 'w', BLOCK);
    ret = write_block(loop, file, block);
    loop_destroy(loop);
    return ret < 0 || first_byte(test_path("without")) != 'w' ? 3 : 0;
}

static void what_is_refused_is_noted(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    need_uring();
    pid = fork();
    if (pid == 0)
        _exit(without_registering());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            what_is_refused_is_noted), /* forks: before there are threads */
        cmocka_unit_test(all_keep_bytes),
        cmocka_unit_test(registered_files_are_held),
        cmocka_unit_test(a_slot_is_its_files),
        cmocka_unit_test(registered_memory_is_held),
        cmocka_unit_test(forgotten_memory_is_plain),
        cmocka_unit_test(sqpoll_has_a_thread),
        cmocka_unit_test(taskrun_says_whose_the_ring_is),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
