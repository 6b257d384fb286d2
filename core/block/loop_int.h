/*
 * The loop's inside, for core/block only.
 *
 * An aio is in exactly one place at a time: `gathered` (goes to the engine at the next
 * turn), `helped` (goes to the helper pool then), the engine or a helper, a filter's
 * timer, the alignment layer, or `completed` (done() runs in this or the next turn).
 * `pending` counts them all.
 *
 * Threads: everything belongs to the loop's own thread but `posted` and `sleeping`. The
 * loop says that it sleeps before it looks at `posted` for the last time; a poster
 * pushes before it looks at `sleeping`. Both in sequentially consistent order, so at
 * least one of the two sees the other, and a wake-up costs a system call only when it
 * is needed.
 */
#ifndef ASYNCOW_LOOP_INT_H
#define ASYNCOW_LOOP_INT_H
#include <stdatomic.h>

#include "core/block/engine.h"
#include "core/coroutine/coroutine.h"
#include "core/env/sim.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

struct pool;
struct bounce;
struct outside;
struct carrier;

/* Loops have slots, so that each counts in a cache line of its own; the last is for all
 * that come when the others are taken. */
#define LOOP_SLOTS 64

enum { SLEEPS = 1, SLEEPS_OUTSIDE };

struct loop {
    struct engine *engine;
    const struct engine_ops *ops;
    struct env *env;
    unsigned depth, batch, slot;
    unsigned pending; /* submitted by the caller, done() not yet called */

    struct aio_queue gathered, completed, helped;
    unsigned helped_count;
    struct loop_bh *bh_head, *bh_tail;
    unsigned bh_count;
    struct loop_timer **heap; /* 1-based */
    unsigned heap_len, heap_size;
    uint64_t timer_seq;

    _Atomic(struct loop_bh *) posted; /* newest first */
    atomic_int sleeping;              /* 0, or one of those below */

    void (*probe)(void *opaque, uint64_t busy_ns);
    void *probe_opaque;
    void (*sleep_hook)(void *opaque, bool asleep);
    void *sleep_opaque;
    uint64_t awake_since_ns;

    struct outside *outside; /* NULL: sleeps in the engine's wait */
    bool outside_always;     /* and not only who waits with LOOP_WAIT_SELECT */
    enum loop_waiter waiter;
    uint64_t waiter_ns, poll_max_ns;
    unsigned expected;    /* posts */
    uint64_t expected_ns; /* to poll for them so long; 0 when there are none */
    bool inline_completion;
    unsigned inline_depth, inline_left; /* left: in this turn */
    struct loop_stats stats;

    uint64_t merge_bytes;     /* most that goes down as one; 0: nothing is merged */
    struct carrier *carriers; /* free ones */
    struct pool *helpers;     /* started when first needed */
    struct bounce *bounces;   /* free list of the alignment layer */
    struct co_inbox inbox;    /* coroutines that other threads woke */
    struct loop_bh inbox_bh;  /* opens it */
    struct sim_gate gate;     /* simulation: open when there is something to do */
    struct sim_event alarm;   /* simulation: the nearest timer */
};

static inline struct aio *aio_of_bh(struct loop_bh *bh)
{
    return (struct aio *)((char *)bh - offsetof(struct aio, bh));
}

/* timer.c */
uint64_t timer_next_ns(const struct loop *); /* UINT64_MAX: none */
unsigned timer_run_due(struct loop *);

/* loop.c: down at once, and up again what is done by then. */
void loop_inline(struct loop *);

/* loop_sleep.c */
int sleep_set_up(struct loop *, const struct loop_options *, struct error *);
void sleep_close(struct loop *);
void sleep_step(struct loop *, bool block); /* a turn's: reaps; block: or sleeps */
void sleep_wake(struct loop *, int how);    /* how: it sleeps; from any thread */
void loop_wait_turn(struct loop *);         /* one step of who waits for one thing */
/* The next bound of polling, after a wait of waited_ns in all. */
uint64_t poll_adapt(uint64_t bound_ns, uint64_t waited_ns, uint64_t max_ns);

/* Something that a turn would run without any waiting. */
bool loop_ready(struct loop *);

/* merge.c: I/Os that lie side by side become one. */
void merge_gathered(struct loop *);
void merge_close(struct loop *);

/* helper.c: runs an aio on a helper thread with hostio_run(); it completes like any. */
void helper_submit(struct loop *);
void helper_close(struct loop *);

/* aio.c: the stations of an aio on its way down and up. */
enum { /* aio.state */
       AIO_QUEUED = 1,
       AIO_STARTED,
       AIO_HELPED,
       AIO_DELAYED,
       AIO_WAITS,
       AIO_MERGED, /* a carrier has it */
       AIO_DONE
};
enum { /* aio.flags, beside AIO_PARTIAL */
       AIO_COUNTED =
           2, /* a writer that the alignment layer counts in its loop's slot */
       AIO_TRACKED = 4, /* one it holds in its list */
       AIO_RETRY = 8,   /* the kernel said EAGAIN once */
       AIO_ALONE = 16   /* not to be merged */
};
void aio_prepare(struct loop *, struct aio *);     /* pending from here on */
void aio_below_align(struct loop *, struct aio *); /* first filter */
void aio_to_engine(struct loop *, struct aio *);   /* below the last filter */
void aio_finish(struct aio *, int result);         /* to `completed` */
unsigned aio_deliver(struct loop *);

#endif
