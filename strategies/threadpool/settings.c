/* What can be set, and the small tables behind it. */
#include "strategies/threadpool/model.h"

#include <string.h>

const struct setting tp_settings[] = {
    {"lock", "mutex|rwlock", "mutex",
     "what guards metadata: a cached read takes the shared side, if there is one"},
    {"mutex", "fair|barging", "barging", "who gets the lock next"},
    {"wait", "block|park", "block",
     "a request that waits for the lock, or for another request, keeps its worker or "
     "gives it up"},
    {"hold", "metadata|none", "none",
     "whether the lock is kept across the metadata I/O that a verb owes"},
    {"workers", "1..1024", "depth", "threads; depth: as many as requests, at most 64"},
    {"idle", "sleep|spin", "sleep",
     "what a worker does that has no work, and the loop that waits for one"},
    {"spin-us", "1..1000000", "50",
     "with idle=spin: so many microseconds, before they sleep"},
    {"engine", "same|sync", "same",
     "what a worker does its I/O with: an instance of the image's engine, or pread"},
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way tp_ways[] = {
    {"", "a worker thread a request, a lock of threads over metadata", "K10 K12"},
    {"lock=mutex", "one at a time", "K10"},
    {"lock=rwlock", "cached reads share the lock", "K8 K10"},
    {"mutex=fair", "handed over in the order of arrival", "K10"},
    {"mutex=barging", "whoever comes when it is free, as POSIX has it", "K10"},
    {"wait=block", "the worker sleeps with the request", "K10"},
    {"wait=park", "the request is put aside and any worker resumes it: Bonzini's",
     "K10"},
    {"hold=metadata", "the lock is kept across metadata I/O", "K10"},
    {"hold=none", "the lock is given back for metadata I/O", ""},
    {"idle=sleep", "a worker without work sleeps until it is woken", "K14"},
    {"idle=spin", "it looks for work awake first; never with one CPU", "K14"},
    {"engine=same", "a worker waits for an engine instance of its own", ""},
    {"engine=sync", "a worker calls pread", ""},
    {NULL, NULL, NULL},
};

/* A worker does one I/O at a time. The threads engine would put a second pool under
 * this one: a worker is such a thread itself, and calls pread. */
static void choose_engine(struct strategy_image *image,
                          const struct strategy_options *so)
{
    unsigned many = so->depth < 64 ? so->depth : 64; /* more only cost memory */
    image->worker_count = settings_number(tp_settings, so->settings, "workers", many);
    image->engine = *so->engine;
    image->engine.depth = 1;
    image->engine.batch = 0;
    if (settings_is(tp_settings, so->settings, "engine", "sync") ||
        !strcmp(loop_engine(so->loop), "threads"))
        image->engine.engine = "sync";
}

/* A request that parks waits in a queue of ours, and so does one that is to be handed
 * the lock; the rest is the machine's. */
static void choose_lock(struct strategy_image *image, const char *settings)
{
    bool parks = settings_is(tp_settings, settings, "wait", "park");
    image->waits = parks ? &tp_waits_park : &tp_waits_block;
    image->shares = settings_is(tp_settings, settings, "lock", "rwlock");
    image->fair = settings_is(tp_settings, settings, "mutex", "fair");
    image->lock = parks || image->fair ? &tp_lock_queue
                  : image->shares      ? &tp_lock_rwlock
                                       : &tp_lock_mutex;
}

/* A CPU for each loop; the others are for workers. */
static void choose_idle(struct strategy_image *image, const struct strategy_options *so)
{
    unsigned cpus = env_cpus(image->env), loops = guests_loops(so);
    unsigned others = cpus > loops ? cpus - loops : 0;
    bool spins = settings_is(tp_settings, so->settings, "idle", "spin") && others;
    image->idle = spins ? &tp_idle_spin : &tp_idle_sleep;
    if (!spins)
        return;
    image->spin_ns =
        1000ull * settings_number(tp_settings, so->settings, "spin-us", 50);
    image->spinners = others < TP_SPINNERS ? others : TP_SPINNERS;
}

/* What several threads share is guarded already; who submits is one more of them. */
const char *tp_one_loop(const char *settings)
{
    (void)settings;
    return NULL;
}

int tp_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(tp_settings, so->settings, err);
    if (ret < 0)
        return ret;
    choose_lock(image, so->settings);
    choose_idle(image, so);
    image->hold = settings_is(tp_settings, so->settings, "hold", "metadata");
    image->through = so->through;
    image->writable = so->top->write;
    choose_engine(image, so);
    return 0;
}
