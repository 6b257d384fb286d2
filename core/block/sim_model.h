/*
 * What the simulated world is made of: the device below, the CPUs' costs, the guest's
 * elevator. A model is named, or read from a file, and changed behind a colon:
 *
 *     fixed:read=80us                lognormal
 *     models/disk-7200.model:host-elevator=noop
 *
 * The file is text: `name = value` a line, `#` begins a comment, `model = disk` comes
 * first. Times have units (ns, us, ms, s), sizes k, m, g, t (1024) or none, rates are
 * sizes a second. All that there is to set stands in sim_params[]; what a model hasn't is
 * refused. All arithmetic is in integers, here and in the devices, so that every machine
 * and compiler gets the same times.
 */
#ifndef ASYNCOW_SIM_MODEL_H
#define ASYNCOW_SIM_MODEL_H
#include "core/block/elevator.h"
#include "core/env/error.h"
#include "core/env/sim.h"

enum sim_device_kind { SIM_ZERO, SIM_FIXED, SIM_LOGNORMAL, SIM_DISK };
#define SIM_CHANNELS_MAX 256u
#define SIM_SPINDLES_MAX 64u

struct sim_disk_model {
    uint64_t rpm, cylinders, heads, track_bytes;
    uint64_t seek_track_ns, seek_average_ns, seek_full_ns, head_switch_ns, command_ns;
    uint64_t interface, readahead; /* bytes a second; bytes */
};
struct sim_model {
    uint64_t kind; /* enum sim_device_kind */
    uint64_t read_ns, write_ns, flush_ns;
    /* lognormal */
    uint64_t channels, sigma; /* sigma of ln, in percent */
    uint64_t write_busy_ns, bandwidth, flush_waits;
    struct sim_disk_model disk;
    uint64_t spindles, stripe, file_gap;
    struct elevator_options host, guest;
    uint64_t guest_queue, guest_depth; /* guest_queue: there is one */
    struct sim_costs costs;
};

struct sim_param { /* a table that ends with name NULL */
    const char *name;
    enum { SIM_COUNT, SIM_TIME, SIM_BYTES, SIM_CHOICE } kind;
    size_t at; /* in the struct */
    uint64_t min, max, initial;
    const char *choices; /* "a|b": the index is stored */
    unsigned models;     /* 1 << kind of those that have it */
    const char *help;
};
extern const struct sim_param sim_params[];
extern const char *const sim_kind_names[4], *const sim_kind_summaries[4];

/* text NULL or "": fixed. 0; -EINVAL or the file's error, with err: where, what was found,
 * what would be right. */
int sim_model_parse(struct sim_model *, const char *text, struct error *);
/* fn gets each parameter that the model has, with its value as it may be written. */
void sim_model_each(const struct sim_model *,
                    void (*fn)(void *, const char *name, const char *value), void *);
/* "1..64", "noop|deadline|anticipatory", "a time such as 80us". */
void sim_param_values(const struct sim_param *, char *out, size_t size);
/* The value as it may be written, e.g. "80us". */
void sim_param_text(const struct sim_param *, uint64_t value, char *out, size_t size);

#endif
