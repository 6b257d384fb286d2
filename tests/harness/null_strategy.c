/*
 * The smallest strategy there can be: raw images, each request handed straight to the
 * host. A fixture for the harness's tests, and a start for a strategy of your own:
 *
 *     cc -shared -fPIC -D_GNU_SOURCE -I. -o mine.so tests/harness/null_strategy.c
 *     asyncow run --strategy ./mine.so --image disk.raw --rw=randread
 *
 * Setting fail=N: the N-th request fails with EIO, so that tests see how that is told.
 * Setting corrupt=N: the N-th write writes something else. crash=N: the N-th dies.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "strategies/strategy.h"

struct null_slot {
    struct aio aio; /* first: done() gets it back */
    struct guest_req *req;
    struct strategy_image *image;
    struct null_slot *next_free;
};
struct strategy_image {
    struct loop *loop;
    struct blk_file *file;
    uint64_t size;
    struct null_slot *slots, *free;
    struct guest_req *waiting_head, *waiting_tail; /* more than depth, or drained */
    unsigned inflight, drained;
    unsigned long fail, corrupt, crash, count;
};

static void null_start(struct strategy_image *, struct guest_req *);

static void null_next(struct strategy_image *im)
{
    while (im->waiting_head && im->free && !im->drained) {
        struct guest_req *r = im->waiting_head;
        im->waiting_head = r->next;
        null_start(im, r);
    }
}

static void null_done(struct aio *aio)
{
    struct null_slot *s = (struct null_slot *)aio;
    struct strategy_image *im = s->image;
    struct guest_req *r = s->req;

    r->result = aio->result;
    if (im->crash && ++im->count == im->crash)
        abort();
    if (im->fail && ++im->count == im->fail)
        r->result = -EIO;
    s->next_free = im->free;
    im->free = s;
    im->inflight--;
    r->done(r);
    null_next(im);
}

static void null_start(struct strategy_image *im, struct guest_req *r)
{
    static const enum aio_op op[GUEST_OPS] = {AIO_READ,    AIO_WRITE, AIO_ZERO,
                                              AIO_DISCARD, AIO_FLUSH, AIO_FLUSH,
                                              AIO_FLUSH,   AIO_FLUSH};
    struct null_slot *s = im->free;

    im->free = s->next_free;
    im->inflight++;
    s->req = r;
    s->aio = (struct aio){.op = op[r->op],
                          .file = im->file,
                          .offset = r->offset,
                          .len = r->len,
                          .iov = r->iov,
                          .iovcnt = r->iovcnt,
                          .done = null_done};
    if (r->op == GUEST_WRITE && im->corrupt && ++im->count == im->corrupt)
        ((char *)r->iov[0].iov_base)[r->len / 2] ^= 1;
    aio_submit(im->loop, &s->aio);
}

static void null_submit(struct strategy_image *im, struct guest_req *r)
{
    if (im->free && !im->drained && !im->waiting_head) {
        null_start(im, r);
        return;
    }
    r->next = NULL;
    if (im->waiting_head)
        im->waiting_tail->next = r;
    else
        im->waiting_head = r;
    im->waiting_tail = r;
}

static void null_cancel(struct strategy_image *im, struct guest_req *r)
{
    (void)im;
    (void)r; /* it ends by itself */
}

static void null_drain_begin(struct strategy_image *im)
{
    im->drained++;
    while (im->inflight)
        loop_turn(im->loop, true);
}

static void null_drain_end(struct strategy_image *im)
{
    if (!--im->drained)
        null_next(im);
}

static void null_stats(struct strategy_image *im, struct strategy_stats *s)
{
    (void)im;
    memset(s, 0, sizeof(*s));
}

static int null_close(struct strategy_image *im)
{
    assert(!im->inflight && !im->waiting_head);
    free(im->slots);
    free(im);
    return 0;
}

static unsigned long null_setting(const char *settings, const char *name)
{
    const char *at = settings ? strstr(settings, name) : NULL;
    return at ? strtoul(at + strlen(name), NULL, 0) : 0;
}

static int null_open(struct strategy_image **out, const struct strategy_options *o,
                     struct error *err)
{
    struct strategy_image *im;
    if (o->top->format != IMAGE_RAW || o->top->backing)
        return error_set(err, -ENOTSUP, "%s: the null strategy takes raw images only",
                         blk_path(o->top->file));
    im = calloc(1, sizeof(*im));
    if (!im || !(im->slots = calloc(o->depth, sizeof(*im->slots)))) {
        free(im);
        return -ENOMEM;
    }
    im->loop = o->loop;
    im->file = o->top->file;
    im->fail = null_setting(o->settings, "fail=");
    im->corrupt = null_setting(o->settings, "corrupt=");
    im->crash = null_setting(o->settings, "crash=");
    for (unsigned i = 0; i < o->depth; i++) {
        im->slots[i].image = im;
        im->slots[i].next_free = im->free;
        im->free = &im->slots[i];
    }
    *out = im;
    return 0;
}

static const struct setting settings[] = {
    {"fail", "0..1000000", "0", "the N-th request fails; 0: none"},
    {"corrupt", "0..1000000", "0", "the N-th write writes a wrong byte; 0: none"},
    {"crash", "0..1000000", "0", "the N-th request aborts the process; 0: none"},
    {NULL, NULL, NULL, NULL},
};

__attribute__((visibility("default"))) const struct strategy asyncow_strategy = {
    .abi = STRATEGY_ABI,
    .name = "null",
    .summary = "raw images handed straight to the host; for tests",
    .settings = settings,
    .open = null_open,
    .submit = null_submit,
    .cancel = null_cancel,
    .drain_begin = null_drain_begin,
    .drain_end = null_drain_end,
    .stats = null_stats,
    .close = null_close,
};
