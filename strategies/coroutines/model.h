/*
 * Coroutines: a request is a stack of its own, on one thread. It runs straight on and
 * yields where it waits; a mutex that coroutines sleep on guards the core.
 *
 * Lock contract (in prose here, in code in settle.c and locks.c), with lock=comutex,
 * the default; what the other locks do is said in locks.c:
 *  - node_guard.lock guards node.core and what is marked below. co_begin() takes it,
 *    co_end() wakes whom the core names and gives it back.
 *  - Never held across guest data I/O, decompression, or a sleep on a channel. Held
 *    across the metadata I/O that a verb owes only with hold=metadata.
 *  - One lock at a time: a request leaves a node before it goes down the chain.
 * The core itself asks for no lock: a verb is one step, and is repeated after a wait.
 * All else needs no lock: one thread, and a coroutine is only left where it yields.
 *
 * With several loops, each a thread with coroutines of its own, that one step must be
 * made one: node_guard.verbs, a mutex of threads, is held inside a section, but never
 * where a coroutine may yield. The locks above get a guard (struct co_guard), and wake
 * whom they wake on its own loop. A request stays on the loop that it came from.
 */
#ifndef COROUTINES_MODEL_H
#define COROUTINES_MODEL_H
#include "core/coroutine/coroutine.h"
#include "strategies/common/crowd.h"
#include "strategies/common/guest.h"
#include "strategies/common/host.h"
#include "strategies/common/nodes.h"

struct node_guard {
    struct co_mutex lock;
    struct co_guard lock_guard;
    struct env_mutex verbs;                  /* several loops: guards the rest */
    struct co_request *asleep, **end_asleep; /* under lock; oldest first */
    uint64_t wakeups;
};

/* One writer, the loop's thread; anybody may look. */
struct co_counts {
    _Atomic uint64_t locks, lock_waits, coroutines, bytes_copied;
};
static inline void co_count(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, old + n, memory_order_relaxed);
}

struct co_home { /* one of the image's loops: where its requests' coroutines run */
    struct strategy_image *image;
    struct guests guests; /* slots: struct co_request */
    struct co_counts counts;
};

struct co_request { /* a slot; everything else of a request is on its stack */
    struct strategy_image *image;
    struct co_home *home;
    struct guest_req *guest;
    struct co *co;
    struct co_request *next; /* free, or asleep */
    qcow2_chan chan;         /* asleep on */
    struct qcow2_need need;
    struct aio aio;
    struct iovec iov;  /* of metadata */
    struct loop_bh bh; /* tells the guest */
    int result;
    bool cancelled;
    bool transfers;       /* aio carries data: it may be cancelled */
    bool changed;         /* metadata; with through, sync before completing */
    struct iovec part[2]; /* head and tail of an allocating write */
    struct host_bufs buf; /* kept */
    struct {              /* fastpath.c: what it has under way */
        struct qcow2_extent extent;
        struct qcow2_write write;
        bool owes; /* need.io, for write: to be done by the coroutine */
    } fast;
    struct co_request *claim_next; /* locks.c, entry: the next younger claim */
    struct co_queue claim_waiters;
    bool claims;
};

/* What a request may wait for while it has the lock; channels of the core apart. */
enum co_wait {
    CO_WAIT_METADATA = 1, /* I/O that a verb owes */
    CO_WAIT_COPY = 2,     /* reading what a write must copy; a compressed cluster */
    CO_WAIT_DATA = 4,     /* the guest's data */
    CO_WAIT_TABLE = 8,    /* a turn of the loop between two tables of a snapshot */
};

struct co_lock { /* locks.c has them all; NULL: nothing to do */
    const char *name;
    unsigned keeps; /* across which waits it is kept: a set of enum co_wait */
    bool optional;  /* across metadata only with hold=metadata */
    bool calls;     /* kept across data, but what follows is a call of its own */
    /* Around a verb. Outside any section. */
    void (*begin)(struct co_request *, struct node *);
    void (*end)(struct node *);
    /* Around a request. why: what it waits for, or has waited for; 0: its start, its
     * end, a sleep on a channel. */
    void (*take)(struct co_request *, enum co_wait why);
    void (*give)(struct co_request *, enum co_wait why);
    /* Whether r could have it at once. NULL: not without a coroutine. */
    bool (*is_free)(struct co_request *r);
};

struct strategy_image {
    struct loop *loop; /* the first */
    struct env *env;
    struct node *nodes; /* the top first */
    unsigned node_count;
    bool through, writable, fast;
    struct error *err; /* of opening */

    const struct blocking_driver
        *driver; /* wrapper.c: of the top; NULL: it has a core */
    void *driver_state;

