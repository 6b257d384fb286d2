/*
 * The threads of an image's other event loops (--iothreads). Each makes a loop, turns it
 * until it is told to end, and does what it is given between two turns. The first loop
 * is the caller's, who makes all calls.
 */
#ifndef HARNESS_IOTHREADS_H
#define HARNESS_IOTHREADS_H
#include "core/block/loop.h"

enum { IOTHREADS_MAX = 64 };

struct iothread {
    struct iothreads *all;
    unsigned home; /* 1 and so on: which of the image's loops it turns */
    struct loop *loop;
    /* private */
    struct env_thread thread;
    struct loop_bh told, ended; /* to its loop; to the first */
    bool go;                    /* its own: told */
    void (*fn)(struct iothread *, void *opaque);
    void *opaque;
    int result; /* of making the loop */
    struct error err;
};
struct iothreads { /* zeroed: none */
    struct env *env;
    struct loop *first;
    struct loop_options options;
    struct iothread *thread;
    struct loop **loop; /* of each thread */
    unsigned n, started;
    unsigned busy;
    bool idle;                /* nobody is busy */
    struct env_mutex posting; /* to a thread's loop */
};

/* n loops beside the first. 0; or -errno with err, and nothing to close. */
int iothreads_open(struct iothreads *, struct loop *first, const struct loop_options *,
                   unsigned n, struct error *);
/* fn(thread, opaque) on each of them; returns at once. */
void iothreads_run(struct iothreads *, void (*fn)(struct iothread *, void *opaque),
                   void *opaque);
void iothreads_wait(
    struct iothreads *); /* turns the first loop until all have returned */
void iothreads_close(struct iothreads *); /* nobody is busy, and the image closed */

#endif
