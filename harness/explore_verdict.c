/*
 * What must hold after each schedule: results that are allowed, contents that some order of
 * the operations makes, for the strategy, in the closed image, and in its snapshots; and an
 * image that is clean. See explore_inside.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/env/history.h"
#include "core/image/check.h"
#include "core/image/ready.h"
#include "harness/explore_inside.h"
#include "harness/explore_judge.h"

/* By the strategy, or (it is closed) from the file. */
bool explore_read_cluster(struct explore_world *w, struct reader *reader,
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
        ret = explore_run_alone(w, (struct guest_req){.op = GUEST_READ,
                                                      .offset = cluster * len,
                                                      .len = len,
                                                      .iov = &iov,
                                                      .iovcnt = 1});
    return ret == 0 ||
           explore_fail(w, "reading cluster %" PRIu64 " afterwards fails: %s %s",
                        cluster, strerror(-ret), err.msg);
}

/* What the operations did to a sector, and saw of it. */
static unsigned accesses(struct explore_world *w, uint64_t sector,
                         struct explore_access *a)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->set.n; i++) {
        const struct explore_op *op = &w->ops[i];
        bool reads = op->kind == EXPLORE_READ;
        if (op->kind == EXPLORE_DISCARD && w->config.old && w->config.overlay)
            continue; /* it can't say zeros, and leaves what is there */
        if (!explore_located(op->kind) || sector - op->first >= op->sectors ||
            (reads && op->g.result))
            continue;
        a[n++] = (struct explore_access){
            .begin = op->begin,
            .end = op->end,
            .reads = reads,
            .perhaps = op->g.result != 0,
            .value = reads ? explore_sector_tag(op->buf + (sector - op->first) * SECTOR,
                                                sector)
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
        unsigned seen = explore_sector_tag(w->buf + s * SECTOR, sector);
        char text[2][32];

        a[n++] = (struct explore_access){
            .begin = begin, .end = end, .reads = true, .value = seen};
        w->outcome = history_mix(w->outcome, seen);
        if (explore_possible(a, n, explore_first_tag(w, k)))
            continue;
        for (unsigned i = 0; i + 1 < n; i++)
            if (a[i].reads)
                return explore_fail(w,
                                    "sector %" PRIu64
                                    ": %s has %s, a read saw %s: no order of "
                                    "the operations makes that",
                                    sector, who, explore_tag_text(seen, text[0]),
                                    explore_tag_text(a[i].value, text[1]));
        return explore_fail(w,
                            "sector %" PRIu64
                            ": %s has %s: no order of the operations makes "
                            "that",
                            sector, who, explore_tag_text(seen, text[0]));
    }
    return true;
}

static bool judge(struct explore_world *w, struct reader *reader, unsigned begin,
                  unsigned end, const char *who)
{
    for (unsigned k = 0; k < w->clusters; k++)
        if (!explore_read_cluster(w, reader, w->cluster[k]) ||
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
            w->outcome = history_mix(
                w->outcome, explore_sector_tag(op->buf + s * SECTOR, op->first + s));
        if (op->g.result && !(op->cancelled && op->g.result == -ECANCELED))
            return explore_fail(w, "operation %u (%s) fails: %s", i + 1,
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
        return explore_fail(w, "the closed image cannot be checked: %s", err.msg);
    if (res.corruptions || res.leaks || res.check_errors)
        return explore_fail(
            w, "the closed image has %" PRIu64 " corruptions, %" PRIu64 " leaks: %s",
            res.corruptions, res.leaks, line);
    ret = image_read_header(&w->node, &err);
    if (ret == 0)
        ret = reader_create(&reader, &w->node);
    if (ret < 0)
        return explore_fail(w, "the closed image cannot be read: %s", err.msg);
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
    if (!explore_open_image(w))
        return false;
    ret = explore_run_alone(
        w, (struct guest_req){.op = GUEST_SNAPSHOT_APPLY,
                              .name = explore_snapshot_name(op->index)});
    if (ret < 0)
        explore_fail(w, "the snapshot cannot be applied: %s", strerror(-ret));
    else
        judge(w, NULL, op->begin, op->end, "the snapshot");
    return explore_close_image(w) && !*w->failure;
}

bool explore_judge(struct explore_world *w)
{
    explore_verify(w);
    if (!judge_results(w) ||
        !judge(w, NULL, w->moment + 1, w->moment + 2, "the image") ||
        !explore_close_image(w) || !judge_file(w))
        return false;
    for (unsigned i = 0; i < w->set.n; i++)
        if (!judge_snapshot(w, &w->ops[i]))
            return false;
    return true;
}
