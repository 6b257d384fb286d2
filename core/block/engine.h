/*
 * Engines: how host I/O gets done. One table of functions each; private to core/block.
 *
 * A loop owns one instance. Per turn it calls submit() with what was gathered, at most
 * once, then wait() at most once; all from the loop's own thread. An engine reports
 * each finished I/O with engine_complete(), from submit(), wait(), cancel() or (sim) an
 * event: that only queues it on the loop, so callbacks never run inside an engine, and
 * nothing is ever delivered from aio_submit(). Requests are the callers' aio structs:
 * an engine allocates nothing per I/O.
 *
 * What the engine doesn't do itself (ops it leaves out of `native`) goes to the loop's
 * helper pool, not to submit().
 *
 * A transfer may be short: engine_complete() says how many bytes moved, and the loop
 * submits the rest again or (read at the end of the file) fills with zeros. So an
 * engine asks engine_piece() what is left of an aio, and never touches offset, len or
 * iov.
 */
#ifndef ASYNCOW_ENGINE_H
#define ASYNCOW_ENGINE_H
#include <assert.h>

#include "core/block/aio.h"
#include "core/env/settings.h"

/* First in first out, linked through aio.next. Empty: head NULL. */
struct aio_queue {
    struct aio *head, *tail;
};
static inline void aio_queue_push(struct aio_queue *q, struct aio *a)
{
    a->next = NULL;
    if (q->head)
        q->tail->next = a;
    else
        q->head = a;
    q->tail = a;
}
static inline struct aio *aio_queue_pop(struct aio_queue *q)
{
    struct aio *a = q->head;

    if (a)
        q->head = a->next;
    return a;
}

struct engine_ops;
/* The head of each engine's own struct; set up by the loop after open. */
struct engine {
    const struct engine_ops *ops;
    struct loop *loop;
    struct env *env;
    unsigned inflight; /* taken by submit(), not yet completed; kept by the two calls */
    char notes[240];   /* what it does without; "" */
    /* Who sleeps outside its wait() looks again so soon, for it may not be told. 0: it
     * is */
    uint64_t sleep_max_ns;
};

struct engine_ops {
    const char *name;    /* "linux-aio" */
    const char *summary; /* "libaio, completions through its ring" */
    unsigned native;     /* 1 << AIO_...: the ops that submit() takes */
    bool simulated;      /* works in env_sim on simulated files, and only there */
    const struct setting *settings; /* checked against them before open(); NULL: none */
    /* Optional. Of options whose settings are known ones: do they go together? */
    int (*check)(const struct loop_options *, struct error *);

    /* Settings that the kernel may lack ("taskrun=defer"), NULL at the end; or NULL. To
     * find out is to open with it and read the notes. */
    const char *const *features;

    /* Usable here? 0, or -errno with the reason as err. */
    int (*probe)(struct error *err);
    int (*open)(struct engine **, struct loop *, const struct loop_options *,
                struct error *);
    void (*close)(struct engine *); /* nothing is in flight */

    /* Takes up to max aios off the head of q, in order, and counts them in inflight.
     * May take fewer (the kernel says EAGAIN): the loop offers the rest again next
     * turn. May hand them to the kernel as late as in the wait() that follows. */
    void (*submit)(struct engine *, struct aio_queue *q, unsigned max);
    /* Reaps what has finished. Nothing finished: sleeps until something has, wake() is
     * called or timeout_ns are over. 0: does not sleep; UINT64_MAX: no limit. May
     * return early with nothing. Simulated: the loop sleeps on its gate; never
     * called. */
    void (*wait)(struct engine *, uint64_t timeout_ns);
    /* Ends a wait(), also the next one if none is going on. From any thread. Simulated:
     * never called. */
    void (*wake)(struct engine *);
    /* Optional. A descriptor that becomes readable when wait() would find something,
     * for loops that sleep outside it: they call wait(0) before and after. -errno:
     * there is none as it is set. Left out: it only completes by posting. Asked for
     * once, before the first submission. */
    int (*fd)(struct engine *, struct error *);
    /* Optional. An aio that submit() took and that hasn't completed: tries to end it
     * early. It completes in any case, with -ECANCELED or its own result. */
    void (*cancel)(struct engine *, struct aio *);
    /* Optional. Memory that much of the I/O will use: it may be registered with the
     * kernel. NULL: forget all that was told, before it is freed. */
    void (*memory)(struct engine *, void *base, size_t len);
    /* Optional. Does it here and now, blocking: bytes moved or -errno. Lets aio_run()
     * in a thread that may block do without a turn. */
    int64_t (*run)(struct engine *, struct aio *);
};

