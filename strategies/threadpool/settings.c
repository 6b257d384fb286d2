/* What can be set, and the small tables behind it. */
#include "strategies/threadpool/model.h"

#include <string.h>

const struct setting tp_settings[] = {
    {"hold", "metadata|none", "none",
     "whether the mutex is kept across the metadata I/O that a verb owes"},
    {"workers", "1..1024", "depth", "threads; depth: as many as requests, at most 64"},
    {"engine", "same|sync", "same",
     "what a worker does its I/O with: an instance of the image's engine, or pread"},
    {NULL, NULL, NULL, NULL},
};

const struct strategy_way tp_ways[] = {
    {"", "a worker thread a request, a thread mutex over metadata", "K10 K12"},
    {"hold=metadata", "the mutex is kept across metadata I/O", "K10"},
    {"hold=none", "the mutex is given back for metadata I/O", ""},
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

int tp_configure(struct strategy_image *image, const struct strategy_options *so,
                 struct error *err)
{
    int ret = settings_check(tp_settings, so->settings, err);
    if (ret < 0)
        return ret;
    image->hold = settings_is(tp_settings, so->settings, "hold", "metadata");
    image->through = so->through;
    image->writable = so->top->write;
    choose_engine(image, so);
    return 0;
}
