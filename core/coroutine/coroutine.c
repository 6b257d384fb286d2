/*
 * Coroutines: life cycle, scheduling, worlds.
 *
 * Invariants:
 *  1. All state is per thread; a coroutine's home is its thread (its world's leader),
 *     and is NULL while it has no function to run (ended, in the pool).
 *  2. caller is set exactly while a coroutine runs or is below the running one in the
 *     chain of enters. The chain ends at the leader.
 *  3. A coroutine is on at most one list (ready, a queue, the pool): listed. Or in its
 *     thread's inbox, on the way to being ready.
 *  4. A stack's coroutine lives in the stack's own top and is made once: the function
 *     at its bottom, co_main, runs one coroutine after the other, so that reuse needs
 *     no set-up and steady state neither maps nor mallocs.
 *
 * Who may call: any thread, on its own coroutines only (asserted), but for co_wake(),
 * which leaves another thread's in the inbox that its leader has. A coroutine may be
 * another thread's after it has yielded (co_adopt), so nothing of a thread's may be
 * kept across a switch: co_tls is looked up anew, in functions that aren't inlined, and
 * no switch is followed by anything else.
 */
#include "core/coroutine/internal.h"

#include <errno.h>

#include "core/coroutine/switch.h"

#ifdef CO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

__thread struct co_state co_tls;
static __thread struct co thread_leader; /* stays where it is: others point to it */

/* --- the switch with what sanitizers want to know --------------------------------- */

/* To be called first on the stack switched to. Never inlined: another thread may have
 * left it, and a compiler that keeps the address of co_tls across the switch would take
 * the state of that one. */
__attribute__((unused, noinline)) static void arrive(struct co *self)
{
    (void)self;
#ifdef CO_ASAN
    /* This is also how a leader's stack gets known: when it has been left once. */
    if (!co_tls.backend->threads)
        __sanitizer_finish_switch_fiber(self->fake_stack, &co_tls.from->bottom,
                                        &co_tls.from->bytes);
#endif
}

static inline void leave(struct co *from, struct co *to, bool ending)
{
    (void)from, (void)to, (void)ending;
#ifdef CO_ASAN
    co_tls.from = from;
    from->fake_stack = NULL;
    /* NULL: nothing in from's frames is needed any more */
    if (!co_tls.backend->threads)
        __sanitizer_start_switch_fiber(ending ? NULL : &from->fake_stack, to->bottom,
                                       to->bytes);
#endif
#ifdef CO_TSAN
    if (!co_tls.backend->threads)
        __tsan_switch_to_fiber(to->fibre, 0);
#endif
}

static inline __attribute__((always_inline)) void co_switch(struct co *from,
                                                            struct co *to, bool ending)
{
    leave(from, to, ending);
    /* Either call is the last thing: see switch.h for why it must be. */
#ifdef CO_HAVE_ASM
    if (__builtin_expect(!co_tls.other, 1))
        co_asm_switch(&from->sp, to->sp);
    else
#endif
        co_tls.other->change(&from->ctx, &to->ctx);
#ifdef CO_ASAN
    arrive(from);
#endif
}

/* --- switches that somebody watches: a back end around the one in use -------------- */

static void watched_change(struct co_ctx *from, struct co_ctx *to)
{
    struct co *a = (struct co *)((char *)from - offsetof(struct co, ctx));
    struct co *b = (struct co *)((char *)to - offsetof(struct co, ctx));

    if (!co_tls.watcher_skips)
        co_tls.watcher(co_tls.watcher_opaque);
    co_tls.watcher_skips = false;
#ifdef CO_HAVE_ASM
    if (!co_tls.backend->change)
        co_asm_switch(&a->sp, b->sp);
    else
#endif
        co_tls.backend->change(from, to);
}

static const struct co_backend watched = {.name = "watched", .change = watched_change};

void co_watch_switches(void (*fn)(void *opaque), void *opaque)
{
    co_tls.watcher = fn;
    co_tls.watcher_opaque = opaque;
    co_tls.watcher_skips = false;
    if (co_tls.world.leader)
        co_tls.other = fn ? &watched : co_tls.backend->change ? co_tls.backend : NULL;
}

void co_backend_use(const struct co_backend *b)
{
    co_tls.backend = b;
    co_tls.other = co_tls.watcher ? &watched : b->change ? b : NULL;
    if (b->adopt)
        b->adopt(&thread_leader.ctx);
}

__attribute__((cold, noinline)) static void leader_init(void)
{
    struct co *leader = &thread_leader;

    leader->home = leader;
#ifdef CO_TSAN
    leader->fibre = __tsan_get_current_fiber();
#endif
    co_backend_use(co_backend_first());
    co_pool_use_limit();
    co_tls.world.leader = co_tls.world.current = leader;
}

/* Returns when the stack has a function to run again. Not inlined, as arrive(). */
__attribute__((noinline, no_sanitize_address)) static void end(struct co *self)
{
    struct co *to = self->caller;

    assert(!self->listed); /* nobody may wake what has ended */
    assert(!self->held);   /* nor wait for what it holds */
    self->caller = NULL;
    self->home = NULL;
    co_pool_put(self);
    co_tls.world.current = to;
    co_switch(self, to, true);
}

