/*
 * Queues under one mutex; sleepers wait on a futex word instead of a condition
 * variable.
 *
 * There is one queue that all workers take from, or (bound) one for each of them.
 *
 * A queue's `word` changes under the lock whenever somebody is to wake, and a worker
 * that finds the queue empty reads it under the lock before it sleeps on that value: no
 * wake-up is lost.
 *
 * Whoever brings jobs wakes one sleeper, however many jobs they are; a worker that is
 * about to leave some behind wakes the next one first. So the submitter pays for one
 * wake-up per batch, and I/O that is quick (a page in memory) is done by the few that
 * it takes: a quarter less CPU per I/O here than waking as many as there are jobs, and
 * no slower on a disk. A job is taken last of all, right before it runs: two workers
 * that take one after the other reach the kernel in that order, but for a preemption in
 * between.
 */
#include "core/block/pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/block/sleeper.h"

struct queue {
    struct loop_bh *head, *tail;
    unsigned idle; /* workers asleep on word */
    atomic_uint word;
};

struct worker {
    struct pool *pool;
    struct queue *queue;
    struct env_thread thread;
    enum { NONE, RUNS, ENDED } state; /* ENDED: to be joined */
};

struct pool {
    struct env *env;
    struct env_mutex lock;
    struct queue *queues;
    unsigned queue_count, next; /* next: the queue whose turn it is */
    unsigned workers, workers_max;
    uint64_t idle_ns; /* UINT64_MAX: nobody ends before the pool does */
    bool closing;
    struct worker worker[];
};

/* Lets the lock go. */
static void unlock_and_wake(struct pool *p, struct queue *q, bool wake)
{
    if (wake)
        atomic_fetch_add_explicit(&q->word, 1, memory_order_relaxed);
    env_mutex_unlock(p->env, &p->lock);
    if (wake)
        futex_wake(&q->word, 1);
}

static void work(void *opaque);

/* With the lock held; whoever ended there has left the lock for good. */
static int start_worker(struct pool *p)
{
    struct worker *w = p->worker;
    int ret;

    while (w->state == RUNS)
        w++;
    if (w->state == ENDED)
        env_thread_join(p->env, &w->thread);
    w->state = RUNS;
    ret = env_thread_start(p->env, &w->thread, work, w);
    if (ret < 0)
        w->state = NONE;
    else
        p->workers++;
    return ret;
}

/* Everybody who is there is busy, and there may be more. */
static bool wants_company(struct pool *p, const struct queue *q)
{
    return !q->idle && p->workers < p->workers_max && p->idle_ns != UINT64_MAX &&
           !p->closing;
}

/* False: it has been idle for long enough. */
static bool sleep_on(struct pool *p, struct queue *q)
{
    unsigned seen = atomic_load_explicit(&q->word, memory_order_relaxed);
    uint64_t begin_ns = p->idle_ns == UINT64_MAX ? 0 : env_now_ns(p->env);

    q->idle++;
    env_mutex_unlock(p->env, &p->lock);
    futex_sleep(&q->word, seen, p->idle_ns);
    env_mutex_lock(p->env, &p->lock);
    q->idle--;
    return q->head || p->workers == 1 || p->idle_ns == UINT64_MAX ||
           env_now_ns(p->env) - begin_ns < p->idle_ns;
}

static void take_and_run(struct pool *p, struct queue *q)
{
    struct loop_bh *job = q->head;

    q->head = job->next;
    env_mutex_unlock(p->env, &p->lock);
    job->fn(job);
    env_mutex_lock(p->env, &p->lock);
}

static void work(void *opaque)
{
    struct worker *w = opaque;
    struct pool *p = w->pool;
    struct queue *q = w->queue;
    bool stays = true;

    env_mutex_lock(p->env, &p->lock);
    while (stays) {
        if (q->head && q->head->next && q->idle) {
            unlock_and_wake(p, q, true);
            env_mutex_lock(p->env, &p->lock);
        } else if (q->head && q->head->next && wants_company(p, q)) {
            start_worker(p); /* if it can't be had, we do its share */
        }
        if (q->head)
            take_and_run(p, q);
        else
            stays = !p->closing && sleep_on(p, q);
    }
    p->workers--;
    w->state = ENDED;
    env_mutex_unlock(p->env, &p->lock);
}

/* ---- open and close ---- */

