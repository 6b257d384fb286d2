/*
 * A search in a process of its own, so that what kills it (an assertion of the core, a
 * fault) is a finding like any other. One process a set of operations, not one a schedule.
 */
#ifndef HARNESS_EXPLORE_CHILD_H
#define HARNESS_EXPLORE_CHILD_H
#include "harness/explore_search.h"

struct explore_job {
    struct explore_config config;
    struct explore_set set;
    enum explore_mode mode;
    unsigned bound;
    uint64_t seed;
    uint64_t schedules;   /* at most; 0: no limit */
    uint64_t deadline_ns; /* of the machine's clock; 0: none */
    struct env *clock;
    bool draw; /* to standard output, as it happens */
};
enum explore_end {
    EXPLORE_COMPLETE, /* there are no other schedules */
    EXPLORE_CUT,      /* there may be */
    EXPLORE_FAILED,   /* failure says how, path in which schedule */
    EXPLORE_ERROR     /* the search could not be run; failure says why */
};
struct explore_outcome {
    enum explore_end end;
    struct explore_count count;
    struct explore_path path;
    char failure[EXPLORE_FAILURE];
};

/* outcome->path is what REPLAY repeats. */
void explore_child(const struct explore_job *, struct explore_outcome *outcome);

#endif
