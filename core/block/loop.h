/*
 * The event loop: one per thread, with one engine instance.
 *
 * A turn (loop_turn) submits everything gathered since the last one in as few system
 * calls as the engine can, waits if asked and if nothing is ready, then delivers
 * completions, timers, bottom halves and posted work, and runs coroutines made ready.
 * A completion is always delivered from a turn, never from inside aio_submit(); unless
 * inline_completion asks for that. Then aio_submit() hands the I/O down at once, and
 * calls back whatever has completed by then, its own I/O too: to LOOP_INLINE_MAX
 * submissions inside one another, and not inside a coroutine, which can't be entered
 * while it runs; else the next turn does. It is there to be compared: only callers that
 * expect it may use it.
 *
 * All calls are for the owning thread, but for loop_post() which any thread may use.
 * Under env_sim a turn called from a simulated thread parks it until something of this
 * loop completes; called from the root it runs the world.
 */
#ifndef ASYNCOW_LOOP_H
#define ASYNCOW_LOOP_H
#include <stdbool.h>
#include <stdint.h>

#include "core/env/env.h"
#include "core/env/error.h"

struct loop;

#define LOOP_INLINE_MAX 8

/* How who waits for one thing (aio_run(), loop_run_until()) sleeps. The last two are
 * what the patches of 2008 did: a select() that ends after a while in any case, on the
 * engine's descriptor or on nothing at all. */
enum loop_waiter { LOOP_WAIT_EVENT, LOOP_WAIT_SELECT, LOOP_WAIT_BLIND };

struct loop_options {
    /* A name with settings, "posix-aio:completion=poll,threads=4"; see engine.c */
    const char *engine;
    unsigned depth;   /* host I/Os in flight the engine is sized for; more queue up */
    unsigned batch;   /* most I/Os per submission; 0: no limit */
    unsigned workers; /* pool size, of engines with threads; 0: its default */
    bool libuv;       /* sleeps in a libuv loop, not in the engine's own wait */
    /* Looks for completions so long before it sleeps, at most; adapts. */
    uint64_t poll_ns;
    bool inline_completion; /* done() may be called from inside aio_submit(): above */
    enum loop_waiter waiter;
    uint64_t waiter_ns;    /* its bound; 0: 1 ms */
    uint64_t merge_bytes;  /* I/Os side by side go down as one of so much; 0: off */
    const char *sim_model; /* sim engine: "fixed", "lognormal" ...; NULL: its default */
    const char *settings;  /* of the engine, set by loop_create(); or NULL */
};

/* 0 or -errno with err set ("engine io_uring: ... forbidden by sysctl ..."). */
int loop_create(struct loop **, struct env *, const struct loop_options *,
                struct error *);
void loop_destroy(struct loop *); /* asserts: idle */
struct env *loop_env(struct loop *);
const char *loop_engine(const struct loop *); /* the engine's name */
/* What was asked of the engine and isn't to be had here, "" if nothing. */
const char *loop_notes(const struct loop *);
/* Tells the engine of memory that much of the I/O will use, so that it can register it
 * with the kernel if that is one of its settings. loop_forget_memory() before it is
 * freed. */
void loop_use_memory(struct loop *, void *base, size_t len);
void loop_forget_memory(struct loop *);

struct loop_stats {
    uint64_t slept, polled; /* waits that slept, and that polling spared */
    uint64_t poll_bound_ns; /* now */
    uint64_t inlined;       /* submissions that completed something inside themselves */
    uint64_t inline_declined; /* by a coroutine: its completion would re-enter it */
    unsigned inline_deepest;
    uint64_t merged, carriers; /* I/Os that went down merged, and as how many */
};
void loop_get_stats(const struct loop *, struct loop_stats *);

/* One turn. block: wait until something happened. Returns how many callbacks ran. */
unsigned loop_turn(struct loop *, bool block);
/* Turns until *flag is true. */
void loop_run_until(struct loop *, const bool *flag);

/* Bottom half: fn runs in a coming turn, in order of deferral. Embedded in the caller's
 * struct; at most once pending at a time. */
struct loop_bh {
    void (*fn)(struct loop_bh *);
    struct loop_bh *next;
};
void loop_defer(struct loop *, struct loop_bh *);
/* The same, from any thread; wakes it. */
void loop_post(struct loop *, struct loop_bh *);

/* Another thread works for this loop, and will loop_post() once: counts how many do.
 * While one does, a turn looks for posts before it sleeps, for the longest poll_ns that
 * any of them named. (Simulated: then it costs no wake-up.) */
void loop_expect_post(struct loop *, uint64_t poll_ns);
void loop_had_post(struct loop *);

struct loop_timer {
    void (*fn)(struct loop_timer *);
    uint64_t deadline_ns; /* on env_now_ns() */
    unsigned heap_index;  /* 0: not armed */
    uint64_t seq;         /* private: order of arming */
};
void loop_timer_arm(struct loop *, struct loop_timer *, uint64_t deadline_ns);
void loop_timer_cancel(struct loop *, struct loop_timer *);

/* From now on other threads can wake the calling thread's coroutines (co_wake()): this
 * loop, which is the thread's, runs them. Once is enough; until loop_destroy(). */
void loop_take_wakes(struct loop *);

/* fn(work) runs on a helper thread (in simulation: at once, in virtual time), then
 * done(work) from a turn of the loop. For decompression. Never fails: without threads
 * it runs in the turn. */
struct loop_work {
    void (*fn)(struct loop_work *);
    void (*done)(struct loop_work *);
    struct loop *loop;
    struct loop_work *next;
    struct loop_bh bh;
};
void loop_work(struct loop *, struct loop_work *);

/* A turn's own duration is the loop's stall: longest and a histogram hook. fn may be
 * NULL; called after each turn with the nanoseconds from wake-up to going to sleep. */
void loop_set_turn_probe(struct loop *, void (*fn)(void *opaque, uint64_t busy_ns),
                         void *opaque);
/* fn, if not NULL, is called before a turn goes to sleep (true) and when it has woken
 * up (false): for a lock that is held while the loop runs. A turn that does not sleep
 * keeps it. */
void loop_set_sleep_hook(struct loop *, void (*fn)(void *opaque, bool asleep),
                         void *opaque);

#endif