    const struct co_lock *lock;
    unsigned keeps;                          /* as set; a set of enum co_wait */
    struct co_mutex mutex;                   /* serialize, big, big-held */
    struct co_rwlock rwlock;                 /* rwlock, entry */
    struct co_request *claims, **end_claims; /* entry: oldest first */
    struct co_guard *claims_guard;           /* entry: of them; NULL: one loop */
    struct co_guard lock_guard;              /* several loops: of these locks */
    const char *old_backend;                 /* runtime.c; NULL: not changed */
    unsigned pool, old_pool;

    struct co_home *homes; /* the first loop's first */
    unsigned home_count;
    bool several; /* loops */
    struct crowd crowd;
};

/* settings.c, and what is behind it: locks.c, runtime.c, fastpath.c, wrapper.c */
extern const struct setting co_settings[];
extern const struct strategy_way co_ways[];
/* 0, or -EINVAL with err: what is set is not known, or doesn't go together. */
int co_configure(struct strategy_image *, const struct strategy_options *,
                 struct error *);
const char *co_one_loop(const char *settings); /* struct strategy */

extern const struct co_lock co_no_lock;
const struct co_lock *co_find_lock(const char *settings);
void co_open_locks(struct strategy_image *); /* once it has its nodes */
void co_destroy_locks(struct strategy_image *);
int co_use_runtime(struct strategy_image *, const char *settings, struct error *);
void co_restore_runtime(struct strategy_image *);
int co_wrapped(struct co_request *); /* runs a driver that blocks */
/* Outside coroutines. false: the request is one for a coroutine. */
bool co_fast(struct co_request *);
void co_pay(struct co_request *); /* fast.owes, with the lock; in its coroutine */

/* engine.c: from the guest's request to the coroutine, and back */
int co_open(struct strategy_image **, const struct strategy_options *, struct error *);
int co_load(struct co_request *);
void co_submit(struct strategy_image *, struct guest_req *);
void co_admit(struct co_home *);
void co_start(struct co_request *);
int co_run(struct co_request *);
void co_finish(struct co_request *);
void co_cancel(struct strategy_image *, struct guest_req *);
void co_drain_begin(struct strategy_image *);
void co_drain_end(struct strategy_image *);
void co_attach(struct strategy_image *, struct loop *);
void co_stats(struct strategy_image *, struct strategy_stats *);
void co_verify(struct strategy_image *);
int co_close(struct strategy_image *);

/* settle.c: all that waits. All but co_wake_sleepers() and co_defer() may yield.
 * co_begin() to co_end(): the exclusive section of a node. */
void co_begin(struct co_request *, struct node *);
void co_end(struct node *);
/* Settles what a verb needs, lock held before and after. 0: repeat the verb. Negative:
 * give its ticket up. */
int co_settle(struct co_request *, struct node *, int verdict);
void co_sleep(struct co_request *, struct node *);
void co_wake_sleepers(struct node *);
int co_owed(struct co_request *, struct node *);
int co_transfer(struct co_request *); /* aio as host_data() filled it */
int co_decompress(struct co_request *, const struct where *);
void co_defer(struct co_request *); /* finish in a bottom half; does not yield */
/* Between two parts of something long: the loop turns, the lock is for others too. */
void co_pause(struct co_request *, struct node *);

/* read.c */
int co_read(struct co_request *);
int co_read_range(struct co_request *, struct node *, uint64_t guest, uint64_t len,
                  const struct iovec *, int iovcnt);
int co_map(struct co_request *, struct node *, uint64_t guest, uint64_t len,
           struct where *);
void co_unmap(struct co_request *, struct where *);
/* The whole extent into the vector, `at` bytes from its start. */
int co_read_extent(struct co_request *, const struct where *, const struct iovec *,
                   int iovcnt, size_t at);
int co_read_compressed(struct co_request *, const struct where *, const struct iovec *,
                       int iovcnt, size_t at);

/* write.c */
int co_write(struct co_request *);
int co_write_range(struct co_request *, uint64_t guest, uint64_t len,
                   const struct iovec *, int iovcnt);
int co_plan(struct co_request *, uint64_t guest, uint64_t len, struct qcow2_write *);
int co_write_cow(struct co_request *, const struct qcow2_write *);
int co_write_data(struct co_request *, const struct qcow2_write *, const struct iovec *,
                  int iovcnt, size_t at);
void co_commit(struct co_request *, struct qcow2_write *, int ret);

/* discard.c */
int co_zero(struct co_request *);
int co_write_zeros(struct co_request *, uint64_t guest, uint64_t len);
int co_discard(struct co_request *);

/* flush.c */
int co_flush(struct co_request *);
int co_through(struct co_request *);
int co_sync(struct co_request *);
int co_close_sync(struct co_request *);

/* snapshot.c */
int co_snapshot(struct co_request *);

#endif
