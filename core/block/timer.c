/*
 * The loop's timers: a binary heap, soonest first, ties in order of arming.
 *
 * heap[1..heap_len]; a timer knows its place, 0 when it isn't armed, so that cancelling
 * takes no search.
 */
#include <stdlib.h>

#include "core/block/loop_int.h"

static bool before(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns
                                            : a->seq < b->seq;
}

static void place(struct loop *loop, struct loop_timer *t, unsigned i)
{
    loop->heap[i] = t;
    t->heap_index = i;
}

static void sift_up(struct loop *loop, struct loop_timer *t, unsigned i)
{
    for (; i > 1 && before(t, loop->heap[i / 2]); i /= 2)
        place(loop, loop->heap[i / 2], i);
    place(loop, t, i);
}

static void sift_down(struct loop *loop, struct loop_timer *t, unsigned i)
{
    unsigned child;

    for (; (child = 2 * i) <= loop->heap_len; i = child) {
        if (child < loop->heap_len && before(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!before(loop->heap[child], t))
            break;
        place(loop, loop->heap[child], i);
    }
    place(loop, t, i);
}

/* Grows by doubling, so a loop in its steady state allocates nothing. */
static void make_room(struct loop *loop)
{
    if (loop->heap_len + 2 <= loop->heap_size)
        return;
    loop->heap_size = loop->heap_size ? 2 * loop->heap_size : 64;
    loop->heap = realloc(loop->heap, loop->heap_size * sizeof(*loop->heap));
    if (!loop->heap)
        abort();
}

void loop_timer_arm(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns)
{
    loop_timer_cancel(loop, t);
    make_room(loop);
    t->deadline_ns = deadline_ns;
    t->seq = loop->timer_seq++;
    sift_up(loop, t, ++loop->heap_len);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *t)
{
    unsigned i = t->heap_index;
    struct loop_timer *last;

    if (i == 0)
        return;
    t->heap_index = 0;
    last = loop->heap[loop->heap_len--];
    if (last == t)
        return;
    if (i > 1 && before(last, loop->heap[i / 2]))
        sift_up(loop, last, i);
    else
        sift_down(loop, last, i);
}

uint64_t timer_next_ns(const struct loop *loop)
{
    return loop->heap_len ? loop->heap[1]->deadline_ns : UINT64_MAX;
}

unsigned timer_run_due(struct loop *loop)
{
    uint64_t now_ns = env_now_ns(loop->env);
    unsigned ran = 0;

    /* Those that a callback arms for now or the past wait for the next turn, or a timer
     * that arms itself again would never let go. */
    for (uint64_t limit = loop->timer_seq; loop->heap_len; ran++) {
        struct loop_timer *t = loop->heap[1];
        if (t->deadline_ns > now_ns || t->seq >= limit)
            break;
        loop_timer_cancel(loop, t);
        t->fn(t);
    }
    return ran;
}
