/*
 * Crashes under one strategy, in simulated time: wherever its load stands, every image
 * that a crash may leave is as it must be (crash.h, inspect.h). A snapshot is made under
 * the load, and dropped again. ASYNCOW_SEED repeats a run; arguments: IMAGES STRATEGY
 * [SETTINGS [CONFIG]], how many different images there must be.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/block/filter.h"
#include "tests/crash/crash.h"
#include "tests/differential/load.h"
#include "tests/qcow2/guest.h"

enum { FLUSHES = 64 };
struct flush {
    const struct aio *aio;
    struct crash_flush *flush;
};
struct run {
    struct guest_req req; /* of a snapshot; first: that is how it is found again */
    struct load l;
    struct crash *crash;
    struct expect expect;
    struct expect_snapshot snapshot[2];
    struct flush flush[FLUSHES];
    bool ended;
};
static struct crash_tally tally;
static unsigned made; /* snapshots */

/* ---- what happens to the file ---- */

static uint8_t *gather(const struct aio *a)
{
    uint8_t *buf = malloc(a->len);

    assert(buf);
    iov_to_buf(a->iov, a->iovcnt, 0, buf, a->len);
    return buf;
}

/* The aio's own name while it is in flight. */
static unsigned *id_of(const struct aio *a)
{
    static struct {
        const struct aio *aio;
        unsigned id;
    } ids[256];
    unsigned i = 0;

    while (i < 256 && ids[i].aio != a)
        i++;
    for (unsigned k = 0; i == 256 && k < 256; k++)
        if (!ids[k].id)
            i = k;
    assert(i < 256);
    ids[i].aio = a;
    return &ids[i].id;
}

static struct flush *flush_of(struct run *r, const struct aio *a)
{
    unsigned i = 0;

    while (i < FLUSHES && r->flush[i].aio != a)
        i++;
    assert(i < FLUSHES);
    return &r->flush[i];
}

static void watch_flush(struct run *r, const struct aio *a, bool done)
{
    struct flush *f = flush_of(r, done ? a : NULL);

    if (done)
        crash_flushed(r->crash, f->flush, a->result == 0);
    *f = done ? (struct flush){NULL, NULL} : (struct flush){a, crash_flush(r->crash)};
}

static void watch(void *opaque, const struct aio *a, bool done)
{
    static const enum crash_op ops[AIO_OPS] = {[AIO_WRITE] = CRASH_WRITE,
                                               [AIO_DISCARD] = CRASH_PUNCH,
                                               [AIO_ZERO] = CRASH_ZERO,
                                               [AIO_GROW] = CRASH_GROW};
    struct run *r = opaque;

    if (a->op == AIO_READ)
        return;
    if (a->op == AIO_FLUSH) {
        watch_flush(r, a, done);
        return;
    }
    unsigned *id = id_of(a);
    if (done) {
        crash_done(r->crash, *id);
        *id = 0;
        return;
    }
    uint8_t *data = a->op == AIO_WRITE ? gather(a) : NULL;
    *id = crash_begin(r->crash, ops[a->op], a->offset, a->len, data);
    free(data);
}

static void point(struct load *l)
{
    struct run *r = l->opaque;

    crash_point(r->crash, &r->expect);
}

/* ---- a snapshot under load ---- */

static void ended(struct guest_req *req)
{
    struct run *r = (struct run *)req;

    r->ended = true;
}

/* While it is on, some more requests come. */
static int snapshot(struct run *r, enum guest_op op, unsigned ops)
{
    r->req = (struct guest_req){.op = op, .name = "made", .done = ended};
    r->ended = false;
    r->expect.in_snapshot = true;
    r->l.d->table->submit(r->l.d->image, &r->req);
    load_run(&r->l, ops);
    while (!r->ended) {
        loop_turn(r->l.d->loop, true);
        point(&r->l);
    }
    r->expect.in_snapshot = false;
    return r->req.result;
}

static void snapshots(struct run *r, unsigned ops)
{
    struct expect_snapshot *s = &r->snapshot[r->expect.nsnapshots++];

    expect_begin(s, "made", &r->l.m);
    int ret = snapshot(r, GUEST_SNAPSHOT_CREATE, ops);
    if (ret) {
        assert(ret == -ERANGE);
        return;
    }
    expect_made(s, &r->l.m);
    made++;
    crash_promised(r->crash);
    load_run(&r->l, ops);
    s->must = false;
    ret = snapshot(r, GUEST_SNAPSHOT_DELETE, ops);
    assert(!ret);
}

