/*
 * Freeze/thaw: a request's metadata is done straight on in a coroutine, while the queue
 * of requests is frozen; thawed, the coroutine submits the data and is gone. The data
 * completes by callback.
 *
 * What a freeze keeps out, and what not:
 *  - No request is admitted while the queue is frozen, and no other phase of one
 *    already admitted does metadata: ft_begin() waits its turn. Those in turn come
 *    before those not yet admitted.
 *  - Completions go on: commit, abort, unmap are pure memory and run in the callback,
 *    whoever has frozen the queue (with completions=deferred: at the thaw). What a
 *    completion still needs of metadata (the next part of the range, a sync) starts a
 *    phase, in a coroutine, that freezes again.
 *  - Frozen across the metadata I/O that a verb owes. Thawed across guest data I/O and
 *    decompression (unless freeze=whole), and always across a sleep on a channel: whom
 *    a sleeper waits for may need a turn.
 *
 * One freeze for the whole chain: the queue that it stops is in front of all of it.
 */
#ifndef FREEZE_THAW_MODEL_H
#define FREEZE_THAW_MODEL_H
#include "core/coroutine/coroutine.h"
#include "strategies/common/guest.h"
#include "strategies/common/host.h"
#include "strategies/common/nodes.h"

struct ft_request;
typedef void ft_phase(struct ft_request *);         /* what a coroutine runs */
typedef void ft_then(struct ft_request *, int ret); /* a callback; ret: 0 or -errno */

struct node_guard { /* in the frozen queue's stead: who waits for another request */
    struct ft_request *asleep, **end_asleep; /* oldest first */
};

struct ft_request { /* a slot: what must outlive a phase; the rest is on its stack */
    struct strategy_image *image;
    struct guest_req *guest;
    ft_phase *phase;
    struct co *co;
    struct ft_request *next; /* asleep, or held */
    qcow2_chan chan;         /* asleep on */
    struct qcow2_need need;
    struct aio aio;
    ft_then *io_then; /* NULL: the coroutine waits for the aio */
    struct iovec iov; /* of metadata */
    struct loop_bh bh;
    int result;
    bool cancelled;
    bool transfers; /* aio carries data: it may be cancelled */
    bool changed;   /* metadata; with through, sync before completing */

    uint64_t at;        /* of the guest's range: dealt with (but for writes) */
    struct where where; /* being read by callback */
    struct {            /* a range being written: write.c */
        uint64_t guest, len, at;
        const struct iovec *iov;
        int iovcnt;
        ft_then *then;
        struct qcow2_write w;
    } write;
    struct iovec part[2]; /* head and tail */
    struct {              /* zeros being written: discard.c */
        uint64_t guest, len;
        struct iovec iov;
        ft_then *then;
    } zero;
    struct host_bufs buf; /* kept */
};

/* What the queue is frozen for, and what it holds back: settings.c chooses, both in
 * settle.c. */
struct ft_freeze {
    void (*begin)(struct ft_request *); /* before metadata; in a phase */
    void (*end)(struct ft_request *);   /* after it */
    void (*over)(struct ft_request *);  /* the request completes */
};
extern const struct ft_freeze ft_freeze_metadata, ft_freeze_whole;
struct ft_completions {
    void (*arrive)(
        struct ft_request *); /* its data has; r->aio, r->io_then say the rest */
};
extern const struct ft_completions ft_completions_free, ft_completions_deferred;

struct strategy_image {
    struct loop *loop;
    struct node *nodes; /* the top first */
    unsigned node_count;
    bool through, writable;
    struct error *err; /* of opening */

    const struct ft_freeze *freeze;
    const struct ft_completions *completions;
    bool frozen;
    struct ft_request *freezer;          /* NULL: none, or it is being handed over */
    struct co_queue turns;               /* phases that wait to freeze, oldest first */
    struct ft_request *held, **end_held; /* completions until the thaw, oldest first */
    struct loop_bh held_bh;
    bool admitting;    /* ft_admit() is at it */
    bool admits_later; /* its bottom half is on its way */
    struct loop_bh admit_bh;

