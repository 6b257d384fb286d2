/* Snapshots, and what they must hold: session.h. */
#include "tests/fuzz/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What it holds, where nothing changed from beginning to end. */
static void keep_now(struct session *s, struct kept *k, uint64_t began)
{
    uint64_t n = s->m.size / SECTOR;

    k->size = s->m.size;
    k->disk = calloc(1, s->m.size);
    k->sure = calloc(1, n);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *v = model_value_since(&s->m, i, began);
        if (v)
            memcpy(k->disk + i * SECTOR, v, SECTOR);
        k->sure[i] = v != NULL;
    }
}

void kept_forget(struct kept *k, int is)
{
    free(k->disk);
    free(k->sure);
    *k = (struct kept){.is = is};
}

/* There was no room in the counts or the file, or it came too late: nothing happened. */
bool kept_refused(int result)
{
    return result == -ERANGE || result == -EFBIG || result == -ENOTSUP ||
           result == -ENOENT || result == -ECANCELED;
}

void kept_ended(struct session *s, struct slot *t, int result)
{
    struct kept *k = t->kept;
    bool create = t->req.op == GUEST_SNAPSHOT_CREATE;

    k->busy = false;
    if (result < 0 && !kept_refused(result)) {
        s->doubt = true;
        kept_forget(k, UNKNOWN);
    }
    if (!s->sound || result < 0)
        return;
    if (create) {
        k->is = PRESENT;
        keep_now(s, k, t->began);
    } else if (t->req.op == GUEST_SNAPSHOT_DELETE) {
        kept_forget(k, ABSENT);
    }
}

void session_keep(struct session *s, unsigned i, const uint8_t *disk)
{
    struct kept *k = &s->kept[i];

    k->is = PRESENT;
    if (!disk)
        return;
    k->size = s->m.size;
    k->disk = malloc(k->size);
    k->sure = malloc(k->size / SECTOR);
    memcpy(k->disk, disk, k->size);
    memset(k->sure, 1, k->size / SECTOR);
}

static int read_one(struct session *s, uint64_t at, uint64_t len)
{
    struct slot *t = &s->slot[0];

    t->req = (struct guest_req){.op = GUEST_READ,
                                .offset = at,
                                .len = len,
                                .iov = t->iov,
                                .iovcnt = 1,
                                .done = session_done};
    t->iov[0] = (struct iovec){t->buf, len};
    t->kept = NULL;
    t->began = s->sound ? model_read(&s->m, at, len) : 0;
    session_submit(s, t);
    session_wait(s);
    return t->req.result;
}

void session_read_all(struct session *s)
{
    uint64_t step = 16 << 10;

    session_wait(s);
    for (uint64_t at = 0; s->image && at < s->node.size && at < 1 << 20; at += step)
        (void)read_one(s, at, s->node.size - at < step ? s->node.size - at : step);
}

/* The disk is what the snapshot holds: where that is known it is judged, elsewhere it is
 * whatever is read. */
static void adopt(struct session *s, const struct kept *k)
{
    uint64_t size = s->m.size;
    uint8_t *disk = malloc(size);
    bool known = k->disk && k->size == size;

    s->sound = false; /* for these reads */
    for (uint64_t at = 0; at < size; at += SECTOR) {
        if (read_one(s, at, SECTOR) < 0)
            session_fail(s, "what was applied cannot be read");
        if (known && k->sure[at / SECTOR] &&
            memcmp(s->slot[0].buf, k->disk + at, SECTOR))
            session_fail(s, "sector %" PRIu64 " is not what the snapshot keeps",
                         at / SECTOR);
        memcpy(disk + at, s->slot[0].buf, SECTOR);
    }
    s->sound = true;
    if (!model_claim(&s->m, 0, size, true))
        session_fail(s, "somebody writes still");
    uint64_t writer = model_write(&s->m, 0, size, disk);
    model_written(&s->m, 0, size, writer, true);
    model_release(&s->m, 0, size);
    model_flushed(&s->m, s->m.clock);
    free(disk);
}

void kept_step(struct session *s, const struct record *r)
{
    static const enum guest_op ops[] = {GUEST_SNAPSHOT_CREATE, GUEST_SNAPSHOT_CREATE,
                                        GUEST_SNAPSHOT_APPLY, GUEST_SNAPSHOT_DELETE};
    enum guest_op op = ops[r->what % 4];
    struct kept *k = &s->kept[r->x % KEPT];
    struct slot *t;

    if (op == GUEST_SNAPSHOT_APPLY)
        session_wait(s); /* it is done alone in any case */
    t = session_slot(s);
    if (!t || k->busy || k->is == UNKNOWN ||
        (k->is == PRESENT && op == GUEST_SNAPSHOT_CREATE))
        return;
    t->req = (struct guest_req){
        .op = op, .name = layout_snapshot_name(r->x % KEPT), .done = session_done};
    t->kept = k;
    t->began = s->m.clock;
    k->busy = true;
    session_submit(s, t);
    if (op != GUEST_SNAPSHOT_APPLY)
        return;
    session_wait(s);
    if (!s->sound || kept_refused(t->req.result))
        return;
    if (t->req.result < 0 || session_may_fail(s))
        s->sound = false; /* which of the two it is, nobody knows */
    else
        adopt(s, k);
}
