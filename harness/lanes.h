/*
 * A job's load over all loops of its image: a lane each, the first on the caller's.
 *
 * The lanes share the iodepth. Lane i of n makes every n-th request of the workload, from
 * the i-th on, so that together they make what one loop would; which comes first is up
 * to them. The table of verify, and when a snapshot is due, is the first lane's.
 */
#ifndef HARNESS_LANES_H
#define HARNESS_LANES_H
#include "harness/load.h"
#include "harness/session.h"
#include "harness/stall.h"

struct lane {
    struct load_options o;
    struct load *load;
    struct load_result *res;
    struct stall *stall;
    void (*on_start)(void *opaque); /* the first's; of o, which has lanes.c's */
    void *opaque;
    struct hist *lat;        /* owned until taken; of all its requests but flushes */
    struct loop_stats loop;  /* while it was measured */
    struct loop_stats begun; /* when that began */
    int ret;
    struct error err;
};
struct lanes {
    struct session *session;
    struct lane *lane; /* NULL: there is one loop */
    unsigned n;
    bool heartbeat, turn_probe;
};

/* o, res and stall are the first lane's; and in the end, res and stall hold all. 0, or
 * -errno with err. */
int lanes_open(struct lanes *, struct session *, const struct load_options *o,
               struct load_result *, struct stall *, struct error *);
struct load *lanes_first(struct lanes *);
/* Runs the job, on all loops; as load_run(). */
int lanes_run(struct lanes *);
void lanes_close(struct lanes *);

#endif
