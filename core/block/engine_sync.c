/*
 * Engine sync: every I/O is a blocking system call of the loop's own thread, made while
 * the turn submits; its completion is delivered later in the same turn. What a thread
 * that blocks uses anyway, and the control for everything asynchronous.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/block/hostio.h"
#include "core/block/loop_int.h"
#include "core/block/sleeper.h"

struct sync {
    struct engine base;
    struct sleeper sleeper;
};

static int sync_probe(struct error *err)
{
    (void)err;
    return 0;
}

static int sync_open(struct engine **out, struct loop *loop,
                     const struct loop_options *o, struct error *err)
{
    struct sync *s = calloc(1, sizeof(*s));

    (void)loop, (void)o;
    if (!s)
        return error_set(err, -ENOMEM, "engine sync: out of memory");
    *out = &s->base;
    return 0;
}

static void sync_close(struct engine *e) { free(e); }

static void sync_submit(struct engine *e, struct aio_queue *q, unsigned max)
{
    /* Only what there is now: the rest of a short transfer is queued again at the
     * head. */
    for (; max && q->head; max--) {
        struct aio *aio = aio_queue_pop(q);
        engine_complete(aio, hostio_run(aio));
    }
    (void)e;
}

static void sync_wait(struct engine *e, uint64_t timeout_ns)
{
    if (timeout_ns)
        sleeper_wait(&((struct sync *)e)->sleeper, timeout_ns);
}

static void sync_wake(struct engine *e) { sleeper_wake(&((struct sync *)e)->sleeper); }

static int64_t sync_run(struct engine *e, struct aio *aio)
{
    (void)e;
    return hostio_run(aio);
}

const struct engine_ops engine_sync = {
    .name = "sync",
    .summary = "blocking system calls in the caller's thread",
    .native = (1u << AIO_OPS) - 1,
    .probe = sync_probe,
    .open = sync_open,
    .close = sync_close,
    .submit = sync_submit,
    .wait = sync_wait,
    .wake = sync_wake,
    .run = sync_run,
};
