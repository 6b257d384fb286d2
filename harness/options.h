/*
 * What a run is told: one table of options, the same in a job file and on the command
 * line, named as fio names them where fio has them.
 *
 * Dashes and underscores in names are alike. An option given again overrides. Nothing
 * is skipped silently: an unknown name or a bad value is an error that says what would
 * be right.
 */
#ifndef HARNESS_OPTIONS_H
#define HARNESS_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/env/error.h"

enum { OPTION_PERCENTILES_MAX = 20, OPTION_DEPTH_MAX = 4096 };

enum load_dir { LOAD_READ, LOAD_WRITE, LOAD_TRIM, LOAD_SYNC, LOAD_DIRS };

struct rw_mode { /* rw=NAME[:nr] */
    bool read, write, trim, random;
    bool trim_first; /* trimwrite: a block is trimmed, then written */
    uint64_t skip;   /* sequential: bytes left out after each request; random: requests
                        in a row before the next draw */
    char text[40];
};
struct amount { /* a size, or a share of something */
    uint64_t bytes;
    double percent;
    bool set, is_percent;
};
enum verify_kind { VERIFY_NONE, VERIFY_CRC32C };
enum output_format { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_JSON_PLUS };

struct job { /* strings are owned; NULL: not given */
    char *name;
    struct rw_mode rw;
    uint64_t bs, iodepth, number_ios, loops, runtime_ns, ramp_ns;
    struct amount size, offset, io_size;
    bool time_based, norandommap, direct, zero_buffers, end_fsync;
    uint64_t streams, think_ns, rwmixread, randseed, fsync, fdatasync, numjobs;
    bool randseed_set;
    uint64_t verify; /* enum verify_kind */
    struct {
        uint64_t requests, ns; /* both 0: never */
    } snapshot_every;
    bool do_verify, verify_only, verify_fatal, verify_content;
    double percentile[OPTION_PERCENTILES_MAX];
    unsigned percentiles;

    char *read_iolog; /* the requests are these, not what rw and bs describe */
    bool replay_no_stall;
    uint64_t replay_order; /* enum iolog_order */
    char *image, *format, *engine, *filters, *sim_model;
    uint64_t loop, completion, waiter; /* indices of their choices */
    uint64_t iothreads;                /* loops that serve the image */
    uint64_t poll_us, waiter_us, merge;
    uint64_t global_mutex, vcpu_tick_ns; /* enum vcpu_mode */
    uint64_t cache, grow, batch, workers, kb_base;
    bool through, punch, allow_write, allow_backing, no_lock, copy;

    /* of the whole run: the same in all jobs */
    char *strategy, *output;
    uint64_t cpus, trials, seed, output_format;
    bool trials_set, stall, turn_probe, no_manifest_host, no_fork, invalidate, quiet;
};

void job_init(struct job *); /* the defaults */
int job_copy(struct job *to, const struct job *);
void job_free(struct job *);
/* Sets one option. value NULL: given without one. 0; -EINVAL with err: which option,
 * what was found, what would be right; -ENOENT: no such option, err names the
 * nearest. */
int job_set(struct job *, const char *name, const char *value, struct error *);
/* Does name take its value from the next word if none is attached? */
bool job_option_wants_value(const char *name);
/* Is it an option of the whole run, not of a job? */
bool job_option_global(const char *name);
/* Checks what only holds between options, once all are set. */
int job_check(const struct job *, struct error *);
bool job_snapshots(const struct job *); /* makes some */
bool job_writes(const struct job *);    /* changes the image */
void job_options_help(FILE *);
/* Calls fn for every option with its value as text, in the table's order. */
void job_each(const struct job *,
              void (*fn)(void *, const char *name, const char *value), void *);

/* The name of those given that is nearest to word, or NULL if none is near. */
const char *nearest_name(const char *word, const char *(*nth)(void *, unsigned),
                         void *);
uint64_t amount_of(const struct amount *, uint64_t whole); /* resolves a percentage */

#endif
