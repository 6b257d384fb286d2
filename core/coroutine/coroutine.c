/*
 * Coroutines: life cycle, scheduling, stacks.
 *
 * Invariants:
 *  1. All state is per thread; a coroutine's home is its thread (its world's leader), and
 *     is NULL while it has no function to run (ended, in the pool).
 *  2. caller is set exactly while a coroutine runs or is below the running one in the
 *     chain of enters. The chain ends at the leader.
 *  3. A coroutine is on at most one list (ready, a queue, the pool): listed.
 *  4. A stack's coroutine lives in the stack's own top and is made once: the function at
 *     its bottom, co_main, runs one coroutine after the other, so that reuse needs no
 *     set-up and steady state neither maps nor mallocs.
 *
 * Who may call: any thread, on its own coroutines only (asserted).
 */
#undef _FORTIFY_SOURCE /* its longjmp takes a switch of stacks for an error */
#include "core/coroutine/coroutine.h"
#include "core/coroutine/world.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define CO_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define CO_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(bottom, top) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#include "core/coroutine/switch.h"

#define CO_STACK_BYTES (256u << 10)
#define CO_POOL_MAX 1024u /* idle stacks a thread keeps; enough for the usual depths */
#define CO_LINE 64u
#define CO_COLOURS 64u    /* lines in a page */
#define CO_COLOUR_STEP 7u /* lines; odd, so that successive stacks visit all colours */

struct co {
    struct co_ctx ctx;
    struct co *caller; /* invariant 2 */
    struct co *next;   /* invariant 3 */
    struct co *home;   /* invariant 1 */
    void (*fn)(void *);
    void *arg;
    bool listed;
    char *map; /* the whole mapping, guard page first; NULL: a thread's leader */
    size_t map_bytes;
    unsigned valgrind_id;
    /* sanitizers */
    const void *bottom;
    size_t bytes;
    void *fake_stack, *fibre;
} __attribute__((aligned(CO_LINE)));

static __thread __attribute__((tls_model("initial-exec"))) struct {
    struct co_world world;
    struct co *pool; /* last in first out: the one used last is in the cache */
    unsigned pool_n, colour;
    struct co *from; /* ASan: who switched last */
    struct co leader;
} tls;

/* --- the switch with what sanitizers want to know ------------------------------------ */

/* To be called first on the stack switched to. */
static inline void arrive(struct co *self)
{
    (void)self;
#ifdef CO_ASAN
    /* This is also how a leader's stack gets known: when it has been left once. */
    __sanitizer_finish_switch_fiber(self->fake_stack, &tls.from->bottom,
                                    &tls.from->bytes);
#endif
}

static inline __attribute__((always_inline)) void co_switch(struct co *from,
                                                            struct co *to, bool ending)
{
#ifdef CO_ASAN
    tls.from = from;
    from->fake_stack = NULL;
    /* NULL: nothing in from's frames is needed any more */
    __sanitizer_start_switch_fiber(ending ? NULL : &from->fake_stack, to->bottom,
                                   to->bytes);
#endif
#ifdef CO_TSAN
    __tsan_switch_to_fiber(to->fibre, 0);
#endif
    (void)ending;
    co_ctx_switch(&from->ctx, &to->ctx);
#ifdef CO_ASAN
    arrive(from); /* else the switch is a tail call: see switch.h */
#endif
}

__attribute__((cold, noinline)) static void leader_init(void)
{
    struct co *leader = &tls.leader;

    leader->home = leader;
#ifdef CO_TSAN
    leader->fibre = __tsan_get_current_fiber();
#endif
    tls.world.leader = tls.world.current = leader;
}

/* --- lists --------------------------------------------------------------------------- */

static void queue_push(struct co_queue *q, struct co *co)
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

static struct co *queue_pop(struct co_queue *q)
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

/* --- stacks -------------------------------------------------------------------------- */

static void stack_unmap(struct co *co)
{
    VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#ifdef CO_TSAN
    __tsan_destroy_fiber(co->fibre);
#endif
#ifdef CO_ASAN
    /* the next owner of these addresses must not inherit their poison */
    __asan_unpoison_memory_region(co->map, co->map_bytes);
#endif
    munmap(co->map, co->map_bytes);
}

__attribute__((cold, noinline)) static void pool_trim(unsigned keep)
{
    while (tls.pool_n > keep) {
        struct co *co = tls.pool;
        tls.pool = co->next;
        tls.pool_n--;
        stack_unmap(co);
    }
}

/* co is the running one and can't unmap its own stack; where there are too many it is
 * another's that goes. */
static void pool_put(struct co *co)
{
    if (__builtin_expect(tls.pool_n >= CO_POOL_MAX, 0))
        pool_trim(CO_POOL_MAX - 1);
    co->next = tls.pool;
    tls.pool = co;
    tls.pool_n++;
}

/* What runs on every stack, from its first switch on: one coroutine after the other. Its
 * frame outlives the fake stacks that ASan throws away as coroutines end. */
__attribute__((noinline, no_sanitize_address)) static void co_main(void)
{
    struct co *self = tls.world.current;

    arrive(self);
    for (;;) {
        self->fn(self->arg);

        struct co *to = self->caller;
        assert(!self->listed); /* nobody may wake what has ended */
        self->caller = NULL;
        self->home = NULL;
        pool_put(self);
        tls.world.current = to;
        co_switch(self, to, true);
    }
}

