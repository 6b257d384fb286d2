/* Threads that turn a loop each, and take orders by a bottom half: iothreads.h. */
#include "harness/iothreads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void told(struct loop_bh *bh)
{
    struct iothread *t =
        (struct iothread *)((char *)bh - __builtin_offsetof(struct iothread, told));
    t->go = true;
}

static void ended(struct loop_bh *bh)
{
    struct iothread *t =
        (struct iothread *)((char *)bh - __builtin_offsetof(struct iothread, ended));
    t->all->idle = --t->all->busy == 0;
}

static void thread_main(void *opaque)
{
    struct iothread *t = opaque;
    struct iothreads *all = t->all;

    t->result = loop_create(&t->loop, all->env, &all->options, &t->err);
    loop_post(all->first, &t->ended);
    if (t->result < 0)
        return;
    for (;;) {
        loop_run_until(t->loop, &t->go);
        t->go = false;
        if (!t->fn)
            break;
        t->fn(t, t->opaque);
        loop_post(all->first, &t->ended);
    }
    while (loop_turn(t->loop, false))
        ;
    env_mutex_lock(all->env,
                   &all->posting); /* who told this thread has left the loop */
    env_mutex_unlock(all->env, &all->posting);
    loop_destroy(t->loop);
}

/* NULL: to end. */
static void give(struct iothread *t, void (*fn)(struct iothread *, void *),
                 void *opaque)
{
    t->fn = fn;
    t->opaque = opaque;
    t->told.fn = told;
    env_mutex_lock(t->all->env, &t->all->posting);
    loop_post(t->loop, &t->told);
    env_mutex_unlock(t->all->env, &t->all->posting);
}

void iothreads_run(struct iothreads *all, void (*fn)(struct iothread *, void *opaque),
                   void *opaque)
{
    all->busy = all->n;
    all->idle = all->n == 0;
    for (unsigned i = 0; i < all->n; i++)
        give(&all->thread[i], fn, opaque);
}

void iothreads_wait(struct iothreads *all)
{
    if (all->n)
        loop_run_until(all->first, &all->idle);
}

static int start(struct iothreads *all, unsigned i, struct error *err)
{
    struct iothread *t = &all->thread[i];

    *t = (struct iothread){.all = all, .home = i + 1, .ended = {.fn = ended}};
    int ret = env_thread_start(all->env, &t->thread, thread_main, t);
    if (ret < 0)
        return error_set(err, ret, "iothread %u of %u can't be started: %s", i + 1,
                         all->n, strerror(-ret));
    all->started++;
    all->busy++;
    all->idle = false;
    return 0;
}

int iothreads_open(struct iothreads *all, struct loop *first,
                   const struct loop_options *options, unsigned n, struct error *err)
{
    int ret = 0;

    *all = (struct iothreads){
        .env = loop_env(first), .first = first, .options = *options, .n = n};
    if (!n)
        return 0;
    all->idle = true;
    env_mutex_init(&all->posting);
    all->thread = calloc(n, sizeof(*all->thread));
    all->loop = calloc(n, sizeof(*all->loop));
    if (!all->thread || !all->loop)
        ret = error_set(err, -ENOMEM, "no memory for %u iothreads", n);
    for (unsigned i = 0; i < n && ret == 0; i++)
        ret = start(all, i, err);
    loop_run_until(first, &all->idle);
    for (unsigned i = 0; i < all->started; i++) {
        struct iothread *t = &all->thread[i];
        if (t->result < 0 && ret == 0)
            ret = error_set(err, t->result, "iothread %u: %s", i + 1, t->err.msg);
        all->loop[i] = t->loop;
    }
    if (ret < 0)
        iothreads_close(all);
    return ret;
}

void iothreads_close(struct iothreads *all)
{
    for (unsigned i = 0; i < all->started; i++) {
        struct iothread *t = &all->thread[i];
        if (t->result == 0)
            give(t, NULL, NULL);
        env_thread_join(all->env, &t->thread);
    }
    if (all->n)
        env_mutex_destroy(&all->posting);
    free(all->thread);
    free(all->loop);
    *all = (struct iothreads){0};
}
