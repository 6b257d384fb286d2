/*
 * Engine posix-aio: aio_read and aio_write of the C library, as QEMU had them in 2008.
 *
 * glibc does them with threads of its own, one request at a time per file descriptor.
 * How many threads is a property of the process, fixed at the first request.
 *
 * A completion is found by asking: sweep() looks at each request in flight, in the
 * order of submission. completion=signal: the library queues a real-time signal for
 * each, whose handler does nothing but wake the loop that the signal names. The kernel
 * refuses such signals once RLIMIT_SIGPENDING of them are queued, so a signal is a hint
 * and never counted, and no sleep with requests in flight is longer than LOST_NS. glibc
 * then also replaces the result of the I/O, which it has done, by EAGAIN (2.36's
 * __aio_notify): the loop repeats it, and the second attempt asks for no signal.
 * completion=poll: no signals, the wait sweeps until something is done.
 *
 * What arrives when at the file is known when it is handed over: glibc does the requests
 * of one descriptor one at a time, those of equal priority, which ours are, in the order
 * in which it was given them (its __aio_enqueue_request).
 *
 * There is no vectored call. The first entry of a vector goes down; the loop takes that
 * for a short transfer and sends the next one.
 *
 * A late signal may find its engine closed. So what it names is a slot in a table that
 * is never freed; at worst it wakes a loop that has nothing to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* Ours has the name of one of the library's; the one for 64-bit offsets is the same. */
#define aio_cancel libc_aio_cancel
#include <aio.h>
#undef aio_cancel

#include "core/block/file.h"
#include "core/block/loop_int.h"
#include "core/block/sleeper.h"

#define ENGINES_MAX 256
#define LOST_NS 10000000   /* until a signal is taken for lost */
#define THREADS_DEFAULT 20 /* glibc's own */

struct request {
    struct aiocb64 cb;
    struct aio *aio; /* NULL: free */
};

struct posix_aio {
    struct engine base;
    struct sleeper *sleeper;
    unsigned slot;
    bool signals;
    unsigned depth, active; /* the first so many of order[] are in flight */
    struct request **order;
    struct request requests[];
};

static struct posix_aio *posix_aio_of(struct engine *e)
{
    return (struct posix_aio *)e;
}

/* ---- what the process has once: slots, the handler, glibc's pool ---- */

static struct sleeper sleepers[ENGINES_MAX]; /* by slot */
static struct {
    atomic_bool used;
    int fd; /* made when first used, never closed: a late signal may write to it */
    bool made;
} wake_fds[ENGINES_MAX]; /* by slot */
static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;
static bool slot_taken[ENGINES_MAX]; /* under process_lock, as is what follows */
static bool handler_set;
static unsigned pool_threads; /* 0: the pool is not set up */

static int wake_signal(void) { return SIGRTMIN + 4; }

/* Safe in a signal's handler. */
static void rouse(unsigned slot)
{
    uint64_t one = 1;

    sleeper_wake(&sleepers[slot]);
    if (atomic_load(&wake_fds[slot].used) &&
        write(wake_fds[slot].fd, &one, sizeof(one)) < 0)
        return; /* full: it is readable already */
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    unsigned slot = (unsigned)info->si_value.sival_int;

    (void)sig, (void)context;
    if (info->si_code == SI_ASYNCIO && slot < ENGINES_MAX)
        rouse(slot);
    errno = saved;
}

static int set_handler(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_RESTART};

    if (handler_set)
        return 0;
    sigemptyset(&sa.sa_mask);
    if (sigaction(wake_signal(), &sa, NULL) < 0)
        return -errno;
    handler_set = true;
    return 0;
}

/* Once set it can't be changed; glibc would ignore it without a word. */
static int set_pool(unsigned threads, bool asked, struct error *err)
{
    struct aioinit init = {.aio_threads = (int)threads, .aio_num = 1024};

    if (pool_threads && asked && threads != pool_threads)
        return error_set(err, -EBUSY,
                         "threads=%u: the C library's pool has been set up with %u in "
                         "this process, and can't be changed",
                         threads, pool_threads);
    if (!pool_threads) {
        aio_init(&init);
        pool_threads = threads;
    }
    return 0;
}

