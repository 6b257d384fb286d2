/* What can be set, and the small tables behind it. */
#include "strategies/coroutines/model.h"

const struct setting co_settings[] = {
    {"hold", "metadata|none", "none",
     "whether the mutex is kept across the metadata I/O that a verb owes"},
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way co_ways[] = {
    {"", "a coroutine a request, a mutex over metadata", "K2 K3 K6 K12"},
    {"hold=metadata", "the mutex is kept across metadata I/O, as in QEMU", "K2 K4 K6"},
    {"hold=none", "the mutex is given back for metadata I/O", ""},
    {NULL, NULL, NULL},
};

int co_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(co_settings, so->settings, err);
    if (ret < 0)
        return ret;
    image->hold = settings_is(co_settings, so->settings, "hold", "metadata");
    image->through = so->through;
    image->writable = so->top->write;
    return 0;
}
