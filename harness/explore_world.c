/*
 * The world of one set of operations, used for one schedule after the other: the image's
 * bytes are put back and everything is opened anew each time.
 *
 * Sectors. Each sector of the disk that an operation may change holds one word, repeated:
 * its own number and a tag that tells who wrote it (0: zeros; 1: what was there before;
 * 2 + i: operation i). So a sector that is torn, stale or somebody else's shows.
 */
#include "harness/explore_world.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/env/history.h"
#include "core/image/check.h"
#include "core/image/create.h"
#include "core/image/node.h"
#include "core/image/reader.h"
#include "core/image/ready.h"
#include "core/image/writer.h"
#include "harness/explore_judge.h"

#define SECTOR ((uint64_t)512)
#define NAME "mem:explored"
enum { OLD = 1, FIRST_TAG = 2, NONE = ~0u };
enum { SPARE = 1, FIRST_CLUSTER = 2 }; /* of the disk, by number */
static const char *const snapshot_names[EXPLORE_OPS_MAX] = {"one", "two", "three"};
enum { CLUSTERS_MAX = 2 * EXPLORE_OPS_MAX };

struct explore_world {
    struct explore_config config;
    struct explore_set set;
    struct env *env;
    struct loop *loop;
    struct loop_options engine;
    struct blk_file *file;
    struct image_node node;
    uint8_t *base; /* the file before each schedule */
    uint64_t base_len, disk;

    uint64_t cluster[CLUSTERS_MAX]; /* looked at in the end: their numbers */
    bool allocated[CLUSTERS_MAX];   /* before */
    unsigned clusters;

    struct strategy_image *image;
    struct explore_op ops[EXPLORE_OPS_MAX];
    unsigned moment, pending;
    bool submitting, threads;
    struct explore_watch watch;
    uint8_t *buf; /* a cluster */
    uint64_t outcome;
    char *failure;
};

static bool fail(struct explore_world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The first failure is told. Returns false. */
static bool fail(struct explore_world *w, const char *fmt, ...)
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

/* --- sectors ------------------------------------------------------------------------- */

static void sector_fill(uint8_t *p, uint64_t sector, unsigned tag)
{
    uint64_t word = tag ? sector << 8 | tag : 0;

    for (unsigned i = 0; i < SECTOR; i += sizeof(word))
        memcpy(p + i, &word, sizeof(word));
}

/* NONE: no tag that sector could have. */
static unsigned sector_tag(const uint8_t *p, uint64_t sector)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    if (memcmp(p, p + sizeof(word), SECTOR - sizeof(word)))
        return NONE;
    return !word ? 0 : word >> 8 == sector ? (unsigned)(word & 255) : NONE;
}

static const char *tag_text(unsigned tag, char text[32])
{
    if (tag == 0)
        return "zeros";
    if (tag == OLD)
        return "what was there before";
    if (tag == NONE)
        return "what nobody wrote there";
    snprintf(text, 32, "what operation %u wrote", tag - FIRST_TAG + 1);
    return text;
}

/* --- the image ----------------------------------------------------------------------- */

/* The cluster that operation i is about. */
static uint64_t cluster_of(const struct explore_world *w, unsigned i)
{
    uint64_t per_l2 = w->config.cluster / 8;

    switch (w->set.place) {
    case EXPLORE_NEIGHBOUR:
        return FIRST_CLUSTER + i;
    case EXPLORE_L2:
        return FIRST_CLUSTER + 5 * i;
    case EXPLORE_REFBLOCK:
        return FIRST_CLUSTER + i * per_l2;
    default:
        return FIRST_CLUSTER;
    }
}

static unsigned note_cluster(struct explore_world *w, uint64_t cluster)
{
    for (unsigned k = 0; k < w->clusters; k++)
        if (w->cluster[k] == cluster)
            return k;
    w->cluster[w->clusters] = cluster;
    return w->clusters++;
}

/* Where the operations are and what is there before: a cluster is unallocated if one of
 * them is to allocate it. The one after the last is looked at, too. */
