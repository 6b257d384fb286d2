/*
 * The loop inside a libuv loop, as an embedding program would have it: every descriptor
 * is a poll handle, a turn's sleep is uv_run(). A handle's callback does nothing; that
 * it ran ends the sleep.
 */
#include <errno.h>
#include <stdlib.h>
#include <uv.h>

#include "core/block/outside.h"

enum { HANDLES = 3 };

struct outside_uv {
    uv_loop_t loop;
    uv_poll_t handle[HANDLES];
    unsigned handles;
};

static void on_readable(uv_poll_t *handle, int status, int events)
{
    (void)handle, (void)status, (void)events;
}

static int watch(struct outside_uv *u, int fd)
{
    uv_poll_t *h = &u->handle[u->handles];
    int ret = uv_poll_init(&u->loop, h, fd);

    if (ret < 0)
        return ret;
    u->handles++; /* to be closed from here on */
    return uv_poll_start(h, UV_READABLE, on_readable);
}

void outside_uv_close(struct outside *o)
{
    struct outside_uv *u = o->uv;

    for (unsigned i = 0; i < u->handles; i++)
        uv_close((uv_handle_t *)&u->handle[i], NULL);
    uv_run(&u->loop, UV_RUN_DEFAULT); /* until they are closed */
    if (uv_loop_close(&u->loop) < 0)
        abort();
    free(u);
    o->uv = NULL;
}

int outside_uv_open(struct outside *o, struct error *err)
{
    struct outside_uv *u = calloc(1, sizeof(*u));
    int ret = u ? uv_loop_init(&u->loop) : UV_ENOMEM;

    if (ret < 0) {
        free(u);
        return error_set(err, ret, "loop libuv: %s", uv_strerror(ret));
    }
    o->uv = u;
    ret = watch(u, o->wake);
    if (ret == 0)
        ret = watch(u, o->timer);
    if (ret == 0 && o->engine >= 0)
        ret = watch(u, o->engine);
    return ret < 0 ? error_set(err, ret, "loop libuv: %s", uv_strerror(ret)) : 0;
}

void outside_uv_sleep(struct outside *o, bool block)
{
    uv_run(&o->uv->loop, block ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}
