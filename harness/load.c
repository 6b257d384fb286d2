#include "harness/load.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/crc32c.h"
#include "harness/iolog.h"
#include "harness/vcpu.h"

enum { BUFFER_ALIGN = 4096 };

/* Written into every block, so that no two writes of a run are the same bytes. */
struct stamp {
    uint64_t offset, sequence;
};

struct slot {
    struct guest_req req; /* first: done() gets it back */
    struct load *load;
    uint64_t start_ns;
    struct iovec read, write;
    enum load_dir dir;
    struct slot *idle; /* the next one in the list */
};

struct load {
    struct load_options o;
    struct env *env;
    struct workload work;
    struct load_result *res;
    struct slot *slot;
    unsigned slots, inflight;
    char *memory;

    /* next request: what sort of thing comes, given the phase */
    bool (*next)(struct load *, struct slot *);
    uint64_t left;                 /* requests still to be made */
    uint64_t flush_every, written; /* fsync=N */
    uint64_t block;                /* verify phase, content: where it is */
    uint64_t sequence;
    uint64_t ramp_end_ns, deadline_ns;
    bool measuring, timed, stopped, snapshots;

    struct { /* --snapshot-every */
        struct guest_req req;
        char name[24];
        uint64_t start_ns, end_ns; /* of the last one */
        uint64_t due_ns, due;      /* the next one's, in requests if not in time */
        unsigned made;
        bool busy;
    } snap;
    uint64_t completed;

    struct vcpu *vcpu; /* --global-mutex: it submits and completes; else NULL */
    unsigned start_depth;

    struct { /* --read_iolog */
        struct iolog log;
        uint64_t at, begin_ns; /* the next entry; when entry 0 is due */
        struct slot *idle;     /* slots without a request until one is due */
        struct loop_timer timer;
    } replay;

    bool verifying; /* headers in what is written */
    bool check;     /* reads are compared */
    struct verify verify;
};

/* ---- one request ---- */

static void submit(struct load *l, struct slot *s)
{
    static const enum guest_op op[LOAD_DIRS] = {GUEST_READ, GUEST_WRITE, GUEST_DISCARD,
                                                GUEST_FLUSH};
    struct guest_req *r = &s->req;

    r->op = op[s->dir];
    r->iovcnt = s->dir == LOAD_READ || s->dir == LOAD_WRITE;
    r->iov = s->dir == LOAD_READ ? &s->read : &s->write;
    l->inflight++;
    if (__builtin_expect(!!l->vcpu, 0))
        vcpu_submit(l->vcpu, r);
    else
        l->o.strategy->submit(l->o.image, r);
}

