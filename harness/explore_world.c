/*
 * The world of one set of operations, used for one schedule after the other: the image's
 * bytes are put back and everything is opened anew each time. See explore_inside.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/env/history.h"
#include "core/image/ready.h"
#include "harness/explore_inside.h"

/* The first failure is told. Returns false. */
bool explore_fail(struct explore_world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->failure && !*w->failure) {
        va_start(ap, fmt);
        vsnprintf(w->failure, EXPLORE_FAILURE, fmt, ap);
        va_end(ap);
    }
    return false;
}

static unsigned plainest(void *opaque, unsigned n)
{
    (void)opaque, (void)n;
    return 0;
}

/* --- files and strategy --------------------------------------------------------------- */

/* Loop and file are new for each schedule: what one leaves behind in them is not part of
 * the next. */
int explore_set_up(struct explore_world *w, struct error *err)
{
    struct blk_options bo = {.env = w->env, .sim = true, .write = true};
    int ret = loop_create(&w->loop, w->env, &w->engine, err);

    if (ret == 0)
        ret = blk_open(&w->file, NAME, &bo, err);
    w->node.file = w->file;
    bo.write = false;
    if (ret == 0 && w->config.overlay)
        ret = blk_open(&w->below.file, NAME_BELOW, &bo, err);
    return ret;
}

static void take_down(struct explore_world *w)
{
    if (w->below.file)
        blk_close(w->below.file);
    if (w->file)
        blk_close(w->file);
    if (w->loop)
        loop_destroy(w->loop);
    w->file = w->below.file = NULL;
    w->loop = NULL;
}

/* The strategy on the image as it is in the file. */
static int open_strategy(struct explore_world *w, struct error *err)
{
    struct strategy_options so = {.loop = w->loop,
                                  .engine = &w->engine,
                                  .top = &w->node,
                                  .settings = w->config.settings,
                                  .depth = w->set.n,
                                  .through = w->config.through,
                                  .punch = true};
    int ret = image_read_header(&w->node, err);

    return ret < 0 ? ret : w->config.strategy->open(&w->image, &so, err);
}

/* Do the strategy's settings go together? That is not for a schedule to find. */
static int try_strategy(struct explore_world *w, struct error *err)
{
    int ret = open_strategy(w, err);

    if (ret == 0)
        ret = w->config.strategy->close(w->image);
    take_down(w);
    return ret;
}

bool explore_open_image(struct explore_world *w)
{
    struct error err = {""};
    int ret = open_strategy(w, &err);

    return ret == 0 || explore_fail(w, "the image cannot be opened: %s", err.msg);
}

bool explore_close_image(struct explore_world *w)
{
    int ret = w->config.strategy->close(w->image);

    w->image = NULL;
    return ret == 0 || explore_fail(w, "closing the image fails: %s", strerror(-ret));
}

int explore_world_create(struct explore_world **out,
                         const struct explore_config *config,
                         const struct explore_set *set, struct error *err)
{
    struct explore_world *w = calloc(1, sizeof(*w));
    int ret = -ENOMEM;

    *out = w;
    if (!w)
        return error_set(err, ret, "out of memory");
    w->config = *config;
    w->set = *set;
    w->engine =
        (struct loop_options){.engine = "sim", .depth = 64, .sim_model = "zero"};
    explore_lay_out(w);
    w->env = env_sim(1);
    w->buf = malloc(config->cluster);
    for (unsigned i = 0; i < set->n; i++)
        w->ops[i].buf = malloc(config->cluster);
    if (w->env && w->buf) {
        sim_set_chooser(w->env, plainest, NULL);
        ret = explore_make_image(w, err);
        if (ret == 0)
            ret = try_strategy(w, err);
    }
    if (ret < 0) {
        error_set(err, ret, "the image to explore cannot be made: %s", strerror(-ret));
        explore_world_free(w);
        *out = NULL;
    }
    return ret;
}

void explore_world_free(struct explore_world *w)
{
    take_down(w);
    if (w->env)
        env_destroy(w->env);
    for (unsigned i = 0; i < w->set.n; i++)
        free(w->ops[i].buf);
    free(w->node.header);
    free(w->node.header_cluster);
    free(w->base);
    free(w->buf);
    free(w);
}

/* --- the operations ------------------------------------------------------------------ */

