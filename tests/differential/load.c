/*
 * Random requests against the model; see load.h.
 */
#include "tests/differential/load.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/qcow2/format.h"

enum { BUF_ALIGN = 4096 };

uint64_t load_random(struct load *l, uint64_t below)
{
    uint64_t z = (l->rng += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

static void describe(FILE *f, const struct load_slot *s)
{
    static const char *const op[] = {"read", "write", "zero", "discard", "flush"};

    fprintf(f, "  %s %" PRIu64 "+%" PRIu64 "%s%s\n", op[s->req.op], s->req.offset,
            s->req.len, s->cancelled ? " cancelled" : "", s->adopts ? " (adopts)" : "");
}

void load_fail(const struct load *l, const struct load_slot *s, const char *what)
{
    fprintf(stderr, "after %u requests: %s\n", l->ended, what);
    if (s)
        describe(stderr, s);
    fprintf(stderr, "in flight:\n");
    for (int i = 0; i < LOAD_SLOTS; i++)
        if (l->slot[i].busy)
            describe(stderr, &l->slot[i]);
    abort();
}

static const struct load *watched;
static unsigned watched_seconds;

static void hang(int sig)
{
    (void)sig;
    load_fail(watched, NULL, "it hangs");
}

void load_watch(const struct load *l, unsigned seconds)
{
    watched = l;
    watched_seconds = seconds;
    signal(SIGALRM, hang);
    alarm(seconds);
}

/* ---- one request ---- */

/* Words that tell the write and the place, so that no stale or strange byte passes. */
static void fill(struct load *l, uint8_t *buf, uint64_t at, uint64_t len)
{
    uint64_t tag = load_random(l, UINT64_MAX);

    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = (tag ^ (at + i)) * 0x9e3779b97f4a7c15ull;
        memcpy(buf + i, &word, len - i < 8 ? len - i : 8);
    }
}

static void set_iov(struct load *l, struct load_slot *s, uint64_t len)
{
    uint8_t *p = s->buf;
    int n = 0;

    while (n < LOAD_IOV - 1 && len > SECTOR && load_random(l, 3) == 0) {
        uint64_t part = 1 + load_random(l, len - 1);
        if (!l->unaligned || load_random(l, 4))
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

static unsigned loops(const struct load *l) { return l->d->threads.n + 1; }

static void lock(struct load *l)
{
    if (loops(l) > 1)
        env_mutex_lock(l->d->env, &l->lock);
}

static void unlock(struct load *l)
{
    if (loops(l) > 1)
        env_mutex_unlock(l->d->env, &l->lock);
}

static struct load_slot *idle_slot(struct load *l, unsigned home)
{
    if (l->in_flight_at[home] >= (l->in_flight_max + loops(l) - 1) / loops(l))
        return NULL;
    for (int i = 0; i < LOAD_SLOTS; i++)
        if (!l->slot[i].busy && l->slot[i].home == home)
            return &l->slot[i];
    return NULL;
}

static void done(struct guest_req *);

static void submit(struct load *l, struct load_slot *s)
{
    s->busy = true;
    s->cancelled = false;
    s->req.home = s->home;
    l->in_flight++;
    l->in_flight_at[s->home]++;
    l->d->table->submit(l->d->image, &s->req);
}

static void choose_range(struct load *l, uint64_t *at, uint64_t *len)
{
    uint64_t sectors = l->m.size / SECTOR, n, first;

    n = 1 + load_random(l, load_random(l, 2) ? l->max_len / SECTOR : 8);
    first = load_random(l, sectors);
    if (!load_random(l, 3)) { /* a hot corner, for overlaps */
        uint64_t corner = (load_random(l, 2) ? 2 : 16) * l->cluster / SECTOR;
        first %= corner < 64 ? 64 : corner;
    }
    if (first >= sectors)
        first = 0;
    if (load_random(l, 2)) { /* whole clusters */
        first -= first % (l->cluster / SECTOR);
        if (load_random(l, 2) && l->cluster <= l->max_len)
            n += l->cluster / SECTOR - 1 - (n - 1) % (l->cluster / SECTOR);
    }
    if (n > l->max_len / SECTOR)
        n = l->max_len / SECTOR;
    if (n > sectors - first)
        n = sectors - first;
    *at = first * SECTOR;
    *len = n * SECTOR;
    if (l->unaligned && !load_random(l, 4)) {
        uint64_t skip = load_random(l, *len);
        *at += skip;
        *len = 1 + load_random(l, *len - skip);
    }
}

static enum guest_op choose_op(struct load *l)
{
    if (l->fill && !load_random(l, 3))
        return GUEST_WRITE;
    switch (load_random(l, 20)) {
    case 0 ... 6:
        return GUEST_WRITE;
    case 7 ... 8:
        return GUEST_ZERO;
    case 9 ... 11: /* nothing fills up where as much is freed as written ... */
        return l->fill && load_random(l, 3) ? GUEST_WRITE : GUEST_DISCARD;
    case 12: /* ... nor the cache with what is dirty, where all is flushed */
        return l->fill && load_random(l, 16) ? GUEST_WRITE : GUEST_FLUSH;
    default:
        return GUEST_READ;
    }
}

/* What a discard of this range makes read zeros: whole clusters. */
static void discard_effect(const struct load *l, struct load_slot *s, uint64_t at,
                           uint64_t len)
{
    uint64_t unit = l->discard_vague ? 1 : l->cluster;
    uint64_t start = at + unit - 1, end = at + len;

    start -= start % unit;
    if (end != l->m.size)
        end -= end % unit;
    s->zero_at = start;
    s->zero_len = l->discard_ignored || end <= start ? 0 : end - start;
}

/* Whole sectors where somebody writes already, or where nobody knows what is there. */
static bool claim(struct load *l, struct load_slot *s, uint64_t *at, uint64_t *len)
{
    if (!model_certain(&l->m, *at, *len)) {
        *len = (*at + *len + SECTOR - 1) / SECTOR * SECTOR;
        *at -= *at % SECTOR;
        *len -= *at;
    }
    s->claim_at = *at;
    s->claim_len = *len;
    return model_claim(&l->m, *at, *len, *at % SECTOR || *len % SECTOR);
}

/* False: not started, as somebody writes there and wants to be the only one. */
static bool start_one(struct load *l, struct load_slot *s, enum guest_op op,
                      uint64_t at, uint64_t len)
{
    if (op == GUEST_FLUSH)
        at = len = 0;
    if (op != GUEST_FLUSH && op != GUEST_READ && !claim(l, s, &at, &len))
        return false;
    s->req = (struct guest_req){.op = op, .offset = at, .len = len, .done = done};
    s->adopts = s->chases = false;
    s->buf =
        s->mem + (l->unaligned && !load_random(l, 2) ? load_random(l, BUF_ALIGN) : 0);
    switch (op) {
    case GUEST_READ:
        s->began = model_read(&l->m, at, len);
        memset(s->buf, 0xa5, len);
        set_iov(l, s, len);
        break;
    case GUEST_WRITE:
        fill(l, s->buf, at, len);
        s->writer = model_write(&l->m, at, len, s->buf);
        set_iov(l, s, len);
        break;
    case GUEST_ZERO:
        s->writer = model_write(&l->m, at, len, NULL);
        break;
    case GUEST_DISCARD:
        discard_effect(l, s, at, len);
        if (s->zero_len)
            s->writer = model_write(&l->m, s->zero_at, s->zero_len, NULL);
        break;
    default:
        s->began = l->m.clock;
        break;
    }
    l->started++;
    submit(l, s);
    return true;
}

/* What is read or written is discarded at once, that is flushed, and others write: if
 * the first is slow, its clusters are wanted again before it has ended. */
static void chase(struct load *l, unsigned home, uint64_t at, uint64_t len)
{
    struct load_slot *s = idle_slot(l, home);

    len += at % l->cluster;
    at -= at % l->cluster;
    len += (l->cluster - len % l->cluster) % l->cluster;
    if (len > l->m.size - at)
        len = l->m.size - at;
    if (s && start_one(l, s, GUEST_DISCARD, at, len))
        s->chases = true;
}

static void chase_on(struct load *l, unsigned home, enum guest_op ended)
{
    uint64_t at, len;
    struct load_slot *s = idle_slot(l, home);

    if (ended == GUEST_DISCARD) {
        if (s && start_one(l, s, GUEST_FLUSH, 0, 0))
            s->chases = true;
        return;
    }
    for (int i = 0; i < 4 && s; i++, s = idle_slot(l, home)) {
        choose_range(l, &at, &len);
        start_one(l, s, GUEST_WRITE, at, len);
    }
}

/* False: nothing started. */
static bool start(struct load *l, struct load_slot *s)
{
    uint64_t at, len;
    enum guest_op op = choose_op(l);

    choose_range(l, &at, &len);
    /* Mostly where nobody writes. */
    if (op != GUEST_READ && load_random(l, 4) && model_written_to(&l->m, at, len))
        return false;
    if (!start_one(l, s, op, at, len))
        return false;
    if ((op == GUEST_READ || op == GUEST_WRITE) && !load_random(l, 7))
        chase(l, s->home, at, len);
    return true;
}

static void tell_byte(const struct load *l, const struct load_slot *s, uint64_t bad)
{
    const uint8_t *got = s->buf + (bad - s->req.offset);

    fprintf(stderr, "byte %" PRIu64 " is wrong\n  read:   ", bad);
    for (uint64_t k = 0; k < 8 && bad + k < s->req.offset + s->req.len; k++)
        fprintf(stderr, " %02x", got[k]);
    fprintf(stderr, "\n");
    model_tell(&l->m, bad, s->began);
}

static void end_read(struct load *l, struct load_slot *s, bool ok)
{
    uint64_t bad;

    if (ok && !model_check(&l->m, s->req.offset, s->req.len, s->buf, s->began, &bad)) {
        tell_byte(l, s, bad);
        load_fail(l, s, "a read returned what was never there");
    }
    model_read_end(&l->m, s->req.offset, s->req.len);
    if (s->adopts) {
        model_adopt(&l->m, s->req.offset, s->req.len, s->buf);
        model_release(&l->m, s->req.offset, s->req.len);
    }
}

static void end_change(struct load *l, struct load_slot *s, bool ok)
{
    uint64_t at = s->req.offset, len = s->req.len;

    if (s->req.op == GUEST_DISCARD) {
        at = s->zero_at;
        len = s->zero_len;
    }
    if (s->req.op == GUEST_DISCARD && l->discard_vague)
        ok = false;
    if (len)
        model_written(&l->m, at, len, s->writer, ok);
    model_release(&l->m, s->claim_at, s->claim_len);
}

static void note_error(struct load *l, const struct load_slot *s, int error)
{
    if (!l->faulty) {
        fprintf(stderr, "%s\n", strerror(-error));
        load_fail(l, s, "a request failed");
    }
    if (!l->errors++)
        l->error = error;
}

static void ended(struct load *l, struct load_slot *s)
{
    struct guest_req *req = &s->req;
    bool ok = req->result == 0;

    assert(s->busy);
    if (!ok && (req->result != -ECANCELED || !s->cancelled))
        note_error(l, s, req->result);
    s->busy = false;
    l->in_flight--;
    l->in_flight_at[s->home]--;
    l->ended_whole += req->result != -ECANCELED;
    if (++l->ended % 64 == 0)
        alarm(watched_seconds);
    if (req->op == GUEST_READ)
        end_read(l, s, ok);
    else if (req->op != GUEST_FLUSH)
        end_change(l, s, ok);
    else if (ok && l->m.crash)
        model_flushed(&l->m, s->began);
    if (l->stop || l->started >= l->ops)
        return;
    if (s->chases && ok)
        chase_on(l, s->home, req->op);
    else if (load_random(l, 2))
        start(l, s); /* from where a guest would */
}

static void done(struct guest_req *req)
{
    struct load_slot *s = (struct load_slot *)req;

    lock(s->load);
    ended(s->load, s);
    unlock(s->load);
}

/* ---- many requests ---- */

static void turn(struct load *l, unsigned home)
{
    loop_turn(home ? l->d->threads.loop[home - 1] : l->d->loop, true);
    if (l->after_turn)
        l->after_turn(l);
}

/* Of one loop, whose thread alone starts and ends any. */
static void wait_all(struct load *l, unsigned home)
{
    while (l->in_flight_at[home])
        turn(l, home);
}

static void cancel_one(struct load *l, unsigned home)
{
    struct load_slot *s = &l->slot[load_random(l, LOAD_SLOTS)];

    if (s->home == home && s->busy && !s->cancelled && !s->adopts) {
        s->cancelled = true;
        l->d->table->cancel(l->d->image, &s->req);
    }
}

static bool one_in(struct load *l, uint64_t n)
{
    lock(l);
    bool yes = !load_random(l, n);
    unlock(l);
    return yes;
}

/* Drained, the image is quiet: what is submitted waits until the end of it. */
static void drain(struct load *l)
{
    bool twice = !one_in(l, 2);

    l->d->table->drain_begin(l->d->image);
    if (twice)
        l->d->table->drain_begin(l->d->image);
    lock(l);
    unsigned before = l->ended_whole;
    struct load_slot *s = idle_slot(l, 0);
    if (s && l->started < l->ops)
        start(l, s);
    unlock(l);
    if (twice)
        l->d->table->drain_end(l->d->image);
    for (int i = 0; i < 10; i++)
        loop_turn(l->d->loop, false);
    lock(l);
    if (l->ended_whole != before)
        load_fail(l, NULL, "a request ended while drained");
    unlock(l);
    l->d->table->drain_end(l->d->image);
}

/* Starts some. false: there have been enough. */
static bool burst(struct load *l, unsigned home)
{
    unsigned n = 1 + (unsigned)load_random(l, l->in_flight_max);

    for (unsigned i = 0; i < n && l->started < l->ops; i++) {
        struct load_slot *s = idle_slot(l, home);
        if (s)
            start(l, s);
    }
    if (l->cancels && !load_random(l, 8))
        cancel_one(l, home);
    return l->started < l->ops;
}

/* One loop's part of it; the first one's drains. */
static void drive(struct load *l, unsigned home)
{
    bool more = true;

    while (more) {
        lock(l);
        more = burst(l, home);
        unlock(l);
        if (l->in_flight_at[home])
            turn(l, home);
        if (!home && l->drains && one_in(l, 100))
            drain(l);
        if (one_in(l, 100))
            wait_all(l, home);
    }
    wait_all(l, home);
}

static void drive_there(struct iothread *t, void *opaque) { drive(opaque, t->home); }

void load_run(struct load *l, unsigned ops)
{
    l->ops = ops;
    l->started = l->ended = l->ended_whole = 0;
    l->stop = false;
    iothreads_run(&l->d->threads, drive_there, l);
    drive(l, 0);
    iothreads_wait(&l->d->threads);
    l->stop = true;
}

/* Every byte, in order, a few at a time. */
static void read_all(struct load *l, bool adopts)
{
    uint64_t at = 0;

    l->stop = true;
    while (at < l->m.size || l->in_flight) {
        struct load_slot *s = at < l->m.size ? idle_slot(l, 0) : NULL;
        if (!s) {
            loop_turn(l->d->loop, true);
            continue;
        }
        uint64_t len = l->m.size - at < l->max_len ? l->m.size - at : l->max_len;
        s->req = (struct guest_req){
            .op = GUEST_READ, .offset = at, .len = len, .done = done};
        s->adopts = adopts && !model_certain(&l->m, at, len);
        s->buf = s->mem;
        s->began = model_read(&l->m, at, len);
        if (s->adopts && !model_claim(&l->m, at, len, true))
            load_fail(l, s, "somebody writes still");
        set_iov(l, s, len);
        submit(l, s);
        at += len;
    }
}

void load_read_all(struct load *l) { read_all(l, false); }
void load_adopt_all(struct load *l) { read_all(l, true); }

/* ---- setting up ---- */

void load_init(struct load *l, uint8_t *base, uint64_t size, bool crash)
{
    model_init(&l->m, base, size, crash);
    env_mutex_init(&l->lock);
    if (!l->max_len)
        l->max_len = 128 << 10;
    if (!l->in_flight_max)
        l->in_flight_max = LOAD_SLOTS;
    for (int i = 0; i < LOAD_SLOTS; i++) {
        l->slot[i].load = l;
        l->slot[i].mem = aligned_alloc(BUF_ALIGN, l->max_len + 2 * BUF_ALIGN);
        assert(l->slot[i].mem);
    }
}

void load_free(struct load *l)
{
    for (int i = 0; i < LOAD_SLOTS; i++)
        free(l->slot[i].mem);
    env_mutex_destroy(&l->lock);
    model_free(&l->m);
}

void load_attach(struct load *l, struct disk *d)
{
    const struct qcow2_header *h = d->top->header;

    l->d = d;
    l->errors = 0;
    l->error = 0;
    for (unsigned i = 0; i < LOAD_SLOTS; i++)
        l->slot[i].home = i % loops(l);
    if (d->size != l->m.size)
        load_fail(l, NULL, "the disk has another size than QEMU says");
    l->cluster = h ? 1ull << h->cluster_bits : SECTOR;
    l->discard_vague = !h;
    l->discard_ignored = h && h->version < 3 && d->top->backing;
}

uint8_t *load_file(const char *path, uint64_t *size)
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
