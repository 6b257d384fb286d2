/*
 * Callbacks: a request is a struct that says how far it has come. Nobody waits: whoever
 * would stores what comes next, a continuation, and returns to the loop.
 *
 * The guard is that nothing runs at the same time: one thread, and between cb_begin()
 * and cb_end() no continuation is called (asserted). The price is that all state lives
 * in the request, and that a function ends where a wait begins.
 *
 * How it reads: cb_foo(r, ..., then) does foo and calls then(r, ret) once, perhaps
 * before it returns. Statics named foo_again() repeat a verb of the core after its need
 * has been settled; foo_done(), foo_mapped() and the like are called when that has
 * happened.
 */
#ifndef CALLBACKS_MODEL_H
#define CALLBACKS_MODEL_H
#include <assert.h>

#include "strategies/common/guest.h"
#include "strategies/common/host.h"
#include "strategies/common/nodes.h"

struct cb_request;
/* A continuation; ret: 0 or -errno. */
typedef void cb_then(struct cb_request *, int ret);

struct node_guard {
    bool inside;                             /* between cb_begin() and cb_end() */
    struct cb_request *asleep, **end_asleep; /* oldest first */
};

struct cb_request { /* a slot: all there is of a request */
    struct strategy_image *image;
    struct guest_req *guest;
    struct cb_request *next; /* free, or asleep */
    bool starting;           /* inside submit: the guest must not be told yet */
    bool cancelled;
    bool transfers; /* aio carries data: it may be cancelled */
    bool changed;   /* metadata; with through, sync before completing */

    /* A verb of the core that is to be repeated: at most one at a time. */
    struct qcow2_ticket ticket; /* but for plan, which has its own in write.w */
    struct qcow2_need need;
    struct node *node;
    unsigned step;   /* of the I/O owed */
    qcow2_chan chan; /* asleep on */
    cb_then *again;
    bool settled,
        repeating; /* metadata=sync: it is to be repeated; that is under way */
    int settled_ret;

    /* What is under way outside: an aio, a bottom half, an expansion. */
    struct aio aio;
    struct iovec iov; /* of metadata, and of a compressed cluster */
    cb_then *io_then;
    struct loop_bh bh;
    cb_then *bh_then;
    int bh_ret;
    struct host_expand expand;
    cb_then *expand_then;

    /* A range being read, the guest's or a backing file's for a copy: read.c. */
    struct {
        struct node *node;
        uint64_t guest, len, at;
        const struct iovec *iov;
        int iovcnt;
        cb_then *then;
    } read;
    struct { /* the search for its next bytes */
        uint64_t guest, len;
        cb_then *then;
    } map;
    struct where where; /* what it found */
    struct {            /* the extent being brought */
        const struct where *where;
        const struct iovec *iov;
        int iovcnt;
        size_t at;
        cb_then *then;
    } extent;

    /* A range being written: write.c. */
    struct {
        uint64_t guest, len, at;
        const struct iovec *iov;
        int iovcnt;
        cb_then *then;
        uint64_t fit; /* of what is left, in one writev */
        struct qcow2_write w;
        cb_then *plan_then;
        int side; /* of the copy around it: 0 head, 1 tail */
        struct where from;
        cb_then *cow_then;
    } write;
    struct iovec part[2]; /* head and tail */

    /* A range being zeroed or discarded: discard.c. */
    struct {
        uint64_t at;
        uint64_t guest, len; /* still to be written as zeros */
        struct iovec iov;    /* those under way */
        cb_then *then;
    } zero;

    cb_then *sync_then;             /* flush.c */
    struct qcow2_snapshot snapshot; /* snapshot.c */
    unsigned load;                  /* engine.c: which node is being loaded */

    struct host_bufs buf; /* kept */
};

/* How metadata comes and goes: `metadata` in settings.c, both in settle.c. */
struct cb_metadata {
    /* The I/O in r->need if ret is 0; reports it and goes on with r->again. */
    void (*owed)(struct cb_request *, int ret);
    void (*pause)(struct cb_request *); /* goes on with r->again */
};
extern const struct cb_metadata cb_metadata_async, cb_metadata_sync;