/* Asserts; whoever searches notices the death. */
void explore_verify(struct explore_world *w)
{
    if (w->config.strategy->verify)
        w->config.strategy->verify(w->image);
}

static void op_done(struct guest_req *g)
{
    struct explore_op *op = (struct explore_op *)g;
    struct explore_world *w = op->world;

    if (op->end)
        explore_fail(w, "operation %u ends twice", op->index + 1);
    if (w->submitting)
        explore_fail(w, "operation %u ends inside a submission", op->index + 1);
    op->end = ++w->moment;
    w->pending--;
    if (!w->threads) /* else it would take locks, and so be part of the schedule */
        explore_verify(w);
    if (w->watch.done)
        w->watch.done(w->watch.opaque, op);
}

/* Writes cover the first half of their cluster, the second, or all of it, so that there is
 * something to copy around, and something that two of them write. */
static void set_range(struct explore_world *w, struct explore_op *op)
{
    uint64_t per_cluster = w->config.cluster / SECTOR, half = per_cluster / 2;

    op->first = explore_cluster_of(w, op->index) * per_cluster;
    op->sectors = per_cluster;
    if (op->kind > EXPLORE_REWRITE || !half)
        return;
    if (op->index != 1)
        op->sectors = half;
    if (op->index == 2)
        op->first += half;
}

const char *explore_snapshot_name(unsigned op)
{
    static const char *const names[EXPLORE_OPS_MAX] = {"one", "two", "three"};

    return names[op];
}

static void op_set(struct explore_world *w, unsigned i)
{
    static const enum guest_op ops[] = {
        [EXPLORE_ALLOC] = GUEST_WRITE,
        [EXPLORE_REWRITE] = GUEST_WRITE,
        [EXPLORE_DISCARD] = GUEST_DISCARD,
        [EXPLORE_ZERO] = GUEST_ZERO,
        [EXPLORE_READ] = GUEST_READ,
        [EXPLORE_FLUSH] = GUEST_FLUSH,
        [EXPLORE_SNAPSHOT] = GUEST_SNAPSHOT_CREATE,
    };
    struct explore_op *op = &w->ops[i];

    *op = (struct explore_op){
        .world = w, .kind = w->set.op[i], .index = i, .buf = op->buf};
    if (op->kind == EXPLORE_CANCEL)
        return;
    op->g = (struct guest_req){.op = ops[op->kind], .done = op_done};
    if (op->kind == EXPLORE_SNAPSHOT)
        op->g.name = explore_snapshot_name(i);
    if (!explore_located(op->kind))
        return;
    set_range(w, op);
    op->g.offset = op->first * SECTOR;
    op->g.len = op->sectors * SECTOR;
    op->iov = (struct iovec){op->buf, op->g.len};
    op->g.iov = &op->iov;
    op->g.iovcnt = 1;
    for (uint64_t s = 0; s < op->sectors; s++)
        explore_sector_fill(op->buf + s * SECTOR, op->first + s, FIRST_TAG + i);
    if (op->kind == EXPLORE_READ)
        memset(op->buf, 0xee, op->g.len);
}

static bool in_flight(const struct explore_op *op)
{
    return op->kind != EXPLORE_CANCEL && op->begin && !op->end;
}

/* None in flight: it came too late, or too early. */
static void cancel_one(struct explore_world *w, struct explore_op *cancel)
{
    struct explore_op *target[EXPLORE_OPS_MAX];
    unsigned n = 0;

    for (unsigned i = 0; i < w->set.n; i++)
        if (in_flight(&w->ops[i]))
            target[n++] = &w->ops[i];
    cancel->end = ++w->moment;
    w->pending--;
    if (!n)
        return;
    struct explore_op *op = target[env_choose(w->env, n)];
    op->cancelled = true;
    if (w->watch.cancelled)
        w->watch.cancelled(w->watch.opaque, op);
    w->config.strategy->cancel(w->image, &op->g);
}

static void op_arrives(struct loop_bh *bh)
{
    struct explore_op *op =
        (struct explore_op *)((char *)bh - offsetof(struct explore_op, bh));
    struct explore_world *w = op->world;

    op->begin = ++w->moment;
    w->submitting = true;
    if (op->kind == EXPLORE_CANCEL) {
        cancel_one(w, op);
    } else {
        if (w->watch.submitted)
            w->watch.submitted(w->watch.opaque, op);
        w->config.strategy->submit(w->image, &op->g);
    }
    w->submitting = false;
}

