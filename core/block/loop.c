/*
 * The event loop's turn.
 *
 *     gathered I/O -> engine        one system call, which may also be the wait
 *     wait                          only if asked to and nothing is ready
 *     completions, timers, bottom halves and posts, coroutines
 *
 * Turns nest: a callback may run the loop itself to wait for something. So nothing here
 * keeps a list in a local variable; each step takes one entry off the loop's own list.
 *
 * The two worlds differ only in how a loop sleeps: in the engine's wait, or (env_sim)
 * on the loop's gate.
 */
#include "core/block/loop_int.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/block/align.h"

#define DEPTH_DEFAULT 128
#define DEPTH_MAX 32768

static _Atomic uint64_t slots_taken;

static unsigned slot_take(void)
{
    uint64_t taken = atomic_load(&slots_taken);

    for (;;) {
        unsigned slot = taken == UINT64_MAX ? 63 : (unsigned)__builtin_ctzll(~taken);
        if (slot >= LOOP_SLOTS - 1)
            return LOOP_SLOTS - 1;
        if (atomic_compare_exchange_weak(&slots_taken, &taken, taken | 1ull << slot))
            return slot;
    }
}

static void slot_give(unsigned slot)
{
    if (slot < LOOP_SLOTS - 1)
        atomic_fetch_and(&slots_taken, ~(1ull << slot));
}

static int check_world(const struct engine_ops *ops, struct env *env, struct error *err)
{
    if (ops->simulated == env->simulated)
        return 0;
    return error_set(err, -EINVAL,
                     ops->simulated
                         ? "engine %s: works in simulated time only, not on the machine"
                         : "engine %s: works on the machine only; simulated time has "
                           "engine sim",
                     ops->name);
}

int loop_create(struct loop **out, struct env *env, const struct loop_options *options,
                struct error *err)
{
    struct loop_options o = *options;
    const struct engine_ops *ops = engine_parse(o.engine, &o.settings, err);
    struct loop *loop;
    int ret;

    if (!ops)
        return -EINVAL;
    ret = check_world(ops, env, err);
    if (ret < 0 || (ret = engine_check(&o, err)) < 0)
        return ret;
    if (o.depth == 0)
        o.depth = DEPTH_DEFAULT;
    if (o.depth > DEPTH_MAX)
        return error_set(err, -EINVAL, "engine %s: depth %u: at most %u", ops->name,
                         o.depth, DEPTH_MAX);
    loop = calloc(1, sizeof(*loop));
    if (!loop)
        return error_set(err, -ENOMEM, "engine %s: out of memory", ops->name);
    loop->env = env;
    loop->ops = ops;
    loop->depth = o.depth;
    loop->merge_bytes = o.merge_bytes;
    loop->batch = o.batch ? o.batch : UINT32_MAX;
    ret = ops->open(&loop->engine, loop, &o, err);
    if (ret < 0) {
        free(loop);
        return ret;
    }
    loop->engine->ops = ops;
    loop->engine->loop = loop;
    loop->engine->env = env;
    ret = sleep_set_up(loop, &o, err);
    if (ret < 0) {
        ops->close(loop->engine);
        free(loop);
        return ret;
    }
    loop->slot = slot_take();
    *out = loop;
    return 0;
}

void loop_destroy(struct loop *loop)
{
    if (!loop)
        return;
    helper_close(loop);
    assert(loop->pending == 0 && loop->engine->inflight == 0);
    assert(!loop->gathered.head && !loop->completed.head && !loop->bh_head);
    assert(!atomic_load(&loop->posted) && loop->heap_len == 0 && !loop->expected);
    if (loop->env->simulated)
        sim_cancel(loop->env, &loop->alarm);
    if (co_inbox() == &loop->inbox)
        co_use_inbox(NULL);
    sleep_close(loop);
    loop->ops->close(loop->engine);
    merge_close(loop);
    bounce_free(loop);
    slot_give(loop->slot);
    free(loop->heap);
    free(loop);
}

struct env *loop_env(struct loop *loop) { return loop->env; }
const char *loop_engine(const struct loop *loop) { return loop->ops->name; }
const char *loop_notes(const struct loop *loop) { return loop->engine->notes; }

void loop_use_memory(struct loop *loop, void *base, size_t len)
{
    if (loop->ops->memory && base)
        loop->ops->memory(loop->engine, base, len);
}

void loop_forget_memory(struct loop *loop)
{
    if (loop->ops->memory)
        loop->ops->memory(loop->engine, NULL, 0);
}

void loop_set_turn_probe(struct loop *loop, void (*fn)(void *, uint64_t), void *opaque)
{
    loop->probe = fn;
    loop->probe_opaque = opaque;
    loop->awake_since_ns = fn ? env_now_ns(loop->env) : 0;
}

void loop_set_sleep_hook(struct loop *loop, void (*fn)(void *, bool), void *opaque)
{
    loop->sleep_hook = fn;
    loop->sleep_opaque = opaque;
}

void loop_defer(struct loop *loop, struct loop_bh *bh)
{
    bh->next = NULL;
    if (loop->bh_head)
        loop->bh_tail->next = bh;
    else
        loop->bh_head = bh;
    loop->bh_tail = bh;
    loop->bh_count++;
}