static int take_slot(unsigned *slot, struct error *err)
{
    for (unsigned i = 0; i < ENGINES_MAX; i++) {
        if (slot_taken[i])
            continue;
        slot_taken[i] = true;
        atomic_store(&sleepers[i].woken, 0);
        *slot = i;
        return 0;
    }
    return error_set(err, -EMFILE, "at most %u of them at a time in a process",
                     ENGINES_MAX);
}

static int join_process(struct posix_aio *p, unsigned threads, bool asked,
                        struct error *err)
{
    int ret;

    pthread_mutex_lock(&process_lock);
    ret = set_pool(threads, asked, err);
    if (ret == 0 && p->signals && (ret = set_handler()) < 0)
        error_set(err, ret, "signal %d: %s", wake_signal(), strerror(-ret));
    if (ret == 0)
        ret = take_slot(&p->slot, err);
    pthread_mutex_unlock(&process_lock);
    return ret;
}

static void leave_process(struct posix_aio *p)
{
    pthread_mutex_lock(&process_lock);
    slot_taken[p->slot] = false;
    pthread_mutex_unlock(&process_lock);
}

/* ---- open and close ---- */

static const struct setting settings[] = {
    {"completion", "signal|poll", "signal",
     "how the loop learns of one: a signal that wakes it, or asking all the time"},
    {"threads", "1..1024", "default", "aio_threads of the C library: --workers, or 20"},
    {0},
};

static int posix_aio_probe(struct error *err)
{
    (void)err;
    return 0;
}

static int posix_aio_open(struct engine **out, struct loop *loop,
                          const struct loop_options *o, struct error *err)
{
    unsigned asked = settings_number(settings, o->settings, "threads", o->workers);
    struct posix_aio *p = calloc(1, sizeof(*p) + o->depth * sizeof(struct request));
    int ret;

    (void)loop;
    if (!p || !(p->order = calloc(o->depth, sizeof(struct request *)))) {
        free(p);
        return error_set(err, -ENOMEM, "engine posix-aio: out of memory");
    }
    p->depth = o->depth;
    for (unsigned i = 0; i < o->depth; i++)
        p->order[i] = &p->requests[i];
    p->signals = settings_is(settings, o->settings, "completion", "signal");
    ret = join_process(p, asked ? asked : THREADS_DEFAULT, asked, err);
    if (ret < 0) {
        error_prefix(err, "engine posix-aio");
        free(p->order);
        free(p);
        return ret;
    }
    p->sleeper = &sleepers[p->slot];
    *out = &p->base;
    return 0;
}

static void posix_aio_close(struct engine *e)
{
    struct posix_aio *p = posix_aio_of(e);

    atomic_store(&wake_fds[p->slot].used, false);
    leave_process(p);
    free(p->order);
    free(p);
}

/* ---- submission ---- */

static bool wants_signal(const struct posix_aio *p, const struct aio *aio)
{
    return p->signals && !(aio->flags & AIO_RETRY);
}

static int start(struct posix_aio *p, struct request *r, struct aio *aio)
{
    const struct iovec *iov;
    uint64_t offset;
    int cnt, ret;

    file_arrives(aio);
    r->cb = (struct aiocb64){.aio_fildes = blk_fd(aio->file)};
    r->cb.aio_sigevent.sigev_notify = wants_signal(p, aio) ? SIGEV_SIGNAL : SIGEV_NONE;
    r->cb.aio_sigevent.sigev_signo = wake_signal();
    r->cb.aio_sigevent.sigev_value.sival_int = (int)p->slot;
    if (aio->op == AIO_FLUSH) {
        ret = aio_fsync64(O_DSYNC, &r->cb);
    } else {
        engine_piece(aio, &iov, &cnt, &offset);
        r->cb.aio_buf = iov->iov_base;
        r->cb.aio_nbytes = iov->iov_len;
        r->cb.aio_offset = (off64_t)offset;
        ret = aio->op == AIO_READ ? aio_read64(&r->cb) : aio_write64(&r->cb);
    }
    return ret < 0 ? -errno : 0;
}

