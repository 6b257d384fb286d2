/*
 * Thread pool: a request runs from start to end on a worker thread, which blocks where
 * it waits; a thread mutex guards the core.
 *
 * Who may touch what:
 *  - node_guard.lock guards node.core and who sleeps on it. tp_begin() takes it,
 *    tp_end() wakes whom the core names and gives it back. Never held across guest data
 *    I/O, decompression, or a sleep on a channel; across the metadata I/O that a verb
 *    owes only with hold=metadata. One node's lock at a time, and the pool's inside
 *    none.
 *  - strategy_image.pool_lock guards what is handed between submitter and workers.
 *  - A tp_request belongs to the submitter until it is in `ready`, then to the worker
 *    that took it until it is in `finished`; but for `cancelled` and, under pool_lock,
 *    `worker`.
 *  - All else is the submitter's: it is the thread that owns the loop.
 */
#ifndef THREADPOOL_MODEL_H
#define THREADPOOL_MODEL_H
#include <stdatomic.h>

#include "core/env/env.h"
#include "strategies/common/guest.h"
#include "strategies/common/host.h"
#include "strategies/common/nodes.h"

struct node_guard { /* all but `held` under lock */
    struct env_mutex lock;
    atomic_bool held; /* lock is; only to count who finds it so */
    struct tp_request *asleep, **end_asleep; /* oldest first */
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
    struct loop_bh nudge;       /* to its own loop: look whether you are cancelled */
    bool nudged;                /* under pool_lock: nudge is on its way */
    int result;                 /* of starting */
    struct error err;
};

struct tp_request { /* a slot; everything else of a request is on the worker's stack */
    struct strategy_image *image;
    struct guest_req *guest;
    struct tp_worker *worker;
    struct tp_request *next; /* free, ready, finished, or asleep */
    qcow2_chan chan;         /* asleep on */
    struct env_cond wakeup;
    bool awake; /* under the node's lock */
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
    struct loop *loop;
    struct env *env;
    struct node *nodes; /* the top first */
    unsigned node_count;
    bool hold, through, writable;
    struct error *err; /* of opening */

    struct guests guests; /* slots: struct tp_request */
    atomic_ullong wakeups, lock_waits, bytes_copied;

    struct tp_worker *workers;
    unsigned worker_count, threads_started, loops_started;
    bool all_started;
    struct loop_options engine; /* of each worker */
    struct loop_bh tell;        /* empties `finished`, on the submitter's loop */

    struct env_mutex pool_lock;                  /* guards the rest */
    struct tp_request *ready, **end_ready;       /* oldest first */
    struct tp_request *finished, **end_finished; /* oldest first */
    struct tp_worker *resting; /* without work; the last to rest first */
    bool calling;              /* one of them is on its way */
    bool telling;              /* tell is on its way */
    bool stop;
};

/* settings.c */
extern const struct setting tp_settings[];
extern const struct strategy_way tp_ways[];
/* 0, or -EINVAL with err: what is set is not known, or doesn't go together. */
int tp_configure(struct strategy_image *, const struct strategy_options *,
                 struct error *);

/* engine.c: from the guest's request to a worker, and back. tp_load and tp_run are the
 * worker's, the others the submitter's. */
int tp_open(struct strategy_image **, const struct strategy_options *, struct error *);
int tp_load(struct tp_request *);
void tp_submit(struct strategy_image *, struct guest_req *);
void tp_admit(struct strategy_image *);
void tp_start(struct tp_request *);
int tp_run(struct tp_request *);
void tp_finish(struct tp_request *);
void tp_cancel(struct strategy_image *, struct guest_req *);
void tp_drain_begin(struct strategy_image *);
void tp_drain_end(struct strategy_image *);
void tp_attach(struct strategy_image *, struct loop *);
void tp_stats(struct strategy_image *, struct strategy_stats *);
int tp_close(struct strategy_image *);

/* settle.c: all that waits, on a worker. All but tp_wake_sleepers() and tp_defer()
 * block. */
void tp_begin(struct node *);
void tp_end(struct node *);
/* Settles what a verb needs, lock held before and after. 0: repeat the verb. Negative:
 * give its ticket up. */
int tp_settle(struct tp_request *, struct node *, int verdict);
void tp_sleep(struct tp_request *, struct node *);
void tp_wake_sleepers(struct node *);
int tp_owed(struct tp_request *, struct node *);
int tp_transfer(struct tp_request *); /* aio as host_data() filled it */
int tp_decompress(struct tp_request *, const struct where *);
/* Finish in a bottom half of the submitter's loop. */
void tp_defer(struct tp_request *);
/* Between two parts of something long: gives the mutex back. */
void tp_pause(struct tp_request *, struct node *);

/* read.c */
int tp_read(struct tp_request *);
int tp_read_range(struct tp_request *, struct node *, uint64_t guest, uint64_t len,
                  const struct iovec *, int iovcnt);
int tp_map(struct tp_request *, struct node *, uint64_t guest, uint64_t len,
           struct where *);
void tp_unmap(struct where *);
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
