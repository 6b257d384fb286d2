/*
 * Busy polling: before a loop sleeps it looks for completions for a while, which spares the
 * sleep and the wake-up where the device is quick, and costs CPU where it is not.
 *
 * So the bound adapts, as QEMU's does: a wait that a longer bound would have covered
 * doubles it, up to the maximum; one that no allowed bound would have covered sets it
 * back to nothing.
 */
#include "core/block/loop_int.h"

#define START_NS 4000

uint64_t poll_adapt(uint64_t bound_ns, uint64_t waited_ns, uint64_t max_ns)
{
    if (waited_ns <= bound_ns)
        return bound_ns;
    if (waited_ns > max_ns)
        return 0;
    bound_ns = bound_ns ? 2 * bound_ns : START_NS;
    return bound_ns < max_ns ? bound_ns : max_ns;
}

bool poll_first(struct loop *loop, uint64_t timeout_ns)
{
    uint64_t bound_ns = loop->stats.poll_bound_ns;
    uint64_t begin_ns = env_now_ns(loop->env), now_ns;

    if (!bound_ns)
        return false;
    if (timeout_ns < bound_ns)
        bound_ns = timeout_ns;
    do {
        loop->ops->wait(loop->engine, 0);
        if (loop_ready(loop))
            return true;
        now_ns = env_now_ns(loop->env);
    } while (now_ns - begin_ns < bound_ns);
    return timeout_ns == bound_ns; /* a timer is due */
}
