/*
 * What a worker does that has no work: `idle`.
 *
 * With idle=sleep it rests, and who brings work wakes one. That costs a system call and
 * the time until a CPU runs it, as much again when it wakes the submitter: tens of
 * microseconds around a request that may take one.
 *
 * With idle=spin it first shows itself, and waits awake for a while (spin-us): who
 * brings work puts it into its hand, without the lock. The submitter's loop looks for
 * what is finished just as long before it sleeps (loop_expect_post()), so a hand-over
 * is a cache line's journey in both directions. As many workers do so as there are CPUs
 * beside the loops'; where none is left none does, for it would only keep a loop from
 * running.
 *
 * Nor does a worker that finds itself on the CPU that its work comes from. The system
 * leaves two threads that never sleep where they are, and they would take turns.
 *
 * Whoever takes a worker out of `spinning` owes it a request, and it waits for it. It
 * is put there under pool_lock, while nothing is ready; so nobody can leave work in a
 * queue and not see it.
 */
#include "strategies/threadpool/model.h"

/* Under pool_lock, which it gives up while it sleeps. */
static void rest(struct tp_worker *w)
{
    struct strategy_image *image = w->image;
    w->next = image->resting;
    image->resting = w;
    while (!w->called && !image->stop)
        env_cond_wait(image->env, &w->work, &image->pool_lock);
    if (w->called)
        image->calling = false;
    w->called = false;
}

/* --- idle=sleep ------------------------------------------------------------------- */

static bool sleep_give(struct tp_request *r)
{
    (void)r;
    return false;
}

static struct tp_request *sleep_wait(struct tp_worker *w)
{
    rest(w);
    return NULL;
}

static void sleep_stop(struct strategy_image *image) { (void)image; }

const struct tp_idle tp_idle_sleep = {sleep_give, sleep_wait, sleep_stop};

/* --- idle=spin -------------------------------------------------------------------- */

/* One that waits awake; it is the caller's to give to. NULL: none does. */
static struct tp_worker *take_spinner(struct strategy_image *image)
{
    struct tp_worker *w = NULL;
    for (unsigned i = 0; i < image->spinners && !w; i++) {
        env_touch(image->env, &image->spinning[i]);
        if (atomic_load_explicit(&image->spinning[i], memory_order_relaxed))
            w = atomic_exchange(&image->spinning[i], NULL);
    }
    return w;
}

/* Under pool_lock. false: enough others do it. */
static bool appear(struct tp_worker *w)
{
    struct strategy_image *image = w->image;
    for (unsigned i = 0; i < image->spinners; i++) {
        env_touch(image->env, &image->spinning[i]);
        if (atomic_load_explicit(&image->spinning[i], memory_order_relaxed))
            continue; /* others only leave meanwhile */
        w->place = i;
        atomic_store(&image->spinning[i], w);
        return true;
    }
    return false;
}

/* false: somebody has taken it already. */
static bool disappear(struct tp_worker *w)
{
    struct tp_worker *self = w;
    env_touch(w->image->env, &w->image->spinning[w->place]);
    return atomic_compare_exchange_strong(&w->image->spinning[w->place], &self, NULL);
}

/* NULL: nothing came. */
static struct tp_request *spin(struct tp_worker *w)
{
    struct env *env = w->image->env;
    struct tp_request *r = env_spot_take(env, &w->spot, w->image->spin_ns);
    if (!r && !disappear(w))
        r = env_spot_take(env, &w->spot, ENV_SPOT_FOR_EVER);
    return r == &w->image->own ? NULL : r;
}

static bool spin_give(struct tp_request *r)
{
    atomic_store_explicit(&r->image->giver_cpu, env_cpu(r->image->env),
                          memory_order_relaxed);
    struct tp_worker *w = take_spinner(r->image);
    if (!w)
        return false;
    r->worker = w;
    env_spot_put(r->image->env, &w->spot, r);
    return true;
}

/* On the CPU of who gives it work it would only be in the way; woken from its sleep it is
 * given another, if one is free. */
static bool in_the_way(const struct strategy_image *image)
{
    int cpu = env_cpu(image->env);
    return cpu >= 0 &&
           cpu == atomic_load_explicit(&image->giver_cpu, memory_order_relaxed);
}

static struct tp_request *spin_wait(struct tp_worker *w)
{
    struct strategy_image *image = w->image;
    if (!in_the_way(image) && appear(w)) {
        env_mutex_unlock(image->env, &image->pool_lock);
        struct tp_request *r = spin(w);
        if (r)
            return r;
        env_mutex_lock(image->env, &image->pool_lock);
        if (image->ready.head || image->resumed.head || image->stop)
            return NULL;
    }
    rest(w);
    return NULL;
}

/* Nothing will come any more: they are told by something that is no request. */
static void spin_stop(struct strategy_image *image)
{
    struct tp_worker *w;
    while ((w = take_spinner(image)))
        env_spot_put(image->env, &w->spot, &image->own);
}

const struct tp_idle tp_idle_spin = {spin_give, spin_wait, spin_stop};
