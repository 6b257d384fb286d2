/*
 * Elevators: in which order the I/Os of a queue go down to what serves them.
 *
 *   noop          as they came
 *   deadline      ascending, in batches of reads or of writes, reads first; but one that
 *                 has waited for too long comes before all that (as Linux' deadline)
 *   anticipatory  the same; and after a read it may wait a little for the next one of
 *                 whoever read, if that one has been found to read on nearby soon (Iyer
 *                 and Druschel, SOSP 2001; Linux 2.6's as-iosched)
 *
 * All merge neighbours: an I/O that begins where a queued one ends, or ends where it
 * begins, goes down with it as one.
 *
 * Pure: no clock, no memory, no I/O. Whoever has the queue brings the time, asks for the
 * next one when there is room below, and tells when one has ended. One in the simulated
 * host before each spindle, one in the simulated guest before its virtual disk.
 */
#ifndef ASYNCOW_ELEVATOR_H
#define ASYNCOW_ELEVATOR_H
#include <stdbool.h>
#include <stdint.h>

enum elevator_kind { ELEVATOR_NOOP, ELEVATOR_DEADLINE, ELEVATOR_ANTICIPATORY };

struct elevator_options {
    uint64_t kind;        /* enum elevator_kind */
    uint64_t merge_bytes; /* most that goes down as one; 0: nothing is merged */
    uint64_t read_expire_ns, write_expire_ns; /* that long an I/O may be passed by */
    uint64_t batch;                           /* I/Os in one direction before a look */
    uint64_t starved; /* batches of reads that may pass waiting writes by */
    uint64_t antic_ns, antic_bytes; /* how long to wait, and what is nearby */
};

/* An I/O, in its owner's struct. */
struct elevator_io {
    uint64_t offset, len; /* bytes, len > 0 */
    bool write;
    unsigned source; /* whose: a process of the guest, a thread of the host */

    /* Of one that elevator_next() gave: itself and those merged with it, ascending,
     * which are all over when it is. */
    struct elevator_io *first, *member_next;
    uint64_t begin, end; /* of them all */

    /* private */
    uint64_t since_ns, order;
    struct elevator_io *older, *younger; /* of its direction */
    struct elevator_io *below, *above;   /* likewise, by begin */
};

struct elevator_queue {
    struct elevator_io *oldest, *youngest, *lowest, *highest;
};

enum { ELEVATOR_SOURCES = 64 };
struct elevator_source { /* what it was seen to do after its reads */
    bool known;
    unsigned samples;
    uint64_t ended_ns, at;       /* its last read; 0: none ended */
    uint64_t think_ns, distance; /* means that forget */
};

struct elevator {
    struct elevator_options o;
    struct elevator_queue queue[2];   /* reads, writes */
    unsigned queued;                  /* groups, not members */
    bool writing;                     /* the direction of the batch */
    uint64_t in_batch, passed_by, at; /* at: where the last one ended */
    bool begun;                       /* at is something */
    uint64_t order;

    struct elevator_source source[ELEVATOR_SOURCES];
    unsigned antic_source;
    uint64_t antic_until_ns; /* 0: doesn't anticipate anything */
    bool waiting;            /* and has kept something back for that */

    uint64_t merged, waits, waits_won, expired; /* for reports */
};

void elevator_init(struct elevator *, const struct elevator_options *);
void elevator_add(struct elevator *, struct elevator_io *, uint64_t now_ns);
/* The next one to go down, which is the queue's no more. NULL: none, *again_ns is when to
 * ask again whatever happens; UINT64_MAX: when one is added or has ended. */
struct elevator_io *elevator_next(struct elevator *, uint64_t now_ns,
                                  uint64_t *again_ns);
/* One that elevator_next() gave has ended. */
void elevator_done(struct elevator *, const struct elevator_io *, uint64_t now_ns);

#endif
