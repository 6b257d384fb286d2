/* Latencies of all models, and the disk's queues: sim_device.h. */
#include "core/block/sim_device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/sim_disk.h"
#include "core/block/sim_file.h"

/* A part of an I/O that lies on one spindle. */
struct part {
    struct elevator_io io;
    struct transfer *of;
    struct part *next; /* while free */
};
struct transfer {
    struct aio *aio;
    void (*done)(struct aio *);
    unsigned parts; /* not yet over */
    struct transfer *next;
};
struct spindle {
    struct sim_device *device;
    struct elevator elevator;
    struct sim_arm arm;
    struct elevator_io *active;
    struct sim_event over,
        again; /* the active one is; the elevator wants to be asked */
};
struct sim_device {
    struct env *env;
    struct sim_model model;
    struct sim_device *next;
    uint64_t
        free_ns[SIM_CHANNELS_MAX]; /* when each channel has done what it was given */
    uint64_t wire_free_ns;
    unsigned sources;
    struct spindle *spindle;
    struct part *parts;
    struct transfer *transfers;
    struct sim_device_stats stats;
};

/* ---- lognormal times ---- */

/* The sum of twelve uniform draws less its mean is nearly normal; Teichroew's polynomial
 * makes it so to some 1/5000 (Knuth, The Art of Computer Programming 2, 3.4.1). Fixed
 * point with 30 bits. */
int64_t sim_normal_q16(const uint64_t random[3])
{
    static const int64_t a[] = {32104640, 8972152, 82187326, 271021868, 4241114997};
    int64_t sum = 0;

    for (int i = 0; i < 3; i++) {
        uint64_t r = random[i];
        sum +=
            (int64_t)((r & 65535) + (r >> 16 & 65535) + (r >> 32 & 65535) + (r >> 48));
    }
    /* r = (sum - 6) / 4, |r| <= 1.5 */
    int64_t r = (sum + 6 - 6 * 65536) * 4096, r2 = (int64_t)((__int128)r * r >> 30);
    int64_t z = a[0];

    for (int i = 1; i < 5; i++)
        z = (int64_t)((__int128)z * r2 >> 30) + a[i];
    return (int64_t)((__int128)z * r >> 44);
}

/* 2^x for x in 1/65536, as a factor in 1/65536; |x| <= 16. To some 1/10000: a cubic through
 * both ends of the octave. */
static uint64_t exp2_q16(int64_t x)
{
    int64_t whole = x >= 0 ? x / 65536 : -((-x + 65535) / 65536);
    uint64_t f = (uint64_t)(x - whole * 65536);
    uint64_t m = (f * 5200 >> 16) + 14706;

    m = (f * m >> 16) + 45630;
    m = (f * m >> 16) + 65536;
    return whole >= 0 ? m << whole : m >> -whole;
}

uint64_t sim_lognormal_ns(uint64_t median_ns, uint64_t sigma, int64_t z_q16)
{
    /* log2(e) * sigma percent */
    int64_t x = z_q16 * (int64_t)sigma * 14427 / 1000000;

    return (uint64_t)((unsigned __int128)median_ns * exp2_q16(x) >> 16);
}

static uint64_t draw_ns(struct sim_device *d, uint64_t median_ns)
{
    uint64_t random[3];

    for (int i = 0; i < 3; i++)
        random[i] = sim_random(d->env);
    return sim_lognormal_ns(median_ns, d->model.sigma, sim_normal_q16(random));
}

static uint64_t median_ns(const struct sim_model *m, enum aio_op op)
{
    return op == AIO_READ ? m->read_ns : op == AIO_FLUSH ? m->flush_ns : m->write_ns;
}

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* An I/O takes the channel that is free first; what it moves goes over the wire that all
 * share. */
static uint64_t lognormal_done_ns(struct sim_device *d, enum aio_op op, uint64_t len)
{
    const struct sim_model *m = &d->model;
    uint64_t now = env_now_ns(d->env);
    unsigned first = 0, last = 0;

    for (unsigned i = 1; i < m->channels; i++) {
        if (d->free_ns[i] < d->free_ns[first])
            first = i;
        if (d->free_ns[i] > d->free_ns[last])
            last = i;
    }
    bool flush = op == AIO_FLUSH;
    uint64_t *channel = &d->free_ns[flush && m->flush_waits ? last : first];
    uint64_t start = flush && !m->flush_waits ? now : later(*channel, now);
    uint64_t done = start + draw_ns(d, median_ns(m, op));

    if (!flush || m->flush_waits)
        *channel = op == AIO_WRITE ? later(done, start + m->write_busy_ns) : done;
    if (m->bandwidth && (op == AIO_READ || op == AIO_WRITE)) {
        done = later(done, d->wire_free_ns) +
               (uint64_t)((unsigned __int128)len * 1000000000u / m->bandwidth);
        d->wire_free_ns = done;
    }
    return done;
}

uint64_t sim_device_done_ns(struct sim_device *d, enum aio_op op, uint64_t len)
{
    if (d->model.kind == SIM_LOGNORMAL)
        return lognormal_done_ns(d, op, len);
    if (d->model.kind == SIM_DISK) /* the drive has no cache; and no data moves */
        return env_now_ns(d->env) +
               (op == AIO_FLUSH ? d->model.flush_ns : d->model.disk.command_ns);
    return env_now_ns(d->env) + median_ns(&d->model, op);
}

/* ---- the disk ---- */

static void serve(struct spindle *s);

static void asked_again(struct sim_event *ev)
{
    serve((struct spindle *)((char *)ev - offsetof(struct spindle, again)));
}