struct strategy_image {
    struct loop *loop;
    const struct cb_metadata *metadata;
    struct loop *metadata_loop; /* metadata=sync: turns while the other stands still */
    struct node *nodes;         /* the top first */
    unsigned node_count;
    bool through, writable;
    struct error *err; /* of opening */

    struct guests guests; /* slots: struct cb_request */
    struct strategy_stats stats;
};

/* settings.c */
extern const struct setting cb_settings[];
extern const struct strategy_way cb_ways[];
/* 0, or -EINVAL with err: what is set is not known, or doesn't go together. */
int cb_configure(struct strategy_image *, const struct strategy_options *,
                 struct error *);
const char *cb_one_loop(const char *settings); /* struct strategy */

/* engine.c: from the guest's request to its first function, and back */
int cb_open(struct strategy_image **, const struct strategy_options *, struct error *);
void cb_load(struct cb_request *);
void cb_submit(struct strategy_image *, struct guest_req *);
void cb_admit(struct strategy_image *);
void cb_start(struct cb_request *);
void cb_run(struct cb_request *);
void cb_finish(struct cb_request *, int ret); /* the last continuation of all */
void cb_cancel(struct strategy_image *, struct guest_req *);
void cb_drain_begin(struct strategy_image *);
void cb_drain_end(struct strategy_image *);
void cb_attach(struct strategy_image *, struct loop *);
void cb_stats(struct strategy_image *, struct strategy_stats *);
void cb_verify(struct strategy_image *);
int cb_close(struct strategy_image *);

/* settle.c: all that would wait, and so ends by returning to the loop */
void cb_begin(struct node *);
void cb_end(struct node *);
/* Settles what a verb needs, outside the section, then calls again. 0: repeat the verb.
 * Negative: give its ticket up. */
void cb_settle(struct cb_request *, struct node *, int verdict, cb_then *again);
void cb_sleep(struct cb_request *, struct node *);
void cb_wake_sleepers(struct node *);
void cb_owed(struct cb_request *, struct node *);
void cb_transfer(struct cb_request *, cb_then *); /* aio as host_data() filled it */
void cb_decompress(struct cb_request *, const struct where *, cb_then *);
void cb_defer(struct cb_request *, cb_then *, int ret);
/* Between two parts of something long: the loop turns if it may, then again(r, 0). */
void cb_pause(struct cb_request *, struct node *, cb_then *again);

/* read.c */
void cb_read(struct cb_request *);
void cb_read_range(struct cb_request *, struct node *, uint64_t guest, uint64_t len,
                   const struct iovec *, int iovcnt, cb_then *);
void cb_map(struct cb_request *, struct node *, uint64_t guest, uint64_t len,
            cb_then *); /* finds r->where */
void cb_unmap(struct where *);
/* The whole extent into the vector, `at` bytes from its start. */
void cb_read_extent(struct cb_request *, const struct where *, const struct iovec *,
                    int iovcnt, size_t at, cb_then *);
void cb_read_compressed(struct cb_request *); /* r->extent */

/* write.c */
void cb_write(struct cb_request *);
void cb_write_range(struct cb_request *, uint64_t guest, uint64_t len,
                    const struct iovec *, int iovcnt, cb_then *);
void cb_plan(struct cb_request *, cb_then *);
void cb_write_cow(struct cb_request *, cb_then *);
void cb_write_data(struct cb_request *, cb_then *);
void cb_commit(struct cb_request *, int ret);

/* discard.c */
void cb_zero(struct cb_request *);
void cb_write_zeros(struct cb_request *, uint64_t guest, uint64_t len, cb_then *);
void cb_discard(struct cb_request *);

/* flush.c */
void cb_flush(struct cb_request *);
void cb_through(struct cb_request *);
void cb_sync(struct cb_request *, cb_then *);
void cb_close_sync(struct cb_request *);

/* snapshot.c */
void cb_snapshot(struct cb_request *);

/* A verb whose need could not be settled is not repeated: its ticket goes back. */
static inline int cb_give_up(struct cb_request *r, int ret)
{
    cb_begin(r->node);
    qcow2_cancel(r->node->core, &r->ticket);
    cb_end(r->node);
    return ret;
}

#endif