/* guard page | CO_STACK_BYTES | the coroutine itself, at a colour of its own: without it
 * the hot words of all stacks would be a power of two apart, in a few sets of the cache. */
__attribute__((cold, noinline)) static struct co *stack_map(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t top_bytes = CO_COLOURS * CO_LINE + sizeof(struct co);
    size_t bytes = page + CO_STACK_BYTES + (top_bytes + page - 1) / page * page;
    char *map = mmap(NULL, bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (map == MAP_FAILED)
        return NULL;
    if (mprotect(map + page, bytes - page, PROT_READ | PROT_WRITE) < 0) {
        munmap(map, bytes);
        return NULL;
    }
    size_t colour = tls.colour++ * CO_COLOUR_STEP % CO_COLOURS * CO_LINE;
    struct co *co = (struct co *)(void *)(map + bytes - colour - sizeof(*co));
    co->map = map;
    co->map_bytes = bytes;
    co->bottom = map + page;
    co->bytes = (size_t)((char *)co - (map + page));
    co->valgrind_id = VALGRIND_STACK_REGISTER(map + page, co);
#ifdef CO_TSAN
    co->fibre = __tsan_create_fiber(0);
#endif
    co_ctx_init(&co->ctx, map + page, (char *)co, co_main);
    return co;
}

static struct co *stack_take(void)
{
    struct co *co = tls.pool;

    if (!co)
        return stack_map();
    tls.pool = co->next;
    tls.pool_n--;
    return co;
}

void co_pool_drain(void) { pool_trim(0); }

/* --- coroutines ---------------------------------------------------------------------- */

struct co *co_create(void (*fn)(void *arg), void *arg)
{
    if (!tls.world.leader)
        leader_init();
    struct co *co = stack_take();
    if (!co)
        return NULL;
    co->fn = fn;
    co->arg = arg;
    co->home = tls.world.leader;
    return co;
}

void co_enter(struct co *co)
{
    struct co *self = tls.world.current;

    assert(co->home && co->home == tls.world.leader); /* not ended, of this thread */
    assert(!co->caller);                              /* not running */
    assert(!co->listed); /* not ready, not asleep in a queue */
    co->caller = self;
    tls.world.current = co;
    co_switch(self, co, false);
}

void co_yield (void)
{
    struct co *self = tls.world.current;

    assert(self != tls.world.leader); /* in a coroutine */
    struct co *to = self->caller;
    self->caller = NULL;
    tls.world.current = to;
    co_switch(self, to, false);
}

struct co *co_self(void)
{
    return tls.world.current == tls.world.leader ? NULL : tls.world.current;
}

void co_wake(struct co *co)
{
    assert(co->home && co->home == tls.world.leader);
    queue_push(&tls.world.ready, co);
}

bool co_has_ready(void) { return tls.world.ready.head != NULL; }

/* Runs those that are ready now. Those made ready meanwhile are for the next time, so that
 * a coroutine that wakes itself cannot keep the loop from its turn. */
bool co_run_ready(void)
{
    struct co *last = tls.world.ready.tail, *co;

    assert(!co_in());
    if (!last)
        return false;
    do {
        co = queue_pop(&tls.world.ready);
        co_enter(co);
    } while (co != last);
    return true;
}

/* --- mutex and queue ----------------------------------------------------------------- */

void co_mutex_lock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self && m->owner != self);
    if (!m->owner) {
        m->owner = self;
        return;
    }
    queue_push(&m->waiters, self);
    co_yield ();
    assert(m->owner == self); /* handed over by unlock: nobody came between */
}

void co_mutex_unlock(struct co_mutex *m)
{
    struct co *self = co_self();

    assert(self && m->owner == self);
    m->owner = queue_pop(&m->waiters);
    if (m->owner)
        co_wake(m->owner);
}

void co_queue_wait(struct co_queue *q, struct co_mutex *mutex)
{
    struct co *self = co_self();

    assert(self);
    queue_push(q, self);
    if (mutex)
        co_mutex_unlock(mutex);
    co_yield ();
    if (mutex)
        co_mutex_lock(mutex);
}

bool co_queue_wake_one(struct co_queue *q)
{
    struct co *co = queue_pop(q);

    if (co)
        co_wake(co);
    return co != NULL;
}

void co_queue_wake_all(struct co_queue *q)
{
    while (co_queue_wake_one(q))
        ;
}

/* --- worlds -------------------------------------------------------------------------- */

/* Ends like a coroutine whose caller is the next world. */
static void world_main(void *opaque)
{
    struct co_world *w = opaque;
    struct co *self = tls.world.current;
    struct co_world *next = w->fn(w->arg);

    assert(self == tls.world.current && self == tls.world.leader);
    assert(!tls.world.ready.head); /* nobody would ever run them */
    tls.world = *next;
    self->caller = next->current;
}

int co_world_create(struct co_world *w, struct co_world *(*fn)(void *arg), void *arg)
{
    struct co *co = co_create(world_main, w);

    if (!co)
        return -ENOMEM;
    co->home = co;
    *w = (struct co_world){.leader = co, .current = co, .fn = fn, .arg = arg};
    return 0;
}

void co_world_switch(struct co_world *save, const struct co_world *load)
{
    struct co *self;

    if (!tls.world.leader)
        leader_init();
    self = tls.world.current;
    save->leader = tls.world.leader;
    save->current = self;
    save->ready = tls.world.ready;
    tls.world = *load;
    co_switch(self, load->current, false);
}
