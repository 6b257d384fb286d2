/* What comes next: of the workload, of a record, of what is to be verified. */
#include "harness/load_int.h"

#include <stddef.h>
#include <string.h>

/* Written into every block, so that no two writes of a run are the same bytes. */
struct stamp {
    uint64_t offset, sequence;
};

static void fill(struct load *l, struct slot *s)
{
    if (l->verifying) {
        verify_write_begin(load_verify_begin(l), s->req.offset, s->write.iov_base);
        load_verify_end(l);
    } else if (!l->o.job->zero_buffers) {
        struct stamp stamp = {s->req.offset, ++l->sequence};
        memcpy(s->write.iov_base, &stamp, s->req.len < 16 ? s->req.len : 16);
    }
}

/* The next that is this loop's: of several, each makes every so manyth. */
static enum load_dir draw(struct load *l, uint64_t *offset)
{
    for (unsigned others = l->skip; others; others--)
        workload_next(&l->work, offset);
    l->skip = l->o.homes - 1;
    return workload_next(&l->work, offset);
}

bool load_next_of_workload(struct load *l, struct slot *s)
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
    l->work.stream = s->stream;
    s->dir = draw(l, &s->req.offset);
    s->req.len = l->work.bs;
    if (s->dir == LOAD_WRITE) {
        l->written++;
        fill(l, s);
    } else if (s->dir == LOAD_TRIM && l->verifying) {
        verify_trim_begin(load_verify_begin(l), s->req.offset);
        load_verify_end(l);
    }
    return true;
}

/* ---- requests from a record ---- */

void load_replay_due(struct loop_timer *timer)
{
    struct load *l =
        (struct load *)((char *)timer - offsetof(struct load, replay.timer));
    struct slot *s;

    while (!l->stopped && (s = l->replay.idle)) {
        l->replay.idle = s->idle;
        if (!l->next(l, s))
            break; /* it is idle again */
        s->start_ns = env_now_ns(l->env);
        load_submit(l, s);
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

bool load_next_of_record(struct load *l, struct slot *s)
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

bool load_next_to_verify(struct load *l, struct slot *s)
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

bool load_next_last_flush(struct load *l, struct slot *s)
{
    if (!l->left)
        return false;
    l->left--;
    s->dir = LOAD_SYNC;
    s->req.offset = s->req.len = 0;
    return true;
}
