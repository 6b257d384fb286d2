/* Each lane's load lives on its own loop's thread, from creation on: lanes.h. */
#include "harness/lanes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct load *lanes_first(struct lanes *l) { return l->lane[0].load; }

/* ---- on each loop's thread ---- */

static void begins(void *opaque)
{
    struct lane *lane = opaque;
    loop_get_stats(lane->o.loop, &lane->begun);
    if (lane->on_start)
        lane->on_start(lane->opaque);
}

static void create(struct iothread *t, void *opaque)
{
    struct lane *lane = &((struct lanes *)opaque)->lane[t->home];
    lane->ret = load_create(&lane->load, &lane->o, &lane->err);
}

/* The idle machine's lateness first, if that is asked for. */
static void run(struct lanes *l, struct lane *lane)
{
    if (l->heartbeat) {
        stall_measure_idle(lane->stall, lane->o.loop);
        stall_beat(lane->stall, lane->o.loop);
    }
    if (l->turn_probe)
        stall_watch_turns(lane->stall, lane->o.loop);
    lane->ret = load_run(lane->load, lane->res);
    loop_set_turn_probe(lane->o.loop, NULL, NULL);
    if (l->heartbeat)
        stall_end(lane->stall);
    loop_get_stats(lane->o.loop, &lane->loop);
    lane->loop.slept -= lane->begun.slept;
    lane->loop.polled -= lane->begun.polled;
}

static void run_there(struct iothread *t, void *opaque)
{
    struct lanes *l = opaque;
    run(l, &l->lane[t->home]);
}

static void destroy(struct iothread *t, void *opaque)
{
    struct lane *lane = &((struct lanes *)opaque)->lane[t->home];
    if (lane->load)
        load_destroy(lane->load);
}

/* ---- on the first ---- */

static int prepare(struct lanes *l, unsigned i, const struct load_options *first,
                   struct error *err)
{
    struct lane *lane = &l->lane[i];

    lane->res = calloc(1, sizeof(*lane->res));
    lane->stall = calloc(1, sizeof(*lane->stall));
    if (!lane->res || !lane->stall)
        return error_set(err, -ENOMEM, "out of memory");
    lane->o = *first;
    lane->o.loop = l->session->threads.loop[i - 1];
    lane->o.home = i;
    lane->o.lead = l->lane[0].load;
    lane->o.opaque = lane;
    lane->o.progress = lane->o.goal = NULL;
    return 0;
}

int lanes_open(struct lanes *l, struct session *s, const struct load_options *o,
               struct load_result *res, struct stall *stall, struct error *err)
{
    int ret = 0;

    l->session = s;
    l->n = s->threads.n + 1;
    l->lane = calloc(l->n, sizeof(*l->lane));
    if (!l->lane)
        return error_set(err, -ENOMEM, "out of memory");
    l->lane[0] = (struct lane){.o = *o,
                               .res = res,
                               .stall = stall,
                               .on_start = o->on_start,
                               .opaque = o->opaque};
    l->lane[0].o.homes = l->n;
    l->lane[0].o.on_start = begins;
    l->lane[0].o.opaque = &l->lane[0];
    ret = load_create(&l->lane[0].load, &l->lane[0].o, err);
    for (unsigned i = 0; i < l->n && ret == 0; i++)
        if (!(l->lane[i].lat = calloc(1, sizeof(*l->lane[i].lat))))
            ret = error_set(err, -ENOMEM, "out of memory");
    for (unsigned i = 1; i < l->n && ret == 0; i++)
        ret = prepare(l, i, &l->lane[0].o, err);
    if (ret == 0) {
        iothreads_run(&s->threads, create, l);
        iothreads_wait(&s->threads);
    }
    for (unsigned i = 1; i < l->n && ret == 0; i++)
        if ((ret = l->lane[i].ret) < 0)
            error_set(err, ret, "%s", l->lane[i].err.msg);
    if (ret < 0)
        lanes_close(l);
    return ret;
}

static void sum_up(struct lane *lane)
{
    for (int dir = 0; dir < LOAD_SYNC; dir++)
        hist_merge(lane->lat, &lane->res->lat[dir]);
}

/* Another lane's result becomes part of the first one's. */
static void merge(struct lane *to, const struct lane *from)
{
    struct load_result *a = to->res;
    const struct load_result *b = from->res;

    for (int dir = 0; dir < LOAD_DIRS; dir++) {
        hist_merge(&a->lat[dir], &b->lat[dir]);
        a->bytes[dir] += b->bytes[dir];
    }
    hist_merge(&a->during, &b->during);
    if (b->start_ns < a->start_ns)
        a->start_ns = b->start_ns;
    if (b->end_ns > a->end_ns)
        a->end_ns = b->end_ns;
    a->interrupted |= b->interrupted;
    if (!a->error && b->error) {
        a->error = b->error;
        memcpy(a->error_text, b->error_text, sizeof(a->error_text));
    }
    hist_merge(&to->stall->turn, &from->stall->turn);
    hist_merge(&to->stall->late, &from->stall->late);
    hist_merge(&to->stall->idle, &from->stall->idle);
}

int lanes_run(struct lanes *l)
{
    struct iothreads *threads = &l->session->threads;
    struct lane *first = &l->lane[0];

    iothreads_run(threads, run_there, l);
    run(l, first);
    iothreads_wait(threads);
    for (unsigned i = 0; i < l->n; i++)
        sum_up(&l->lane[i]);
    for (unsigned i = 1; i < l->n; i++)
        merge(first, &l->lane[i]);
    return first->res->error ? first->res->error : load_run_end(first->load);
}

void lanes_close(struct lanes *l)
{
    iothreads_run(&l->session->threads, destroy, l);
    iothreads_wait(&l->session->threads);
    for (unsigned i = 0; i < l->n; i++) {
        free(l->lane[i].lat);
        if (!i)
            continue;
        free(l->lane[i].res);
        free(l->lane[i].stall);
    }
    if (l->lane[0].load)
        load_destroy(l->lane[0].load);
    free(l->lane);
    *l = (struct lanes){0};
}
