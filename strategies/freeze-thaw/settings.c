/* What can be set, and the small tables behind it. */
#include "strategies/freeze-thaw/model.h"

const struct setting ft_settings[] = {
    {"completions", "free|deferred", "free",
     "whether data that arrives while the queue is frozen is told at once or at the "
     "thaw"},
    {"freeze", "metadata|whole", "metadata",
     "what the queue is frozen for: a request's metadata, or all of it"},
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way ft_ways[] = {
    {"", "metadata with the queue frozen, data thawed", "K7 K8 K12"},
    {"completions=free", "a freeze stops admission, never completion", "K7"},
    {"completions=deferred", "nothing of another request runs while it is frozen",
     "K7"},
    {"freeze=metadata", "thawed before the data is submitted: Liguori's second version",
     "K7 K8"},
    {"freeze=whole", "thawed by the completion: Liguori's first version", "K7"},
    {NULL, NULL, NULL},
};

/* A freeze that reached into other threads would be a lock, completions included. */
const char *ft_one_loop(const char *settings)
{
    (void)settings;
    return "a freeze stops the one queue, not completions: these commit without a "
           "lock, on "
           "the thread of the request that has it frozen";
}

int ft_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(ft_settings, so->settings, err);
    if (ret == 0)
        ret = guests_check_loops(so, ft_one_loop(so->settings), err);
    if (ret < 0)
        return ret;
    image->freeze = settings_is(ft_settings, so->settings, "freeze", "whole")
                        ? &ft_freeze_whole
                        : &ft_freeze_metadata;
    image->completions =
        settings_is(ft_settings, so->settings, "completions", "deferred")
            ? &ft_completions_deferred
            : &ft_completions_free;
    image->through = so->through;
    image->writable = so->top->write;
    return 0;
}
