/*
 * Stall: for how long the loop's thread could do nothing else.
 *
 * Two measures. The turn: from waking up to going to sleep again, each turn of the
 * loop. The heartbeat: a timer every millisecond, and how late it rings; a beat that
 * was missed altogether counts as late by all the time since it was due. Heartbeats
 * wake the loop up, so they run in trials of their own; an idle machine's own lateness
 * is taken just before, on the same loop.
 */
#ifndef HARNESS_STALL_H
#define HARNESS_STALL_H
#include "core/block/loop.h"
#include "harness/hist.h"

enum { STALL_BEAT_NS = 1000000, STALL_IDLE_NS = 300000000 };

struct stall {
    struct loop *loop;
    struct hist turn, late, idle; /* nanoseconds */
    struct hist *into;            /* where beats go: late or idle */
    struct loop_timer timer;
    uint64_t due_ns, end_ns;
    bool idle_over;
};
void stall_watch_turns(struct stall *, struct loop *);  /* from now on */
void stall_measure_idle(struct stall *, struct loop *); /* blocks for STALL_IDLE_NS */
void stall_beat(struct stall *, struct loop *);         /* until stall_end() */
void stall_end(struct stall *);

#endif
