/*
 * Random requests, many in flight, through a whole stack (chain, strategy, engine) against
 * a byte model: every read is checked, the image is closed and opened again halfway, and
 * our own check finds nothing afterwards. What should be in the image goes to a file, for
 * the caller to compare with what QEMU reads.
 *
 * Arguments are key=value; see parse(). The last line printed is "stats {...}".
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/qcow2/format.h"
#include "tests/differential/disk.h"
#include "tests/differential/model.h"

enum { SLOTS = 16, IOV = 6, BUF_ALIGN = 4096, PARTS = 2 };

struct run;
struct slot {
    struct guest_req req;
    struct iovec iov[IOV];
    struct run *run;
    uint8_t *mem, *buf; /* buf is in mem, aligned or not */
    uint64_t began;
    uint64_t zero_at, zero_len; /* DISCARD: what reads zeros afterwards */
    uint64_t claim_at, claim_len;
    bool busy, cancelled, adopts;
};
struct run {
    struct disk_options o;
    struct disk d;
    struct model m;
    const char *expect;
    uint64_t rng, cluster, max_len; /* bytes */
    unsigned ops, started, ended, in_flight;
    bool discard_ignored, stop, fill, unaligned;
    struct slot slot[SLOTS];
    struct strategy_stats sum;
};

static struct run *current;

