/*
 * backend= and pool=: how coroutines are made. Both belong to the thread, so they are
 * set while the image is open and put back afterwards; of two images on one thread the
 * one opened last has its way. The threads of an image's other loops take them up with
 * their first coroutine.
 */
#include "strategies/coroutines/model.h"

static const char *chosen_backend(const char *settings) /* NULL: as the thread has it */
{
    const char *name;
    for (unsigned i = 0; (name = co_backend_name(i, NULL)); i++)
        if (settings_is(co_settings, settings, "backend", name))
            return name;
    /* One that this machine hasn't got: for the runtime to refuse. */
    return settings_is(co_settings, settings, "backend", "asm") ? "asm" : NULL;
}

int co_use_runtime(struct strategy_image *image, const char *settings,
                   struct error *err)
{
    const char *backend = chosen_backend(settings), *old = co_backend();
    struct co_usage usage;
    co_usage(&usage);
    if (backend) {
        int ret = co_set_backend(backend, err);
        if (ret < 0)
            return error_prefix(err, "setting \"backend\""), ret;
        image->old_backend = old;
    }
    image->pool = settings_number(co_settings, settings, "pool", usage.pool_limit);
    image->old_pool = usage.pool_limit;
    if (image->pool != image->old_pool)
        co_pool_limit(image->pool);
    return 0;
}

/* All of the image's coroutines have ended. */
void co_restore_runtime(struct strategy_image *image)
{
    if (image->old_backend)
        co_set_backend(image->old_backend, NULL); /* others run on it: it stays */
    if (image->pool != image->old_pool)
        co_pool_limit(image->old_pool);
}
