/*
 * One spindle's mechanics: how long an access takes from where the arm and the platter
 * are. Pure arithmetic on integers; sim_device.c has the queue before it.
 *
 * The platter turns all the time, from angle 0 at time 0. Tracks follow each other in a
 * cylinder and cylinders on the disk, each skewed by as much as the switch to it takes, so
 * that what lies in sequence passes under the head without a pause. All tracks have the
 * same length: no zones. The drive serves one command at a time and has no queue of its
 * own and no write cache; after a read it reads on into a buffer until it has something
 * else to do, and keeps as much of what lies behind: one segment of twice `readahead` bytes.
 */
#ifndef ASYNCOW_SIM_DISK_H
#define ASYNCOW_SIM_DISK_H
#include "core/block/sim_model.h"

struct sim_arm {
    uint64_t cylinder, head;
    /* What is in the buffer, or on its way into it: bytes from `from`; `mark` was there at
     * mark_ns, what follows as the platter brings it, up to `limit`. from == limit: none. */
    uint64_t from, mark, mark_ns, limit;
};

/* When an access of len > 0 bytes that begins now will have ended. */
uint64_t sim_disk_access(const struct sim_disk_model *, struct sim_arm *,
                         uint64_t now_ns, uint64_t offset, uint64_t len, bool write);

uint64_t sim_disk_revolution_ns(const struct sim_disk_model *);
uint64_t sim_disk_seek_ns(const struct sim_disk_model *, uint64_t cylinders);
uint64_t sim_disk_capacity(const struct sim_disk_model *);

#endif
