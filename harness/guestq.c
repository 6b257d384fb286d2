/*
 * guestq.h. What goes down is a carrier's request with the vectors of all members; entries
 * and carriers are made at the beginning.
 */
#include "harness/guestq.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct elevator_io io; /* first */
    struct guest_req *req;
    struct entry *next; /* while free */
};
struct carrier {
    struct guest_req req; /* first: done() gets it back */
    struct guestq *queue;
    struct elevator_io *group;
    struct iovec *iov; /* one a slot */
    struct carrier *next;
};
struct guestq {
    struct guestq_options o;
    struct elevator elevator;
    struct entry *entries, *free;
    struct carrier *carriers, *idle;
    struct iovec *iov;
    struct loop_timer timer; /* the elevator wants to be asked again */
    unsigned inflight;
    bool busy; /* members are being told: what they submit goes down afterwards */
    uint64_t requests;
};

static void go_down(struct guestq *q);

static void rings(struct loop_timer *timer)
{
    go_down((struct guestq *)((char *)timer - offsetof(struct guestq, timer)));
}

static void tell_members(struct guestq *q, struct elevator_io *io, int result)
{
    struct elevator_io *next;

    for (; io; io = next) {
        struct entry *e = (struct entry *)io;
        struct guest_req *r = e->req;
        next = io->member_next;
        e->next = q->free;
        q->free = e;
        r->result = result;
        r->done(r);
    }
}

static void carried(struct guest_req *r)
{
    struct carrier *c = (struct carrier *)r;
    struct guestq *q = c->queue;
    struct elevator_io *first = c->group->first;

    q->inflight--;
    elevator_done(&q->elevator, c->group, env_now_ns(loop_env(q->o.loop)));
    c->next = q->idle;
    q->idle = c;
    q->busy = true;
    tell_members(q, first, r->result);
    q->busy = false;
    go_down(q);
}

static void load_carrier(struct carrier *c, struct elevator_io *group)
{
    struct guest_req *r = &c->req;
    int parts = 0;

    c->group = group;
    for (struct elevator_io *io = group->first; io; io = io->member_next) {
        const struct guest_req *member = ((struct entry *)io)->req;
        assert(member->iovcnt == 1);
        c->iov[parts++] = (struct iovec){member->iov->iov_base, member->len};
    }
    *r = (struct guest_req){.op = group->write ? GUEST_WRITE : GUEST_READ,
                            .offset = group->begin,
                            .len = group->end - group->begin,
                            .iov = c->iov,
                            .iovcnt = parts,
                            .done = carried};
}

static void go_down(struct guestq *q)
{
    while (!q->busy && q->inflight < q->o.depth) {
        uint64_t again, now = env_now_ns(loop_env(q->o.loop));
        struct elevator_io *group = elevator_next(&q->elevator, now, &again);

        loop_timer_cancel(q->o.loop, &q->timer);
        if (!group) {
            if (again != UINT64_MAX)
                loop_timer_arm(q->o.loop, &q->timer, again);
            return;
        }
        struct carrier *c = q->idle;
        q->idle = c->next;
        load_carrier(c, group);
        q->inflight++;
        q->requests++;
        q->o.strategy->submit(q->o.image, &c->req);
    }
}

void guestq_submit(struct guestq *q, struct guest_req *r, unsigned source)
{
    struct entry *e = q->free;

    assert(e && r->len);
    q->free = e->next;
    e->req = r;
    e->io.offset = r->offset;
    e->io.len = r->len;
    e->io.write = r->op == GUEST_WRITE;
    e->io.source = source;
    elevator_add(&q->elevator, &e->io, env_now_ns(loop_env(q->o.loop)));
    go_down(q);
}

int guestq_create(struct guestq **out, const struct guestq_options *o)
{
    struct guestq *q = calloc(1, sizeof(*q));
    unsigned n = o->slots, depth = o->depth < n ? o->depth : n;

    *out = q;
    if (!q)
        return -ENOMEM;
    q->o = *o;
    q->o.depth = depth;
    q->timer.fn = rings;
    elevator_init(&q->elevator, &o->elevator);
    q->entries = calloc(n, sizeof(*q->entries));
    q->carriers = calloc(depth, sizeof(*q->carriers));
    q->iov = calloc((size_t)n * depth, sizeof(*q->iov));
    if (!q->entries || !q->carriers || !q->iov) {
        guestq_destroy(q);
        *out = NULL;
        return -ENOMEM;
    }
    for (unsigned i = n; i--;) {
        q->entries[i].next = q->free;
        q->free = &q->entries[i];
    }
    for (unsigned i = depth; i--;) {
        q->carriers[i] = (struct carrier){
            .queue = q, .iov = q->iov + (size_t)i * n, .next = q->idle};
        q->idle = &q->carriers[i];
    }
    return 0;
}

void guestq_destroy(struct guestq *q)
{
    if (!q)
        return;
    assert(!q->inflight);
    loop_timer_cancel(q->o.loop, &q->timer);
    free(q->entries);
    free(q->carriers);
    free(q->iov);
    free(q);
}

void guestq_get_stats(const struct guestq *q, struct guestq_stats *s)
{
    const struct elevator *e = &q->elevator;

    *s = (struct guestq_stats){.requests = q->requests,
                               .merged = e->merged,
                               .waits = e->waits,
                               .waits_won = e->waits_won,
                               .expired = e->expired};
}
