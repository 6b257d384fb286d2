/*
 * Merging in the back end: I/Os that wait to be submitted together and lie side by side
 * in the file go down as one, vectored (Liguori, Vargas, qemu-devel, April and May
 * 2008).
 *
 * A group is led by a carrier, an aio of the loop's own that takes the place of its
 * first member; carriers are kept and used again. When one fails, its members are
 * submitted again one by one, so that each gets its own result. Members can't be
 * cancelled any more.
 *
 * Only what was gathered for one submission is looked at, and of that only so far
 * ahead, so nothing waits for a neighbour that may come.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/block/file.h"

enum { AHEAD = 64, PARTS = 64 }; /* I/Os looked at for each; entries of a vector */

struct carrier {
    struct aio aio;           /* first: done() gets it back */
    struct aio *first, *last; /* members, by offset, through next */
    struct carrier *next;     /* while free */
    struct iovec iov[PARTS];
};

static bool mergeable(const struct aio *a)
{
    return (a->op == AIO_READ || a->op == AIO_WRITE) && !a->verdict &&
           !(a->flags & (AIO_PARTIAL | AIO_RETRY | AIO_ALONE));
}

/* What a group has come to while it is gathered. */
struct group {
    struct aio *first, *last;
    uint64_t len;
    int parts;
    unsigned members;
};

static bool fits(const struct loop *loop, const struct group *g, const struct aio *a)
{
    return mergeable(a) && a->op == g->first->op && a->file == g->first->file &&
           a->metadata == g->first->metadata && g->len + a->len <= loop->merge_bytes &&
           g->parts + a->iovcnt <= PARTS;
}

/* Takes the next neighbour, in front or behind, out of the queue. */
static bool take_neighbour(struct loop *loop, struct group *g)
{
    struct aio **at = &loop->gathered.head, *prev = NULL;

    for (int i = 0; *at && i < AHEAD; i++, prev = *at, at = &(*at)->next) {
        struct aio *a = *at;
        bool behind = a->offset == g->last->offset + g->last->len;
        bool before = a->offset + a->len == g->first->offset;

        if ((!behind && !before) || !fits(loop, g, a))
            continue;
        *at = a->next;
        if (loop->gathered.tail == a)
            loop->gathered.tail = prev;
        if (behind) {
            a->next = NULL;
            g->last = g->last->next = a;
        } else {
            a->next = g->first;
            g->first = a;
        }
        g->len += a->len;
        g->parts += a->iovcnt;
        g->members++;
        return true;
    }
    return false;
}

/* ---- carriers ---- */

static struct carrier *get_carrier(struct loop *loop)
{
    struct carrier *c = loop->carriers;

    if (c)
        loop->carriers = c->next;
    else
        c = calloc(1, sizeof(*c));
    return c;
}

static void arrived(struct aio *aio)
{
    struct carrier *c = (struct carrier *)aio;
    struct loop *loop = aio->loop;
    struct aio *next;

    for (struct aio *a = c->first; a; a = next) {
        next = a->next;
        a->arrival = aio->arrival;
        if (aio->result == 0) {
            aio_finish(a, 0);
        } else {
            a->flags |= AIO_ALONE;
            a->state = AIO_QUEUED;
            aio_queue_push(&loop->gathered, a);
        }
    }
    if (aio->result < 0 && loop->env->simulated)
        sim_gate_open(loop->env, &loop->gate);
    c->next = loop->carriers;
    loop->carriers = c;
}

static void load(struct loop *loop, struct carrier *c, const struct group *g)
{
    int parts = 0;

    c->first = g->first;
    c->last = g->last;
    for (struct aio *a = g->first; a; a = a->next) {
        a->state = AIO_MERGED;
        for (int i = 0; i < a->iovcnt; i++)
            c->iov[parts++] = a->iov[i];
    }
    c->aio = (struct aio){.op = g->first->op,
                          .file = g->first->file,
                          .offset = g->first->offset,
                          .len = g->len,
                          .iov = c->iov,
                          .iovcnt = parts,
                          .metadata = g->first->metadata,
                          .done = arrived};
    aio_prepare(loop, &c->aio);
    c->aio.flags = AIO_ALONE;
    c->aio.state = AIO_QUEUED;
    loop->stats.merged += g->members;
    loop->stats.carriers++;
}

/* ---- the queue ---- */

static void push_group(struct loop *loop, struct aio_queue *q, const struct group *g)
{
    struct carrier *c = g->members > 1 ? get_carrier(loop) : NULL;
    struct aio *next;

    if (c) {
        load(loop, c, g);
        aio_queue_push(q, &c->aio);
        return;
    }
    for (struct aio *a = g->first; a; a = next) {
        next = a->next;
        aio_queue_push(q, a);
    }
}

void merge_gathered(struct loop *loop)
{
    struct aio_queue merged = {NULL, NULL};
    struct aio *a;

    if (!loop->gathered.head || !loop->gathered.head->next)
        return;
    while ((a = aio_queue_pop(&loop->gathered))) {
        struct group g = {a, a, a->len, a->iovcnt, 1};

        if (!mergeable(a) || a->iovcnt > PARTS) {
            aio_queue_push(&merged, a);
            continue;
        }
        a->next = NULL;
        while (take_neighbour(loop, &g))
            ;
        push_group(loop, &merged, &g);
    }
    loop->gathered = merged;
}

void merge_close(struct loop *loop)
{
    struct carrier *next;

    for (struct carrier *c = loop->carriers; c; c = next) {
        next = c->next;
        free(c);
    }
}
