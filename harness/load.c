/* The phases of a job: the load, what is read back after it, the whole disk. */
#include "harness/load_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/crc32c.h"

static void time_begins(struct load *l)
{
    const struct job *j = l->o.job;
    uint64_t now = env_now_ns(l->env);

    l->ramp_end_ns = now + j->ramp_ns;
    l->deadline_ns = l->ramp_end_ns + j->runtime_ns;
    if (!j->ramp_ns)
        load_start_measuring(l, now);
    load_snapshot_due(l, now);
}

/* Starts what fits in flight. */
static bool start(struct load *l)
{
    for (unsigned i = 0; i < l->start_depth; i++) {
        if (!l->next(l, &l->slot[i])) {
            if (!l->replay.idle)
                break;
            continue; /* its time has yet to come, and so has that of the others */
        }
        l->slot[i].start_ns = env_now_ns(l->env);
        load_submit(l, &l->slot[i]);
    }
    return l->inflight;
}

static void begin(struct load *l, unsigned depth,
                  bool (*next)(struct load *, struct slot *))
{
    l->next = next;
    l->start_depth = depth;
    l->stopped = false;
}

static void end(struct load *l)
{
    l->res->end_ns = env_now_ns(l->env);
    l->res->interrupted = l->o.stop && *l->o.stop;
}

/* Turns the loop until everything has ended. */
static void turn_until_idle(struct load *l, unsigned depth,
                            bool (*next)(struct load *, struct slot *))
{
    begin(l, depth, next);
    start(l);
    while (l->inflight || l->thinking || l->replay.idle) {
        loop_turn(l->o.loop, true);
        if (l->stopped || (l->o.stop && *l->o.stop) || !l->left)
            l->replay.idle = NULL; /* nothing more is begun */
    }
    loop_timer_cancel(l->o.loop, &l->replay.timer);
    end(l);
}

static bool vcpu_begin(void *opaque) { return start(opaque); }

static bool vcpu_completed(void *opaque, struct guest_req *r)
{
    struct load *l = opaque;

    load_finish(l, r);
    return l->inflight;
}

/* The virtual CPU has the load; the loop has the strategy. */
static int run_under_global_mutex(struct load *l)
{
    struct vcpu_options o = {.mode = (enum vcpu_mode)l->o.job->global_mutex,
                             .loop = l->o.loop,
                             .strategy = l->o.strategy,
                             .image = l->o.image,
                             .tick_ns = l->o.job->vcpu_tick_ns,
                             .begin = vcpu_begin,
                             .completed = vcpu_completed,
                             .opaque = l,
                             .late = &l->res->vcpu_late,
                             .idle = &l->res->vcpu_idle};

    begin(l, l->slots, load_next_of_workload);
    struct error err = {""};
    int ret = vcpu_start(&l->vcpu, &o, &err);
    if (ret < 0) {
        snprintf(l->res->error_text, sizeof(l->res->error_text), "%s", err.msg);
        return l->res->error = ret;
    }
    time_begins(l);
    vcpu_finish(l->vcpu);
    l->vcpu = NULL;
    end(l);
    return 0;
}

/* Of n requests, those that are this loop's to make. */
static uint64_t share(const struct load *l, uint64_t n)
{
    return n == UINT64_MAX ? n : n / l->o.homes + (l->o.home < n % l->o.homes);
}

int load_run(struct load *l, struct load_result *res)
{
    const struct job *j = l->o.job;
    int ret = 0;

    l->res = res;
    l->check = l->verifying && !(j->rw.write || j->rw.trim);
    l->left = share(l, l->work.requests);
    if (l->o.goal)
        *l->o.goal = j->time_based ? 0 : l->left;
    l->timed = j->runtime_ns > 0;
    l->snapshots = job_snapshots(j);
    if (j->read_iolog) {
        l->left = l->replay.log.n;
        if (j->number_ios && j->number_ios < l->left)
            l->left = j->number_ios;
        l->replay.begin_ns = env_now_ns(l->env);
    }
    if (j->global_mutex) {
        ret = run_under_global_mutex(l);
    } else {
        time_begins(l);
        turn_until_idle(l, l->slots,
                        j->read_iolog ? load_next_of_record : load_next_of_workload);
    }
    if (ret < 0)
        return ret;
    l->snapshots = false;
    if (!l->measuring) /* all was over before the ramp was */
        load_start_measuring(l, env_now_ns(l->env));
    l->timed = false;
    return res->error;
}

int load_run_end(struct load *l)
{
    if (l->o.job->end_fsync && !l->res->error && !l->res->interrupted) {
        l->left = 1;
        turn_until_idle(l, 1, load_next_last_flush);
    }
    return l->res->error;
}

/* verify_only: what load_run would have written, without writing it. */
static void replay(struct load *l)
{
    uint64_t offset;

    for (uint64_t i = 0; i < l->work.requests; i++) {
        enum load_dir dir = workload_next(&l->work, &offset);
        if (dir == LOAD_WRITE)
            verify_write_begin(&l->verify, offset, NULL);
        else if (dir == LOAD_TRIM)
            verify_trim_begin(&l->verify, offset);
        if (dir != LOAD_READ)
            verify_ended(&l->verify, offset);
    }
}

int load_verify(struct load *l, struct load_result *res)
{
    l->res = res;
    l->check = true;
    l->block = 0;
    l->failed = false; /* what ended the load doesn't end this */
    if (l->o.job->verify_only)
        replay(l);
    if (l->o.goal)
        *l->o.goal = 0;
    l->measuring = true;
    res->start_ns = env_now_ns(l->env);
    turn_until_idle(l, l->slots, load_next_to_verify);
    return res->error ? res->error : l->verify.bad ? -EILSEQ : 0;
}

const struct verify *load_verified(const struct load *l)
{
    return l->verifying ? &l->verify : NULL;
}

void load_queue_stats(const struct load *l, struct guestq_stats *s)
{
    *s = (struct guestq_stats){0};
    if (l->queue)
        guestq_get_stats(l->queue, s);
}

/* ---- the whole disk ---- */

struct content {
    struct guest_req req;
    bool done;
};

static void content_done(struct guest_req *r) { ((struct content *)r)->done = true; }

int load_content(struct load *l, uint32_t *crc)
{
    enum { PIECE = 1 << 20 };
    struct iovec iov = {NULL, 0};
    int ret = posix_memalign(&iov.iov_base, LOAD_ALIGN, PIECE);

    if (ret)
        return -ret;
    *crc = 0;
    for (uint64_t at = 0; at < l->o.disk_size && !ret; at += iov.iov_len) {
        uint64_t left = l->o.disk_size - at;
        iov.iov_len = left < PIECE ? (size_t)left : PIECE;
        struct content c = {.req = {.op = GUEST_READ,
                                    .offset = at,
                                    .len = iov.iov_len,
                                    .iov = &iov,
                                    .iovcnt = 1,
                                    .done = content_done}};
        l->o.strategy->submit(l->o.image, &c.req);
        loop_run_until(l->o.loop, &c.done);
        ret = c.req.result;
        *crc = crc32c(*crc, iov.iov_base, iov.iov_len);
    }
    free(iov.iov_base);
    return ret;
}
