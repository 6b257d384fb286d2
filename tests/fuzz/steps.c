/* The steps of a schedule, how they end, and what the model says to it: session.h. */
#include "tests/fuzz/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- ends ---- */

static void end_read(struct session *s, struct slot *t, bool ok)
{
    uint64_t bad, at = t->req.offset;

    if (!s->sound)
        return;
    if (ok && !model_check(&s->m, at, t->req.len, t->buf, t->began, &bad)) {
        fprintf(stderr, "byte %" PRIu64 " is read as", bad);
        for (uint64_t k = 0; k < 8 && bad + k < at + t->req.len; k++)
            fprintf(stderr, " %02x", t->buf[bad - at + k]);
        fprintf(stderr, "; it is\n");
        model_tell(&s->m, bad, t->began);
        session_fail(s, "a read returned what was never there");
    }
    model_read_end(&s->m, at, t->req.len);
}

static void end_change(struct session *s, struct slot *t, bool ok)
{
    if (!s->sound)
        return;
    if (t->write_len)
        model_written(&s->m, t->write_at, t->write_len, t->writer, ok);
    model_release(&s->m, t->claim_at, t->claim_len);
}

/* An error that the caller may get though no fault was injected. */
static bool allowed(const struct slot *t)
{
    int r = t->req.result;

    if (r == -ECANCELED)
        return t->cancelled;
    if (!t->kept || !kept_refused(r))
        return false;
    return r != -ENOENT || t->kept->is != PRESENT || t->s->layout->damaged;
}

void session_done(struct guest_req *req)
{
    struct slot *t = (struct slot *)req;
    struct session *s = t->s;
    bool ok = req->result == 0;

    if (!t->busy)
        session_fail(s, "a %s ends twice", session_op_names[req->op]);
    if (!ok && !allowed(t) && !session_may_fail(s))
        session_fail(s, "a %s fails without a cause: %s", session_op_names[req->op],
                     strerror(-req->result));
    if (req->op == GUEST_READ)
        end_read(s, t, ok);
    else if (req->op == GUEST_FLUSH && ok && s->sound)
        model_flushed(&s->m, t->began);
    else if (req->op < GUEST_FLUSH)
        end_change(s, t, ok);
    else if (t->kept)
        kept_ended(s, t, req->result);
    t->busy = false;
    s->in_flight--;
}

/* ---- requests ---- */

struct slot *session_slot(struct session *s)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (!s->slot[i].busy)
            return &s->slot[i];
    return NULL;
}

void session_submit(struct session *s, struct slot *t)
{
    t->s = s;
    t->busy = true;
    t->cancelled = false;
    s->in_flight++;
    s->strategy->submit(s->image, &t->req);
}

static void fill(struct session *s, uint8_t *buf, uint64_t at, uint64_t len)
{
    uint64_t tag = ++s->writes << 40;

    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = (tag ^ (at + i)) * 0x9e3779b97f4a7c15ull;
        memcpy(buf + i, &word, len - i < 8 ? len - i : 8);
    }
}

/* false: there is no such place. */
static bool range(const struct session *s, const struct record *r, uint64_t *at,
                  uint64_t *len)
{
    uint64_t c = 1ull << s->node.header->cluster_bits, size = s->node.size;

    if (size < SECTOR)
        return false;
    *at = r->at % (r->x & RANGE_HOT ? 16 : DISK_SECTORS) * SECTOR % size;
    *len = (1 + r->len % 48) * SECTOR;
    if (r->x & RANGE_WHOLE) {
        *at -= *at % c;
        *len = (*len + c - 1) / c * c;
    }
    if (*len > REQUEST_MAX)
        *len = REQUEST_MAX;
    if (*len > size - *at)
        *len = size - *at;
    if (r->x & RANGE_ODD && *len > 2) {
        uint64_t skip = 1 + r->y % (*len - 1);
        *at += skip;
        *len -= skip;
        *len -= r->y * 7 % *len;
    }
    return true;
}

/* Whole sectors where nobody knows what is there. false: somebody is in the way. */
static bool claim(struct session *s, struct slot *t, uint64_t *at, uint64_t *len)
{
    t->claim_at = *at;
    t->claim_len = *len;
    if (!s->sound)
        return true;
    if (!model_certain(&s->m, *at, *len)) {
        *len = (*at + *len + SECTOR - 1) / SECTOR * SECTOR;
        *at -= *at % SECTOR;
        *len -= *at;
    }
    t->claim_at = *at;
    t->claim_len = *len;
    return model_claim(&s->m, *at, *len, *at % SECTOR || *len % SECTOR);
}

/* What a discard makes read zeros. */
static void discard_effect(const struct session *s, struct slot *t, uint64_t at,
                           uint64_t len)
{
    const struct qcow2_header *h = s->node.header;
    uint64_t c = 1ull << h->cluster_bits, start = (at + c - 1) / c * c, end = at + len;
    bool ignored = h->version < 3 && h->has_backing;

    if (end != s->node.size)
        end -= end % c;
    t->write_at = start;
    t->write_len = ignored || end <= start ? 0 : end - start;
}

