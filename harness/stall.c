/* The two measures, each a callback of the loop: stall.h. */
#include "harness/stall.h"

static void turned(void *opaque, uint64_t busy_ns)
{
    hist_add(&((struct stall *)opaque)->turn, busy_ns);
}

void stall_watch_turns(struct stall *s, struct loop *loop)
{
    s->loop = loop;
    loop_set_turn_probe(loop, turned, s);
}

static void beat(struct loop_timer *timer)
{
    struct stall *s =
        (struct stall *)((char *)timer - __builtin_offsetof(struct stall, timer));
    uint64_t now = env_now_ns(loop_env(s->loop));

    for (; s->due_ns <= now; s->due_ns += STALL_BEAT_NS)
        hist_add(s->into, now - s->due_ns);
    if (s->end_ns && now >= s->end_ns)
        s->idle_over = true;
    else
        loop_timer_arm(s->loop, timer, s->due_ns);
}

static void start(struct stall *s, struct loop *loop, struct hist *into,
                  uint64_t for_ns)
{
    uint64_t now = env_now_ns(loop_env(loop));

    s->loop = loop;
    s->into = into;
    s->timer.fn = beat;
    s->due_ns = now + STALL_BEAT_NS;
    s->end_ns = for_ns ? now + for_ns : 0;
    s->idle_over = false;
    loop_timer_arm(loop, &s->timer, s->due_ns);
}

void stall_measure_idle(struct stall *s, struct loop *loop)
{
    start(s, loop, &s->idle, STALL_IDLE_NS);
    loop_run_until(loop, &s->idle_over);
}

void stall_beat(struct stall *s, struct loop *loop) { start(s, loop, &s->late, 0); }

void stall_end(struct stall *s) { loop_timer_cancel(s->loop, &s->timer); }