void loop_post(struct loop *loop, struct loop_bh *bh)
{
    bool simulated = loop->env->simulated;
    struct loop_bh *first;
    int how;

    if (unlikely(simulated))
        sim_pay(loop->env); /* nobody sees it before it is done */
    first = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do
        bh->next = first;
    while (!atomic_compare_exchange_weak(&loop->posted, &first, bh));
    if (simulated) {
        sim_push(loop->env, &loop->posted, bh);
        sim_gate_open(loop->env, &loop->gate);
    } else if (atomic_load(&loop->sleeping) &&
               (how = atomic_exchange(&loop->sleeping, 0))) {
        sleep_wake(loop, how);
    }
}

static void inbox_kicked(struct co_inbox *in)
{
    struct loop *loop = (struct loop *)((char *)in - offsetof(struct loop, inbox));

    loop_post(loop, &loop->inbox_bh);
}

static void inbox_open(struct loop_bh *bh)
{
    struct loop *loop = (struct loop *)((char *)bh - offsetof(struct loop, inbox_bh));

    co_open_inbox(&loop->inbox);
}

void loop_take_wakes(struct loop *loop)
{
    if (co_inbox() == &loop->inbox)
        return;
    loop->inbox.kick = inbox_kicked;
    loop->inbox_bh.fn = inbox_open;
    co_use_inbox(&loop->inbox);
}

/* Posts become bottom halves, oldest first. */
static void take_posts(struct loop *loop)
{
    struct loop_bh *bh, *next, *oldest = NULL;

    if (likely(!atomic_load_explicit(&loop->posted, memory_order_relaxed)))
        return;
    for (bh = atomic_exchange(&loop->posted, NULL); bh; bh = next) {
        next = bh->next;
        bh->next = oldest;
        oldest = bh;
    }
    for (bh = oldest; bh; bh = next) {
        next = bh->next;
        if (unlikely(loop->env->simulated))
            sim_pop(loop->env, &loop->posted, bh);
        loop_defer(loop, bh);
    }
}

/* An engine that takes nothing is full, or its kernel is: it is asked again next
 * turn. */
static void submit(struct loop *loop)
{
    struct engine *e = loop->engine;

    if (unlikely(loop->merge_bytes))
        merge_gathered(loop);
    while (loop->gathered.head && e->inflight < loop->depth) {
        unsigned room = loop->depth - e->inflight;
        struct aio *first = loop->gathered.head;

        loop->ops->submit(e, &loop->gathered, room < loop->batch ? room : loop->batch);
        if (loop->gathered.head == first)
            break;
    }
    if (unlikely(loop->helped.head))
        helper_submit(loop);
}

bool loop_ready(struct loop *loop)
{
    return loop->completed.head || loop->bh_head ||
           atomic_load_explicit(&loop->posted, memory_order_relaxed) ||
           (co_has_ready() && !co_in());
}

/* Simulated: what now runs has found the completions that there were, and no more. One
 * that comes later makes a difference from here on. */
static void found_no_more(struct loop *loop)
{
    if (unlikely(loop->env->simulated))
        sim_mark(loop->env, 1);
}

static unsigned run_callbacks(struct loop *loop)
{
    unsigned ran, bhs;

    if (unlikely(loop->env->simulated))
        sim_charge(loop->env, SIM_TURN, 1);
    ran = aio_deliver(loop);
    if (loop->heap_len)
        ran += timer_run_due(loop);
    take_posts(loop);
    /* No more than there are now: one that defers itself again waits for the next
     * turn. */
    for (bhs = loop->bh_count; bhs && loop->bh_head; bhs--, ran++) {
        struct loop_bh *bh = loop->bh_head;
        loop->bh_head = bh->next;
        loop->bh_count--;
        found_no_more(loop);
        bh->fn(bh);
    }
    ran += aio_deliver(loop); /* what posts completed */
    if (!co_in()) {           /* ready or not, the pool counts turns */
        if (co_has_ready())
            found_no_more(loop);
        ran += co_run_ready();
    }
    return ran;
}

unsigned loop_turn(struct loop *loop, bool block)
{
    loop->inline_left = loop->depth;
    submit(loop);
    if (likely(!loop->probe)) {
        sleep_step(loop, block);
    } else {
        uint64_t busy_ns = env_now_ns(loop->env) - loop->awake_since_ns;

        loop->probe(loop->probe_opaque, busy_ns);
        sleep_step(loop, block);
        loop->awake_since_ns = env_now_ns(loop->env);
    }
    return run_callbacks(loop);
}

void loop_run_until(struct loop *loop, const bool *flag)
{
    while (!*(const volatile bool *)flag)
        loop_wait_turn(loop);
}

void loop_inline(struct loop *loop)
{
    if (co_in()) {
        loop->stats.inline_declined++;
        return;
    }
    if (loop->inline_depth == LOOP_INLINE_MAX || !loop->inline_left)
        return; /* with the next turn */
    loop->inline_left--;
    if (++loop->inline_depth > loop->stats.inline_deepest)
        loop->stats.inline_deepest = loop->inline_depth;
    submit(loop);
    loop->ops->wait(loop->engine, 0);
    if (loop->completed.head) {
        loop->stats.inlined++;
        aio_deliver(loop);
    }
    loop->inline_depth--;
}

void loop_get_stats(const struct loop *loop, struct loop_stats *stats)
{
    *stats = loop->stats;
}
