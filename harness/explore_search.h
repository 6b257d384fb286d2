/*
 * Which schedule comes next: a depth-first search over the choices of a world, or draws.
 *
 * A schedule is the list of its choices. The search is stateless: it runs a world from the
 * start each time, repeats the choices up to where it left off, and takes the next one
 * there. It branches at a choice only if the state there (sim_state_hash) is new: if not,
 * all that can come has been searched, or will be, from where it was first met.
 *
 * Bounded: schedules with at most so many pre-emptions (Musuvathi and Qadeer 2007): with
 * threads, somebody else comes before an actor that could have gone on; without, where
 * nobody can be interrupted, something comes before what would have come first.
 */
#ifndef HARNESS_EXPLORE_SEARCH_H
#define HARNESS_EXPLORE_SEARCH_H
#include "harness/explore_world.h"

enum explore_mode {
    EXPLORE_ALL, /* every schedule but those that end as one before from some state on */
    EXPLORE_EVERY,   /* every schedule, to check the former against */
    EXPLORE_BOUNDED, /* all with at most `bound` pre-emptions */
    EXPLORE_UNIFORM, /* each choice drawn from what there is */
    EXPLORE_PCT, /* random priorities that change `bound` - 1 times (Burckhardt 2010) */
    EXPLORE_REPLAY /* the choices given, then the plainest */
};
enum {
    EXPLORE_CHOICES = 4096, /* in one schedule that are searched */
    EXPLORE_PCT_MAX = 16    /* bound of PCT */
};

/* A schedule, as far as it has gone. */
struct explore_path {
    unsigned n;
    uint16_t choice[EXPLORE_CHOICES];
};

struct explore_search;
/* path: where each schedule's choices are kept while it runs; for REPLAY it says them. */
int explore_search_create(struct explore_search **, enum explore_mode, unsigned bound,
                          uint64_t seed, struct explore_path *path);
void explore_search_free(struct explore_search *);
/* Before the first schedule, and after each. false: there is no other. */
bool explore_search_next(struct explore_search *, struct explore_world *);
/* The chooser for explore_world_run(). */
unsigned explore_search_choose(void *search, unsigned n);

struct explore_count {
    uint64_t schedules; /* run */
    uint64_t repeats;   /* of them: ended as one before had, from some point on */
    uint64_t states;    /* that differ, of those where there was a choice */
    uint64_t outcomes;  /* that differ, to the guest */
    double
        stands_for; /* schedules that there are, of which those run are all that differ
                           by more than steps that do nothing; 0: not known */
    unsigned longest; /* choices in a schedule */
};
void explore_search_count(const struct explore_search *, struct explore_count *);

#endif
