/*
 * Thread pool: a request runs from start to end on a worker thread, which blocks where
 * it waits; a lock of threads guards the core. (With wait=park it gives the worker up
 * where it waits for another request, and another worker goes on with it.)
 *
 * Who may touch what:
 *  - node_guard.lock guards node.core and who sleeps on it. tp_begin() takes it,
 *    tp_end() wakes whom the core names and gives it back. Never held across guest data
 *    I/O, decompression, or a sleep on a channel; across the metadata I/O that a verb
 *    owes only with hold=metadata. One node's lock at a time.
 *  - strategy_image.pool_lock guards what is handed between submitter and workers; it
 *    and tp_request.gate may be taken inside a node's lock, and nothing inside them.
 *  - A tp_request belongs to the submitter until it is in `ready` or a worker's hand,
 *    then to that worker until it has posted `finished`, or parked it; but for
 *    `cancelled`, `woken` and, under pool_lock, `parked`. `worker` is set by who hands
 *    it over: the submitter, or someone who has pool_lock.
 *  - All else is the submitter's: it is the thread that owns the request's home, one of
 *    the image's loops; for what is the image's, the first.
 */
#ifndef THREADPOOL_MODEL_H
#define THREADPOOL_MODEL_H
#include <stdatomic.h>

#include "core/coroutine/coroutine.h"
#include "core/env/env.h"
#include "core/env/spot.h"
#include "strategies/common/crowd.h"
#include "strategies/common/guest.h"
#include "strategies/common/host.h"
#include "strategies/common/nodes.h"

struct tp_queue { /* oldest first; zero-initialised is empty */
    struct tp_request *head, *tail;
};

/* A node's lock: which one, settings.c chooses; all in lock.c. */
struct tp_lock;
struct tp_lock_ops {
    void (*exclusive)(struct tp_lock *, struct tp_request *);
    void (*shared)(struct tp_lock *, struct tp_request *);
    void (*unlock)(struct tp_lock *);
};
extern const struct tp_lock_ops tp_lock_mutex, tp_lock_rwlock, tp_lock_queue;
struct tp_lock {
    const struct tp_lock_ops *ops;
    struct env *env;
    struct env_mutex mutex; /* of the queue: guards what follows the next one */
    struct env_rwlock rwlock;
    bool shares, fair;       /* settings */
    bool alone;              /* one has it */
    unsigned sharing;        /* or so many */
    struct tp_queue waiting; /* for it */
    atomic_bool held;        /* by one alone; only to count who finds it so */
    atomic_ullong waits;     /* how many did */
};

/* How a request waits: which way, settings.c chooses; both in pool.c. wait() returns
 * when wake() has been called once since the last time, be it before. */
struct tp_worker;
struct tp_waits {
    void (*open)(struct tp_request *);  /* the slot: these three in the submitter's */
    void (*close)(struct tp_request *); /* thread, close in that of the last begin */
    int (*begin)(struct tp_request *);  /* before it is run; 0 or -ENOMEM */
    /* Runs it. true: to its end. false: it waits, and has given the worker up. */
    bool (*carry)(struct tp_worker *, struct tp_request *);
    int (*io)(struct tp_request *); /* r->aio; its result */
    void (*wait)(struct tp_request *);
    void (*wake)(struct tp_request *); /* from any thread */
};
extern const struct tp_waits tp_waits_block, tp_waits_park;
enum tp_asks {
    TP_ASKS_IO,
    TP_ASKS_WAIT,
    TP_ASKS_END
}; /* what of its worker, parking */

/* What a worker does without work: which way, settings.c chooses; both in idle.c. */
struct tp_idle {
    /* Into the hand of a worker that waits for it awake. false: none does. */
    bool (*give)(struct tp_request *);
    /* Under pool_lock. A request, and without pool_lock; NULL: with it still, look into
     * the queues again. */
    struct tp_request *(*wait)(struct tp_worker *);
    void (*stop)(struct strategy_image *); /* stop is set: who waits awake need not */
};
extern const struct tp_idle tp_idle_sleep, tp_idle_spin;
enum { TP_SPINNERS = 8 }; /* at most */

struct node_guard {
    struct tp_lock lock;
    struct tp_request *asleep, **end_asleep; /* under lock; oldest first */
};