static uint64_t pick(struct run *r, uint64_t below)
{
    uint64_t z = (r->rng += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

static void describe(FILE *f, const struct slot *s)
{
    static const char *const op[] = {"read", "write", "zero", "discard", "flush"};

    fprintf(f, "  %s %" PRIu64 "+%" PRIu64 "%s%s\n", op[s->req.op], s->req.offset,
            s->req.len, s->cancelled ? " cancelled" : "", s->adopts ? " (adopts)" : "");
}

static void fail(const struct run *r, const struct slot *s, const char *what)
{
    fprintf(stderr, "after %u requests: %s\n", r->ended, what);
    if (s)
        describe(stderr, s);
    fprintf(stderr, "in flight:\n");
    for (int i = 0; i < SLOTS; i++)
        if (r->slot[i].busy)
            describe(stderr, &r->slot[i]);
    abort();
}

static void hang(int sig)
{
    (void)sig;
    fail(current, NULL, "it hangs");
}

/* ---- one request ---- */

/* Words that tell the write and the place, so that no stale or strange byte passes. */
static void fill(struct run *r, uint8_t *buf, uint64_t at, uint64_t len)
{
    uint64_t tag = pick(r, UINT64_MAX);

    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = (tag ^ (at + i)) * 0x9e3779b97f4a7c15ull;
        memcpy(buf + i, &word, len - i < 8 ? len - i : 8);
    }
}

static void set_iov(struct run *r, struct slot *s, uint64_t len)
{
    uint8_t *p = s->buf;
    int n = 0;

    while (n < IOV - 1 && len > SECTOR && pick(r, 3) == 0) {
        uint64_t part = 1 + pick(r, len - 1);
        if (!r->unaligned || pick(r, 4))
            part = part < SECTOR ? SECTOR : part - part % SECTOR;
        s->iov[n++] = (struct iovec){p, part};
        p += part;
        len -= part;
    }
    if (len)
        s->iov[n++] = (struct iovec){p, len};
    s->req.iov = s->iov;
    s->req.iovcnt = n;
}

static void done(struct guest_req *);

static void submit(struct run *r, struct slot *s)
{
    s->busy = true;
    s->cancelled = false;
    r->in_flight++;
    r->d.table->submit(r->d.image, &s->req);
}

static void choose_range(struct run *r, uint64_t *at, uint64_t *len)
{
    uint64_t sectors = r->m.size / SECTOR, n, first;

    n = 1 + pick(r, pick(r, 2) ? r->max_len / SECTOR : 8);
    first = pick(r, sectors);
    if (!pick(r, 3)) /* a hot corner, for overlaps */
        first %= 16 * r->cluster / SECTOR < 64 ? 64 : 16 * r->cluster / SECTOR;
    if (first >= sectors)
        first = 0;
    if (pick(r, 2)) { /* whole clusters */
        first -= first % (r->cluster / SECTOR);
        if (pick(r, 2) && r->cluster <= r->max_len)
            n += r->cluster / SECTOR - 1 - (n - 1) % (r->cluster / SECTOR);
    }
    if (n > r->max_len / SECTOR)
        n = r->max_len / SECTOR;
    if (n > sectors - first)
        n = sectors - first;
    *at = first * SECTOR;
    *len = n * SECTOR;
    if (r->unaligned && !pick(r, 4)) {
        uint64_t skip = pick(r, *len);
        *at += skip;
        *len = 1 + pick(r, *len - skip);
    }
}

static enum guest_op choose_op(struct run *r)
{
    if (r->fill && !pick(r, 3))
        return GUEST_WRITE;
    switch (pick(r, 20)) {
    case 0 ... 6:
        return GUEST_WRITE;
    case 7 ... 8:
        return GUEST_ZERO;
    case 9 ... 11:
        return GUEST_DISCARD;
    case 12: /* to fill the cache with what is dirty takes time without a flush */
        return r->fill && pick(r, 16) ? GUEST_WRITE : GUEST_FLUSH;
    default:
        return GUEST_READ;
    }
}

/* What a discard of this range makes read zeros: whole clusters. */
static void discard_effect(const struct run *r, struct slot *s, uint64_t at,
                           uint64_t len)
{
    uint64_t start = at + r->cluster - 1, end = at + len;

    start -= start % r->cluster;
    if (end != r->m.size)
        end -= end % r->cluster;
    s->zero_at = start;
    s->zero_len = r->discard_ignored || end <= start ? 0 : end - start;
}

/* False: nothing started, as somebody writes there. */
static bool start(struct run *r, struct slot *s)
{
    uint64_t at, len;
    enum guest_op op = choose_op(r);

    choose_range(r, &at, &len);
    if (op == GUEST_FLUSH)
        at = len = 0;
    if (op != GUEST_FLUSH && op != GUEST_READ) {
        if (!model_claim(&r->m, at, len))
            return false;
        s->claim_at = at;
        s->claim_len = len;
    }
    s->req = (struct guest_req){.op = op, .offset = at, .len = len, .done = done};
    s->adopts = false;
    s->buf = s->mem + (r->unaligned && !pick(r, 2) ? pick(r, BUF_ALIGN) : 0);
    switch (op) {
    case GUEST_READ:
        s->began = model_read(&r->m, at, len);
        memset(s->buf, 0xa5, len);
        set_iov(r, s, len);
        break;
    case GUEST_WRITE:
        fill(r, s->buf, at, len);
        model_write(&r->m, at, len, s->buf);
        set_iov(r, s, len);
        break;
    case GUEST_ZERO:
        model_write(&r->m, at, len, NULL);
        break;
    case GUEST_DISCARD:
        discard_effect(r, s, at, len);
        if (s->zero_len)
            model_write(&r->m, s->zero_at, s->zero_len, NULL);
        break;
    default:
        break;
    }
    r->started++;
    submit(r, s);
    return true;
}

/* It may have been done in part: what is there now stays there. */
static void start_adopting(struct run *r, struct slot *s)
{
    uint64_t at = s->claim_at / SECTOR * SECTOR;
    uint64_t len = (s->claim_at + s->claim_len + SECTOR - 1) / SECTOR * SECTOR - at;

    s->claim_at = at;
    s->claim_len = len;
    s->req =
        (struct guest_req){.op = GUEST_READ, .offset = at, .len = len, .done = done};
    s->buf = s->mem;
    s->iov[0] = (struct iovec){s->buf, len};
    s->req.iov = s->iov;
    s->req.iovcnt = 1;
    s->adopts = true;
    s->began = model_read(&r->m, at, len);
    submit(r, s);
}

static void end_read(struct run *r, struct slot *s, bool ok)
{
    uint64_t bad;

    if (ok && !model_check(&r->m, s->req.offset, s->req.len, s->buf, s->began, &bad)) {
        fprintf(stderr, "byte %" PRIu64 " is wrong: %02x, should be like %02x\n", bad,
                s->buf[bad - s->req.offset], r->m.base[bad]);
        fail(r, s, "a read returned what was never there");
    }
    model_read_end(&r->m, s->req.offset, s->req.len);
    if (s->adopts) {
        model_adopt(&r->m, s->claim_at, s->claim_len, s->buf);
        model_release(&r->m, s->claim_at, s->claim_len);
    }
}

static void end_change(struct run *r, struct slot *s, bool ok)
{
    uint64_t at = s->req.offset, len = s->req.len;

    if (s->req.op == GUEST_DISCARD) {
        at = s->zero_at;
        len = s->zero_len;
    }
    if (len)
        model_written(&r->m, at, len, ok);
    if (ok)
        model_release(&r->m, s->claim_at, s->claim_len);
    else
        start_adopting(r, s);
}

static void done(struct guest_req *req)
{
    struct slot *s = (struct slot *)req;
    struct run *r = s->run;
    bool ok = req->result == 0;

    assert(s->busy);
    if (!ok && (req->result != -ECANCELED || !s->cancelled)) {
        fprintf(stderr, "%s\n", strerror(-req->result));
        fail(r, s, "a request failed");
    }
    s->busy = false;
    r->in_flight--;
    r->ended++;
    if (req->op == GUEST_READ)
        end_read(r, s, ok);
    else if (req->op != GUEST_FLUSH)
        end_change(r, s, ok);
    if (!s->busy && !r->stop && r->started < r->ops && pick(r, 2))
        start(r, s); /* from where a guest would */
}

/* ---- many requests ---- */

static void wait_all(struct run *r)
{
    while (r->in_flight)
        loop_turn(r->d.loop, true);
}

static void cancel_one(struct run *r)
{
    struct slot *s = &r->slot[pick(r, SLOTS)];

    if (s->busy && !s->cancelled && !s->adopts) {
        s->cancelled = true;
        r->d.table->cancel(r->d.image, &s->req);
    }
}

static struct slot *idle_slot(struct run *r)
{
    for (int i = 0; i < SLOTS; i++)
        if (!r->slot[i].busy)
            return &r->slot[i];
    return NULL;
}

/* Drained, the image is quiet: what is submitted waits until the end of it. */
static void drain(struct run *r)
{
    bool twice = pick(r, 2);

    r->d.table->drain_begin(r->d.image);
    if (twice)
        r->d.table->drain_begin(r->d.image);
    unsigned ended = r->ended;
    struct slot *s = idle_slot(r);
    if (s && r->started < r->ops)
        start(r, s);
    if (twice)
        r->d.table->drain_end(r->d.image);
    for (int i = 0; i < 10; i++)
        loop_turn(r->d.loop, false);
    if (r->ended != ended)
        fail(r, NULL, "a request ended while drained");
    r->d.table->drain_end(r->d.image);
}

static void requests(struct run *r)
{
    r->started = r->ended = 0;
    r->stop = false;
    while (r->started < r->ops) {
        unsigned burst = 1 + (unsigned)pick(r, SLOTS);
        for (unsigned i = 0; i < burst && r->started < r->ops; i++) {
            struct slot *s = idle_slot(r);
            if (s)
                start(r, s);
        }
        if (!pick(r, 8))
            cancel_one(r);
        if (r->in_flight)
            loop_turn(r->d.loop, true);
        if (!pick(r, 100))
            drain(r);
        if (!pick(r, 100))
            wait_all(r);
    }
    r->stop = true;
    wait_all(r);
}

/* Every byte, in order, a few at a time. */
static void read_all(struct run *r)
{
    uint64_t at = 0;

    r->stop = true;
    while (at < r->m.size || r->in_flight) {
        struct slot *s = at < r->m.size ? idle_slot(r) : NULL;
        if (!s) {
            loop_turn(r->d.loop, true);
            continue;
        }
        uint64_t len = r->m.size - at < r->max_len ? r->m.size - at : r->max_len;
        s->req = (struct guest_req){
            .op = GUEST_READ, .offset = at, .len = len, .done = done};
        s->adopts = false;
        s->buf = s->mem;
        s->began = model_read(&r->m, at, len);
        set_iov(r, s, len);
        submit(r, s);
        at += len;
    }
}

/* ---- open, close ---- */

static void add_stats(struct run *r, const struct strategy_stats *s)
{
    const uint64_t *from = (const uint64_t *)&s->top;
    uint64_t *to = (uint64_t *)&r->sum.top;

    for (size_t i = 0; i < sizeof(s->top) / sizeof(*to); i++)
        to[i] += from[i];
    r->sum.wakeups += s->wakeups;
    r->sum.lock_waits += s->lock_waits;
}

static void part(struct run *r, unsigned no)
{
    static const size_t caches[] = {0, 16384, 262144, 1 << 20};
    struct strategy_stats stats;
    struct error err = {""};
    uint64_t leaks;

    r->o.cache = r->fill ? 0 : caches[pick(r, 4)];
    r->o.depth = r->fill || pick(r, 2) ? 3 : SLOTS; /* fewer: some wait for a slot */
    r->o.punch = pick(r, 4) > 0;
    r->o.seed = pick(r, UINT64_MAX);
    if (disk_open(&r->d, &r->o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        fail(r, NULL, "the image does not open");
    }
    if (r->d.size != r->m.size)
        fail(r, NULL, "the disk has another size than QEMU says");
    const struct qcow2_header *h = r->d.top->header;
    r->cluster = 1ull << h->cluster_bits;
    r->discard_ignored = h->version < 3 && r->d.top->backing;
    if (no > 0)
        read_all(r);
    requests(r);
    int ret = disk_close(&r->d, &stats);
    if (ret)
        fail(r, NULL, "close failed");
    add_stats(r, &stats);
    if (stats.poisoned || stats.top.corruptions)
        fail(r, NULL, "the image is poisoned, and no I/O failed");
    if (disk_check(r->o.path, &leaks) || leaks) {
        fprintf(stderr, "%" PRIu64 " leaks\n", leaks);
        fail(r, NULL, "the image is not consistent");
    }
}

static uint8_t *load(const char *path, uint64_t *size)
{
    FILE *f = fopen(path, "rb");
    assert(f);
    fseek(f, 0, SEEK_END);
    *size = (uint64_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*size);
    assert(bytes);
    size_t got = fread(bytes, 1, *size, f);
    assert(got == *size);
    fclose(f);
    return bytes;
}

static void save(const struct run *r)
{
    FILE *f = fopen(r->expect, "wb");
    assert(f);
    size_t put = fwrite(r->m.base, 1, r->m.size, f);
    assert(put == r->m.size);
    fclose(f);
}

static const char *value(const char *arg, const char *key)
{
    size_t n = strlen(key);
    return !strncmp(arg, key, n) && arg[n] == '=' ? arg + n + 1 : NULL;
}

static void parse(struct run *r, const char *arg, const char **model)
{
    const char *v;

    if ((v = value(arg, "image")))
        r->o.path = v;
    else if ((v = value(arg, "model"))) /* what is in the image, raw */
        *model = v;
    else if ((v = value(arg, "expect"))) /* gets what should be in it afterwards */
        r->expect = v;
    else if ((v = value(arg, "strategy")))
        r->o.strategy = v;
    else if ((v = value(arg, "settings")))
        r->o.settings = v;
    else if ((v = value(arg, "engine")))
        r->o.engine = v;
    else if ((v = value(arg, "filters")))
        r->o.filters = v;
    else if ((v = value(arg, "through")))
        r->o.through = *v == '1';
    else if ((v = value(arg, "direct")))
        r->o.direct = *v == '1';
    else if ((v = value(arg, "unaligned"))) /* some requests are of odd bytes */
        r->unaligned = *v == '1';
    else if ((v = value(arg, "fill"))) /* more writes, to fill tables and the cache */
        r->fill = *v == '1';
    else if ((v = value(arg, "grow")))
        r->o.grow = strtoull(v, NULL, 0);
    else if ((v = value(arg, "ops"))) /* each time it is open */
        r->ops = (unsigned)atoi(v);
    else if ((v = value(arg, "max_len"))) /* of a request, bytes */
        r->max_len = strtoull(v, NULL, 0);
    else if ((v = value(arg, "seed")))
        r->rng = strtoull(v, NULL, 0);
    else {
        fprintf(stderr, "test_differential: unknown argument %s\n", arg);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct run r = {.o = {.engine = "sync"}, .ops = 200, .max_len = 128 << 10};
    const char *model = NULL;
    uint64_t size;

    for (int i = 1; i < argc; i++)
        parse(&r, argv[i], &model);
    if (!r.o.path || !model || !r.o.strategy) {
        fprintf(stderr, "test_differential: image=, model= and strategy= are needed\n");
        return 2;
    }
    current = &r;
    signal(SIGALRM, hang);
    alarm(getenv("ASYNCOW_TEST_ALARM") ? (unsigned)atoi(getenv("ASYNCOW_TEST_ALARM"))
                                       : 60);
    uint8_t *base = load(model, &size);
    model_init(&r.m, base, size, false);
    for (int i = 0; i < SLOTS; i++) {
        r.slot[i].run = &r;
        r.slot[i].mem = aligned_alloc(BUF_ALIGN, r.max_len + 2 * BUF_ALIGN);
        assert(r.slot[i].mem);
    }
    for (unsigned no = 0; no < PARTS; no++)
        part(&r, no);
    if (r.expect)
        save(&r);
    disk_stats_print(&r.sum);
    for (int i = 0; i < SLOTS; i++)
        free(r.slot[i].mem);
    model_free(&r.m);
    return 0;
}
