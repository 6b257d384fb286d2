/* What can be set, and the small tables behind it. */
#include "strategies/callbacks/model.h"

const struct setting cb_settings[] = {
    {"metadata", "async|sync", "async",
     "whether the loop goes on while metadata is read and written, or stands still"},
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way cb_ways[] = {
    {"", "a continuation for each wait, metadata included", "K1 K4 K12"},
    {"metadata=async", "metadata by continuations too, as its author would not have it",
     "K1 K12"},
    {"metadata=sync", "data by callback, metadata blocking the loop: qcow2 as it was",
     "K1 K4 K7"},
    {NULL, NULL, NULL},
};

/* What blocks has an engine of its own: as a synchronous qcow2 had its pread(). */
static int open_metadata_loop(struct strategy_image *image,
                              const struct strategy_options *so, struct error *err)
{
    struct env *env = loop_env(so->loop);
    struct loop_options lo = *so->engine;
    lo.depth = 1;
    lo.batch = 0;
    if (!env->simulated)
        lo.engine = "sync";
    return loop_create(&image->metadata_loop, env, &lo, err);
}

/* Between cb_begin() and cb_end() there is an assertion, and no lock. */
const char *cb_one_loop(const char *settings)
{
    (void)settings;
    return "what guards the metadata is that nothing else runs: a continuation takes "
           "no "
           "lock, it runs to its end on the one thread that there is";
}

int cb_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(cb_settings, so->settings, err);
    if (ret == 0)
        ret = guests_check_loops(so, cb_one_loop(so->settings), err);
    if (ret < 0)
        return ret;
    image->through = so->through;
    image->writable = so->top->write;
    image->metadata = &cb_metadata_async;
    if (!settings_is(cb_settings, so->settings, "metadata", "sync"))
        return 0;
    image->metadata = &cb_metadata_sync;
    return open_metadata_loop(image, so, err);
}