/* What runs on every stack, from its first switch on. Its frame outlives the fake
 * stacks that ASan throws away as coroutines end. */
__attribute__((noinline, no_sanitize_address)) void co_main(void)
{
    struct co *self = co_tls.world.current;

#ifdef CO_ASAN
    arrive(self);
#endif
    for (;;) {
        self->fn(self->arg);
        end(self);
    }
}

/* --- coroutines ------------------------------------------------------------------- */

struct co *co_create(void (*fn)(void *arg), void *arg)
{
    if (!co_tls.world.leader)
        leader_init();
    struct co *co = co_pool_take();
    if (!co)
        return NULL;
    co->fn = fn;
    co->arg = arg;
    co->home = co_tls.world.leader;
    return co;
}

void co_adopt(struct co *co)
{
    if (!co_tls.world.leader)
        leader_init();
    assert(co->home && co->home != co); /* not ended; no thread of the simulator's */
    assert(!co->caller && !co->listed); /* it has yielded, or never run */
    assert(!co->held);                  /* locks know nothing of other threads */
    assert(co->backend == co_tls.backend);
    co->home = co_tls.world.leader;
}

void co_enter(struct co *co)
{
    struct co *self = co_tls.world.current;

    assert(co->home && co->home == co_tls.world.leader); /* not ended, of this thread */
    assert(!co->caller);                                 /* not running */
    assert(!co->listed); /* not ready, not asleep in a queue */
    co->caller = self;
    co_tls.world.current = co;
    co_switch(self, co, false);
}

void co_yield (void)
{
    struct co *self = co_tls.world.current;

    assert(self != co_tls.world.leader); /* in a coroutine */
    struct co *to = self->caller;
    self->caller = NULL;
    co_tls.world.current = to;
    co_switch(self, to, false);
}

struct co *co_self(void)
{
    return co_tls.world.current == co_tls.world.leader ? NULL : co_tls.world.current;
}

/* It isn't on a list now, so its `next` is free. It may be running still: its thread
 * looks into the inbox when it has left it. */
__attribute__((cold, noinline)) static void wake_elsewhere(struct co *co)
{
    assert(co->home && co->home->inbox); /* not ended; it can be told */
    struct co_inbox *in = co->home->inbox;
    struct co *first = atomic_load_explicit(&in->newest, memory_order_relaxed);

    do
        co->next = first;
    while (!atomic_compare_exchange_weak(&in->newest, &first, co));
    if (!first)
        in->kick(in);
}

void co_wake(struct co *co)
{
    if (__builtin_expect(co->home == co_tls.world.leader && co->home, 1))
        co_queue_push(&co_tls.world.ready, co);
    else
        wake_elsewhere(co);
}

void co_use_inbox(struct co_inbox *in)
{
    if (!co_tls.world.leader)
        leader_init();
    co_tls.world.leader->inbox = in;
}

struct co_inbox *co_inbox(void)
{
    return co_tls.world.leader ? co_tls.world.leader->inbox : NULL;
}

/* Oldest first. */
void co_open_inbox(struct co_inbox *in)
{
    struct co *co = atomic_exchange(&in->newest, NULL), *next, *oldest = NULL;

    for (; co; co = next) {
        next = co->next;
        co->next = oldest;
        oldest = co;
    }
    for (co = oldest; co; co = next) {
        next = co->next;
        co_queue_push(&co_tls.world.ready, co);
    }
}

bool co_has_ready(void) { return co_tls.world.ready.head != NULL; }

/* Runs those that are ready now. Those made ready meanwhile are for the next time, so
 * that a coroutine that wakes itself cannot keep the loop from its turn. */
bool co_run_ready(void)
{
    struct co *last = co_tls.world.ready.tail, *co;

    assert(!co_in());
    if (__builtin_expect(co_tls.batches_n > co_tls.batches_keep, 0))
        co_pool_tick();
    if (!last)
        return false;
    do {
        co = co_queue_pop(&co_tls.world.ready);
        co_enter(co);
    } while (co != last);
    return true;
}

/* --- worlds ----------------------------------------------------------------------- */

/* Ends like a coroutine whose caller is the next world. */
static void world_main(void *opaque)
{
    struct co_world *w = opaque;
    struct co *self = co_tls.world.current;
    struct co_world *next = w->fn(w->arg);

    assert(self == co_tls.world.current && self == co_tls.world.leader);
    assert(!co_tls.world.ready.head); /* nobody would ever run them */
    co_tls.world = *next;
    self->caller = next->current;
    co_tls.watcher_skips = true;
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

    if (!co_tls.world.leader)
        leader_init();
    self = co_tls.world.current;
    save->leader = co_tls.world.leader;
    save->current = self;
    save->ready = co_tls.world.ready;
    co_tls.world = *load;
    co_tls.watcher_skips = true;
    co_switch(self, load->current, false);
}
