/*
 * What one job of one trial measured, and its JSON.
 *
 * "process" and what else depends on the machine and the moment is left out of the JSON
 * with --no-manifest-host; the rest is the same for the same seed in simulation.
 */
#ifndef HARNESS_RESULT_H
#define HARNESS_RESULT_H
#include <jansson.h>

#include "core/block/filter.h"
#include "harness/lanes.h"
#include "harness/load.h"
#include "harness/machine.h"
#include "harness/session.h"
#include "harness/stall.h"
#include "harness/trial.h"
#include "harness/verify.h"

struct counters {
    struct usage usage;
    struct session_sim sim;
    struct blk_stats io;
    struct delay_stats delay; /* of the filter */
    struct loop_stats loop;   /* of the image's own loop */
    struct strategy_stats strategy;
};
/* c becomes what was counted since then (rss_max and flags stay as they are). */
void counters_since(struct counters *c, const struct counters *then);

struct lane_result { /* of one of several loops */
    struct hist *lat;
    struct loop_stats loop;
};

struct result {
    struct load_result *load, *verify_load;
    struct lane_result *lane; /* lanes of them; NULL: one loop */
    unsigned lanes;
    struct stall *stall;
    struct counters counters;
    struct verify verify;
    char engine[32], engine_notes[240];
    uint64_t seed, disk_size, close_ns, close_ios, steal_ns;
    double spin_ns;
    uint32_t content_crc;
    bool content;
    /* simulated: steps cost CPU time; the device is a disk; the guest has an elevator */
    bool costly, disk, guest_queue;
    struct guestq_stats guest;
};
struct result *result_new(void); /* NULL: out of memory */
void result_free(struct result *);
/* Takes what each loop did, if there are several. */
void result_lanes(struct result *, struct lanes *);
/* error: 0 or the job's, described by err. */
json_t *result_json(const struct result *, const struct trial *, const struct job *,
                    int error, const struct error *err);

#endif
