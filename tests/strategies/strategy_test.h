/*
 * What the tests of the strategies share: a world with one image, opened by one module,
 * and a model of its bytes.
 *
 * A program runs as: test MODULE ENGINE [SETTINGS]. Images are made by qemu-img;
 * whatever a test wrote is compared with the model through the strategy, after
 * reopening, and as qemu-img reads it, and qemu-img check must find nothing.
 */
#ifndef ASYNCOW_STRATEGY_TEST_H
#define ASYNCOW_STRATEGY_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>

#include "core/image/chain.h"
#include "strategies/strategy.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

struct world {
    struct env *env;
    struct loop *loop;
    struct loop_options engine;
    const struct strategy *strategy;
    struct image_node *top;
    struct strategy_image *image;
    uint64_t size;
    uint8_t *model;
    unsigned pending; /* requests that done() is owed for */
    bool idle;        /* none */
    bool submitting;  /* done() must not come now */
    /* for the next world_open() */
    const char *settings; /* at first main()'s; may be NULL */
    const char *format, *filters;
    unsigned depth;
    bool through, direct;
    uint64_t grow, cache;
    struct loop *const *more; /* loops that serve it too */
    unsigned more_count;
    const char *name; /* of the next snapshot operation */
};

struct job { /* a request and what it was to do */
    struct guest_req g;
    struct world *w;
    struct iovec iov[4];
    uint8_t *buf;
    bool done;
};

/* Sets up the module, engine and settings that main() was given. */
int test_main(int argc, char **argv, const struct CMUnitTest *, size_t count);
#define TEST_MAIN(tests)                                                               \
    int main(int argc, char **argv)                                                    \
    {                                                                                  \
        return test_main(argc, argv, tests, sizeof(tests) / sizeof(*(tests)));         \
    }

int world_setup(void **state);    /* an empty directory, a loop; no image yet */
int world_teardown(void **state); /* fails if the image is not clean or bytes differ */

/* Runs a command in the test's directory; fails unless it exits with 0. */
void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Opens "top.FORMAT" in the test's directory, whose bytes the model has. */
void world_open(struct world *);
int world_close(struct world *);
/* A disk of `size` bytes, all zero in the model; the test makes the file. */
void world_model(struct world *, uint64_t size);
/* Closes, checks with qemu-img, compares its bytes with the model, opens again. */
void world_verify(struct world *);

/* Starts a request; WRITE: with bytes drawn from seed, that go to the model too (by
 * job_end, if it succeeded). */
struct job *job_start(struct world *, enum guest_op, uint64_t offset, uint64_t len,
                      unsigned seed);
/* Turns the loop until it is done, and gives back its result; a read that succeeded is
 * compared with the model. */
int job_end(struct job *);
int run(struct world *, enum guest_op, uint64_t offset, uint64_t len, unsigned seed);
void run_all(struct world *); /* until nothing is pending */

#endif