static struct pool *allocate(struct env *env, const struct pool_options *o)
{
    struct pool *p = calloc(1, sizeof(*p) + o->workers * sizeof(p->worker[0]));

    if (!p)
        return NULL;
    p->queue_count = o->bound ? o->workers : 1;
    p->queues = calloc(p->queue_count, sizeof(*p->queues));
    if (!p->queues) {
        free(p);
        return NULL;
    }
    p->env = env;
    p->workers_max = o->workers;
    p->idle_ns = o->idle_ns ? o->idle_ns : UINT64_MAX;
    env_mutex_init(&p->lock);
    for (unsigned i = 0; i < o->workers; i++) {
        p->worker[i].pool = p;
        p->worker[i].queue = &p->queues[i % p->queue_count];
    }
    return p;
}

int pool_open(struct pool **out, struct env *env, const struct pool_options *o)
{
    struct pool *p = allocate(env, o);
    unsigned first = o->idle_ns ? 1 : o->workers, started;
    int ret = 0;

    if (!p)
        return -ENOMEM;
    env_mutex_lock(env, &p->lock);
    while (ret == 0 && p->workers < first)
        ret = start_worker(p);
    started = p->workers;
    env_mutex_unlock(env, &p->lock);
    if (o->bound && started) /* a queue nobody serves would keep its jobs */
        p->queue_count = started;
    if (!started) {
        pool_close(p);
        return ret;
    }
    *out = p;
    return 0;
}

void pool_close(struct pool *p)
{
    env_mutex_lock(p->env, &p->lock);
    p->closing = true;
    for (unsigned i = 0; i < p->queue_count; i++)
        atomic_fetch_add_explicit(&p->queues[i].word, 1, memory_order_relaxed);
    env_mutex_unlock(p->env, &p->lock);
    for (unsigned i = 0; i < p->queue_count; i++)
        futex_wake(&p->queues[i].word, p->workers_max);
    for (unsigned i = 0; i < p->workers_max; i++) {
        bool started;

        env_mutex_lock(p->env, &p->lock);
        started = p->worker[i].state != NONE;
        env_mutex_unlock(p->env, &p->lock);
        if (started)
            env_thread_join(p->env, &p->worker[i].thread);
    }
    env_mutex_destroy(&p->lock);
    free(p->queues);
    free(p);
}

/* ---- jobs ---- */

static void append(struct queue *q, struct loop_bh *first, struct loop_bh *last)
{
    last->next = NULL;
    if (q->head)
        q->tail->next = first;
    else
        q->head = first;
    q->tail = last;
}

/* With the lock held, let go. Whoever brings a job sees to it that somebody comes. */
static void call_worker(struct pool *p, struct queue *q)
{
    if (wants_company(p, q))
        start_worker(p); /* else one of those who are there will get to it */
    unlock_and_wake(p, q, q->idle);
}

void pool_submit(struct pool *p, struct loop_bh *first, struct loop_bh *last)
{
    struct loop_bh *job, *next;

    if (p->queue_count == 1) {
        env_mutex_lock(p->env, &p->lock);
        append(&p->queues[0], first, last);
        call_worker(p, &p->queues[0]);
        return;
    }
    last->next = NULL;
    for (job = first; job; job = next) {
        struct queue *q;

        next = job->next;
        env_mutex_lock(p->env, &p->lock);
        q = &p->queues[p->next++ % p->queue_count];
        append(q, job, job);
        call_worker(p, q);
    }
}

static bool take_out(struct queue *q, struct loop_bh *job)
{
    struct loop_bh **at, *prev = NULL;

    for (at = &q->head; *at && *at != job; at = &(*at)->next)
        prev = *at;
    if (!*at)
        return false;
    *at = job->next;
    if (q->tail == job)
        q->tail = prev;
    return true;
}

bool pool_withdraw(struct pool *p, struct loop_bh *job)
{
    bool found = false;

    env_mutex_lock(p->env, &p->lock);
    for (unsigned i = 0; i < p->queue_count && !found; i++)
        found = take_out(&p->queues[i], job);
    env_mutex_unlock(p->env, &p->lock);
    return found;
}

unsigned pool_workers(struct pool *p)
{
    unsigned n;

    env_mutex_lock(p->env, &p->lock);
    n = p->workers;
    env_mutex_unlock(p->env, &p->lock);
    return n;
}