static void stop(struct load *l, int error, const struct slot *s)
{
    static const char *const name[LOAD_DIRS] = {"read", "write", "discard", "flush"};

    l->stopped = true;
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

static void snap_due(struct load *l, uint64_t now)
{
    const struct job *j = l->o.job;

    l->snap.due_ns = j->snapshot_every.ns ? now + j->snapshot_every.ns : UINT64_MAX;
    l->snap.due = j->snapshot_every.requests ? l->completed + j->snapshot_every.requests
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
static void snap_done(struct guest_req *r)
{
    struct load *l = (struct load *)((char *)r - offsetof(struct load, snap.req));
    uint64_t now = env_now_ns(l->env);
    bool create = r->op == GUEST_SNAPSHOT_CREATE;

    l->inflight--;
    l->snap.busy = false;
    l->snap.end_ns = now;
    if (r->result < 0) {
        l->stopped = true;
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
    snap_due(l, now);
    if (create && l->snap.made > 2)
        snap_submit(l, GUEST_SNAPSHOT_DELETE, l->snap.made - 3, now);
}

/* A request has ended: was a snapshot in its way, and is the next one due? */
static void snap_look(struct load *l, const struct slot *s, uint64_t now)
{
    l->completed++;
    if (l->snap.busy || s->start_ns < l->snap.end_ns)
        hist_add(&l->res->during, now - s->start_ns);
    if (!l->snap.busy && !l->stopped &&
        (now >= l->snap.due_ns || l->completed >= l->snap.due))
        snap_submit(l, GUEST_SNAPSHOT_CREATE, l->snap.made, now);
}

/* Measuring begins: what came before does not count. Cold, once a run. */
static __attribute__((noinline)) void start_measuring(struct load *l, uint64_t now)
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
    if (!verify_check(&l->verify, s->req.offset, s->read.iov_base) &&
        l->o.job->verify_fatal)
        stop(l, 0, s);
}

static void finish(struct load *l, struct guest_req *r)
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
    if (l->verifying && s->dir != LOAD_SYNC && s->dir != LOAD_READ)
        verify_ended(&l->verify, r->offset);
    if (l->check && s->dir == LOAD_READ && r->result >= 0)
        check_read(l, s);
    if (l->o.progress)
        ++*l->o.progress;
    if (__builtin_expect(!l->measuring && now >= l->ramp_end_ns, 0))
        start_measuring(l, now);
    if (l->timed && now >= l->deadline_ns)
        l->stopped = true;
    if (__builtin_expect(l->snapshots, 0))
        snap_look(l, s, now);
    if (l->stopped || (l->o.stop && *l->o.stop) || !l->next(l, s))
        return;
    s->start_ns = now;
    submit(l, s);
}

static void done(struct guest_req *r)
{
    struct load *l = ((struct slot *)r)->load;

    if (__builtin_expect(!!l->vcpu, 0))
        vcpu_complete(l->vcpu, r);
    else
        finish(l, r);
}

/* ---- what comes next, phase by phase ---- */

static void fill(struct load *l, struct slot *s)
{
    if (l->verifying) {
        verify_write_begin(&l->verify, s->req.offset, s->write.iov_base);
    } else if (!l->o.job->zero_buffers) {
        struct stamp stamp = {s->req.offset, ++l->sequence};
        memcpy(s->write.iov_base, &stamp, s->req.len < 16 ? s->req.len : 16);
    }
}

static bool next_of_workload(struct load *l, struct slot *s)
{
    if (l->flush_every && l->written == l->flush_every) {
        l->written = 0;
        s->dir = LOAD_SYNC;
        s->req.offset = s->req.len = 0;
        return true;
    }
    if (!l->left)
        return false;
    l->left--;
    s->dir = workload_next(&l->work, &s->req.offset);
    s->req.len = l->work.bs;
    if (s->dir == LOAD_WRITE) {
        l->written++;
        fill(l, s);
    } else if (s->dir == LOAD_TRIM && l->verifying) {
        verify_trim_begin(&l->verify, s->req.offset);
    }
    return true;
}

/* ---- requests from a record ---- */

static void replay_due(struct loop_timer *timer)
{
    struct load *l =
        (struct load *)((char *)timer - offsetof(struct load, replay.timer));
    struct slot *s;

    while (!l->stopped && (s = l->replay.idle)) {
        l->replay.idle = s->idle;
        if (!l->next(l, s))
            break; /* it is idle again */
        s->start_ns = env_now_ns(l->env);
        submit(l, s);
    }
}

/* Until the next entry's time has come. */
static bool replay_early(struct load *l, struct slot *s, const struct iolog_entry *e)
{
    uint64_t due_ns = l->replay.begin_ns + e->at_ns;

    if (l->o.job->replay_no_stall || env_now_ns(l->env) >= due_ns)
        return false;
    s->idle = l->replay.idle;
    l->replay.idle = s;
    loop_timer_arm(l->o.loop, &l->replay.timer, due_ns);
    return true;
}

static bool next_of_record(struct load *l, struct slot *s)
{
    const struct iolog_entry *e = &l->replay.log.entry[l->replay.at];

    if (!l->left || replay_early(l, s, e))
        return false;
    l->left--;
    l->replay.at++;
    s->dir = e->dir;
    s->req.offset = e->offset;
    s->req.len = s->read.iov_len = s->write.iov_len = e->len;
    if (s->dir == LOAD_WRITE)
        fill(l, s);
    return true;
}

static bool next_to_verify(struct load *l, struct slot *s)
{
    for (; l->block < l->work.blocks; l->block++) {
        uint64_t offset = l->work.start + l->block * l->work.bs;
        if (!verify_expects(&l->verify, offset))
            continue;
        l->block++;
        s->dir = LOAD_READ;
        s->req.offset = offset;
        s->req.len = l->work.bs;
        return true;
    }
    return false;
}

/* ---- phases ---- */

static bool next_last_flush(struct load *l, struct slot *s)
{
    if (!l->left)
        return false;
    l->left--;
    s->dir = LOAD_SYNC;
    s->req.offset = s->req.len = 0;
    return true;
}

static void time_begins(struct load *l)
{
    const struct job *j = l->o.job;
    uint64_t now = env_now_ns(l->env);

    l->ramp_end_ns = now + j->ramp_ns;
    l->deadline_ns = l->ramp_end_ns + j->runtime_ns;
    if (!j->ramp_ns)
        start_measuring(l, now);
    snap_due(l, now);
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
        submit(l, &l->slot[i]);
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
    while (l->inflight || l->replay.idle) {
        loop_turn(l->o.loop, true);
        if (l->stopped || (l->o.stop && *l->o.stop) || !l->left)
            l->replay.idle = NULL; /* nothing more is begun */
    }
    loop_timer_cancel(l->o.loop, &l->replay.timer);
    end(l);
}

static bool vcpu_begin(void *opaque)
{
    time_begins(opaque);
    return start(opaque);
}

static bool vcpu_completed(void *opaque, struct guest_req *r)
{
    struct load *l = opaque;

    finish(l, r);
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

    begin(l, l->slots, next_of_workload);
    struct error err = {""};
    int ret = vcpu_start(&l->vcpu, &o, &err);
    if (ret < 0) {
        snprintf(l->res->error_text, sizeof(l->res->error_text), "%s", err.msg);
        return l->res->error = ret;
    }
    vcpu_finish(l->vcpu);
    l->vcpu = NULL;
    end(l);
    return 0;
}

int load_run(struct load *l, struct load_result *res)
{
    const struct job *j = l->o.job;
    int ret = 0;

    l->res = res;
    l->check = l->verifying && !(j->rw.write || j->rw.trim);
    l->left = l->work.requests;
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
        turn_until_idle(l, l->slots, j->read_iolog ? next_of_record : next_of_workload);
    }
    if (ret < 0)
        return ret;
    l->snapshots = false;
    if (!l->measuring) /* all was over before the ramp was */
        start_measuring(l, env_now_ns(l->env));
    l->timed = false;
    if (j->end_fsync && !res->error && !res->interrupted) {
        l->left = 1;
        turn_until_idle(l, 1, next_last_flush);
    }
    return res->error;
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
    if (l->o.job->verify_only)
        replay(l);
    if (l->o.goal)
        *l->o.goal = 0;
    l->measuring = true;
    res->start_ns = env_now_ns(l->env);
    turn_until_idle(l, l->slots, next_to_verify);
    return res->error ? res->error : l->verify.bad ? -EILSEQ : 0;
}

