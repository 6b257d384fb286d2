/*
 * One trial: all jobs, one after the other, under one strategy, in a process of its
 * own.
 *
 * A process each, so that one trial's heap, page tables, peak memory or crash are not
 * the next one's. The result comes back through a pipe as JSON; the parent draws the
 * progress line from a shared page, so the measured process does nothing for it.
 */
#ifndef HARNESS_TRIAL_H
#define HARNESS_TRIAL_H
#include <jansson.h>

#include "harness/jobfile.h"

struct trial {
    const struct job_list *jobs;
    const struct job *run;    /* options of the whole run */
    const char *spec;         /* the strategy */
    const char *const *paths; /* of each job's image: its own or a copy */
    unsigned round;
    bool heartbeat;    /* a trial for stall alone */
    const char *label; /* for the progress line: "2/10 callbacks" */
};
/* One JSON object a job, in an array; a job that fails has "error" and ends the trial.
 * NULL with err: nothing came back. Interrupted by a signal: *interrupted. */
json_t *trial_run(const struct trial *, bool *interrupted, struct error *err);
/* SIGINT and SIGTERM end the load and let it report; restored by the caller's end. */
void trial_catch_signals(void);
bool trial_signalled(void);

#endif
