#include "core/block/outside.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

int outside_open(struct outside *o, struct loop *loop, bool uv, struct error *err)
{
    int ret = 0;

    *o = (struct outside){.engine = -1, .wake = -1, .timer = -1};
    if (loop->ops->fd) {
        ret = loop->ops->fd(loop->engine, err);
        if (ret < 0)
            return ret;
        o->engine = ret;
    }
    o->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (uv)
        o->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (o->wake < 0 || (uv && o->timer < 0))
        ret = error_set(err, -errno, "engine %s: eventfd: %s", loop->ops->name,
                        strerror(errno));
    else
        ret = uv ? outside_uv_open(o, err) : 0;
    if (ret < 0)
        outside_close(o);
    return ret;
}

void outside_close(struct outside *o)
{
    if (o->uv)
        outside_uv_close(o);
    if (o->wake >= 0)
        close(o->wake);
    if (o->timer >= 0)
        close(o->timer);
}

void outside_wake(struct outside *o)
{
    uint64_t one = 1;

    while (write(o->wake, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void clear_wake(struct outside *o)
{
    uint64_t count;

    if (read(o->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
        abort();
}

static void sleep_in_ppoll(struct outside *o, uint64_t timeout_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                          .tv_nsec = (long)(timeout_ns % 1000000000u)};
    struct pollfd fds[2] = {{.fd = o->wake, .events = POLLIN},
                            {.fd = o->engine, .events = POLLIN}};

    if (ppoll(fds, o->engine < 0 ? 1 : 2, timeout_ns == UINT64_MAX ? NULL : &ts, NULL) >
            0 &&
        fds[0].revents)
        clear_wake(o);
}

/* libuv's own timers count milliseconds. */
static void sleep_in_uv(struct outside *o, uint64_t timeout_ns)
{
    struct itimerspec at = {.it_value = {(time_t)(timeout_ns / 1000000000u),
                                         (long)(timeout_ns % 1000000000u)}};
    bool forever = timeout_ns == UINT64_MAX;

    if (forever)
        at = (struct itimerspec){0}; /* off, and no longer readable */
    if ((!forever && timeout_ns) || o->armed)
        timerfd_settime(o->timer, 0, &at, NULL);
    o->armed = !forever && timeout_ns;
    outside_uv_sleep(o, forever || timeout_ns);
    clear_wake(o);
}

void outside_sleep(struct outside *o, struct loop *loop, uint64_t timeout_ns)
{
    uint64_t max_ns = loop->engine->sleep_max_ns;

    if (max_ns && loop->engine->inflight && timeout_ns > max_ns)
        timeout_ns = max_ns;
    loop->ops->wait(loop->engine, 0); /* it may not have submitted yet */
    if (!loop->completed.head) {
        if (o->uv)
            sleep_in_uv(o, timeout_ns);
        else
            sleep_in_ppoll(o, timeout_ns);
        loop->ops->wait(loop->engine, 0);
    }
}