static void posix_aio_submit(struct engine *e, struct aio_queue *q, unsigned max)
{
    struct posix_aio *p = posix_aio_of(e);

    for (; max && q->head && p->active < p->depth; max--) {
        struct request *r = p->order[p->active];
        int ret = start(p, r, q->head);

        if (ret == -EAGAIN)
            return; /* offered again next turn */
        r->aio = aio_queue_pop(q);
        r->aio->engine_data = r;
        if (ret < 0) {
            engine_complete(r->aio, ret);
            continue;
        }
        p->active++;
        e->inflight++;
    }
}

/* glibc can only take back what no thread has begun. */
static void posix_aio_cancel(struct engine *e, struct aio *aio)
{
    struct request *r = aio->engine_data;

    aio_cancel64(r->cb.aio_fildes, &r->cb); /* found by the next sweep */
    rouse(posix_aio_of(e)->slot);
}

/* ---- completion ---- */

static unsigned sweep(struct posix_aio *p)
{
    unsigned kept = 0, n = p->active;

    for (unsigned i = 0; i < n; i++) {
        struct request *r = p->order[i];
        int error = aio_error64(&r->cb);
        int64_t moved;

        if (error == EINPROGRESS) {
            p->order[i] = p->order[kept];
            p->order[kept++] = r;
            continue;
        }
        moved = aio_return64(&r->cb);
        p->base.inflight--;
        engine_complete(r->aio, error ? -error : moved);
    }
    p->active = kept;
    return n - kept;
}

/* Until something is done, or wake() is called, or time is up. */
static void poll_for(struct posix_aio *p, uint64_t timeout_ns)
{
    struct env *env = p->base.env;
    bool limited = timeout_ns != UINT64_MAX;
    uint64_t end_ns = limited ? env_now_ns(env) + timeout_ns : 0;

    while (sweep(p) == 0 && !atomic_load(&p->sleeper->woken) &&
           !(limited && env_now_ns(env) >= end_ns))
        sched_yield(); /* the library's threads may need this CPU */
    atomic_store(&p->sleeper->woken, 0);
}

static void posix_aio_wait(struct engine *e, uint64_t timeout_ns)
{
    struct posix_aio *p = posix_aio_of(e);

    uint64_t count;

    if (e->sleep_max_ns && read(wake_fds[p->slot].fd, &count, sizeof(count)) < 0 &&
        errno != EAGAIN)
        abort();
    if (sweep(p) || timeout_ns == 0)
        return;
    if (p->active && !p->signals) {
        poll_for(p, timeout_ns);
        return;
    }
    if (p->active && timeout_ns > LOST_NS)
        timeout_ns = LOST_NS;
    sleeper_wait(p->sleeper, timeout_ns);
    sweep(p);
}

static void posix_aio_wake(struct engine *e) { sleeper_wake(posix_aio_of(e)->sleeper); }

static int posix_aio_fd(struct engine *e, struct error *err)
{
    struct posix_aio *p = posix_aio_of(e);

    if (!p->signals)
        return error_set(err, -EOPNOTSUPP,
                         "engine posix-aio: completion=poll has nothing to sleep on; "
                         "completion=signal has");
    if (!wake_fds[p->slot].made)
        wake_fds[p->slot].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fds[p->slot].fd < 0)
        return error_set(err, -errno, "engine posix-aio: eventfd: %s", strerror(errno));
    wake_fds[p->slot].made = true;
    atomic_store(&wake_fds[p->slot].used, true);
    e->sleep_max_ns = LOST_NS;
    return wake_fds[p->slot].fd;
}

const struct engine_ops engine_posix_aio = {
    .name = "posix-aio",
    .summary = "the C library's aio_read: its threads, one request a file at a time",
    .native = 1u << AIO_READ | 1u << AIO_WRITE | 1u << AIO_FLUSH,
    .settings = settings,
    .probe = posix_aio_probe,
    .open = posix_aio_open,
    .close = posix_aio_close,
    .submit = posix_aio_submit,
    .wait = posix_aio_wait,
    .wake = posix_aio_wake,
    .fd = posix_aio_fd,
    .cancel = posix_aio_cancel,
};
