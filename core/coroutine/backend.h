/*
 * Back ends: how one flow of control is suspended and another resumed.
 *
 * The hand-written switch (switch.h) is built in and called directly where there is
 * one; the others are called through this table. A thread uses one at a time
 * (backend.c). Only core/coroutine includes this.
 */
#ifndef ASYNCOW_COROUTINE_BACKEND_H
#define ASYNCOW_COROUTINE_BACKEND_H
#include "core/env/error.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define CO_TSAN 1
#endif

struct co_thread { /* thread.c: a thread that runs one coroutine at a time */
    pthread_t id;
    sem_t turn;
    struct co_state *handed; /* by whoever gave it the turn */
    sigjmp_buf end;
    bool ending;
    void (*fn)(void);
};

struct co_ctx { /* suspended, by any back end but the hand-written one */
    union {
        sigjmp_buf jump;
#ifdef CO_TSAN
        ucontext_t ucontext; /* TSan looks a longjmp's target up in the fibre it left */
#endif
        struct co_thread thread;
    };
};

struct co_backend {
    const char *name, *summary;
    bool threads; /* a coroutine is a thread: nothing to tell sanitizers or valgrind */
    /* 0, or -ENOTSUP with err: why not here. May be NULL: always. */
    int (*probe)(struct error *);
    /* The leader, before its first switch. May be NULL. */
    void (*adopt)(struct co_ctx *);
    /* fn(), which never returns, will run on [bottom, top) at the first switch to ctx.
     * 0 or -errno. */
    int (*init)(struct co_ctx *, char *bottom, char *top, void (*fn)(void));
    void (*change)(struct co_ctx *from, struct co_ctx *to);
    /* Suspended for good. May be NULL. */
    void (*fini)(struct co_ctx *);
};

extern const struct co_backend co_backend_asm, co_backend_ucontext,
    co_backend_sigaltstack, co_backend_thread;

/* A probe: refuses where the processor keeps a shadow stack. */
int co_backend_no_shadow_stack(struct error *);
/* What a thread starts with; aborts with a message if it can't be used. */
const struct co_backend *co_backend_first(void);
/* From now on, in this thread, which has no coroutine. */
void co_backend_use(const struct co_backend *);

#endif
