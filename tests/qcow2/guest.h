/*
 * A guest for the world of world.h: images to work on, random requests, and what every
 * sector must hold, now and after a crash.
 */
#ifndef TEST_GUEST_H
#define TEST_GUEST_H
#include "tests/qcow2/world.h"

enum { DEPTH = 8, SECTOR = 512 };

struct config {
    const char *name, *options; /* for qemu-img create */
    uint64_t size, cluster;
    int backing; /* 1: over a raw file, smaller; 2: converted, compressed, from one */
    bool snapshot;
};
extern const struct config configs[];
extern const unsigned nconfigs;

struct sector {
    uint16_t writers, readers; /* in flight: nobody else touches it, or nobody writes */
    bool known;                /* false: a request that would change it failed */
    bool kept;                 /* a flush succeeded since it was last touched... */
    uint64_t touched, kept_at; /* ...in this order */
};
struct guest {
    const struct config *config;
    uint8_t *bytes, *flushed;
    struct sector *sectors;
    uint64_t size, cluster, clock;
    unsigned ops;    /* a task */
    bool may_fail;   /* requests may fail; else that is the end */
    unsigned errors; /* requests that did */
    struct qcow2_stats totals;
};

/* A scratch directory for the test; removed by guest_done(). */
const char *guest_dir(void);
void guest_done(void);
/* system(3), printf style; aborts unless the exit status is ok or also_ok. */
int shell(int also_ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes the image of c, loads it into w, reads it into the model as qemu-img sees it. */
void guest_init(struct guest *, const struct config *, struct world *, uint64_t seed);
void guest_free(struct guest *, struct world *);
/* Tasks. */
void guest_open(struct task *); /* must succeed */
void guest_work(struct task *); /* ops random requests */
void guest_close(
    struct task *); /* counts the stats in; a failure is counted as error */
/* Runs fn in n tasks. false: stopped. */
bool guest_run(struct guest *, struct world *, void (*fn)(struct task *), unsigned n);
/* Contents, read by qemu-img from path, against the model: every known sector, or only
 * those that were flushed and not touched since. Aborts with the first difference. */
void guest_compare(const struct guest *, const char *path, bool only_flushed);

#endif
