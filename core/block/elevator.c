/*
 * Elevators: elevator.h.
 *
 * Each direction has one queue with two orders, by age and by place. Queues are short (what
 * is in flight above), so places are found by walking.
 */
#include "core/block/elevator.h"

#include <assert.h>
#include <stddef.h>

enum { SAMPLES_MIN = 3, FORGETS = 8 }; /* means are over some so many samples */

void elevator_init(struct elevator *e, const struct elevator_options *o)
{
    *e = (struct elevator){.o = *o};
}

/* ---- the queues ---- */

static void link_age(struct elevator_queue *q, struct elevator_io *io)
{
    io->younger = NULL;
    io->older = q->youngest;
    if (q->youngest)
        q->youngest->younger = io;
    else
        q->oldest = io;
    q->youngest = io;
}

static void link_place(struct elevator_queue *q, struct elevator_io *io)
{
    struct elevator_io *below = q->highest;

    while (below && below->begin > io->begin)
        below = below->below;
    io->below = below;
    io->above = below ? below->above : q->lowest;
    *(io->below ? &io->below->above : &q->lowest) = io;
    *(io->above ? &io->above->below : &q->highest) = io;
}

static void take_out(struct elevator *e, struct elevator_io *io)
{
    struct elevator_queue *q = &e->queue[io->write];

    *(io->older ? &io->older->younger : &q->oldest) = io->younger;
    *(io->younger ? &io->younger->older : &q->youngest) = io->older;
    *(io->below ? &io->below->above : &q->lowest) = io->above;
    *(io->above ? &io->above->below : &q->highest) = io->below;
    e->queued--;
}

/* ---- merging ---- */

static void append(struct elevator_io *into, struct elevator_io *io)
{
    struct elevator_io *last = into->first;

    while (last->member_next)
        last = last->member_next;
    last->member_next = io->first;
    into->end = io->end;
}

static void prepend(struct elevator_io *into, struct elevator_io *io)
{
    struct elevator_io *last = io->first;

    while (last->member_next)
        last = last->member_next;
    last->member_next = into->first;
    into->first = io->first;
    into->begin = io->begin;
}

static bool fits(const struct elevator *e, const struct elevator_io *a,
                 const struct elevator_io *b)
{
    return a->end - a->begin + (b->end - b->begin) <= e->o.merge_bytes;
}

/* The group keeps its age and so its deadline; it stays where it is in the order of
 * places, too: nothing lies between neighbours. */
static bool merge(struct elevator *e, struct elevator_io *io)
{
    struct elevator_io *g;

    for (g = e->queue[io->write].lowest; g; g = g->above) {
        if (g->end == io->begin && fits(e, g, io)) {
            append(g, io);
            break;
        }
        if (io->end == g->begin && fits(e, g, io)) {
            prepend(g, io);
            break;
        }
    }
    if (!g)
        return false;
    e->merged++;
    struct elevator_io *next = g->above; /* it may have closed a gap */
    if (next && next->begin == g->end && fits(e, g, next)) {
        bool younger = next->order > g->order; /* the older one's age counts */
        take_out(e, younger ? next : g);
        if (younger)
            append(g, next);
        else
            prepend(next, g);
        e->merged++;
    }
    return true;
}

/* ---- who reads on nearby soon ---- */

