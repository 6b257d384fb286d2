/*
 * A thread per coroutine ("uthreads"): the back end for where no stack may be switched,
 * and the measure of what a stack switch saves.
 *
 * The turn is handed from thread to thread, so that exactly one of them runs. With it
 * goes the state that coroutine.c keeps by thread: to everybody above, all of them are
 * the thread whose coroutines they are. What else code keeps by thread (errno aside)
 * isn't handed on, nor does the kernel take them for one: an io_uring made for one
 * issuer is entered from the loop only.
 *
 * After fork() the child has no threads: co_pool_drain() before it.
 */
#undef _FORTIFY_SOURCE
#include "core/coroutine/internal.h"

#include <errno.h>
#include <stdlib.h>

static void turn_wait(struct co_thread *t)
{
    while (sem_wait(&t->turn) < 0)
        assert(errno == EINTR);
}

static void thread_change(struct co_ctx *from, struct co_ctx *to)
{
    to->thread.handed = &co_tls; /* stays as it is until from has its turn again */
    sem_post(&to->thread.turn);
    turn_wait(&from->thread);
    if (from->thread.ending)
        siglongjmp(from->thread.end, 1);
    co_tls = *from->thread.handed;
}

static void *thread_main(void *opaque)
{
    struct co_thread *t = opaque;

    turn_wait(t);
    if (t->ending || sigsetjmp(t->end, 0))
        return NULL;
    co_tls = *t->handed;
    t->fn();
    return NULL;
}

static void thread_adopt(struct co_ctx *ctx)
{
    if (sem_init(&ctx->thread.turn, 0, 0) < 0)
        abort(); /* only for a bad value */
}

static int thread_init(struct co_ctx *ctx, char *bottom, char *top, void (*fn)(void))
{
    struct co_thread *t = &ctx->thread;
    pthread_attr_t attr;
    int err = pthread_attr_init(&attr);

    if (err)
        return -err;
    thread_adopt(ctx);
    t->ending = false;
    t->fn = fn;
    err = pthread_attr_setstack(&attr, bottom,
                                (size_t)(top - bottom) & ~(size_t)(CO_LINE - 1));
    if (!err)
        err = pthread_create(&t->id, &attr, thread_main, t);
    pthread_attr_destroy(&attr);
    return -err;
}

static void thread_fini(struct co_ctx *ctx)
{
    ctx->thread.ending = true;
    sem_post(&ctx->thread.turn);
    pthread_join(ctx->thread.id, NULL);
    sem_destroy(&ctx->thread.turn);
}

const struct co_backend co_backend_thread = {
    .name = "thread",
    .summary = "a thread per coroutine, one of them running at a time",
    .threads = true,
    .adopt = thread_adopt,
    .init = thread_init,
    .change = thread_change,
    .fini = thread_fini,
};
