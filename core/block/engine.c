/* The engines by name: "NAME" or "NAME:setting=value,setting=value". */
#include "core/block/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct engine_ops *const engines[] = {
    &engine_sync,     &engine_threads, &engine_posix_aio, &engine_linux_aio,
    &engine_io_uring, &engine_libuv,   &engine_sim,       NULL,
};
static const struct setting no_settings[] = {{0}};

const struct engine_ops *const *engine_list(void) { return engines; }

const struct engine_ops *engine_find(const char *spec)
{
    size_t len = strcspn(spec, ":");

    for (int i = 0; engines[i]; i++)
        if (strlen(engines[i]->name) == len && !memcmp(engines[i]->name, spec, len))
            return engines[i];
    return NULL;
}

static void no_such_engine(const char *spec, struct error *err)
{
    char list[200] = "";

    for (int i = 0; engines[i]; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof(list) - used, "%s%s",
                 i == 0           ? ""
                 : engines[i + 1] ? ", "
                                  : " and ",
                 engines[i]->name);
    }
    error_set(err, -EINVAL,
              "engine %s: no such engine; there are %s; and auto chooses one", spec,
              list);
}

const struct engine_ops *engine_parse(const char *spec, const char **settings,
                                      struct error *err)
{
    const struct engine_ops *ops = engine_find(spec);
    const char *colon = strchr(spec, ':');

    *settings = colon ? colon + 1 : NULL;
    if (!ops) {
        no_such_engine(spec, err);
        return NULL;
    }
    if (settings_check(ops->settings ? ops->settings : no_settings, *settings, err) <
        0) {
        error_prefix(err, "engine %s", ops->name);
        return NULL;
    }
    return ops;
}

int engine_check(const struct loop_options *options, struct error *err)
{
    struct loop_options o = *options;
    const struct engine_ops *ops = engine_parse(o.engine, &o.settings, err);

    if (!ops)
        return -EINVAL;
    if (ops->simulated && (o.libuv || o.poll_ns || o.inline_completion || o.waiter))
        return error_set(err, -EINVAL,
                         "engine %s: loop=libuv, poll-us, completion=inline and waiter "
                         "work on the machine only, not in simulated time",
                         ops->name);
    return ops->check ? ops->check(&o, err) : 0;
}

void engine_note(struct engine *e, const char *fmt, ...)
{
    size_t used = strlen(e->notes);
    va_list args;

    if (used && used + 2 < sizeof(e->notes))
        used += (size_t)snprintf(e->notes + used, sizeof(e->notes) - used, "; ");
    va_start(args, fmt);
    vsnprintf(e->notes + used, sizeof(e->notes) - used, fmt, args);
    va_end(args);
}
