/*
 * A spot: one thread waits there, awake, for another to put a pointer into its hand.
 * For what comes so soon that falling asleep and being woken would take longer.
 *
 * On the machine it looks again and again, and uses a CPU for it. In simulation it
 * waits in virtual time, and spares what a wake-up costs there; the CPU that it uses is
 * not counted.
 */
#ifndef ASYNCOW_SPOT_H
#define ASYNCOW_SPOT_H
#include <sched.h>

#include "core/env/sim.h"

/* Zero-initialised is empty. */
struct env_spot {
    void *_Atomic item;
    struct sim_gate gate;
    struct sim_event alarm;
    struct env *env;
};

#define ENV_SPOT_FOR_EVER UINT64_MAX
/* One thread at a time. What was put, which leaves the spot empty; NULL: nothing was,
 * for ns nanoseconds. */
void *env_spot_take(struct env *, struct env_spot *, uint64_t ns);
/* From any thread, into an empty spot. What the caller did before is seen by who
 * takes. */
void env_spot_put(struct env *, struct env_spot *, void *item);

/* The CPU that the caller runs on now; -1: simulated, where none is short. */
static inline int env_cpu(const struct env *env)
{
    return env->simulated ? -1 : sched_getcpu();
}

/* For who looks again and again for what another thread does, and has done so for
 * waited_ns: lets the CPU's other half go first; after a while any thread, for it may be
 * this very CPU that the other one waits for. */
#define ENV_YIELDS_NS 5000
static inline void env_relax(uint64_t waited_ns)
{
    if (waited_ns > ENV_YIELDS_NS)
        sched_yield();
#if defined(__x86_64__)
    else
        __builtin_ia32_pause();
#endif
}

#endif
