/*
 * The machine as it is: the monotonic clock, a shared random stream, POSIX threads.
 *
 * Everything here may be called from any thread. The state is one atomic counter.
 */
#include "core/coroutine/coroutine.h"
#include "core/env/env.h"
#include "core/env/random.h"

#include <assert.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct env_machine {
    struct env env;
    _Atomic uint64_t random;
};

static uint64_t real_now_ns(struct env *env)
{
    struct timespec ts;

    (void)env;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t real_realtime_ns(struct env *env)
{
    struct timespec ts;

    (void)env;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t real_random(struct env *env)
{
    struct env_machine *m = (struct env_machine *)env;

    return splitmix_mix(
        SPLITMIX_GAMMA +
        atomic_fetch_add_explicit(&m->random, SPLITMIX_GAMMA, memory_order_relaxed));
}

/* The machine makes its own disorder; no need to add to it. */
static unsigned real_choose(struct env *env, unsigned n)
{
    (void)env;
    (void)n;
    return 0;
}

static unsigned real_cpus(struct env *env)
{
    cpu_set_t set;

    (void)env;
    return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

static void *real_thread_main(void *opaque)
{
    struct env_thread *t = opaque;

    t->fn(t->arg);
    co_pool_drain(); /* the thread's pool ends with it */
    return NULL;
}

static int real_thread_start(struct env *env, struct env_thread *t)
{
    (void)env;
    return -pthread_create(&t->real, NULL, real_thread_main, t);
}

/* pthread calls on objects that are valid can only fail for misuse (relocking,
 * unlocking what one doesn't hold): a programmer's error. */
static void must(int err)
{
    assert(err == 0);
    (void)err;
}

static void real_thread_join(struct env *env, struct env_thread *t)
{
    (void)env;
    must(pthread_join(t->real, NULL));
}

static void real_mutex_lock(struct env *env, struct env_mutex *m)
{
    (void)env;
    must(pthread_mutex_lock(&m->real));
}

static void real_mutex_unlock(struct env *env, struct env_mutex *m)
{
    (void)env;
    must(pthread_mutex_unlock(&m->real));
}

static void real_rwlock_shared(struct env *env, struct env_rwlock *l)
{
    (void)env;
    must(pthread_rwlock_rdlock(&l->real));
}

static void real_rwlock_exclusive(struct env *env, struct env_rwlock *l)
{
    (void)env;
    must(pthread_rwlock_wrlock(&l->real));
}

static void real_rwlock_unlock(struct env *env, struct env_rwlock *l)
{
    (void)env;
    must(pthread_rwlock_unlock(&l->real));
}

static void real_cond_wait(struct env *env, struct env_cond *c, struct env_mutex *m)
{
    (void)env;
    must(pthread_cond_wait(&c->real, &m->real));
}

static void real_cond_signal(struct env *env, struct env_cond *c)
{
    (void)env;
    must(pthread_cond_signal(&c->real));
}

static void real_cond_broadcast(struct env *env, struct env_cond *c)
{
    (void)env;
    must(pthread_cond_broadcast(&c->real));
}

static void real_step(struct env *env, uint64_t cost_ns)
{
    (void)env;
    (void)cost_ns;
}

static void real_destroy(struct env *env) { free(env); }

static const struct env_ops real_ops = {
    .name = "real",
    .now_ns = real_now_ns,
    .realtime_ns = real_realtime_ns,
    .random = real_random,
    .choose = real_choose,
    .cpus = real_cpus,
    .thread_start = real_thread_start,
    .thread_join = real_thread_join,
    .mutex_lock = real_mutex_lock,
    .mutex_unlock = real_mutex_unlock,
    .rwlock_shared = real_rwlock_shared,
    .rwlock_exclusive = real_rwlock_exclusive,
    .rwlock_unlock = real_rwlock_unlock,
    .cond_wait = real_cond_wait,
    .cond_signal = real_cond_signal,
    .cond_broadcast = real_cond_broadcast,
    .step = real_step,
    .destroy = real_destroy,
};

struct env *env_real(uint64_t seed)
{
    struct env_machine *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->env.ops = &real_ops;
    m->env.simulated = false;
    atomic_init(&m->random, seed);
    return &m->env;
}
