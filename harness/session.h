/*
 * An image opened for one job under one strategy: the world, the loops, the chain, the
 * module and its image, in the order they are built up and taken down.
 */
#ifndef HARNESS_SESSION_H
#define HARNESS_SESSION_H
#include "core/block/filter.h"
#include "core/block/sim_device.h"
#include "core/image/chain.h"
#include "harness/iothreads.h"
#include "harness/module.h"
#include "harness/options.h"

struct session {
    struct env *env; /* the caller's */
    struct loop *loop;
    struct iothreads threads; /* of the image's other loops */
    struct image_node *top;
    struct module module;
    struct strategy_image *image;
    struct sim_model model; /* simulated: the job's */
};
/* path: of the image, the job's own or a copy of it. */
int session_open(struct session *, struct env *, const struct job *, const char *spec,
                 const char *path, struct error *);
/* Are the engine's and the filters' names and settings known ones? 0, or -EINVAL with
 * err. Nothing is opened. */
int session_check(const struct job *, struct error *);
/* Drained by the caller. 0 or the first error; closes what is open, in every case. */
int session_close(struct session *);
/* Host I/Os of the whole chain so far. */
void session_io(const struct session *, struct blk_stats *);
struct session_sim { /* of the simulated world; zeros on the machine */
    struct sim_usage usage;
    struct sim_device_stats device;
};
void session_sim(const struct session *, struct session_sim *);
/* What the chain's delay filters asked for and realised so far. */
void session_delay(const struct session *, struct delay_stats *);
/* The job's engine by our name for it: libaio is linux-aio, psync is sync. */
const char *session_engine(const struct job *);
bool session_simulated(const struct job *);

#endif
