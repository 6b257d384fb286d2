/*
 * The report of `asyncow explore`, as text while it goes on, or as JSON at the end.
 */
#ifndef HARNESS_EXPLORE_REPORT_H
#define HARNESS_EXPLORE_REPORT_H
#include <jansson.h>

#include "harness/explore_child.h"

struct explore_report {
    bool json;
    const char *script; /* a file for the schedule that fails; NULL: none */
    json_t *results;
};
struct explore_sum { /* of a strategy */
    uint64_t sets, complete, bounded, cut, schedules;
};

void explore_report_begin(struct explore_report *);
void explore_report_set(struct explore_report *, const char *strategy,
                        const struct explore_job *, const struct explore_outcome *);
void explore_report_sum(const struct explore_report *, const char *strategy,
                        const struct explore_sum *);
/* The script goes to the file asked for, and into the report, which has the set already. */
void explore_report_failure(struct explore_report *, const char *strategy,
                            const struct explore_job *, struct explore_outcome *);
void explore_report_end(struct explore_report *, const struct explore_config *,
                        uint64_t seed);

#endif