static uint64_t apart(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

static uint64_t mean(uint64_t old, uint64_t sample, unsigned samples)
{
    uint64_t n = samples < FORGETS ? samples : FORGETS;

    return (old * (n - 1) + sample) / n;
}

static struct elevator_source *source_of(struct elevator *e, unsigned source)
{
    return &e->source[source % ELEVATOR_SOURCES];
}

/* A read has come: how long after its source's last one, and how far from there? */
static void learn(struct elevator *e, const struct elevator_io *io, uint64_t now_ns)
{
    struct elevator_source *s = source_of(e, io->source);

    if (io->write || !s->known || !s->ended_ns)
        return;
    uint64_t think = now_ns - s->ended_ns, far = apart(io->offset, s->at);
    if (think > 4 * e->o.antic_ns) /* one long pause is soon forgotten */
        think = 4 * e->o.antic_ns;
    if (far > 16 * e->o.antic_bytes)
        far = 16 * e->o.antic_bytes;
    s->samples++;
    s->think_ns = mean(s->think_ns, think, s->samples);
    s->distance = mean(s->distance, far, s->samples);
    s->ended_ns = 0; /* until the next has ended */
}

static bool promising(const struct elevator *e, const struct elevator_source *s)
{
    return s->samples < SAMPLES_MIN ||
           (s->think_ns <= e->o.antic_ns && s->distance <= e->o.antic_bytes);
}

void elevator_done(struct elevator *e, const struct elevator_io *io, uint64_t now_ns)
{
    struct elevator_source *s = source_of(e, io->source);

    if (e->o.kind != ELEVATOR_ANTICIPATORY || io->write)
        return;
    s->known = true;
    s->ended_ns = now_ns;
    s->at = io->end;
    e->antic_until_ns = 0;
    e->waiting = false;
    if (promising(e, s)) {
        e->antic_source = io->source;
        e->antic_until_ns = now_ns + e->o.antic_ns;
    }
}

/* Is this what it waits for: the same source's, or anybody's nearby? */
static bool awaited(const struct elevator *e, const struct elevator_io *io)
{
    return io->source == e->antic_source || apart(io->begin, e->at) <= e->o.antic_bytes;
}

static bool expired(const struct elevator *e, const struct elevator_io *io,
                    uint64_t now_ns)
{
    return now_ns - io->since_ns >=
           (io->write ? e->o.write_expire_ns : e->o.read_expire_ns);
}

/* True: nothing goes down yet, though something is queued. */
static bool waits(struct elevator *e, uint64_t now_ns, uint64_t *again_ns)
{
    const struct elevator_io *r;

    if (!e->antic_until_ns)
        return false;
    for (r = e->queue[0].lowest; r && !awaited(e, r); r = r->above)
        ;
    const struct elevator_io *old[] = {e->queue[0].oldest, e->queue[1].oldest};
    bool late = (old[0] && expired(e, old[0], now_ns)) ||
                (old[1] && expired(e, old[1], now_ns));
    if (r || late || now_ns >= e->antic_until_ns) {
        e->waits_won += e->waiting && r;
        e->antic_until_ns = 0;
        return false;
    }
    e->waits += !e->waiting;
    e->waiting = true;
    *again_ns = e->antic_until_ns;
    for (int i = 0; i < 2; i++) {
        uint64_t left = i ? e->o.write_expire_ns : e->o.read_expire_ns;
        if (old[i] && old[i]->since_ns + left < *again_ns)
            *again_ns = old[i]->since_ns + left;
    }
    return true;
}

/* ---- what is next ---- */

/* The lowest at or above where the last one ended. */
static struct elevator_io *onward(const struct elevator *e, bool write)
{
    struct elevator_io *io = e->queue[write].lowest;

    while (io && e->begun && io->begin < e->at)
        io = io->above;
    return io;
}

static struct elevator_io *sorted(struct elevator *e, uint64_t now_ns)
{
    struct elevator_io *io = onward(e, e->writing);

    if (io && e->in_batch && e->in_batch < e->o.batch)
        return io;
    /* A new batch: reads, unless there are none or writes have been passed by enough. */
    bool reads = e->queue[0].oldest, writes = e->queue[1].oldest;
    e->writing = writes && (!reads || e->passed_by >= e->o.starved);
    if (e->writing)
        e->passed_by = 0;
    else
        e->passed_by += writes;
    e->in_batch = 0;
    struct elevator_io *oldest = e->queue[e->writing].oldest;
    bool late = expired(e, oldest, now_ns);
    e->expired += late;
    io = onward(e, e->writing);
    return late ? oldest : io ? io : e->queue[e->writing].lowest;
}

static struct elevator_io *first_come(const struct elevator *e)
{
    struct elevator_io *r = e->queue[0].oldest, *w = e->queue[1].oldest;

    return !w || (r && r->order < w->order) ? r : w;
}

void elevator_add(struct elevator *e, struct elevator_io *io, uint64_t now_ns)
{
    assert(io->len);
    io->first = io;
    io->member_next = NULL;
    io->begin = io->offset;
    io->end = io->offset + io->len;
    io->since_ns = now_ns;
    io->order = ++e->order;
    if (e->o.kind == ELEVATOR_ANTICIPATORY)
        learn(e, io, now_ns);
    if (merge(e, io))
        return;
    link_age(&e->queue[io->write], io);
    link_place(&e->queue[io->write], io);
    e->queued++;
}

struct elevator_io *elevator_next(struct elevator *e, uint64_t now_ns,
                                  uint64_t *again_ns)
{
    struct elevator_io *io;

    *again_ns = UINT64_MAX;
    if (!e->queued || waits(e, now_ns, again_ns))
        return NULL;
    io = e->o.kind == ELEVATOR_NOOP ? first_come(e) : sorted(e, now_ns);
    take_out(e, io);
    e->in_batch++;
    e->at = io->end;
    e->begun = true;
    return io;
}
