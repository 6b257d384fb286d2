/*
 * What an I/O costs on the raw path, that is the loop and an engine without any
 * strategy: one cell of `asyncow microbench engine`.
 *
 * Each measurement is a process of its own, on a file that was put into its state just
 * before: pools and memory of one are not the next one's.
 */
#ifndef HARNESS_BENCH_H
#define HARNESS_BENCH_H
#include <stdbool.h>
#include <stdint.h>

#include "core/block/loop.h"

enum bench_state {
    BENCH_EXISTING,  /* the file is there, written; offsets are random */
    BENCH_GROWING,   /* it is empty; each write extends it */
    BENCH_FALLOCATED /* it is allocated and never written; offsets are in order */
};

struct bench_cell {
    const char *path;
    struct loop_options loop; /* engine, depth */
    enum bench_state state;
    bool direct, write;
    bool sync;         /* one at a time, by aio_run(); depth is 1 */
    uint64_t bs, size; /* bytes; the file's when it is full */
    uint64_t time_ns;  /* at most so long; growing and fallocated end when it is full */
};

struct bench_cost {
    double ns, cpu_ns; /* a request: wall, and CPU of all threads */
    /* Of batches of depth requests: how long the loop's thread was held up by
     * submitting them, and that as a share of the time until all were done. 1: it is
     * synchronous. */
    double submit_ns, submit_share;
    double calls; /* system calls a request */
};

/* Puts the file into its state. 0 or -errno with err. */
int bench_prepare(const struct bench_cell *, struct error *);
/* depth requests in flight all the time: ns, cpu_ns. */
int bench_stream(const struct bench_cell *, struct bench_cost *, struct error *);
/* Batches: submit_ns, submit_share. */
int bench_batches(const struct bench_cell *, struct bench_cost *, struct error *);
/* A few hundred requests, traced: calls. */
int bench_calls(const struct bench_cell *, struct bench_cost *, struct error *);

/* fio's name of the engine, or NULL: it has none. */
const char *bench_fio_engine(const char *engine);
bool bench_fio_there(void);
/* One by one; submitting and reaping as many at a time as there are; and so with the
 * file and its memory registered, whatever our engine is set to. */
enum bench_fio_how { FIO_AS_IT_COMES, FIO_BATCHED, FIO_REGISTERED, FIO_HOWS };
bool bench_fio_registers(const struct bench_cell *); /* can it? */
/* The same job under fio: nanoseconds a request. Only existing files. */
int bench_fio(const struct bench_cell *, enum bench_fio_how, double *ns,
              struct error *);

#endif