struct tp_worker {
    struct strategy_image *image;
    struct env_thread thread;
    struct loop *loop;          /* its own: it blocks in aio_run() */
    struct tp_request *request; /* that it runs; its own to look at */
    struct loop_bh started;     /* to the submitter's loop */
    struct tp_worker *next;     /* resting */
    bool called;                /* under pool_lock: there is work */
    struct env_cond work;       /* called */
    struct env_spot spot;       /* idle=spin: what it is given */
    unsigned place;             /* likewise: in `spinning` */
    struct loop_bh nudge;       /* to its own loop: look whether you are cancelled */
    bool nudged;                /* under pool_lock: nudge is on its way */
    atomic_bool tells;          /* the submitter's loop that a request is finished */
    int result;                 /* of starting */
    struct error err;
};

struct tp_home { /* one of the image's loops: who submits there, and is told there */
    struct strategy_image *image;
    struct guests guests; /* slots: struct tp_request */
};

struct tp_request { /* a slot; everything else of a request is on its stack */
    struct strategy_image *image;
    struct tp_home *home;
    struct guest_req *guest;
    struct tp_worker *worker;
    struct tp_request *next; /* in a queue, or asleep */
    qcow2_chan chan;         /* asleep on */
    bool shares;             /* the lock that it waits for */
    const struct tp_waits *waits;
    bool woken;              /* under gate, or pool_lock if it parks */
    struct env_mutex gate;   /* wait=block */
    struct env_cond wakeup;  /* likewise: woken */
    struct co *co;           /* wait=park: its stack */
    enum tp_asks asks;       /* likewise: why it was left */
    bool parked;             /* likewise, under pool_lock: without a worker */
    bool closing;            /* likewise: there won't be another request */
    struct loop_bh finished; /* to the submitter's loop */
    struct qcow2_need need;
    struct aio aio;
    struct iovec iov; /* of metadata */
    int result;
    atomic_bool cancelled;
    bool transfers;       /* aio carries data: it may be cancelled */
    bool changed;         /* metadata; with through, sync before completing */
    struct iovec part[2]; /* head and tail of an allocating write */
    struct host_bufs buf; /* kept */
};

struct strategy_image {
    struct loop *loop; /* the first */
    struct env *env;
    struct node *nodes; /* the top first */
    unsigned node_count;
    bool hold, through, writable;
    const struct tp_waits *waits;
    const struct tp_lock_ops *lock; /* of every node */
    bool shares, fair;              /* likewise */
    const struct tp_idle *idle;
    uint64_t spin_ns;  /* idle=spin */
    unsigned spinners; /* likewise: workers that may do so at a time */
    _Atomic(struct tp_worker *) spinning[TP_SPINNERS];
    atomic_int giver_cpu; /* that the last request was handed over on */
    struct error *err;    /* of opening */

    struct tp_home *homes; /* the first loop's first */
    unsigned home_count;
    struct crowd crowd;
    struct tp_request own; /* the submitter's, to wait with: it always blocks */
    atomic_ullong wakeups, locks, bytes_copied;

    struct tp_worker *workers;
    unsigned worker_count, threads_started, loops_started;
    bool all_started;
    struct loop_options engine; /* of each worker */

    struct env_mutex pool_lock; /* guards the rest */
    struct tp_queue ready;      /* not begun */
    struct tp_queue resumed;    /* parked, and woken */
    struct tp_worker *resting;  /* without work; the last to rest first */
    bool calling;               /* one of them is on its way */
    bool stop;
};

static inline void tp_queue_push(struct tp_queue *q, struct tp_request *r)
{
    r->next = NULL;
    if (q->head)
        q->tail->next = r;
    else
        q->head = r;
    q->tail = r;
}

/* NULL: empty. */
static inline struct tp_request *tp_queue_pop(struct tp_queue *q)
{
    struct tp_request *r = q->head;
    if (r)
        q->head = r->next;
    return r;
}

/* settings.c */
extern const struct setting tp_settings[];
extern const struct strategy_way tp_ways[];
/* 0, or -EINVAL with err: what is set is not known, or doesn't go together. */
int tp_configure(struct strategy_image *, const struct strategy_options *,
                 struct error *);
const char *tp_one_loop(const char *settings); /* struct strategy */

/* engine.c: from the guest's request to a worker, and back. tp_load and tp_run are the
 * worker's, the others the submitter's. */
