/* The engines by name. */
#include "core/block/engine.h"

#include <string.h>

static const struct engine_ops *const engines[] = {
    &engine_sync,     &engine_threads, &engine_linux_aio,
    &engine_io_uring, &engine_sim,     NULL,
};

const struct engine_ops *const *engine_list(void) { return engines; }

const struct engine_ops *engine_find(const char *name)
{
    for (int i = 0; engines[i]; i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}