static void request(struct session *s, const struct record *r)
{
    static const enum guest_op ops[] = {[R_WRITE] = GUEST_WRITE,
                                        [R_READ] = GUEST_READ,
                                        [R_ZERO] = GUEST_ZERO,
                                        [R_DISCARD] = GUEST_DISCARD,
                                        [R_FLUSH] = GUEST_FLUSH};
    struct slot *t = session_slot(s);
    enum guest_op op = ops[r->kind];
    uint64_t at = 0, len = 0;

    if (!t || (op != GUEST_FLUSH && !range(s, r, &at, &len)) ||
        (op != GUEST_FLUSH && op != GUEST_READ && !claim(s, t, &at, &len)))
        return;
    t->req =
        (struct guest_req){.op = op, .offset = at, .len = len, .done = session_done};
    t->kept = NULL;
    t->began = s->m.clock;
    t->write_at = at;
    t->write_len = op == GUEST_WRITE || op == GUEST_ZERO ? len : 0;
    if (op == GUEST_DISCARD)
        discard_effect(s, t, at, len);
    if (op == GUEST_READ && s->sound)
        t->began = model_read(&s->m, at, len);
    if (op == GUEST_WRITE)
        fill(s, t->buf, at, len);
    else
        memset(t->buf, 0xa5, len);
    if (t->write_len && s->sound)
        t->writer = model_write(&s->m, t->write_at, t->write_len,
                                op == GUEST_WRITE ? t->buf : NULL);
    if (op == GUEST_READ || op == GUEST_WRITE) {
        uint64_t cut = len > SECTOR && r->y & 1 ? len / 2 : len;
        t->iov[0] = (struct iovec){t->buf, cut};
        t->iov[1] = (struct iovec){t->buf + cut, len - cut};
        t->req.iov = t->iov;
        t->req.iovcnt = cut == len ? 1 : 2;
    }
    session_submit(s, t);
}

/* ---- the rest ---- */

static void cancel(struct session *s, const struct record *r)
{
    struct slot *t = &s->slot[r->what % SLOTS];

    if (!t->busy || t->cancelled)
        return;
    t->cancelled = true;
    s->strategy->cancel(s->image, &t->req);
}

static void turns(struct session *s, const struct record *r)
{
    uint8_t bytes[RECORD];

    record_write(r, bytes);
    for (unsigned i = 1; i < RECORD; i++) /* all but the kind */
        session_offer(s, bytes[i]);
    for (unsigned i = 0; i < 8 && s->in_flight && s->choices; i++)
        session_turn(s);
}

static void drain(struct session *s)
{
    s->strategy->drain_begin(s->image);
    if (s->sound && !s->in_flight)
        s->strategy->verify(s->image);
    s->strategy->drain_end(s->image);
}

static void arm(struct session *s, const struct record *r)
{
    static const unsigned kinds[] = {
        ~0u,
        1u << AIO_WRITE << KIND_METADATA_SHIFT,
        1u << AIO_READ << KIND_METADATA_SHIFT,
        1u << AIO_WRITE,
        1u << AIO_READ,
        1u << AIO_FLUSH | 1u << AIO_FLUSH << KIND_METADATA_SHIFT,
        1u << AIO_ZERO | 1u << AIO_ZERO << KIND_METADATA_SHIFT,
        1u << AIO_GROW | 1u << AIO_GROW << KIND_METADATA_SHIFT | 1u << AIO_DISCARD |
            1u << AIO_DISCARD << KIND_METADATA_SHIFT};
    static const int errors[] = {-EIO, -ENOSPC, -EAGAIN, -ENOMEM};
    struct fault_plan plan = {.kinds = kinds[r->what % 8],
                              .n = 1 + r->at % 64,
                              .times = r->y & 1 ? UINT64_MAX : 1,
                              .error = errors[r->x / 4 % 4],
                              .action = r->x % 4};

    if (plan.action == FAULT_STUCK)
        plan.stuck_ns = 1000000;
    if (plan.action == FAULT_SHORT)
        plan.error = 0;
    if (plan.action == FAULT_TORN)
        s->m.torn = true;
    fault_arm(blk_filter(s->file, "fault"), &plan);
}

void session_step(struct session *s, const struct record *r)
{
    if (!s->image)
        return;
    switch (r->kind) {
    case R_WRITE:
    case R_READ:
    case R_ZERO:
    case R_DISCARD:
    case R_FLUSH:
        request(s, r);
        break;
    case R_SNAPSHOT:
        kept_step(s, r);
        break;
    case R_CANCEL:
        cancel(s, r);
        break;
    case R_TURN:
        turns(s, r);
        break;
    case R_WAIT:
        session_wait(s);
        break;
    case R_DRAIN:
        drain(s);
        break;
    case R_FAULT:
        arm(s, r);
        break;
    }
}
