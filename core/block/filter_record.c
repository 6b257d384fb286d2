/*
 * record: every I/O that passes, with its times, as text that can be replayed.
 *
 *     # asyncow record 2: seq arrival submitted_ns done_ns op kind offset len result
 *     0 1 1200 98000 write data 65536 4096 0
 *
 * One line an I/O, written when it completes; seq is the order in which they came,
 * arrival that in which they were handed to the kernel (-: it never got so far). Times count from the opening of the file. Lines are added to what is
 * there: each opening (a trial, a backing file) begins with the comment.
 *
 * The I/O's own done() is put aside in a node while it is on its way; nodes are kept
 * and used again. One mutex for all loops, so recording costs something: it is for
 * looking at order and times, not for measuring throughput.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/filter.h"
#include "core/block/loop_int.h"

struct node {
    struct record *record;
    void (*done)(struct aio *);
    void *outer; /* the node of another such filter around this one */
    uint64_t seq, submitted_ns;
    struct node *next; /* while free */
};

struct record {
    struct filter base;
    struct env *env;
    struct env_mutex lock; /* over all below */
    FILE *out;
    uint64_t begin_ns, seq;
    struct node *free;
    record_watcher *watcher;
    void *opaque;
};

static const char *const op_names[AIO_OPS] = {"read",    "write", "flush",
                                              "discard", "zero",  "grow"};

static int record_open(struct filter **out, struct env *env, const char *params,
                       struct error *err)
{
    char key[32] = "", value[96] = "";
    struct record *r;

    if (!filter_param(&params, key, value) || strcmp(key, "file") || !*value || *params)
        return error_set(err, -EINVAL,
                         "\"%s\": file=PATH, and nothing else, would be right", key);
    r = calloc(1, sizeof(*r));
    if (!r)
        return error_set(err, -ENOMEM, "out of memory");
    *out = &r->base;
    env_mutex_init(&r->lock);
    if (!env)
        return 0;
    r->out = fopen(value, "ae");
    if (!r->out) {
        int ret = -errno;
        free(r);
        return error_set(err, ret, "file=%s: %s", value, strerror(-ret));
    }
    fprintf(r->out,
            "# asyncow record 2: seq arrival submitted_ns done_ns op kind offset "
            "len result\n");
    fflush(r->out);
    r->env = env;
    r->begin_ns = env_now_ns(env);
    return 0;
}

static void record_close(struct filter *f)
{
    struct record *r = (struct record *)f;
    struct node *next;

    for (struct node *n = r->free; n; n = next) {
        next = n->next;
        free(n);
    }
    if (r->out && fclose(r->out) != 0)
        fprintf(stderr, "asyncow: filter record: the record is not complete: %s\n",
                strerror(errno));
    env_mutex_destroy(&r->lock);
    free(r);
}

static void record_done(struct aio *aio)
{
    struct node *n = aio->recorded;
    struct record *r = n->record;
    uint64_t now_ns = env_now_ns(aio->loop->env);

    char arrival[24] = "-";

    if (aio->arrival)
        snprintf(arrival, sizeof(arrival), "%" PRIu64, aio->arrival);
    env_mutex_lock(r->env, &r->lock);
    if (r->watcher)
        r->watcher(r->opaque, aio, true);
    fprintf(r->out,
            "%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %s %s %" PRIu64 " %" PRIu64 " %d\n",
            n->seq, arrival, n->submitted_ns - r->begin_ns, now_ns - r->begin_ns,
            op_names[aio->op], aio->metadata ? "metadata" : "data", aio->offset,
            aio->len, aio->result);
    aio->done = n->done;
    aio->recorded = n->outer;
    n->next = r->free;
    r->free = n;
    env_mutex_unlock(r->env, &r->lock);
    if (aio->done)
        aio->done(aio);
}

static void record_submit(struct filter *f, struct aio *aio)
{
    struct record *r = (struct record *)f;
    struct node *n;

    blk_count_arrivals(aio->file);
    env_mutex_lock(r->env, &r->lock);
    n = r->free;
    if (n)
        r->free = n->next;
    else
        n = malloc(sizeof(*n));
    if (n)
        *n = (struct node){
            .record = r, .done = aio->done, .outer = aio->recorded, .seq = r->seq};
    if (r->watcher)
        r->watcher(r->opaque, aio, false);
    r->seq++; /* one that could not be recorded leaves a gap */
    env_mutex_unlock(r->env, &r->lock);
    if (n) {
        n->submitted_ns = env_now_ns(aio->loop->env);
        aio->recorded = n;
        aio->done = record_done;
    }
    filter_next(f, aio);
}

void record_watch(struct filter *f, record_watcher *watcher, void *opaque)
{
    struct record *r = (struct record *)f;

    env_mutex_lock(r->env, &r->lock);
    r->watcher = watcher;
    r->opaque = opaque;
    env_mutex_unlock(r->env, &r->lock);
}

const struct filter_ops filter_record = {
    .name = "record",
    .summary = "every I/O with its times and order, as text: file=PATH",
    .open = record_open,
    .close = record_close,
    .submit = record_submit,
};