extern const struct engine_ops engine_sync, engine_posix_aio, engine_threads,
    engine_linux_aio, engine_io_uring, engine_libuv, engine_sim;

/* By its name, whatever settings follow behind a colon. NULL: no such engine. */
const struct engine_ops *engine_find(const char *spec);
/* The same with its settings checked; *settings points into spec, or is NULL. NULL: err
 * says which there are. */
const struct engine_ops *engine_parse(const char *spec, const char **settings,
                                      struct error *err);
/* Would loop_create() know the engine and what it is told, wherever it runs? 0, or
 * -EINVAL with err. */
int engine_check(const struct loop_options *, struct error *err);
/* All of them, NULL at the end, for `asyncow engines`. */
const struct engine_ops *const *engine_list(void);

/* For engines: something asked for that there isn't here; goes to reports. */
void engine_note(struct engine *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* For engines. moved: bytes of this piece (READ, WRITE), 0 (others), or -errno. From
 * the loop's thread, or in simulation from an event's callback (it opens the loop's
 * gate). The aio is the loop's again; the engine has done --inflight. */
void engine_complete(struct aio *, int64_t moved);

/* The I/O that an event of the sim engine completes; NULL: the event is something
 * else. */
struct sim_event;
const struct aio *sim_event_aio(const struct sim_event *);

/* What of it is still to be moved. iov[..*cnt] stays valid until it completes. */
enum { AIO_PARTIAL = 1 }; /* aio.flags: moved > 0 or the piece is limited */
size_t engine_piece_partial(struct aio *, const struct iovec **iov, int *cnt,
                            uint64_t *offset);
static inline size_t engine_piece(struct aio *a, const struct iovec **iov, int *cnt,
                                  uint64_t *offset)
{
    if (__builtin_expect(a->flags & AIO_PARTIAL, 0))
        return engine_piece_partial(a, iov, cnt, offset);
    *iov = a->iov;
    *cnt = a->iovcnt;
    *offset = a->offset;
    return (size_t)a->len;
}

/* The real file behind it; -1 in simulation. The simulated file; NULL on the
 * machine. */
int blk_fd(const struct blk_file *);
struct sim_file *blk_sim(const struct blk_file *);

/* Simulated files: sim_file.c, sim_pages.c. Open ones live in memory, in the env, by
 * path. The last close writes back to the real file of that name; one whose name begins
 * with "mem:" has none, and stays in the env for the next open. */
struct sim_file;
/* As blk_open(sim): created empty, or loaded from the real file of that name, or found
 * from before. options as given to blk_open (write, create, truncate). */
int sim_file_open(struct sim_file **, struct env *, const char *path,
                  const struct blk_options *, struct error *);
int sim_file_close(struct sim_file *);
/* Does what is left of a to the file's bytes, here and now, no time passing: bytes
 * moved or -errno. For the engine at the moment of completion, and for the blocking
 * helpers. */
int64_t sim_file_io(struct aio *a);
/* It will be asked for what is there. */
void sim_file_prefetch(struct sim_file *, uint64_t offset);
uint64_t sim_file_size(struct sim_file *);
int sim_file_truncate(struct sim_file *, uint64_t size);
bool sim_file_is_data(struct sim_file *, uint64_t offset, uint64_t *len);
unsigned sim_file_align(struct sim_file *); /* as a direct file would need; 1: none */

#endif
