/*
 * Inside the load loop: load.c (the phases of a job), load_request.c (one request, from
 * being submitted to having ended), load_next.c (what comes next), load_setup.c.
 */
#ifndef HARNESS_LOAD_INT_H
#define HARNESS_LOAD_INT_H
#include <stdatomic.h>

#include "harness/guestq.h"
#include "harness/iolog.h"
#include "harness/load.h"
#include "harness/vcpu.h"

enum { LOAD_ALIGN = 4096 };

struct slot {
    struct guest_req req; /* first: done() gets it back */
    struct load *load;
    uint64_t start_ns;
    struct iovec read, write;
    enum load_dir dir;
    struct slot *idle; /* the next one in the list */
    unsigned stream;
    struct loop_timer think;
};

struct load {
    struct load_options o;
    struct env *env;
    struct workload work;
    struct load_result *res;
    struct slot *slot;
    unsigned slots, inflight, thinking;
    struct guestq *queue; /* the simulated guest's elevator; else NULL */
    char *memory;
    struct load *lead; /* home 0's, or itself */
    unsigned skip;     /* requests of the workload that are other loops' */

    /* next request: what sort of thing comes, given the phase */
    bool (*next)(struct load *, struct slot *);
    uint64_t left;                 /* requests still to be made */
    uint64_t flush_every, written; /* fsync=N */
    uint64_t block;                /* verify phase, content: where it is */
    uint64_t sequence;
    uint64_t ramp_end_ns, deadline_ns;
    bool measuring, timed, stopped, snapshots;

    struct { /* --snapshot-every */
        struct guest_req req;
        char name[24];
        uint64_t start_ns;
        uint64_t due_ns, due; /* the next one's, in requests if not in time */
        unsigned made;
        /* The lead's; all loops look. */
        _Atomic uint64_t end_ns; /* of the last one */
        atomic_bool busy;
        _Atomic uint64_t completed; /* guest requests, of all loops */
    } snap;

    struct vcpu *vcpu; /* --global-mutex: it submits and completes; else NULL */
    unsigned start_depth;

    struct { /* --read_iolog */
        struct iolog log;
        uint64_t at, begin_ns; /* the next entry; when entry 0 is due */
        struct slot *idle;     /* slots without a request until one is due */
        struct loop_timer timer;
    } replay;

    bool verifying; /* headers in what is written */
    bool check;     /* reads are compared */
    /* The lead's, of all loops. */
    struct verify verify;
    struct env_mutex verify_lock; /* for several */
    atomic_bool failed;           /* a request, on one of several: none is begun */
};

/* Around what touches lead->verify. */
static inline struct verify *load_verify_begin(struct load *l)
{
    if (l->o.homes > 1)
        env_mutex_lock(l->env, &l->lead->verify_lock);
    return &l->lead->verify;
}
static inline void load_verify_end(struct load *l)
{
    if (l->o.homes > 1)
        env_mutex_unlock(l->env, &l->lead->verify_lock);
}

/* load_request.c */
void load_submit(struct load *, struct slot *);
void load_done(struct guest_req *);     /* of every slot's request */
void load_thought(struct loop_timer *); /* a slot's thinktime is over */
/* What done() means to the load: counts it and submits what comes next. */
void load_finish(struct load *, struct guest_req *);
/* Measuring begins: what came before does not count. */
void load_start_measuring(struct load *, uint64_t now);
void load_snapshot_due(struct load *, uint64_t now);
void load_snapshot_done(struct guest_req *);

/* load_next.c. Each fills the slot's request; false: nothing comes any more. */
bool load_next_of_workload(struct load *, struct slot *);
bool load_next_of_record(struct load *, struct slot *);
bool load_next_to_verify(struct load *, struct slot *);
bool load_next_last_flush(struct load *, struct slot *);
void load_replay_due(struct loop_timer *);

#endif
