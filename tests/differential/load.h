/*
 * Random requests of a guest, many in flight, against the model: reads, writes, zeroes,
 * discards, flushes, cancels, drains. What a read returns is checked as it comes. On a
 * disk with several loops they start and end on all of them, under a mutex of the load.
 *
 * Whatever must not be ends the process with what was in flight (load_fail).
 */
#ifndef TEST_LOAD_H
#define TEST_LOAD_H
#include "tests/differential/disk.h"
#include "tests/differential/model.h"

enum { LOAD_SLOTS = 16, LOAD_IOV = 6 };

struct load;
struct load_slot {
    struct guest_req req;
    struct iovec iov[LOAD_IOV];
    struct load *load;
    uint8_t *mem, *buf; /* buf is in mem, aligned or not */
    uint64_t began;
    uint64_t zero_at, zero_len; /* DISCARD: what reads zeros afterwards */
    uint64_t claim_at, claim_len, writer;
    unsigned home; /* of the disk's loops */
    bool busy, cancelled, adopts, chases;
};
struct load {
    struct disk *d;
    struct model m;
    uint64_t rng;
    uint64_t max_len;       /* of a request, bytes */
    unsigned in_flight_max; /* 1 to LOAD_SLOTS */
    bool unaligned;         /* some requests are of odd bytes */
    bool fill;              /* more writes, fewer flushes */
    bool drains, cancels;
    /* Requests may fail. Else only what was cancelled may fail. */
    bool faulty;
    void (*after_turn)(struct load *); /* of the loop; may be NULL */
    void *opaque;

    uint64_t cluster;     /* from here on private */
    bool discard_ignored; /* version 2 over a backing file */
    bool discard_vague;   /* raw: zeros or not, as the host pleases */
    bool stop;
    unsigned ops, started, ended, in_flight;
    unsigned ended_whole;              /* and not cancelled */
    unsigned in_flight_at[LOAD_SLOTS]; /* by home */
    struct env_mutex lock;             /* several loops: of all this and the model */
    unsigned
        errors; /* requests that failed since the last load_attach(), cancelled not */
    int error;  /* of the first of them */
    struct load_slot slot[LOAD_SLOTS];
};

/* base: what the disk holds, size bytes, taken over. The other fields are the
 * caller's. */
void load_init(struct load *, uint8_t *base, uint64_t size, bool crash);
void load_free(struct load *);
/* From now on on this disk. */
void load_attach(struct load *, struct disk *);
/* So many requests, to the end. */
void load_run(struct load *, unsigned ops);
/* Every byte, in order, a few at a time. */
void load_read_all(struct load *);
/* The same; what was uncertain is what was read, from now on. */
void load_adopt_all(struct load *);
_Noreturn void load_fail(const struct load *, const struct load_slot *,
                         const char *what);
/* It is a failure if 64 requests take longer, or what is around them. */
void load_watch(const struct load *, unsigned seconds);
uint64_t load_random(struct load *, uint64_t below);
/* A whole file. Aborts if it can't. */
uint8_t *load_file(const char *path, uint64_t *size);

#endif
