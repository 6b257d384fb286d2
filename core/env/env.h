/*
 * Time, chance, order and thread hand-over: the one interface.
 *
 * Nothing else in the project reads a clock, draws a random number, picks between two
 * things that could come in either order, or starts, stops, locks or wakes a thread.
 * Two implementations: env_real() (the machine), and env_sim() (virtual time, one seed;
 * a thread is a coroutine that the scheduler picks at every lock, wait and hand-over).
 * On the second, the same seed gives the same bytes on any machine and compiler.
 *
 * Under env_sim everything runs in one OS thread: the thread that created it is the
 * "root" and drives the world through loop_turn() (core/block/loop.h).
 */
#ifndef ASYNCOW_ENV_H
#define ASYNCOW_ENV_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct env;

/* Of simulated threads, oldest first; private to the implementation. */
struct env_queue {
    void *head, *tail;
};
struct env_mutex {
    pthread_mutex_t real;
    void *owner; /* simulated: who holds it */
    struct env_queue waiters;
};
struct env_rwlock {
    pthread_rwlock_t real;
    void *owner;     /* simulated: who has it alone */
    unsigned shared; /* simulated: how many share it */
    struct env_queue waiters;
};
struct env_cond {
    pthread_cond_t real;
    struct env_queue waiters;
};
struct env_thread {
    pthread_t real;
    void *actor; /* simulated */
    struct env *env;
    void (*fn)(void *);
    void *arg;
};

struct env_ops {
    const char *name;
    uint64_t (*now_ns)(struct env *);
    uint64_t (*realtime_ns)(struct env *);
    uint64_t (*random)(struct env *);
    unsigned (*choose)(struct env *, unsigned n);
    unsigned (*cpus)(struct env *);
    int (*thread_start)(struct env *, struct env_thread *);
    void (*thread_join)(struct env *, struct env_thread *);
    void (*mutex_lock)(struct env *, struct env_mutex *);
    void (*mutex_unlock)(struct env *, struct env_mutex *);
    void (*rwlock_shared)(struct env *, struct env_rwlock *);
    void (*rwlock_exclusive)(struct env *, struct env_rwlock *);
    void (*rwlock_unlock)(struct env *, struct env_rwlock *);
    void (*cond_wait)(struct env *, struct env_cond *, struct env_mutex *);
    void (*cond_signal)(struct env *, struct env_cond *);
    void (*cond_broadcast)(struct env *, struct env_cond *);
    void (*step)(struct env *, uint64_t cost_ns);    /* simulated only: CPU used */
    void (*touch)(struct env *, const void *object); /* simulated only */
    void (*destroy)(struct env *);
};
struct env {
    const struct env_ops *ops;
    bool simulated;
};

/* The machine: CLOCK_MONOTONIC, splitmix64 from seed (any thread may draw), pthreads.
 * choose() says 0. */
struct env *env_real(uint64_t seed);
/* Virtual time from 0, everything drawn from seed. See core/env/sim.h. */
struct env *env_sim(uint64_t seed);
void env_destroy(struct env *); /* asserts: every thread is joined */

static inline uint64_t env_now_ns(struct env *e) { return e->ops->now_ns(e); }
/* The date, since 1970. Simulated: virtual time, so that what is written repeats. */
static inline uint64_t env_realtime_ns(struct env *e) { return e->ops->realtime_ns(e); }
static inline uint64_t env_random(struct env *e) { return e->ops->random(e); }
/* Picks one of n > 0 things that may come in any order. */
static inline unsigned env_choose(struct env *e, unsigned n)
{
    return e->ops->choose(e, n);
}
/* How many threads can run at once: CPUs that this process may use. Simulated: 2. */
static inline unsigned env_cpus(struct env *e) { return e->ops->cpus(e); }
/* The caller used cost_ns of CPU: virtual time goes on by that much. Real: nothing. */
static inline void env_step(struct env *e, uint64_t cost_ns)
{
    if (e->simulated)
        e->ops->step(e, cost_ns);
}
/* The caller touches what others touch without a lock of env's: an atomic. For searches
 * over schedules: such steps don't commute. Real: nothing. */
static inline void env_touch(struct env *e, const void *object)
{
    if (e->simulated)
        e->ops->touch(e, object);
}
/* fn(arg) runs in a thread of its own. The struct stays put until joined. 0 or
 * -errno. */
int env_thread_start(struct env *, struct env_thread *, void (*fn)(void *), void *arg);
static inline void env_thread_join(struct env *e, struct env_thread *t)
{
    e->ops->thread_join(e, t);
}
void env_mutex_init(struct env_mutex *);
void env_mutex_destroy(struct env_mutex *);
static inline void env_mutex_lock(struct env *e, struct env_mutex *m)
{
    e->ops->mutex_lock(e, m);
}
static inline void env_mutex_unlock(struct env *e, struct env_mutex *m)
{
    e->ops->mutex_unlock(e, m);
}
/* Many share it, or one has it alone. Who gets it first is up to the system, as with a
 * mutex; do not take it shared while you have it. */
void env_rwlock_init(struct env_rwlock *);
void env_rwlock_destroy(struct env_rwlock *);
static inline void env_rwlock_shared(struct env *e, struct env_rwlock *l)
{
    e->ops->rwlock_shared(e, l);
}
static inline void env_rwlock_exclusive(struct env *e, struct env_rwlock *l)
{
    e->ops->rwlock_exclusive(e, l);
}
static inline void env_rwlock_unlock(struct env *e, struct env_rwlock *l)
{
    e->ops->rwlock_unlock(e, l);
}
void env_cond_init(struct env_cond *);
void env_cond_destroy(struct env_cond *);
static inline void env_cond_wait(struct env *e, struct env_cond *c, struct env_mutex *m)
{
    e->ops->cond_wait(e, c, m);
}
static inline void env_cond_signal(struct env *e, struct env_cond *c)
{
    e->ops->cond_signal(e, c);
}
static inline void env_cond_broadcast(struct env *e, struct env_cond *c)
{
    e->ops->cond_broadcast(e, c);
}

#endif
