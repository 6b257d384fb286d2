/*
 * Filters: between the alignment layer and the engine, stacked per file.
 *
 * "delay:read=100us,metadata-read=1ms;fault:op=write,n=3,error=EIO": outermost first.
 * They see what goes to the host, whatever the engine and the loop: also the blocking
 * helpers, and the reads and writes that the alignment layer makes of an unaligned
 * request. One filter serves all loops at once, so its state is atomic.
 *
 * delay: kind=time, ...   kind: any, metadata, data, read, write, flush, discard, zero,
 *     grow, or metadata-read, data-write ...; the more precise wins. time: 100us, or
 *     uniform(50us,200us), or lognormal(200us,0.5) (median, sigma). seed=N. Units: ns,
 *     us, ms, s. from=, to=: only I/O that touches these bytes of the file; 4096, 64k,
 *     1m. In real time, or in simulation in virtual time.
 * throttle: iops=N and bps=N (a second), iops-burst=N, bps-burst=N: what may go at once
 *     after a pause. N: 1000, 64k, 1m.
 * record: file=PATH: a line for each I/O, as filter_record.c says; the file is added
 * to. fault: op=kind, n=3 (the third one, from 1; write=3 says both), times=1 (or
 * forever),
 *     from=, to= (those that touch these bytes count, and no others), and what happens:
 *     error=EIO (a name or a number), or short (the first attempt moves half; it goes
 *     on), or torn (half of its sectors are moved, then it fails with error), or
 *     stuck=30s (nothing happens for so long, then it fails with error). Without n it
 *     counts only, until fault_arm().
 */
#ifndef ASYNCOW_FILTER_H
#define ASYNCOW_FILTER_H
#include "core/block/aio.h"

struct filter;
struct filter_ops {
    const char *name, *summary;
    /* params: behind the colon, "" if none. err: which parameter, what would be right.
     * env NULL: it is only to be checked, and closed again. */
    int (*open)(struct filter **, struct env *, const char *params, struct error *);
    void (*close)(struct filter *);
    /* Passes it on with filter_next(), at once or later from the aio's loop, or ends it
     * with aio_finish(). */
    void (*submit)(struct filter *, struct aio *);
};
struct filter { /* the head of each filter's own struct */
    const struct filter_ops *ops;
    struct filter *next; /* further in; NULL: the engine */
};

int filter_parse(struct filter **chain, struct env *, const char *spec, struct error *);
/* Is it one? 0, or -EINVAL with err. Leaves no trace. */
int filter_check(const char *spec, struct error *);
void filter_close(struct filter *chain);
void filter_submit(struct filter *, struct aio *);
static inline void filter_next(struct filter *f, struct aio *aio)
{
    filter_submit(f->next, aio);
}
const struct filter_ops *const *filter_list(void); /* NULL at the end */
extern const struct filter_ops filter_delay, filter_throttle, filter_record,
    filter_fault;

/* For filters: "key=value,key=value(a,b)". Copies the next pair and moves *params
 * behind it. false: no more. value is "" where there is no '='. */
bool filter_param(const char **params, char key[32], char value[96]);

/* Kinds of I/O. A bit is (1 << op) for data, (1 << (op + 8)) for metadata. How precise
 * a name is: 0 any, 1 one of the two halves or one op, 2 both. 0 or -EINVAL. */
#define KIND_METADATA_SHIFT 8
int filter_kind(const char *name, unsigned *bits, unsigned *precision);
static inline unsigned filter_kind_bit(const struct aio *aio)
{
    return 1u << (aio->op + (aio->metadata ? KIND_METADATA_SHIFT : 0));
}
/* "100us" in nanoseconds; 0 or -EINVAL. */
int filter_time(const char *text, uint64_t *ns);

/* 1000, 64k, 1m. 0 or -EINVAL. */
int filter_amount(const char *text, double *value);

/* Bytes of a file, from=64k,to=1m. to 0: up to the end. Flushes touch none but the
 * whole. */
struct filter_range {
    uint64_t from, to;
};
/* 1: key was one of the two; 0: it wasn't; -EINVAL with err. */
int filter_range_set(struct filter_range *, const char *key, const char *value,
                     struct error *);
static inline bool filter_touches(const struct filter_range *r, const struct aio *aio)
{
    if (!r->from && !r->to)
        return true;
    return aio->len && aio->offset + aio->len > r->from &&
           (!r->to || aio->offset < r->to);
}

/* ---- for reports and tests; any thread ---- */

/* The first of that name from f on, NULL if there is none. */
struct filter *filter_find(struct filter *f, const char *name);

/* The file's first filter of that name, NULL if there is none. */
struct filter *blk_filter(const struct blk_file *, const char *name);

struct fault_plan {
    unsigned kinds; /* bits as filter_kind() gives; ~0u: any */
    uint64_t n;     /* the n-th from now, from 1; 0: disarmed */
    uint64_t times; /* so many in a row; UINT64_MAX: for ever */
    int error;      /* -EIO; 0 with SHORT */
    enum { FAULT_FAIL, FAULT_SHORT, FAULT_TORN, FAULT_STUCK } action;
    uint64_t stuck_ns;
    struct filter_range range;
};
void fault_arm(struct filter *, const struct fault_plan *);
uint64_t fault_passed(struct filter *, unsigned kinds); /* I/Os of those kinds seen */
uint64_t fault_hits(struct filter *); /* I/Os it has interfered with */

/* Told of each I/O when it comes and when it is done (result is valid then), one at a
 * time, from any thread; it must not submit. NULL: nobody is. */
typedef void record_watcher(void *opaque, const struct aio *, bool done);
void record_watch(struct filter *, record_watcher *, void *opaque);

struct delay_stats {
    uint64_t count, asked_ns, realised_ns; /* sums over all delayed I/Os */
};
void delay_get_stats(struct filter *, struct delay_stats *);

#endif