static void serve(struct spindle *s)
{
    struct sim_device *d = s->device;
    uint64_t now = env_now_ns(d->env), again;

    if (s->active)
        return;
    s->active = elevator_next(&s->elevator, now, &again);
    if (s->active) {
        uint64_t done =
            sim_disk_access(&d->model.disk, &s->arm, now, s->active->begin,
                            s->active->end - s->active->begin, s->active->write);
        d->stats.commands++;
        d->stats.busy_ns += done - now;
        sim_cancel(d->env, &s->again);
        sim_schedule(d->env, &s->over, done);
    } else if (again != UINT64_MAX) {
        sim_schedule(d->env, &s->again, again);
    }
}

static void part_over(struct sim_device *d, struct part *p)
{
    struct transfer *t = p->of;

    p->next = d->parts;
    d->parts = p;
    if (--t->parts)
        return;
    struct aio *aio = t->aio;
    void (*done)(struct aio *) = t->done;
    t->next = d->transfers;
    d->transfers = t;
    done(aio);
}

static void over(struct sim_event *ev)
{
    struct spindle *s = (struct spindle *)((char *)ev - offsetof(struct spindle, over));
    struct elevator_io *io = s->active, *next;

    s->active = NULL;
    elevator_done(&s->elevator, io, env_now_ns(s->device->env));
    for (io = io->first; io; io = next) {
        next = io->member_next;
        part_over(s->device, (struct part *)io);
    }
    serve(s);
}

static struct part *part_new(struct sim_device *d)
{
    struct part *p = d->parts;

    if (p)
        d->parts = p->next;
    else
        p = calloc(1, sizeof(*p));
    return p;
}

static struct transfer *transfer_new(struct sim_device *d)
{
    struct transfer *t = d->transfers;

    if (t)
        d->transfers = t->next;
    else
        t = calloc(1, sizeof(*t));
    return t;
}

/* The next part of at..end, in *p; returns its spindle. */
static struct spindle *split(struct sim_device *d, struct part *p, uint64_t *at,
                             uint64_t end)
{
    const struct sim_model *m = &d->model;
    uint64_t size = sim_disk_capacity(&m->disk), stripe = m->stripe;

    if (m->spindles == 1)
        stripe = size;
    uint64_t number = *at / stripe, within = *at % stripe;
    uint64_t len = end - *at < stripe - within ? end - *at : stripe - within;

    p->io.offset = (number / m->spindles * stripe + within) % size;
    if (len > size - p->io.offset) /* round the disk's end */
        len = size - p->io.offset;
    p->io.len = len;
    *at += len;
    return &d->spindle[number % m->spindles];
}

bool sim_device_transfer(struct sim_device *d, struct aio *aio, unsigned source,
                         void (*done)(struct aio *))
{
    struct transfer *t = transfer_new(d);
    uint64_t at, end, now = env_now_ns(d->env);
    const struct iovec *iov;
    int cnt;
    size_t len = engine_piece(aio, &iov, &cnt, &at);

    if (!t)
        return false;
    at += blk_sim(aio->file)->number * d->model.file_gap;
    end = at + len;
    *t = (struct transfer){.aio = aio, .done = done, .parts = 1};
    while (at < end) {
        struct part *p = part_new(d);
        if (!p)
            abort(); /* as the world's own memory: sim_grown() */
        struct spindle *s = split(d, p, &at, end);
        p->of = t;
        p->io.write = aio->op == AIO_WRITE;
        p->io.source = source;
        t->parts++;
        elevator_add(&s->elevator, &p->io, now);
        serve(s);
    }
    t->parts--; /* ours; none can be over yet */
    return true;
}

bool sim_device_is_disk(const struct sim_device *d)
{
    return d->model.kind == SIM_DISK;
}
unsigned sim_device_new_source(struct sim_device *d) { return d->sources++; }

void sim_device_get_stats(const struct sim_device *d, struct sim_device_stats *out)
{
    *out = d->stats;
    for (unsigned i = 0; d->spindle && i < d->model.spindles; i++) {
        const struct elevator *e = &d->spindle[i].elevator;
        out->merged += e->merged;
        out->waits += e->waits;
        out->waits_won += e->waits_won;
        out->expired += e->expired;
    }
}

/* ---- life ---- */

static void devices_free(void *data)
{
    struct sim_device *next;

    for (struct sim_device *d = data; d; d = next) {
        next = d->next;
        for (struct part *p = d->parts, *n; p; p = n) {
            n = p->next;
            free(p);
        }
        for (struct transfer *t = d->transfers, *n; t; t = n) {
            n = t->next;
            free(t);
        }
        free(d->spindle);
        free(d);
    }
}

static bool set_up(struct sim_device *d, struct env *env, const struct sim_model *m)
{
    d->env = env;
    d->model = *m;
    if (m->kind != SIM_DISK)
        return true;
    d->spindle = calloc(m->spindles, sizeof(*d->spindle));
    for (unsigned i = 0; d->spindle && i < m->spindles; i++) {
        struct spindle *s = &d->spindle[i];
        s->device = d;
        s->over.fn = over;
        s->again.fn = asked_again;
        elevator_init(&s->elevator, &m->host);
    }
    return d->spindle;
}

struct sim_device *sim_device_of(struct env *env, const struct sim_model *m)
{
    struct sim_slot *slot = sim_devices(env);
    struct sim_device *d;

    for (d = slot->data; d; d = d->next)
        if (!memcmp(&d->model, m, sizeof(*m)))
            return d;
    d = calloc(1, sizeof(*d));
    if (!d || !set_up(d, env, m)) {
        free(d);
        return NULL;
    }
    d->next = slot->data;
    slot->data = d;
    slot->free = devices_free;
    return d;
}
