/*
 * The simulated world (env_sim), as the loop, the sim engine and tests drive it.
 *
 * Everything runs in one OS thread. Its actors are the root (the thread that called
 * env_sim) and the simulated threads; exactly one runs at a time. At a scheduling point
 * (mutex lock and unlock, condition wait and signal, thread start and end, sim_poll,
 * sim_gate_wait) the next thing to happen is picked by env_choose among all runnable
 * actors and all due events. Between two scheduling points an actor runs undisturbed:
 * no other actor and no event callback comes in.
 *
 * Time stands still while anything is runnable. When nothing is, it jumps to the next
 * scheduled event. When there is none either, somebody waits for ever: the world aborts
 * and says who waits for what.
 *
 * How a loop blocks: it owns one sim_gate, which is to a simulated loop what an eventfd
 * is to a real one.
 *  - Whatever gives the loop something to do (engine completion, loop_post from another
 *    actor, a timer's event) queues it on the loop and calls sim_gate_open().
 *  - A blocking turn with nothing to do arms an event for its nearest timer and calls
 *    sim_gate_wait(). This is right in the root and in a simulated thread alike: other
 *    actors run, time goes on, and it returns when the gate has been opened.
 *  - A turn that doesn't block calls sim_poll(), so that a loop that polls sees the
 *    world go on too.
 * The caller may be inside a coroutine of its own; the whole actor waits then.
 */
#ifndef ASYNCOW_SIM_H
#define ASYNCOW_SIM_H
#include "core/env/env.h"

/* Something that happens at a point in virtual time. fn runs on whatever stack is at
 * hand, like an interrupt at a scheduling point: it may schedule, cancel, open gates
 * and change data, but not wait, lock, or enter a coroutine. Embedded in the caller's
 * own struct; zero-initialised is idle. */
struct sim_event {
    void (*fn)(struct sim_event *);
    uint64_t when_ns;
    uint64_t seq;  /* private: order of scheduling */
    unsigned slot; /* private: 0: idle */
};
/* Fires once, at when_ns (or as soon as possible if that is past). Events due at the
 * same time fire in an order that env_choose picks. An event that is scheduled is
 * moved. */
void sim_schedule(struct env *, struct sim_event *, uint64_t when_ns);
bool sim_cancel(struct env *, struct sim_event *); /* false: it was idle */
static inline bool sim_scheduled(const struct sim_event *ev) { return ev->slot != 0; }

/* At most one actor waits at a gate. Zero-initialised is shut. */
struct sim_gate {
    bool open;
    void *waiter; /* private */
    /* Until then its waiter looks again and again, and doesn't sleep: what a wake-up costs
     * (below) is spared. The CPU that it uses meanwhile counts for nothing. */
    uint64_t awake_until_ns;
};
/* Returns once the gate is open, and shuts it. what: for the deadlock message, a
 * literal such as "loop_turn". */
void sim_gate_wait(struct env *, struct sim_gate *, const char *what);
void sim_gate_open(struct env *, struct sim_gate *);

/* A scheduling point that costs SIM_POLL_NS of virtual time, so that an actor that
 * polls does not stop the clock. */
#define SIM_POLL_NS 100
void sim_poll(struct env *);

#define SIM_CPUS 2                /* what env_cpus() says: enough for those who ask */
bool sim_in_thread(struct env *); /* false: in the root */

/* --- what steps cost ---
 *
 * An actor's steps take CPU time, if the model says so (else none, and all below does
 * nothing). It adds up while the actor runs, and is ahead of the world's clock by as much;
 * at its next scheduling point it pays: it occupies one of the CPUs for so long, while
 * events happen and, as far as there are CPUs, other actors run. What it has done up to
 * there is seen by others when it has paid. */
