/* Everything is allocated before the first request. */
#include "harness/load_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int buffers(struct load *l, struct error *err)
{
    const struct job *j = l->o.job;
    size_t stride = (j->bs + LOAD_ALIGN - 1) & ~(size_t)(LOAD_ALIGN - 1);
    bool reads = j->rw.read || l->verifying, writes = j->rw.write;
    size_t size = stride * l->slots * (size_t)(reads + writes);
    struct rng rng = {l->o.seed};
    char *at;

    if (!size)
        return 0;
    if (posix_memalign((void **)&l->memory, LOAD_ALIGN, size))
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

/* The simulated guest's elevator. */
static int guest_queue(struct load *l, struct error *err)
{
    struct guestq_options o = {.loop = l->o.loop,
                               .strategy = l->o.strategy,
                               .image = l->o.image,
                               .elevator = l->o.guest->guest,
                               .depth = (unsigned)l->o.guest->guest_depth,
                               .slots = l->slots};

    if (l->slots > 1024 || l->o.job->global_mutex || l->o.homes > 1)
        return error_set(
            err, -EINVAL,
            "sim model: guest-queue: does not go with global-mutex, several "
            "iothreads or an iodepth above 1024");
    int ret = guestq_create(&l->queue, &o);
    return ret < 0 ? error_set(err, ret, "out of memory") : 0;
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
    l->replay.timer.fn = load_replay_due;
    l->verifying = j->verify != VERIFY_NONE;
    l->flush_every = j->fsync ? j->fsync : j->fdatasync;
    l->slots = (unsigned)j->iodepth / l->o.homes +
               (l->o.home < (unsigned)j->iodepth % l->o.homes);
    l->skip = l->o.home;
    l->slot = calloc(l->slots, sizeof(*l->slot));
    if (!l->slot)
        return error_set(err, -ENOMEM, "out of memory");
    l->snap.req.done = load_snapshot_done;
    for (unsigned i = 0; i < l->slots; i++) {
        l->slot[i].load = l;
        l->slot[i].stream = i % (unsigned)j->streams;
        l->slot[i].think.fn = load_thought;
        l->slot[i].req.done = load_done;
        l->slot[i].req.home = l->o.home;
    }
    if (j->verify_only && l->work.requests == UINT64_MAX)
        return error_set(err, -EINVAL,
                         "verify_only: a time_based job cannot be repeated");
    if (l->verifying && l == l->lead) {
        bool table = j->rw.write || j->rw.trim;
        ret = verify_init(&l->verify, l->work.start, l->work.bs, l->work.blocks,
                          l->o.seed, table, err);
        if (ret < 0)
            return ret;
    }
    if (l->o.guest)
        ret = guest_queue(l, err);
    return ret < 0 ? ret : buffers(l, err);
}

int load_create(struct load **out, const struct load_options *o, struct error *err)
{
    struct load *l = calloc(1, sizeof(*l));

    if (!l)
        return error_set(err, -ENOMEM, "out of memory");
    l->o = *o;
    l->env = loop_env(o->loop);
    l->lead = o->lead ? o->lead : l;
    env_mutex_init(&l->verify_lock);
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
    guestq_destroy(l->queue);
    workload_free(&l->work);
    verify_destroy(&l->verify);
    env_mutex_destroy(&l->verify_lock);
    iolog_free(&l->replay.log);
    if (l->memory)
        loop_forget_memory(l->o.loop);
    free(l->memory);
    free(l->slot);
    free(l);
}
