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
 *  - A turn that doesn't block calls sim_poll(), so that a loop that polls sees the world
 *    go on too.
 * The caller may be inside a coroutine of its own; the whole actor waits then.
 */
#ifndef ASYNCOW_SIM_H
#define ASYNCOW_SIM_H
#include "core/env/env.h"

/* Something that happens at a point in virtual time. fn runs on whatever stack is at
 * hand, like an interrupt at a scheduling point: it may schedule, cancel, open gates and
 * change data, but not wait, lock, or enter a coroutine. Embedded in the caller's own
 * struct; zero-initialised is idle. */
struct sim_event {
    void (*fn)(struct sim_event *);
    uint64_t when_ns;
    uint64_t seq;  /* private: order of scheduling */
    unsigned slot; /* private: 0: idle */
};
/* Fires once, at when_ns (or as soon as possible if that is past). Events due at the same
 * time fire in an order that env_choose picks. An event that is scheduled is moved. */
void sim_schedule(struct env *, struct sim_event *, uint64_t when_ns);
bool sim_cancel(struct env *, struct sim_event *); /* false: it was idle */
static inline bool sim_scheduled(const struct sim_event *ev) { return ev->slot != 0; }

/* At most one actor waits at a gate. Zero-initialised is shut. */
struct sim_gate {
    bool open;
    void *waiter; /* private */
};
/* Returns once the gate is open, and shuts it. what: for the deadlock message, a literal
 * such as "loop_turn". */
void sim_gate_wait(struct env *, struct sim_gate *, const char *what);
void sim_gate_open(struct env *, struct sim_gate *);

/* A scheduling point that costs SIM_POLL_NS of virtual time, so that an actor that polls
 * does not stop the clock. */
#define SIM_POLL_NS 100
void sim_poll(struct env *);

bool sim_in_thread(struct env *); /* false: in the root */

/* Random numbers for the engine's latencies: a stream of its own, so that how the guest
 * draws (env_random) and how choices fall (env_choose) don't shift each other. */
uint64_t sim_random(struct env *);

/* Puts fn in the place of the seeded uniform choice. fn returns less than n (> 1). */
void sim_set_chooser(struct env *, unsigned (*fn)(void *opaque, unsigned n),
                     void *opaque);

/* A place for the simulated files (engine_sim.c), which live as long as the world. */
struct sim_slot {
    void *data;
    void (*free)(void *data); /* called by env_destroy, if set */
};
struct sim_slot *sim_files(struct env *);

/* A hash over every choice and every event's time so far: two runs that agree did the
 * same things in the same order. */
uint64_t sim_trace_hash(struct env *);

#endif
