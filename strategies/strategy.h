/*
 * What a strategy is to the rest of the program: one exported table.
 *
 * A strategy is a shared module with core/qcow2 compiled in (hidden visibility). What
 * is common to all (loop, engines, files, clock, coroutines) lives once in the program,
 * which exports it; STRATEGY_ABI is the version of all those headers together.
 *
 * Calls are for the thread that owns the loop. done() comes from a turn of that loop,
 * never from inside submit().
 *
 * An image may have several loops, each with a thread of its own that turns it, if the
 * strategy says so (one_loop). A request has a home among them: submit() and cancel()
 * are for its thread, and done() comes from a turn of it. All other calls are for the
 * first loop's thread, between open and close while the others turn.
 */
#ifndef ASYNCOW_STRATEGY_H
#define ASYNCOW_STRATEGY_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/block/aio.h"
#include "core/env/settings.h"
#include "core/image/node.h"
#include "core/qcow2/qcow2.h"

#define STRATEGY_ABI 9
#define STRATEGY_SYMBOL "asyncow_strategy"

enum guest_op {
    GUEST_READ,
    GUEST_WRITE,
    GUEST_ZERO,
    GUEST_DISCARD,
    GUEST_FLUSH,
    /* Internal snapshots of a qcow2 top, in the order of enum qcow2_snapshot_op. Create
     * keeps what was acknowledged before it was submitted and nothing submitted after
     * done(). Apply is run alone: what came before it ends first, what comes after it
     * waits (what other loops have been given meanwhile may come on either side). Never
     * cancelled once begun. Errors: qcow2_snapshot_step(); -ENOTSUP: raw. */
    GUEST_SNAPSHOT_CREATE,
    GUEST_SNAPSHOT_APPLY,
    GUEST_SNAPSHOT_DELETE,
    GUEST_OPS
};

/* One request of the guest. The submitter's struct, unmoved until done(). Any
 * alignment; the range must lie inside the disk (else -EINVAL). The module's own state
 * for it lives in slots that it preallocated at open for `depth` requests (more than
 * that wait). */
struct guest_req {
    enum guest_op op;
    uint64_t offset, len; /* bytes; len is the sum of iov for READ and WRITE */
    const struct iovec *iov;
    int iovcnt;
    const char *name; /* SNAPSHOT: of the new one; or id or name of one there is */
    unsigned home;    /* which of the image's loops; 0: the first */
    void (*done)(struct guest_req *);
    int result; /* 0 or -errno */
    void *slot; /* the module's */
    struct guest_req *next, *prev;
};

struct strategy_options {
    struct loop *loop;
    struct loop *const *more; /* the other loops, which turn already */
    unsigned more_count;
    const struct loop_options *engine; /* for modules that open loops of their own */
    const struct image_node *top;
    const char *settings; /* "hold=none,workers=8"; NULL or "": defaults */
    unsigned depth;       /* guest requests in flight, at most; an equal share a loop */
    size_t cache;         /* bytes of metadata cache for the top image */
    uint64_t grow;        /* file growth ahead of need, bytes; 0: off */
    bool through;         /* --metadata-writes=through */
    bool punch;
};
struct strategy_stats {
    struct qcow2_stats top;              /* of the top image */
    uint64_t wakeups, locks, lock_waits; /* locks taken; of them, after waiting */
    uint64_t coroutines;                 /* made, over a request or a phase of one */
    uint64_t bytes_copied;
    bool poisoned;
    struct qcow2_complaint complaint; /* of the topmost image that has one */
    const char *complaint_file;       /* the module's, until close */
};
struct strategy_image; /* each module defines its own */

/* A way to run a strategy, as it is named: one for each word that a setting may be, and
 * "" for its defaults. */
struct strategy_way {
    const char *name;   /* "lock=big" */
    const char *help;   /* one line */
    const char *claims; /* of docs/claims.md that it serves: "K2 K5"; "": none */
};

struct strategy {
    uint32_t abi; /* STRATEGY_ABI */
    const char *name, *summary;
    const struct setting *settings;  /* ends with name NULL */
    const struct strategy_way *ways; /* likewise; NULL: none said */
    /* Why an image can't have several loops under these settings; NULL: it can. Without
     * this function it can't. */
    const char *(*one_loop)(const char *settings);
    /* Opens the whole chain; turns the loop until metadata is loaded. */
    int (*open)(struct strategy_image **, const struct strategy_options *,
                struct error *);
    void (*submit)(struct strategy_image *, struct guest_req *);
    /* Asks for an early end; done() comes in any case, with -ECANCELED if it was early.
     * The image is right either way. */
    void (*cancel)(struct strategy_image *, struct guest_req *);
    /* Admits nothing new (submissions queue up) and turns the loop until all that was
     * admitted has ended. Nests; drain_end of the outermost admits again. Not from
     * inside done(): the request would wait for those behind it in the same turn. */
    void (*drain_begin)(struct strategy_image *);
    void (*drain_end)(struct strategy_image *);
    /* Moves an image with one loop to another, which may be another thread's: called
     * between drain_begin and drain_end, on the old loop's thread. From then on all calls are
     * for the new loop's thread, drain_end and close among them; what still queues up
     * ends there. */
    void (*attach)(struct strategy_image *, struct loop *);
    void (*stats)(struct strategy_image *, struct strategy_stats *);
    /* Between two turns: asserts all that must hold in memory. Slow, for tests. */
    void (*verify)(struct strategy_image *);
    /* Drained by the caller's side (asserted: nothing in flight). Syncs all metadata,
     * trims the file, frees. 0 or the first error: then the disk holds what the last
     * successful flush promised. */
    int (*close)(struct strategy_image *);
};

/* What a module defines: the one symbol that can be seen of it. */
extern const struct strategy asyncow_strategy __attribute__((visibility("default")));

#endif
