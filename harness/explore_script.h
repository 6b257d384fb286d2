/*
 * A failure as a short script: made short, written down, read back.
 *
 *     # asyncow explore script 1
 *     # closing the image fails: ...
 *     strategy callbacks:hold=none
 *     cluster-size 1024
 *     metadata-writes back
 *     cache cold
 *     image v3
 *     operations alloc,read@same
 *     choices 0 2 1
 *
 * Choices that are not there are 0: the plainest.
 */
#ifndef HARNESS_EXPLORE_SCRIPT_H
#define HARNESS_EXPLORE_SCRIPT_H
#include <stdio.h>

#include "harness/explore_child.h"

/* Finds a schedule of fewer operations, then with fewer choices that are not the plainest,
 * that fails too. Changes job->set, and outcome to what the shortest does. */
void explore_shrink(struct explore_job *, struct explore_outcome *outcome);

/* 0 or -errno. */
int explore_script_write(FILE *, const char *strategy, const struct explore_job *,
                         const struct explore_outcome *);
/* Fills config (but for strategy and settings), set and path; strategy is to be freed. 0,
 * or -errno with err: "FILE:LINE: ...". */
int explore_script_read(const char *file, char **strategy, struct explore_job *,
                        struct explore_path *, struct error *);

#endif