int tp_open(struct strategy_image **, const struct strategy_options *, struct error *);
int tp_load(struct tp_request *);
void tp_submit(struct strategy_image *, struct guest_req *);
void tp_admit(struct tp_home *);
void tp_start(struct tp_request *);
int tp_run(struct tp_request *);
void tp_finish(struct tp_request *);
void tp_cancel(struct strategy_image *, struct guest_req *);
void tp_drain_begin(struct strategy_image *);
void tp_drain_end(struct strategy_image *);
void tp_attach(struct strategy_image *, struct loop *);
void tp_stats(struct strategy_image *, struct strategy_stats *);
void tp_verify(struct strategy_image *);
int tp_close(struct strategy_image *);

/* settle.c: all that waits, on a worker. All but tp_wake_sleepers() and tp_defer()
 * block. */
void tp_begin(struct tp_request *, struct node *);
void tp_end(struct node *);
/* Settles what a verb needs, lock held before and after. 0: repeat the verb. Negative:
 * give its ticket up. */
int tp_settle(struct tp_request *, struct node *, int verdict);
void tp_sleep(struct tp_request *, struct node *);
void tp_wake_sleepers(struct node *);
int tp_owed(struct tp_request *, struct node *);
int tp_transfer(struct tp_request *); /* aio as host_data() filled it */
int tp_decompress(struct tp_request *, const struct where *);
/* Finish in a bottom half of its home. */
void tp_defer(struct tp_request *);
/* Between two parts of something long: gives the mutex back. */
void tp_pause(struct tp_request *, struct node *);

/* lock.c */
void tp_lock_init(struct tp_lock *, const struct strategy_image *);
void tp_lock_destroy(struct tp_lock *);
void tp_lock_touch(struct tp_lock *); /* env_touch(): who holds it sees what is done */
/* A section in which the core is only looked at. It ends as it is, or becomes one that
 * tp_end() ends; where the lock has a shared side, others may have been in between. */
void tp_begin_shared(struct tp_request *, struct node *);
void tp_end_shared(struct node *);
void tp_upgrade(struct tp_request *, struct node *);

/* pool.c: for the submitter */
void tp_pool_hand(struct tp_request *); /* to a worker */
/* Its worker looks whether it has been cancelled. */
void tp_pool_nudge(struct tp_request *);
/* Returns when every worker has its loop. On error those that run are for
 * tp_pool_stop(). 0 or -errno. */
int tp_pool_start(struct strategy_image *);
void tp_pool_stop(struct strategy_image *);
/* Nothing is in flight. Returns when no worker looks at the loop any more that it told
 * so: then it may be destroyed. */
void tp_pool_leaves_loop(struct strategy_image *);

/* read.c */
int tp_read(struct tp_request *);
int tp_read_range(struct tp_request *, struct node *, uint64_t guest, uint64_t len,
                  const struct iovec *, int iovcnt);
int tp_map(struct tp_request *, struct node *, uint64_t guest, uint64_t len,
           struct where *);
void tp_unmap(struct tp_request *, struct where *);
/* The whole extent into the vector, `at` bytes from its start. */
int tp_read_extent(struct tp_request *, const struct where *, const struct iovec *,
                   int iovcnt, size_t at);
int tp_read_compressed(struct tp_request *, const struct where *, const struct iovec *,
                       int iovcnt, size_t at);

/* write.c */
int tp_write(struct tp_request *);
int tp_write_range(struct tp_request *, uint64_t guest, uint64_t len,
                   const struct iovec *, int iovcnt);
int tp_plan(struct tp_request *, uint64_t guest, uint64_t len, struct qcow2_write *);
int tp_write_cow(struct tp_request *, const struct qcow2_write *);
int tp_write_data(struct tp_request *, const struct qcow2_write *, const struct iovec *,
                  int iovcnt, size_t at);
void tp_commit(struct tp_request *, struct qcow2_write *, int ret);

/* discard.c */
int tp_zero(struct tp_request *);
int tp_write_zeros(struct tp_request *, uint64_t guest, uint64_t len);
int tp_discard(struct tp_request *);

/* flush.c */
int tp_flush(struct tp_request *);
int tp_through(struct tp_request *);
int tp_sync(struct tp_request *);
int tp_close_sync(struct tp_request *);

/* snapshot.c */
int tp_snapshot(struct tp_request *);

#endif
