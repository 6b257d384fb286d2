/*
 * Several loops' guests: stop all, go on.
 *
 * A loop stops when it looks and finds that somebody wants it to: a drain, or an apply
 * on another loop, which must run alone. It is `quiet` when it has looked, stopped, and
 * has nothing in flight; that stays true until it looks again and goes on, whatever was
 * wanted meanwhile. Who waits for the others' quiet (a drain, on the first loop; an
 * apply) is told whenever one more is.
 *
 * An apply stands between what its own loop was given before and after it. What other
 * loops have in flight or queued meanwhile may come on either side.
 */
#include "strategies/common/crowd.h"

#include <assert.h>

#include "strategies/common/host.h"

/* All static functions but hear() and heard(): under the lock. */

static void tell(struct guests *gs)
{
    if (gs->hearing)
        return;
    gs->hearing = true;
    gs->crowd->unheard++;
    loop_post(gs->loop, &gs->hear);
}

static void tell_all(struct crowd *c)
{
    for (struct guests *gs = c->first; gs; gs = gs->sibling)
        tell(gs);
}

/* All but one, or all. */
static bool all_quiet(const struct crowd *c, const struct guests *but)
{
    for (const struct guests *gs = c->first; gs; gs = gs->sibling)
        if (gs != but && !gs->quiet)
            return false;
    return true;
}

/* What is wanted of gs. */
static void look(struct guests *gs)
{
    struct crowd *c = gs->crowd;
    gs->draining = c->drains || (c->applying && c->applying != gs);
    bool quiet = gs->draining && gs->idle, news = quiet && !gs->quiet;
    gs->quiet = quiet;
    if (news && c->drains && gs != c->first)
        tell(c->first);
    if (news && c->applying && gs != c->applying)
        tell(c->applying);
    if (gs == c->first)
        c->drained = c->drains && all_quiet(c, NULL);
}

static void heard(struct loop_bh *bh)
{
    struct crowd *c = from_member(bh, struct crowd, all_heard);
    env_mutex_lock(c->env, &c->lock); /* the last to hear has left it */
    c->closed = true;
    env_mutex_unlock(c->env, &c->lock);
}

/* On gs's loop, from a turn. */
static void hear(struct loop_bh *bh)
{
    struct guests *gs = from_member(bh, struct guests, hear);
    struct crowd *c = gs->crowd;
    env_mutex_lock(c->env, &c->lock);
    bool closing = c->closing, last = --c->unheard == 0;
    gs->hearing = false;
    if (!closing)
        look(gs);
    else if (last)
        loop_post(c->first->loop, &c->all_heard);
    env_mutex_unlock(c->env, &c->lock);
    if (!closing) /* else the image may be gone */
        gs->admit(gs);
}

void crowd_add(struct crowd *c, struct guests *gs, void (*admit)(struct guests *))
{
    struct guests **at = &c->first;
    if (!c->first) {
        c->env = loop_env(gs->loop);
        c->all_heard.fn = heard;
        env_mutex_init(&c->lock);
    } else {
        gs->state = GUESTS_RUNNING; /* what opens and closes is the first's */
    }
    while (*at)
        at = &(*at)->sibling;
    *at = gs;
    gs->crowd = c;
    gs->hear.fn = hear;
    gs->admit = admit;
}

void crowd_close(struct crowd *c)
{
    if (!c->first)
        return;
    env_mutex_lock(c->env, &c->lock);
    assert(!c->applying);
    c->closing = true;
    tell_all(c);
    env_mutex_unlock(c->env, &c->lock);
    loop_run_until(c->first->loop, &c->closed);
}

void crowd_destroy(struct crowd *c)
{
    if (c->first)
        env_mutex_destroy(&c->lock);
}

/* --- draining --------------------------------------------------------------------- */

void crowd_drain_begin(struct crowd *c)
{
    env_mutex_lock(c->env, &c->lock);
    c->drains++;
    tell_all(c);
    look(c->first);
    env_mutex_unlock(c->env, &c->lock);
    loop_run_until(c->first->loop, &c->drained);
}

bool crowd_drain_end(struct crowd *c)
{
    env_mutex_lock(c->env, &c->lock);
    assert(c->drains > 0);
    bool outermost = --c->drains == 0;
    if (outermost)
        tell_all(c);
    look(c->first);
    env_mutex_unlock(c->env, &c->lock);
    return outermost;
}

void crowd_rest(struct guests *gs)
{
    struct crowd *c = gs->crowd;
    env_mutex_lock(c->env, &c->lock);
    look(gs);
    env_mutex_unlock(c->env, &c->lock);
}

/* --- an apply --------------------------------------------------------------------- */

bool crowd_claim(struct guests *gs)
{
    struct crowd *c = gs->crowd;
    env_mutex_lock(c->env, &c->lock);
    if (!c->applying) {
        c->applying = gs;
        tell_all(c);
    }
    bool may = c->applying == gs && all_quiet(c, gs);
    env_mutex_unlock(c->env, &c->lock);
    return may;
}

void crowd_release(struct guests *gs)
{
    struct crowd *c = gs->crowd;
    env_mutex_lock(c->env, &c->lock);
    if (c->applying == gs) {
        c->applying = NULL;
        tell_all(c);
    }
    env_mutex_unlock(c->env, &c->lock);
}
