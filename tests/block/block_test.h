/* What the tests of core/block share: a world, a scratch directory, a seed. */
#ifndef ASYNCOW_BLOCK_TEST_H
#define ASYNCOW_BLOCK_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/block/aio.h"
#include "core/block/filter.h"
#include "core/block/loop.h"

#define MUST(call)                                                                     \
    do {                                                                               \
        struct error *must_err = &test_err;                                            \
        int must_ret;                                                                  \
        must_err->msg[0] = '\0';                                                       \
        must_ret = (call);                                                             \
        if (must_ret < 0)                                                              \
            fail_msg("%s: %s: %s", #call, strerror(-must_ret), must_err->msg);         \
    } while (0)

/* What there is on the machine; settings that change how an engine works, too. */
static const char *const test_engines[] = {
    "sync",      "threads",  "posix-aio", "posix-aio:completion=poll",
    "linux-aio", "io_uring", "libuv",     "threads:pool=elastic,idle-ms=1",
};
enum { TEST_ENGINES = sizeof(test_engines) / sizeof(test_engines[0]) };

static _Thread_local struct error test_err;
static struct env *test_env;
static char test_dir[64];

/* In the current directory, which has to be on a disk: /dev/shm has no direct I/O. */
static inline int test_begin(void **state)
{
    (void)state;
    test_env = env_real(1);
    snprintf(test_dir, sizeof(test_dir), "block-test.XXXXXX");
    return mkdtemp(test_dir) ? 0 : -1;
}

static inline int test_end(void **state)
{
    char command[300];

    (void)state;
    env_destroy(test_env);
    snprintf(command, sizeof(command), "rm -rf '%s'", test_dir);
    return system(command);
}

static inline const char *test_path(const char *name)
{
    static char path[4][128];
    static int i;

    i = (i + 1) % 4;
    snprintf(path[i], sizeof(path[i]), "%s/%s", test_dir, name);
    return path[i];
}

static inline uint64_t test_seed(void)
{
    const char *text = getenv("ASYNCOW_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)getpid() * 2654435761u;

    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static inline uint64_t test_random(uint64_t *s) /* splitmix64 */
{
    uint64_t x = *s += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline struct loop *test_loop(const char *engine, unsigned depth)
{
    struct loop_options options = {.engine = engine, .depth = depth};
    struct loop *loop;

    MUST(loop_create(&loop, test_env, &options, &test_err));
    return loop;
}

static inline struct blk_file *test_open(const char *path, bool direct, bool create,
                                         const char *filters)
{
    struct blk_options options = {.write = true,
                                  .direct = direct,
                                  .create = create,
                                  .truncate = create,
                                  .filters = filters,
                                  .env = test_env};
    struct blk_file *file;

    MUST(blk_open(&file, path, &options, &test_err));
    return file;
}

/* n I/Os at once, of 4096 bytes side by side, each into its part of memory; done for each. */
static inline void test_submit_blocks(struct loop *loop, struct blk_file *file,
                                      enum aio_op op, unsigned n, struct aio *aios,
                                      struct iovec *iovs, char (*memory)[4096],
                                      void (*done)(struct aio *))
{
    for (unsigned i = 0; i < n; i++) {
        iovs[i] = (struct iovec){memory[i], sizeof(memory[i])};
        aios[i] = (struct aio){.op = op,
                               .file = file,
                               .offset = i * sizeof(memory[i]),
                               .len = sizeof(memory[i]),
                               .iov = &iovs[i],
                               .iovcnt = 1,
                               .done = done};
        aio_submit(loop, &aios[i]);
    }
}

#endif