static void lay_out(struct explore_world *w)
{
    bool to_allocate[CLUSTERS_MAX] = {false};

    for (unsigned i = 0; i < w->set.n; i++) {
        if (!explore_located(w->set.op[i]))
            continue;
        unsigned k = note_cluster(w, cluster_of(w, i));
        to_allocate[k] |= w->set.op[i] == EXPLORE_ALLOC;
        w->allocated[k] = true;
    }
    for (unsigned k = 0; k < w->clusters; k++)
        w->allocated[k] = !to_allocate[k];
    if (!w->clusters) /* something to flush, to keep */
        w->allocated[note_cluster(w, FIRST_CLUSTER)] = true;
    else
        note_cluster(w, w->cluster[w->clusters - 1] + 1);
    w->disk = (cluster_of(w, EXPLORE_OPS_MAX - 1) + 3) * w->config.cluster;
}

static int fill_image(struct explore_world *w, struct error *err)
{
    uint64_t cluster = w->config.cluster;
    struct writer *writer;
    int ret = image_read_header(&w->node, err);

    if (ret == 0)
        ret = writer_create(&writer, &w->node, err);
    if (ret < 0)
        return ret;
    for (unsigned k = 0; k < w->clusters && ret == 0; k++) {
        uint64_t first = w->cluster[k] * cluster / SECTOR;
        if (!w->allocated[k])
            continue;
        for (uint64_t s = 0; s < cluster / SECTOR; s++)
            sector_fill(w->buf + s * SECTOR, first + s, OLD);
        ret = writer_write(writer, w->cluster[k] * cluster, w->buf, cluster, err);
    }
    int end = writer_finish(writer, err);
    return ret < 0 ? ret : end;
}

/* Loop and file are new for each schedule: what one leaves behind in them is not part of
 * the next. */
static int set_up(struct explore_world *w, struct error *err)
{
    struct blk_options bo = {.env = w->env, .sim = true, .write = true};
    int ret = loop_create(&w->loop, w->env, &w->engine, err);

    if (ret == 0)
        ret = blk_open(&w->file, NAME, &bo, err);
    w->node.file = w->file;
    return ret;
}

static void take_down(struct explore_world *w)
{
    if (w->file)
        blk_close(w->file);
    if (w->loop)
        loop_destroy(w->loop);
    w->file = NULL;
    w->loop = NULL;
}

