/* What asyncow run is about while it runs: run.c, and run_trials.c. */
#ifndef ASYNCOW_HARNESS_RUN_H
#define ASYNCOW_HARNESS_RUN_H
#include <jansson.h>
#include <stdbool.h>

#include "core/env/error.h"
#include "harness/jobfile.h"
#include "harness/module.h"

struct run {
    struct job base; /* options of the whole run are taken from here */
    struct job_list jobs;
    struct module_list strategies;
    json_t *report, *images, *choices; /* images, engine choices: one a job */
    json_t *results;                   /* one a job and trial, as they ran */
    char **paths;                      /* of each job's image in the trial that runs */
    bool copies, interrupted, failed;
};

/* run_trials.c. Rounds of all strategies, the order in each drawn from the seed; then
 * the heartbeats. Fills in results, interrupted and failed. 0 or -errno with err. */
int run_trials(struct run *, struct error *);
/* After the same requests all strategies must show the same disk. 0, or -EILSEQ with
 * err. */
int run_compare(struct run *, struct error *);

#endif
