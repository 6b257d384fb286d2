/* What can be set, and the small tables behind it. */
#include "strategies/freeze-thaw/model.h"

const struct setting ft_settings[] = {
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way ft_ways[] = {
    {"", "metadata with the queue frozen, data thawed", "K7 K8 K12"},
    {NULL, NULL, NULL},
};

int ft_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(ft_settings, so->settings, err);
    if (ret < 0)
        return ret;
    image->through = so->through;
    image->writable = so->top->write;
    return 0;
}