static int make_image(struct explore_world *w, struct error *err)
{
    struct create_options co = create_defaults(w->env, w->disk);

    co.cluster_size = w->config.cluster;
    co.sim = true;
    w->node =
        (struct image_node){.format = IMAGE_QCOW2, .size = w->disk, .write = true};
    int ret = image_create(NAME, &co, err);
    if (ret == 0)
        ret = set_up(w, err);
    if (ret == 0)
        ret = fill_image(w, err);
    if (ret < 0)
        return ret;
    w->base_len = blk_size(w->file);
    w->base = malloc(w->base_len);
    return w->base ? blk_pread(w->file, 0, w->base, w->base_len) : -ENOMEM;
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

static bool open_image(struct explore_world *w)
{
    struct error err = {""};
    int ret = open_strategy(w, &err);

    return ret == 0 || fail(w, "the image cannot be opened: %s", err.msg);
}

static bool close_image(struct explore_world *w)
{
    int ret = w->config.strategy->close(w->image);

    w->image = NULL;
    return ret == 0 || fail(w, "closing the image fails: %s", strerror(-ret));
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
    lay_out(w);
    w->env = env_sim(1);
    w->buf = malloc(config->cluster);
    for (unsigned i = 0; i < set->n; i++)
        w->ops[i].buf = malloc(config->cluster);
    if (w->env && w->buf) {
        sim_set_chooser(w->env, plainest, NULL);
        ret = make_image(w, err);
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
static void verify(struct explore_world *w)
{
    if (w->config.strategy->verify)
        w->config.strategy->verify(w->image);
}

static void op_done(struct guest_req *g)
{
    struct explore_op *op = (struct explore_op *)g;
    struct explore_world *w = op->world;

    if (op->end)
        fail(w, "operation %u ends twice", op->index + 1);
    if (w->submitting)
        fail(w, "operation %u ends inside a submission", op->index + 1);
    op->end = ++w->moment;
    w->pending--;
    if (!w->threads) /* else it would take locks, and so be part of the schedule */
        verify(w);
    if (w->watch.done)
        w->watch.done(w->watch.opaque, op);
}

/* Writes cover the first half of their cluster, the second, or all of it, so that there is
 * something to copy around, and something that two of them write. */
static void set_range(struct explore_world *w, struct explore_op *op)
{
    uint64_t per_cluster = w->config.cluster / SECTOR, half = per_cluster / 2;

    op->first = cluster_of(w, op->index) * per_cluster;
    op->sectors = per_cluster;
    if (op->kind > EXPLORE_REWRITE || !half)
        return;
    if (op->index != 1)
        op->sectors = half;
    if (op->index == 2)
        op->first += half;
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
        op->g.name = snapshot_names[i];
    if (!explore_located(op->kind))
        return;
    set_range(w, op);
    op->g.offset = op->first * SECTOR;
    op->g.len = op->sectors * SECTOR;
    op->iov = (struct iovec){op->buf, op->g.len};
    op->g.iov = &op->iov;
    op->g.iovcnt = 1;
    for (uint64_t s = 0; s < op->sectors; s++)
        sector_fill(op->buf + s * SECTOR, op->first + s, FIRST_TAG + i);
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

/* --- before and afterwards ----------------------------------------------------------- */

struct alone {
    struct guest_req g;
    bool done;
};

static void alone_done(struct guest_req *g) { ((struct alone *)g)->done = true; }

static int run_alone(struct explore_world *w, struct guest_req g)
{
    struct alone a = {.g = g};

    a.g.done = alone_done;
    w->config.strategy->submit(w->image, &a.g);
    loop_run_until(w->loop, &a.done);
    return a.g.result;
}

/* By the strategy, or (it is closed) from the file. */
static bool read_cluster(struct explore_world *w, struct reader *reader,
                         uint64_t cluster)
{
    uint64_t len = w->config.cluster;
    struct iovec iov = {w->buf, len};
    struct error err = {""};
    int ret;

    memset(w->buf, 0xee, len);
    if (reader)
        ret = reader_read(reader, cluster * len, w->buf, len, &err);
    else
        ret = run_alone(w, (struct guest_req){.op = GUEST_READ,
                                              .offset = cluster * len,
                                              .len = len,
                                              .iov = &iov,
                                              .iovcnt = 1});
    return ret == 0 || fail(w, "reading cluster %" PRIu64 " afterwards fails: %s %s",
                            cluster, strerror(-ret), err.msg);
}

/* A write beside what is looked at, and reads. */
static bool warm_up(struct explore_world *w)
{
    uint64_t len = w->config.cluster;
    struct iovec iov = {w->buf, len};

    memset(w->buf, 0x55, len);
    int ret = run_alone(w, (struct guest_req){.op = GUEST_WRITE,
                                              .offset = SPARE * len,
                                              .len = len,
                                              .iov = &iov,
                                              .iovcnt = 1});
    if (ret < 0)
        return fail(w, "the first write fails: %s", strerror(-ret));
    for (unsigned k = 0; k < w->clusters; k++)
        if (!read_cluster(w, NULL, w->cluster[k]))
            return false;
    return true;
}

/* What the operations did to a sector, and saw of it. */
static unsigned accesses(struct explore_world *w, uint64_t sector,
                         struct explore_access *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->set.n; i++) {
        const struct explore_op *op = &w->ops[i];
        bool reads = op->kind == EXPLORE_READ;
        if (!explore_located(op->kind) || sector - op->first >= op->sectors ||
            (reads && op->g.result))
            continue;
        a[n++] = (struct explore_access){
            .begin = op->begin,
            .end = op->end,
            .reads = reads,
            .perhaps = op->g.result != 0,
            .value = reads ? sector_tag(op->buf + (sector - op->first) * SECTOR, sector)
                     : op->kind <= EXPLORE_REWRITE ? FIRST_TAG + i
                                                   : 0,
        };
    }
    return n;
}

/* w->buf is what cluster k holds, to one who looked from begin to end. */
static bool judge_cluster(struct explore_world *w, unsigned k, unsigned begin,
                          unsigned end, const char *who)
{
    uint64_t per_cluster = w->config.cluster / SECTOR;

    for (uint64_t s = 0; s < per_cluster; s++) {
        struct explore_access a[EXPLORE_OPS_MAX + 1];
        uint64_t sector = w->cluster[k] * per_cluster + s;
        unsigned n = accesses(w, sector, a);
        unsigned seen = sector_tag(w->buf + s * SECTOR, sector);
        char text[2][32];

        a[n++] = (struct explore_access){
            .begin = begin, .end = end, .reads = true, .value = seen};
        w->outcome = history_mix(w->outcome, seen);
        if (explore_possible(a, n, w->allocated[k] ? OLD : 0))
            continue;
        for (unsigned i = 0; i + 1 < n; i++)
            if (a[i].reads)
                return fail(w,
                            "sector %" PRIu64 ": %s has %s, a read saw %s: no order of "
                            "the operations makes that",
                            sector, who, tag_text(seen, text[0]),
                            tag_text(a[i].value, text[1]));
        return fail(w,
                    "sector %" PRIu64 ": %s has %s: no order of the operations makes "
                    "that",
                    sector, who, tag_text(seen, text[0]));
    }
    return true;
}

static bool judge(struct explore_world *w, struct reader *reader, unsigned begin,
                  unsigned end, const char *who)
{
    for (unsigned k = 0; k < w->clusters; k++)
        if (!read_cluster(w, reader, w->cluster[k]) ||
            !judge_cluster(w, k, begin, end, who))
            return false;
    return true;
}

static bool judge_results(struct explore_world *w)
{
    for (unsigned i = 0; i < w->set.n; i++) {
        const struct explore_op *op = &w->ops[i];
        w->outcome = history_mix(w->outcome, op->begin << 8 | op->end);
        w->outcome = history_mix(w->outcome, (uint64_t)(int64_t)op->g.result);
        for (uint64_t s = 0; op->kind == EXPLORE_READ && s < op->sectors; s++)
            w->outcome = history_mix(w->outcome,
                                     sector_tag(op->buf + s * SECTOR, op->first + s));
        if (op->g.result && !(op->cancelled && op->g.result == -ECANCELED))
            return fail(w, "operation %u (%s) fails: %s", i + 1,
                        explore_kind_name(op->kind), strerror(-op->g.result));
    }
    return true;
}

static void keep_line(void *opaque, const char *line)
{
    char *first = opaque;

    if (!*first)
        snprintf(first, 200, "%s", line);
}

static bool judge_file(struct explore_world *w)
{
    struct check_result res;
    struct error err = {""};
    struct reader *reader;
    char line[200] = "";
    int ret = image_check(w->file, 0, &res, keep_line, line, &err);

    if (ret < 0)
        return fail(w, "the closed image cannot be checked: %s", err.msg);
    if (res.corruptions || res.leaks || res.check_errors)
        return fail(
            w, "the closed image has %" PRIu64 " corruptions, %" PRIu64 " leaks: %s",
            res.corruptions, res.leaks, line);
    ret = image_read_header(&w->node, &err);
    if (ret == 0)
        ret = reader_create(&reader, &w->node);
    if (ret < 0)
        return fail(w, "the closed image cannot be read: %s", err.msg);
    bool good = judge(w, reader, w->moment + 1, w->moment + 2, "the closed image");
    reader_free(reader);
    return good;
}

/* What snapshot op kept is read by going back to it. */
static bool judge_snapshot(struct explore_world *w, const struct explore_op *op)
{
    int ret;

    if (op->kind != EXPLORE_SNAPSHOT || op->g.result)
        return true;
    if (!open_image(w))
        return false;
    ret = run_alone(w, (struct guest_req){.op = GUEST_SNAPSHOT_APPLY,
                                          .name = snapshot_names[op->index]});
    if (ret < 0)
        fail(w, "the snapshot cannot be applied: %s", strerror(-ret));
    else
        judge(w, NULL, op->begin, op->end, "the snapshot");
    return close_image(w) && !*w->failure;
}

static bool judge_all(struct explore_world *w)
{
    verify(w);
    if (!judge_results(w) ||
        !judge(w, NULL, w->moment + 1, w->moment + 2, "the image") || !close_image(w) ||
        !judge_file(w))
        return false;
    for (unsigned i = 0; i < w->set.n; i++)
        if (!judge_snapshot(w, &w->ops[i]))
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
    int ret = set_up(w, &err);
    if (ret == 0)
        ret = blk_truncate(w->file, 0);
    if (ret == 0)
        ret = blk_pwrite(w->file, 0, w->base, w->base_len);
    if (ret < 0)
        return fail(w, "the image cannot be put back: %s", strerror(-ret));
    if (!open_image(w) || (w->config.warm && !warm_up(w)))
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
    if (*failure || !judge_all(w))
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