/* ---- one workload ---- */

static uint8_t *read_all(struct blk_file *f, uint64_t size)
{
    uint8_t *buf = calloc(1, size + SECTOR);

    assert(buf);
    int ret = blk_pread(f, 0, buf, size);
    assert(!ret);
    return buf;
}

static void begin(struct run *r, struct disk *d, struct inspect *in, uint64_t seed)
{
    struct crash_options o = {.exhaust = seed % 4 ? 8 : 13,
                              .samples = 30,
                              .qemu_every = 3000,
                              .budget = 3000,
                              .seed = seed};
    uint64_t size = blk_size(d->top->file);
    uint8_t *file = read_all(d->top->file, size);

    r->crash = crash_new(in, file, size, &o, &tally);
    free(file);
    r->expect = (struct expect){.model = &r->l.m, .snapshots = r->snapshot};
    r->l.after_turn = point;
    r->l.opaque = r;
    record_watch(blk_filter(d->top->file, "record"), watch, r);
}

/* Cut to its length at the end, which is no I/O. */
static void end(struct run *r, struct disk *d, struct inspect *in, bool no_leaks)
{
    uint64_t size = blk_size(d->top->file);
    uint8_t *file = read_all(d->top->file, size);

    model_flushed(&r->l.m, r->l.m.clock);
    crash_begin(r->crash, CRASH_CUT, size, 0, NULL);
    crash_point(r->crash, &r->expect);
    r->expect.no_leaks = no_leaks;
    inspect_set(in, file, size);
    if (!inspect_look(in, &r->expect))
        abort();
    free(file);
}

static void workload(const struct config *c, const char *strategy, const char *settings,
                     uint64_t seed)
{
    struct guest g;
    struct world w;
    struct run r = {.l.rng = seed};
    struct disk d;
    struct error err = {""};
    char path[128];
    bool with_snapshots = seed % 3 == 0 && !strstr(c->options, "refcount_bits=1");

    guest_init(&g, c, &w, seed);
    snprintf(path, sizeof(path), "%s/crash.qcow2", guest_dir());
    world_save(&w, path);
    struct inspect *in = inspect_new(w.backing, w.backing_size);
    struct disk_options o = {.path = path,
                             .strategy = strategy,
                             .settings = settings,
                             .engine = "sim",
                             .filters = "record:file=/dev/null",
                             .seed = seed,
                             .depth = 8,
                             .cache = seed % 5 ? 0 : 1 << 20,
                             .grow = seed % 2 ? 1 << 20 : 0,
                             .through = seed % 7 < 3,
                             .punch = true};
    r.l.max_len = (4 << 10) << load_random(&r.l, 3);
    r.l.in_flight_max = 1 + (unsigned)load_random(&r.l, 4);
    load_init(&r.l, g.m.base, c->size, true);
    g.m.base = NULL; /* the load's now */
    load_watch(&r.l, 120);
    if (disk_open_files(&d, &o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    begin(&r, &d, in, seed);
    if (disk_open_image(&d, &o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    load_attach(&r.l, &d);
    load_run(&r.l, 12 + (unsigned)load_random(&r.l, 30));
    if (with_snapshots)
        snapshots(&r, 8);
    int ret = disk_close_image(&d, NULL);
    assert(!ret);
    record_watch(blk_filter(d.top->file, "record"), NULL, NULL);
    end(&r, &d, in, !c->full);
    disk_close_files(&d);
    for (unsigned i = 0; i < 2; i++)
        expect_free(&r.snapshot[i]);
    load_free(&r.l);
    crash_free(r.crash);
    inspect_free(in);
    guest_free(&g, &w);
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;

    if (argc < 3) {
        fprintf(stderr, "usage: %s IMAGES STRATEGY [SETTINGS [CONFIG]]\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    guest_dir();
    uint64_t images = strtoull(argv[1], NULL, 0), n = 0;
    for (; tally.images < images && n < 100 + images / 50; n++) {
        const struct config *c = &small_configs[n % nsmall];
        if (argc > 4 && strcmp(argv[4], c->name))
            continue;
        if (getenv("ASYNCOW_VERBOSE"))
            printf("%s, workload %" PRIu64 "\n", c->name, n);
        workload(c, argv[2], argc > 3 ? argv[3] : NULL, seed + n);
    }
    guest_done();
    crash_tell(&tally, argv[2]);
    bool everywhere = (tally.torn && tally.asked && made) || images < 20000;
    return tally.images >= images && everywhere ? 0 : 1;
}