enum sim_step {
    SIM_REQUEST,   /* a guest's request, on its way down and up */
    SIM_TURN,      /* of a loop */
    SIM_BATCH,     /* I/Os handed to the device, however many */
    SIM_SUBMIT,    /* each of them */
    SIM_COMPLETE,  /* a host I/O's completion taken */
    SIM_COROUTINE, /* a switch to a coroutine or from one */
    SIM_LOCK,      /* a thread's mutex or lock taken, and given back */
    SIM_WAKES,     /* a thread woken by another */
    SIM_HANDOVER,  /* a thread that slept goes on */
    SIM_STEPS
};
struct sim_costs {
    uint64_t ns[SIM_STEPS];
    uint64_t cpus; /* actors that compute at a time; 0: any number */
};
struct sim_usage { /* since the world began */
    uint64_t cpu_ns;
    uint64_t steps[SIM_STEPS];
};
extern const char *const sim_step_names[SIM_STEPS];
void sim_set_costs(struct env *, const struct sim_costs *);
bool sim_costs_set(struct env *); /* any but 0 */
void sim_get_usage(struct env *, struct sim_usage *);
/* The running actor does n of these. */
void sim_charge(struct env *, enum sim_step, uint64_t n);
/* It pays, if it owes anything: a scheduling point then. Before what others see without
 * one. */
void sim_pay(struct env *);

/* Random numbers for the engine's latencies: a stream of its own, so that how the guest
 * draws (env_random) and how choices fall (env_choose) don't shift each other. */
uint64_t sim_random(struct env *);

/* Puts fn in the place of the seeded uniform choice. fn returns less than n (> 1). */
void sim_set_chooser(struct env *, unsigned (*fn)(void *opaque, unsigned n),
                     void *opaque);

/* What is being chosen: while the chooser runs. An actor is the root (0) or a thread,
 * by order of start. */
enum sim_kind {
    SIM_NEXT, /* what comes next: the actors that can run, then the events that are due */
    SIM_WAKE, /* which of the actors that wait for one thing is woken */
    SIM_OTHER /* an env_choose() */
};
struct sim_choice {
    enum sim_kind kind;
    unsigned current; /* the actor that runs, or ran last */
    bool goes_on; /* NEXT: option 0 is that one: another before it is a pre-emption */
};
const struct sim_choice *sim_choice(struct env *);
/* NEXT, WAKE: option i is this event, or (*event NULL) this actor. */
unsigned sim_option(struct env *, unsigned i, const struct sim_event **event);

/* fn hears of what happens; it changes nothing. */
struct sim_news {
    enum { SIM_SCHEDULED, SIM_FIRES, SIM_RUNS, SIM_WAITS } what;
    unsigned actor;                /* that does it, or runs while it happens */
    const struct sim_event *event; /* SCHEDULED, FIRES */
    const char *waits_for;         /* WAITS: "mutex", "condition", ... */
};
void sim_set_watcher(struct env *, void (*fn)(void *opaque, const struct sim_news *),
                     void *opaque);

/* fn is called, and need not return, when nothing can run and nothing is scheduled. */
void sim_set_stuck(struct env *, void (*fn)(void *opaque), void *opaque);
unsigned sim_threads(struct env *); /* that live */

/* The history of what happens (core/env/history.h), for searches that leave out
 * schedules which differ in the order of independent steps only. Kept from now on, from
 * nothing; or not any more. false: no memory. Whoever shares something without a lock
 * says so (env_touch); the rest is known here. */
bool sim_keep_history(struct env *, bool keep);
bool sim_history_kept(struct env *);
/* While it is kept: equal in two runs that have done the same so far, in any order that
 * makes no difference: all that can come now is the same, too. */
uint64_t sim_state_hash(struct env *);
void sim_touch_part(struct env *, const void *object, uint64_t part, bool write);
/* item goes into a queue with one reader, who takes the oldest first. */
void sim_push(struct env *, const void *queue, const void *item);
void sim_pop(struct env *, const void *queue, const void *item);
/* item is made by the running actor, now; what is scheduled for it knows no more than that,
 * whenever that happens. */
void sim_name(struct env *, const void *item);
void sim_schedule_for(struct env *, struct sim_event *, uint64_t when_ns,
                      const void *item);
/* A step of the running actor that depends on what it didn't find, or on a choice. */
void sim_mark(struct env *, uint64_t what);

/* A place for the simulated files (engine_sim.c), which live as long as the world. */
struct sim_slot {
    void *data;
    void (*free)(void *data); /* called by env_destroy, if set */
};
struct sim_slot *sim_files(struct env *);
struct sim_slot *sim_devices(struct env *); /* likewise, of core/block/sim_device.c */

/* A hash over every choice and every event's time so far: two runs that agree did the
 * same things in the same order. */
uint64_t sim_trace_hash(struct env *);

#endif
