/* One number out of each trial of a report, in order of rounds. */
#ifndef HARNESS_SAMPLES_H
#define HARNESS_SAMPLES_H
#include <jansson.h>
#include <stdbool.h>

struct samples {
    const char *metric; /* a path into a result: "read/lat_ns/mean" */
    double *v;
    unsigned n;
};
/* Trials of that job and strategy that ended well and have the metric. */
void samples_take(struct samples *, const json_t *report, unsigned job,
                  const char *strategy, const char *metric);
void samples_drop(struct samples *);
/* Is it a result of that job and strategy, with or without heartbeat? */
bool samples_match(const json_t *result, unsigned job, const char *strategy,
                   bool heartbeat);
const json_t *samples_at(const json_t *result, const char *path); /* NULL: not there */
/* The median over trials; fallback without any. */
double samples_median(const json_t *report, unsigned job, const char *strategy,
                      const char *metric, double fallback);

#endif
