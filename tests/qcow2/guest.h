/*
 * A guest for the world of world.h: images to work on, random requests, and what every
 * sector must hold, now and after a crash.
 */
#ifndef TEST_GUEST_H
#define TEST_GUEST_H
#include "tests/differential/model.h"
#include "tests/qcow2/world.h"

enum { DEPTH = 8 };

struct config {
    const char *name, *options; /* for qemu-img create */
    uint64_t size, cluster;
    int backing; /* 1: over a raw file, smaller; 2: converted, compressed, from one */
    bool snapshot;
    /* Most of what its refcount table can count is counted, though nobody uses it: it
     * has to move soon, in a small image. */
    bool full;
};
extern const struct config configs[];
extern const unsigned nconfigs;
extern const struct config small_configs[];
extern const unsigned nsmall;

struct guest {
    const struct config *config;
    struct model m;
    uint64_t size, cluster;
    unsigned ops;     /* a task */
    unsigned most;    /* sectors of a request, at most; 0: as the image suggests */
    unsigned flushes; /* one request in so many is one; 0: in ten */
    bool may_fail;    /* requests may fail; else that is the end */
    unsigned errors;  /* requests that did */
    uint64_t at, len; /* of the last read or write that was begun */
    unsigned opens;
    bool large_cache; /* when it was opened last */
    struct qcow2_stats totals;
};

/* A scratch directory for the test; removed by guest_done(). */
const char *guest_dir(void);
void guest_done(void);
/* system(3), printf style; aborts unless the exit status is ok or also_ok. */
int shell(int also_ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Loads the image of c into w, and what qemu-img sees in it into the model. Made once a
 * process. */
void guest_init(struct guest *, const struct config *, struct world *, uint64_t seed);
void guest_free(struct guest *, struct world *);
/* Tasks. */
void guest_open(struct task *); /* must succeed */
void guest_work(struct task *); /* ops random requests */
void guest_close(
    struct task *); /* counts the stats in; a failure is counted as error */
/* Runs fn in n tasks. false: stopped. */
bool guest_run(struct guest *, struct world *, void (*fn)(struct task *), unsigned n);
/* Contents, as qemu-img reads them from path, against the model. Aborts with the first
 * difference. */
void guest_compare(const struct guest *, const char *path);

#endif