    struct guests guests; /* slots: struct ft_request */
    struct strategy_stats stats;
};

/* settings.c */
extern const struct setting ft_settings[];
extern const struct strategy_way ft_ways[];
/* 0, or -EINVAL with err: what is set is not known, or doesn't go together. */
int ft_configure(struct strategy_image *, const struct strategy_options *,
                 struct error *);
const char *ft_one_loop(const char *settings); /* struct strategy */

/* engine.c: from the guest's request to its first phase, and back */
int ft_open(struct strategy_image **, const struct strategy_options *, struct error *);
int ft_load(struct ft_request *);
void ft_submit(struct strategy_image *, struct guest_req *);
void ft_admit(struct strategy_image *); /* outside coroutines */
/* Begins a phase in a coroutine of its own; runs it until it waits or ends. */
void ft_start(struct ft_request *, ft_phase *);
void ft_run(struct ft_request *);
void ft_finish(struct ft_request *, int ret); /* from a phase or a callback */
void ft_cancel(struct strategy_image *, struct guest_req *);
void ft_drain_begin(struct strategy_image *);
void ft_drain_end(struct strategy_image *);
void ft_attach(struct strategy_image *, struct loop *);
void ft_stats(struct strategy_image *, struct strategy_stats *);
void ft_verify(struct strategy_image *);
int ft_close(struct strategy_image *);

/* settle.c: all that waits. All but ft_end(), ft_wake_sleepers() and ft_defer() are for
 * coroutines and may yield. */
void ft_begin(struct ft_request *, struct node *); /* freeze */
void ft_end(struct ft_request *, struct node *);   /* thaw */
/* Settles what a verb needs, frozen before and after. 0: repeat the verb. Negative:
 * give its ticket up. */
int ft_settle(struct ft_request *, struct node *, int verdict);
void ft_sleep(struct ft_request *, struct node *);
void ft_wake_sleepers(struct node *);
int ft_owed(struct ft_request *, struct node *);
/* aio as host_data() filled it. With then, submits it: 0: then() will be called;
 * negative: it won't. Without, waits for it. */
int ft_transfer(struct ft_request *, ft_then *then);
int ft_decompress(struct ft_request *, const struct where *);
void ft_defer(struct ft_request *);
/* Between two parts of something long: stays frozen while the loop turns. */
void ft_pause(struct ft_request *, struct node *);

/* read.c */
void ft_read(struct ft_request *);
int ft_read_range(struct ft_request *, struct node *, uint64_t guest, uint64_t len,
                  const struct iovec *, int iovcnt);
int ft_map(struct ft_request *, struct node *, uint64_t guest, uint64_t len,
           struct where *);
void ft_unmap(struct where *);
/* The whole extent into the vector, `at` bytes from its start. then: as ft_transfer(),
 * for an extent of data; NULL for others. */
int ft_read_extent(struct ft_request *, const struct where *, const struct iovec *,
                   int iovcnt, size_t at, ft_then *then);
int ft_read_compressed(struct ft_request *, const struct where *, const struct iovec *,
                       int iovcnt, size_t at);

/* write.c. A range that is written calls then(r, ret) in any case, from a phase or a
 * callback. */
void ft_write(struct ft_request *);
void ft_write_range(struct ft_request *, uint64_t guest, uint64_t len,
                    const struct iovec *, int iovcnt, ft_then *then);
int ft_plan(struct ft_request *, uint64_t guest, uint64_t len, struct qcow2_write *);
int ft_write_cow(struct ft_request *, const struct qcow2_write *);
int ft_write_data(struct ft_request *, const struct qcow2_write *, ft_then *then);
void ft_commit(struct ft_request *, struct qcow2_write *, int ret);

/* discard.c */
void ft_zero(struct ft_request *);
void ft_write_zeros(struct ft_request *, uint64_t guest, uint64_t len, ft_then *then);
void ft_discard(struct ft_request *);

/* flush.c */
void ft_flush(struct ft_request *);
void ft_through(struct ft_request *);
int ft_sync(struct ft_request *);
int ft_close_sync(struct ft_request *);

/* snapshot.c */
void ft_snapshot(struct ft_request *);

#endif
