/* What can be set, and the small tables behind it. */
#include "strategies/callbacks/model.h"

const struct setting cb_settings[] = {
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way cb_ways[] = {
    {"", "a continuation for each wait, metadata included", "K1 K4 K12"},
    {NULL, NULL, NULL},
};

int cb_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(cb_settings, so->settings, err);
    if (ret < 0)
        return ret;
    image->through = so->through;
    image->writable = so->top->write;
    return 0;
}
