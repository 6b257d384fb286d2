/*
 * What the two worlds have in common: both halves of a lock and a condition are set up
 * whatever the world, since neither is told which one it will be used in.
 */
#include "core/env/env.h"

#include <assert.h>
#include <string.h>

void env_destroy(struct env *env) { env->ops->destroy(env); }

int env_thread_start(struct env *env, struct env_thread *t, void (*fn)(void *),
                     void *arg)
{
    memset(t, 0, sizeof(*t));
    t->env = env;
    t->fn = fn;
    t->arg = arg;
    return env->ops->thread_start(env, t);
}

void env_mutex_init(struct env_mutex *m)
{
    memset(m, 0, sizeof(*m));
    pthread_mutex_init(&m->real, NULL);
}

void env_mutex_destroy(struct env_mutex *m)
{
    assert(!m->owner && !m->waiters.head);
    pthread_mutex_destroy(&m->real);
}

void env_rwlock_init(struct env_rwlock *l)
{
    memset(l, 0, sizeof(*l));
    pthread_rwlock_init(&l->real, NULL);
}

void env_rwlock_destroy(struct env_rwlock *l)
{
    assert(!l->owner && !l->shared && !l->waiters.head);
    pthread_rwlock_destroy(&l->real);
}

void env_cond_init(struct env_cond *c)
{
    memset(c, 0, sizeof(*c));
    pthread_cond_init(&c->real, NULL);
}

void env_cond_destroy(struct env_cond *c)
{
    assert(!c->waiters.head);
    pthread_cond_destroy(&c->real);
}
