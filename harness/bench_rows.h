/*
 * Rows of `asyncow microbench engine`: a cell's trials, as a line of the table or as
 * JSON.
 *
 * Trials are interleaved: each round measures ours, then fio each way, so that what the
 * machine does meanwhile falls on all.
 */
#ifndef HARNESS_BENCH_ROWS_H
#define HARNESS_BENCH_ROWS_H
#include <jansson.h>

#include "harness/bench.h"

enum { BENCH_TRIALS_MAX = 200 };

struct bench_rows { /* the same for all */
    uint64_t trials;
    bool fio, calls, sync;
};

/* One row: the trials of a cell. */
struct bench_row {
    struct bench_cell cell;
    struct bench_cost cost; /* of what isn't repeated */
    double ns[BENCH_TRIALS_MAX], cpu_ns[BENCH_TRIALS_MAX];
    double fio[FIO_HOWS][BENCH_TRIALS_MAX];
    bool has_fio, has_registered; /* the last of fio's ways */
    char error[200];              /* why there is no row; "" */
};

extern const char *const bench_state_names[]; /* by enum bench_state */

/* r->cell and r->has_fio are set. 0 or -errno with err. */
int bench_row_measure(const struct bench_rows *, struct bench_row *r, struct error *);
void bench_row_head(void);
void bench_row_print(const struct bench_rows *, const struct bench_row *);
json_t *bench_row_json(const struct bench_rows *, const struct bench_row *);

#endif
