/*
 * The device of the simulated world: when each I/O is done, by the model.
 *
 * There is one for each model in a world, whatever number of loops use it: they share its
 * channels, or its arms and elevators. It lives as long as the world. Called from actors
 * and events; an actor has no CPU time to pay then (sim_pay()), so that I/Os come in the
 * order of time.
 */
#ifndef ASYNCOW_SIM_DEVICE_H
#define ASYNCOW_SIM_DEVICE_H
#include "core/block/aio.h"
#include "core/block/sim_model.h"

struct sim_device;

/* NULL: out of memory. */
struct sim_device *sim_device_of(struct env *, const struct sim_model *);
/* Of all models but the disk: when an I/O that begins now will be done. */
uint64_t sim_device_done_ns(struct sim_device *, enum aio_op, uint64_t len);
/* Reads and writes on a disk: done(aio) comes from an event. source: whose it is, for the
 * elevator. false: out of memory. */
bool sim_device_transfer(struct sim_device *, struct aio *, unsigned source,
                         void (*done)(struct aio *));
bool sim_device_is_disk(const struct sim_device *);
unsigned sim_device_new_source(struct sim_device *);

struct sim_device_stats { /* of a disk, over all spindles */
    uint64_t commands, merged, waits, waits_won, expired, busy_ns;
};
void sim_device_get_stats(const struct sim_device *, struct sim_device_stats *);

/* Lognormal: the quantile z of the normal distribution, in 1/65536, of 64 random bits; and
 * median * e^(sigma * z). For tests too. */
int64_t sim_normal_q16(const uint64_t random[3]);
uint64_t sim_lognormal_ns(uint64_t median_ns, uint64_t sigma, int64_t z_q16);

#endif
