/*
 * What the runtime's own files share: a coroutine, a thread's state, lists, the pool.
 * Only core/coroutine includes this.
 */
#ifndef ASYNCOW_COROUTINE_INTERNAL_H
#define ASYNCOW_COROUTINE_INTERNAL_H
#include "core/coroutine/backend.h"
#include "core/coroutine/coroutine.h"
#include "core/coroutine/world.h"

#include <assert.h>
#include <stdint.h>

#ifdef CO_TSAN
#define CO_STACK_BYTES (1280u << 10) /* its own data of a thread takes most of that */
#else
#define CO_STACK_BYTES (256u << 10)
#endif
#define CO_LINE 64u

struct co {            /* the first line is all that a switch touches */
    void *sp;          /* suspended by the hand-written switch: its stack */
    struct co *caller; /* set exactly while it runs or is below the running one */
    struct co *next;   /* in the one list that it is on */
    struct co *home;   /* its thread's leader; NULL: it has no function to run */
    void (*fn)(void *);
    void *arg;
    bool listed;    /* on a list: ready, or asleep in a queue */
    bool exclusive; /* asleep in a co_rwlock: wants to be alone */
    uint32_t held;  /* locks; none may be left at the end */

    const struct co_backend *backend;
    char *map; /* the whole mapping, guard page first; NULL: a thread's leader */
    size_t map_bytes;
    struct co *batch_next; /* stack.c: first of an idle batch: the next batch */
    unsigned batch_n;      /* and how many are in this one */
    unsigned valgrind_id;
    /* sanitizers */
    const void *bottom;
    size_t bytes;
    void *fake_stack, *fibre;
    struct co_inbox *inbox; /* a leader's */
    struct co_ctx ctx;      /* suspended by another back end */
} __attribute__((aligned(CO_LINE)));

struct co_state { /* of a thread */
    struct co_world world;
    const struct co_backend *other; /* NULL: the one built in, called directly */

    /* Idle stacks, last in first out: the one used last is in the cache. At most
     * batch_max here, the rest in whole batches; see stack.c. */
    struct co *pool;
    unsigned pool_n, batch_max;
    struct co *batches;
    unsigned batches_n, batches_keep; /* how many there are; how many may stay */
    unsigned batches_least;           /* since the period began */
    unsigned surplus, ticks;
    struct co *dead; /* pool off: ended last, to be unmapped by the next */

    const struct co_backend *backend; /* of new stacks */
    unsigned mapped, mapped_max, colour;
    struct co *from; /* ASan: who switched last */

    void (*watcher)(void *opaque); /* co_watch_switches() */
    void *watcher_opaque;
    bool watcher_skips; /* the next switch is between worlds */
};
extern __thread struct co_state co_tls
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* --- lists ------------------------------------------------------------------------ */

static inline void co_queue_push(struct co_queue *q, struct co *co)
{
    assert(!co->listed);
    co->listed = true;
    co->next = NULL;
    if (q->tail)
        q->tail->next = co;
    else
        q->head = co;
    q->tail = co;
}

static inline struct co *co_queue_pop(struct co_queue *q)
{
    struct co *co = q->head;

    if (!co)
        return NULL;
    q->head = co->next;
    if (!q->head)
        q->tail = NULL;
    co->listed = false;
    return co;
}

/* --- stacks: stack.c -------------------------------------------------------------- */

/* The rare ends of the two below. */
struct co *co_pool_refill(void);
void co_pool_overflow(struct co *);
/* A step of giving back what is too much; from the loop's turn. */
void co_pool_tick(void);
/* Takes up what co_pool_limit() set last, in any thread. No stack is idle. */
void co_pool_use_limit(void);
unsigned co_live(void); /* this thread's coroutines that haven't ended */
/* The function at a stack's bottom: runs one coroutine after the other. */
void co_main(void);

static inline struct co *co_pool_take(void)
{
    struct co *co = co_tls.pool;

    if (__builtin_expect(!co, 0))
        return co_pool_refill();
    co_tls.pool = co->next;
    co_tls.pool_n--;
    return co;
}

/* co is the running one: it still needs its stack for the switch away. */
static inline void co_pool_put(struct co *co)
{
    if (__builtin_expect(co_tls.pool_n >= co_tls.batch_max, 0)) {
        co_pool_overflow(co);
        return;
    }
    co->next = co_tls.pool;
    co_tls.pool = co;
    co_tls.pool_n++;
}

#endif