/* Somebody outside asks for it: an event like the end of an I/O. */
static void op_asked_for(struct sim_event *ev)
{
    struct explore_op *op =
        (struct explore_op *)((char *)ev - offsetof(struct explore_op, arrival));

    loop_post(op->world->loop, &op->bh);
}

static void run_ops(struct explore_world *w)
{
    for (unsigned i = 0; i < w->set.n; i++) {
        struct explore_op *op = &w->ops[i];
        op->arrival.fn = op_asked_for;
        op->bh.fn = op_arrives;
        w->pending++;
        sim_schedule(w->env, &op->arrival, env_now_ns(w->env));
    }
    while (w->pending)
        loop_turn(w->loop, true);
}

/* --- before ------------------------------------------------------------------------- */

struct alone {
    struct guest_req g;
    bool done;
};

static void alone_done(struct guest_req *g) { ((struct alone *)g)->done = true; }

int explore_run_alone(struct explore_world *w, struct guest_req g)
{
    struct alone a = {.g = g};

    a.g.done = alone_done;
    w->config.strategy->submit(w->image, &a.g);
    loop_run_until(w->loop, &a.done);
    return a.g.result;
}

/* A write beside what is looked at, and reads. */
static bool warm_up(struct explore_world *w)
{
    uint64_t len = w->config.cluster;
    struct iovec iov = {w->buf, len};

    memset(w->buf, 0x55, len);
    int ret = explore_run_alone(w, (struct guest_req){.op = GUEST_WRITE,
                                                      .offset = SPARE * len,
                                                      .len = len,
                                                      .iov = &iov,
                                                      .iovcnt = 1});
    if (ret < 0)
        return explore_fail(w, "the first write fails: %s", strerror(-ret));
    for (unsigned k = 0; k < w->clusters; k++)
        if (!explore_read_cluster(w, NULL, w->cluster[k]))
            return false;
    return true;
}

/* --- a schedule ---------------------------------------------------------------------- */

bool explore_world_run(struct explore_world *w, unsigned (*choose)(void *, unsigned n),
                       void *opaque, char failure[EXPLORE_FAILURE])
{
    struct error err = {""};

    *failure = '\0';
    w->failure = failure;
    w->moment = w->pending = 0;
    w->outcome = 0;
    sim_set_chooser(w->env, plainest, NULL);
    int ret = explore_set_up(w, &err);
    if (ret == 0)
        ret = explore_put_back(w);
    if (ret < 0)
        return explore_fail(w, "the image cannot be put back: %s", strerror(-ret));
    if (!explore_open_image(w) || (w->config.warm && !warm_up(w)))
        return false;
    for (unsigned i = 0; i < w->set.n; i++)
        op_set(w, i);
    w->threads = sim_threads(w->env) > 0;
    sim_keep_history(w->env, true);
    sim_set_chooser(w->env, choose, opaque);
    sim_set_watcher(w->env, w->watch.news, w->watch.opaque);
    run_ops(w);
    sim_set_watcher(w->env, NULL, NULL);
    sim_set_chooser(w->env, plainest, NULL);
    if (*failure || !explore_judge(w))
        return false;
    take_down(w);
    return true;
}

void explore_world_watch(struct explore_world *w, const struct explore_watch *watch)
{
    w->watch = *watch;
}

uint64_t explore_world_outcome(const struct explore_world *w) { return w->outcome; }
struct env *explore_world_env(struct explore_world *w) { return w->env; }
bool explore_world_threads(const struct explore_world *w) { return w->threads; }
unsigned explore_world_pending(const struct explore_world *w) { return w->pending; }

/* An aio is in its request's slot, and slots are close together in memory. */
const struct explore_op *explore_world_owner(const struct explore_world *w,
                                             const struct aio *aio)
{
    const struct explore_op *owner = NULL;
    uintptr_t at = (uintptr_t)aio, best = 65536;

    for (unsigned i = 0; i < w->set.n; i++) {
        const struct explore_op *op = &w->ops[i];
        uintptr_t away = at - (uintptr_t)op->g.slot;
        if (!in_flight(op) || !op->g.slot || away >= best)
            continue;
        best = away;
        owner = op;
    }
    return owner;
}
