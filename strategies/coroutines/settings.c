/*
 * What can be set. Behind it: locks.c, a row of operations for each lock; fastpath.c,
 * the way without a coroutine; runtime.c, what goes to the coroutine runtime.
 */
#include "strategies/coroutines/model.h"

#include <errno.h>

#include "core/block/blocking.h"

const struct setting co_settings[] = {
    {"lock", "comutex|serialize|big|big-held|rwlock|entry|none", "comutex",
     "what guards the metadata"},
    {"hold", "metadata|none", "auto",
     "whether the lock is kept across the metadata I/O that a verb owes; auto: "
     "metadata "
     "with serialize, big, big-held, else none"},
    {"fastpath", "on|off", "off",
     "whether a cached mapping and a raw image do without a coroutine"},
    {"backend", "asm|ucontext|sigaltstack|thread", "auto",
     "how stacks are switched, of all coroutines of the thread while the image is "
     "open"},
    {"pool", "0..1000000", "auto", "idle stacks that the thread keeps, likewise"},
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way co_ways[] = {
    {"", "a coroutine a request, a mutex over metadata", "K2 K3 K6 K12"},
    {"lock=comutex", "a mutex over metadata, never held across data", "K2 K6"},
    {"lock=serialize", "one request at a time, from start to end", "K2"},
    {"lock=big", "each entry point and completion under one mutex", "K2 K4 K5 K8"},
    {"lock=big-held", "the same, and the mutex is kept across data", "K5"},
    {"lock=rwlock", "like big, but reads share, and changes are alone", "K8"},
    {"lock=entry", "all share but snapshots; a queue at each L2 entry", "K8 K9"},
    {"lock=none", "nothing: plans are repeated after every wait", "K6"},
    {"hold=metadata", "the lock is kept across metadata I/O, as in QEMU", "K2 K4 K6"},
    {"hold=none", "the lock is given back for metadata I/O", "K2 K6"},
    {"fastpath=on", "no coroutine where nothing has to be waited for but data", "K11"},
    {"fastpath=off", "a coroutine for every request", "K11"},
    {"backend=asm", "a switch written by hand", "K3 K6"},
    {"backend=ucontext", "makecontext, then sigsetjmp and siglongjmp", "K3"},
    {"backend=sigaltstack", "a signal's stack, then the same", "K3"},
    {"backend=thread", "a thread a coroutine, that hands the turn on", "K3"},
    {NULL, NULL, NULL},
};

static int configure_lock(struct strategy_image *image, const char *settings,
                          struct error *err)
{
    const struct co_lock *lock = co_find_lock(settings);
    bool none = settings_is(co_settings, settings, "hold", "none");
    bool metadata = settings_is(co_settings, settings, "hold", "metadata");
    image->lock = lock;
    image->fast = settings_is(co_settings, settings, "fastpath", "on");
    image->keeps = lock->keeps;
    if (lock->optional && !metadata)
        image->keeps &= ~(unsigned)CO_WAIT_METADATA;
    if (image->driver && (lock->optional || !lock->keeps))
        return error_set(
            err, -EINVAL,
            "setting \"lock\": the %s driver blocks where it does metadata "
            "I/O; lock=big, big-held or serialize runs it in coroutines",
            image->driver->name);
    if (none && !lock->optional && lock->keeps)
        return error_set(
            err, -EINVAL,
            "setting \"hold\": lock=%s is kept across metadata I/O by what it "
            "is; hold=none goes with comutex, rwlock, entry",
            lock->name);
    if (metadata && !lock->keeps)
        return error_set(err, -EINVAL,
                         "setting \"hold\": lock=%s has nothing to keep; hold=metadata "
                         "goes with the other locks",
                         lock->name);
    if (image->fast && !lock->is_free)
        return error_set(
            err, -EINVAL,
            "setting \"fastpath\": lock=%s is kept across data, which takes "
            "a coroutine; fastpath=on goes with the other locks",
            lock->name);
    return 0;
}

const char *co_one_loop(const char *settings)
{
    return settings_is(co_settings, settings, "fastpath", "on")
               ? "the fast path looks the mapping up without a lock, as nobody else "
                 "runs meanwhile on its own loop"
               : NULL;
}

int co_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(co_settings, so->settings, err);
    if (so->top) {
        image->driver = so->top->driver;
        image->driver_state = so->top->driver_state;
    }
    if (ret == 0)
        ret = guests_check_loops(so, co_one_loop(so->settings), err);
    if (ret == 0)
        ret = configure_lock(image, so->settings, err);
    if (ret == 0)
        ret = co_use_runtime(image, so->settings, err);
    if (ret < 0)
        return ret;
    image->through = so->through;
    image->writable = so->top->write;
    return 0;
}
