/*
 * A run's report: one JSON document, and from it the text for people.
 *
 *   "manifest"  what ran on what: versions, machine, and for each job options and image
 *   "jobs"      one result for each job and trial, in the order they ran; names inside
 *               as in fio's where fio has them. Those with "heartbeat" count for stall
 *               alone
 *   "summary"   for each job: medians and means over trials with 95 % intervals, for
 *               each strategy; ratios of all pairs, and whether they can be told apart
 */
#ifndef HARNESS_REPORT_H
#define HARNESS_REPORT_H
#include <jansson.h>
#include <stdio.h>

#include "harness/jobfile.h"
#include "harness/module.h"

/* Adds "summary". */
void report_summarise(json_t *report, const struct job_list *,
                      const struct module_list *strategies, uint64_t seed);
void report_text(FILE *, const json_t *report, const struct job_list *,
                 const struct module_list *strategies);
/* Of it, for one job: the engine's choice and notes, and what filters did. */
void report_io(FILE *, const json_t *report, unsigned job,
               const struct module_list *strategies);

#endif