const struct verify *load_verified(const struct load *l)
{
    return l->verifying ? &l->verify : NULL;
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
    int ret = posix_memalign(&iov.iov_base, BUFFER_ALIGN, PIECE);

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

/* ---- set up ---- */

static int buffers(struct load *l, struct error *err)
{
    const struct job *j = l->o.job;
    size_t stride = (j->bs + BUFFER_ALIGN - 1) & ~(size_t)(BUFFER_ALIGN - 1);
    bool reads = j->rw.read || l->verifying, writes = j->rw.write;
    size_t size = stride * l->slots * (size_t)(reads + writes);
    struct rng rng = {l->o.seed};
    char *at;

    if (!size)
        return 0;
    if (posix_memalign((void **)&l->memory, BUFFER_ALIGN, size))
        return error_set(err, -ENOMEM, "iodepth=%u bs=%llu: no memory for the buffers",
                         l->slots, (unsigned long long)j->bs);
    memset(l->memory, 0, size);
    loop_use_memory(l->o.loop, l->memory, size);
    at = l->memory;
    for (unsigned i = 0; i < l->slots; i++) {
        struct slot *s = &l->slot[i];
        if (reads) {
            s->read = (struct iovec){at, j->bs};
            at += stride;
        }
        if (writes) {
            s->write = (struct iovec){at, j->bs};
            at += stride;
        }
    }
    /* The same noise in every slot: what is written depends on the request alone. */
    if (!writes || j->zero_buffers)
        return 0;
    for (size_t i = 0; i + 8 <= stride; i += 8) {
        uint64_t noise = rng_next(&rng);
        memcpy((char *)l->slot[0].write.iov_base + i, &noise, 8);
    }
    for (unsigned i = 1; i < l->slots; i++)
        memcpy(l->slot[i].write.iov_base, l->slot[0].write.iov_base, stride);
    return 0;
}

static int set_up(struct load *l, struct error *err)
{
    const struct job *j = l->o.job;
    int ret = workload_init(&l->work, j, l->o.disk_size, l->o.seed, err);

    if (ret == 0 && j->read_iolog)
        ret = iolog_read(&l->replay.log, j->read_iolog,
                         (enum iolog_order)j->replay_order, l->o.disk_size, err);
    if (ret < 0)
        return ret;
    l->replay.timer.fn = replay_due;
    l->verifying = j->verify != VERIFY_NONE;
    l->flush_every = j->fsync ? j->fsync : j->fdatasync;
    l->slots = (unsigned)j->iodepth;
    l->slot = calloc(l->slots, sizeof(*l->slot));
    if (!l->slot)
        return error_set(err, -ENOMEM, "out of memory");
    l->snap.req.done = snap_done;
    for (unsigned i = 0; i < l->slots; i++) {
        l->slot[i].load = l;
        l->slot[i].req.done = done;
    }
    if (j->verify_only && l->work.requests == UINT64_MAX)
        return error_set(err, -EINVAL,
                         "verify_only: a time_based job cannot be repeated");
    if (l->verifying) {
        bool table = j->rw.write || j->rw.trim;
        ret = verify_init(&l->verify, l->work.start, l->work.bs, l->work.blocks,
                          l->o.seed, table, err);
        if (ret < 0)
            return ret;
    }
    return buffers(l, err);
}

int load_create(struct load **out, const struct load_options *o, struct error *err)
{
    struct load *l = calloc(1, sizeof(*l));

    if (!l)
        return error_set(err, -ENOMEM, "out of memory");
    l->o = *o;
    l->env = loop_env(o->loop);
    int ret = set_up(l, err);
    if (ret < 0) {
        load_destroy(l);
        return ret;
    }
    *out = l;
    return 0;
}

void load_destroy(struct load *l)
{
    assert(!l->inflight);
    verify_destroy(&l->verify);
    iolog_free(&l->replay.log);
    if (l->memory)
        loop_forget_memory(l->o.loop);
    free(l->memory);
    free(l->slot);
    free(l);
}
