/*
 * A schedule as a picture in text: time goes down, a column for each request, one for the
 * waits of threads. Drawn while it happens, so that it is there up to the point where the
 * program dies.
 */
#ifndef HARNESS_EXPLORE_DRAW_H
#define HARNESS_EXPLORE_DRAW_H
#include "harness/explore_world.h"

/* The world's next schedule goes to standard output; one world in a process. */
void explore_draw_begin(struct explore_world *, const struct explore_set *);

#endif
