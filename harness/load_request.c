/* One request: submitted, ended, counted; and the snapshots made between them. */
#include "harness/load_int.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

void load_submit(struct load *l, struct slot *s)
{
    static const enum guest_op op[LOAD_DIRS] = {GUEST_READ, GUEST_WRITE, GUEST_DISCARD,
                                                GUEST_FLUSH};
    struct guest_req *r = &s->req;

    r->op = op[s->dir];
    r->iovcnt = s->dir == LOAD_READ || s->dir == LOAD_WRITE;
    r->iov = s->dir == LOAD_READ ? &s->read : &s->write;
    l->inflight++;
    if (__builtin_expect(l->env->simulated, 0))
        sim_charge(l->env, SIM_REQUEST, 1);
    if (__builtin_expect(!!l->vcpu, 0))
        vcpu_submit(l->vcpu, r);
    else if (__builtin_expect(!!l->queue, 0) && r->iovcnt)
        guestq_submit(l->queue, r, s->stream);
    else
        l->o.strategy->submit(l->o.image, r);
}

static void stop(struct load *l, int error, const struct slot *s)
{
    static const char *const name[LOAD_DIRS] = {"read", "write", "discard", "flush"};

    l->stopped = true;
    atomic_store(&l->lead->failed, true);
    if (!error || l->res->error)
        return;
    l->res->error = error;
    if (s->dir == LOAD_SYNC)
        snprintf(l->res->error_text, sizeof(l->res->error_text), "flush: %s",
                 strerror(-error));
    else
        snprintf(l->res->error_text, sizeof(l->res->error_text),
                 "%s of %llu bytes at offset %llu: %s", name[s->dir],
                 (unsigned long long)s->req.len, (unsigned long long)s->req.offset,
                 strerror(-error));
}

/* ---- snapshots ---- */

void load_snapshot_due(struct load *l, uint64_t now)
{
    const struct job *j = l->o.job;

    l->snap.due_ns = j->snapshot_every.ns ? now + j->snapshot_every.ns : UINT64_MAX;
    l->snap.due = j->snapshot_every.requests
                      ? l->snap.completed + j->snapshot_every.requests
                      : UINT64_MAX;
}

static void snap_submit(struct load *l, enum guest_op op, unsigned number, uint64_t now)
{
    snprintf(l->snap.name, sizeof(l->snap.name), "asyncow-%u", number);
    l->snap.req.op = op;
    l->snap.req.name = l->snap.name;
    l->snap.start_ns = now;
    l->snap.busy = true;
    l->inflight++;
    l->o.strategy->submit(l->o.image, &l->snap.req);
}

/* After one is made, the one before the last goes. */
void load_snapshot_done(struct guest_req *r)
{
    struct load *l = (struct load *)((char *)r - offsetof(struct load, snap.req));
    uint64_t now = env_now_ns(l->env);
    bool create = r->op == GUEST_SNAPSHOT_CREATE;

    l->inflight--;
    l->snap.busy = false;
    l->snap.end_ns = now;
    if (r->result < 0) {
        l->stopped = true;
        atomic_store(&l->lead->failed, true);
        if (!l->res->error) {
            l->res->error = r->result;
            snprintf(l->res->error_text, sizeof(l->res->error_text),
                     "%s of snapshot %s: %s", create ? "creation" : "deletion", r->name,
                     strerror(-r->result));
        }
        return;
    }
    if (l->measuring)
        hist_add(create ? &l->res->create : &l->res->delete, now - l->snap.start_ns);
    l->snap.made += create;
    load_snapshot_due(l, now);
    if (create && l->snap.made > 2)
        snap_submit(l, GUEST_SNAPSHOT_DELETE, l->snap.made - 3, now);
}

/* A request has ended: was a snapshot in its way, and is the next one due? */
static void snap_look(struct load *l, const struct slot *s, uint64_t now)
{
    struct load *lead = l->lead;

    uint64_t completed = atomic_fetch_add(&lead->snap.completed, 1) + 1;
    if (lead->snap.busy || s->start_ns < lead->snap.end_ns)
        hist_add(&l->res->during, now - s->start_ns);
    if (l == lead && !l->snap.busy && !l->stopped &&
        (now >= l->snap.due_ns || completed >= l->snap.due))
        snap_submit(l, GUEST_SNAPSHOT_CREATE, l->snap.made, now);
}

/* Measuring begins: what came before does not count. Cold, once a run. */
__attribute__((noinline)) void load_start_measuring(struct load *l, uint64_t now)
{
    for (int i = 0; i < LOAD_DIRS; i++)
        hist_reset(&l->res->lat[i]);
    hist_reset(&l->res->create);
    hist_reset(&l->res->delete);
    hist_reset(&l->res->during);
    memset(l->res->bytes, 0, sizeof(l->res->bytes));
    l->measuring = true;
    l->res->start_ns = now;
    if (l->o.on_start)
        l->o.on_start(l->o.opaque);
}

static void check_read(struct load *l, struct slot *s)
{
    bool good = verify_check(load_verify_begin(l), s->req.offset, s->read.iov_base);

    load_verify_end(l);
    if (!good && l->o.job->verify_fatal)
        stop(l, 0, s);
}

void load_finish(struct load *l, struct guest_req *r)
{
    struct slot *s = (struct slot *)r;
    uint64_t now = env_now_ns(l->env);

    l->inflight--;
    if (__builtin_expect(r->result < 0, 0)) {
        stop(l, r->result, s);
    } else {
        hist_add(&l->res->lat[s->dir], now - s->start_ns);
        l->res->bytes[s->dir] += r->len;
    }
    if (l->verifying && s->dir != LOAD_SYNC && s->dir != LOAD_READ) {
        verify_ended(load_verify_begin(l), r->offset);
        load_verify_end(l);
    }
    if (l->check && s->dir == LOAD_READ && r->result >= 0)
        check_read(l, s);
    if (l->o.progress)
        ++*l->o.progress;
    if (__builtin_expect(!l->measuring && now >= l->ramp_end_ns, 0))
        load_start_measuring(l, now);
    if (l->timed && now >= l->deadline_ns)
        l->stopped = true;
    if (__builtin_expect(l->o.homes > 1, 0) && atomic_load(&l->lead->failed))
        l->stopped = true;
    if (__builtin_expect(l->snapshots, 0))
        snap_look(l, s, now);
    if (l->stopped || (l->o.stop && *l->o.stop))
        return;
    if (__builtin_expect(l->o.job->think_ns && l->left, 0)) {
        l->thinking++;
        loop_timer_arm(l->o.loop, &s->think, now + l->o.job->think_ns);
        return;
    }
    if (!l->next(l, s))
        return;
    s->start_ns = now;
    load_submit(l, s);
}

void load_thought(struct loop_timer *timer)
{
    struct slot *s = (struct slot *)((char *)timer - offsetof(struct slot, think));
    struct load *l = s->load;

    l->thinking--;
    if (l->stopped || (l->o.stop && *l->o.stop) || !l->next(l, s))
        return;
    s->start_ns = env_now_ns(l->env);
    load_submit(l, s);
}

void load_done(struct guest_req *r)
{
    struct load *l = ((struct slot *)r)->load;

    if (__builtin_expect(!!l->vcpu, 0))
        vcpu_complete(l->vcpu, r);
    else
        load_finish(l, r);
}
