/*
 * An image as a guest has it: opened through its chain under one strategy, which is a
 * module loaded at run time. For tests.
 */
#ifndef TEST_DISK_H
#define TEST_DISK_H
#include <stdbool.h>
#include <stdint.h>

#include "core/coroutine/coroutine.h"
#include "core/image/chain.h"
#include "harness/iothreads.h"
#include "strategies/strategy.h"

struct disk_options {
    const char *path,
        *strategy; /* "NAME" in $ASYNCOW_STRATEGY_PATH, or "DIR/NAME.so" */
    const char *settings, *engine, *filters;
    uint64_t seed;             /* of the world */
    unsigned depth, iothreads; /* loops beside the first */
    size_t cache;
    uint64_t grow;
    bool direct, through, punch;
    bool read_only;
};
struct disk {
    struct env *env;
    struct loop *loop;
    struct iothreads threads;
    struct image_node *top;
    void *handle;
    const struct strategy *table;
    struct strategy_image *image;
    struct loop_options engine;
    uint64_t size; /* bytes */
};
/* 0 or -errno with err; then nothing is left open. */
int disk_open(struct disk *, const struct disk_options *, struct error *);
/* Strategy, then files. 0 or the first error. stats may be NULL. */
int disk_close(struct disk *, struct strategy_stats *stats);
/* Both in two steps, for what must happen in between (faults). */
int disk_open_files(struct disk *, const struct disk_options *, struct error *);
int disk_open_image(struct disk *, const struct disk_options *, struct error *);
int disk_close_image(struct disk *, struct strategy_stats *stats);
int disk_close_files(struct disk *);

/* One request from begin to end. 0 or -errno. */
int disk_run(struct disk *, enum guest_op, uint64_t offset, void *, uint64_t len);

/* What image_check() finds: 0 and *leaks; a corruption is -EUCLEAN, with lines on
 * standard error. */
int disk_check(const char *path, uint64_t *leaks);

void disk_stats_add(struct strategy_stats *sum, const struct strategy_stats *);
/* Every number of qcow2_stats by name, to sum up over runs: "stats {...}". */
void disk_stats_print(const struct strategy_stats *);

#endif
