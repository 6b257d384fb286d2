/*
 * One image on three event loops, each a thread's: a drain completes everything on all
 * of them and admits nothing; a cancelled request ends early on its own loop; snapshots
 * are taken, and one gone back to, from whichever loop; every request ends on the loop
 * that it came from. A strategy whose model has one loop refuses.
 */
#include "tests/strategies/strategy_test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/iothreads.h"

enum { LOOPS = 3, DEPTH = 4, WRITES = 12, LEN = 12 * KIB, STEP = 40 * KIB };

struct lane;
struct request {
    struct guest_req g;
    struct lane *lane;
    struct iovec iov;
    uint8_t *buf;
    unsigned seed;
    bool done;
};
struct lane { /* a loop, and what its thread does there */
    struct crew *crew;
    unsigned home;
    struct loop *loop;
    pthread_t self;
    struct request *request[3 * WRITES];
    unsigned started, ended;
    bool idle;
};
struct crew {
    struct world *w;
    struct iothreads threads;
    struct lane lane[LOOPS];
    unsigned salt;
    enum guest_op op; /* for start_special() */
    unsigned home;
    struct env_mutex lock; /* hold() */
    struct env_cond changed;
    unsigned held;
    bool let_go;
};

static void done(struct guest_req *g)
{
    struct request *r = (struct request *)g;
    struct lane *lane = r->lane;

    assert_false(r->done);
    if (!lane->crew->w->env->simulated)
        assert_true(pthread_equal(pthread_self(), lane->self));
    r->done = true;
    lane->idle = ++lane->ended == lane->started;
}

/* On the lane's thread. */
static struct request *submit(struct lane *lane, enum guest_op op, uint64_t at,
                              uint64_t len, unsigned seed)
{
    struct world *w = lane->crew->w;
    struct request *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    assert_true(lane->started < 3 * WRITES);
    lane->self = pthread_self();
    r->lane = lane;
    r->seed = seed;
    r->buf = malloc(len + 1);
    memset(r->buf, (int)seed, len + 1);
    r->iov = (struct iovec){r->buf, len};
    r->g = (struct guest_req){.op = op,
                              .offset = at,
                              .len = len,
                              .iov = &r->iov,
                              .iovcnt = 1,
                              .home = lane->home,
                              .name = "s",
                              .done = done};
    lane->request[lane->started++] = r;
    lane->idle = false;
    w->strategy->submit(w->image, &r->g);
    return r;
}

/* Neighbouring bytes on neighbouring loops, so that they share clusters and L2 slices.
 * The model knows, once it has ended. */
static void write_some(struct lane *lane, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        submit(lane, GUEST_WRITE, i * STEP + lane->home * LEN, LEN,
               lane->crew->salt + lane->home * 50 + i);
}

static void wait_idle(struct lane *lane) { loop_run_until(lane->loop, &lane->idle); }

/* Every request so far has ended: into the model, in their order. */
static void settle(struct lane *lane)
{
    struct world *w = lane->crew->w;

    for (unsigned i = 0; i < lane->started; i++) {
        struct request *r = lane->request[i];
        assert_true(r->done);
        if (r->g.op == GUEST_WRITE && r->g.result == 0)
            memset(w->model + r->g.offset, (int)r->seed, r->g.len);
        free(r->buf);
        free(r);
    }
    lane->started = lane->ended = 0;
    lane->idle = true;
}

/* ---- all lanes at once ---- */

struct order {
    struct crew *crew;
    void (*fn)(struct lane *);
};

static void obey(struct iothread *t, void *opaque)
{
    struct order *o = opaque;
    o->fn(&o->crew->lane[t->home]);
}

/* Returns when fn has, on each. */
static void everywhere(struct crew *c, void (*fn)(struct lane *))
{
    struct order o = {c, fn};

    iothreads_run(&c->threads, obey, &o);
    fn(&c->lane[0]);
    iothreads_wait(&c->threads);
}

static void start_all(struct lane *lane) { write_some(lane, WRITES); }
static void look(struct lane *lane)
{
    for (int i = 0; i < 5; i++)
        loop_turn(lane->loop, false);
}

static void run_to_end(struct crew *c)
{
    everywhere(c, wait_idle);
    for (unsigned i = 0; i < LOOPS; i++)
        settle(&c->lane[i]);
}

static struct crew *crew_open(struct world *w, const char *options, uint64_t size)
{
    struct crew *c = calloc(1, sizeof(*c));
    struct error err = {""};

    c->w = w;
    if (iothreads_open(&c->threads, w->loop, &w->engine, LOOPS - 1, &err) < 0)
        fail_msg("%s", err.msg);
    for (unsigned i = 0; i < LOOPS; i++)
        c->lane[i] = (struct lane){.crew = c,
                                   .home = i,
                                   .loop = i ? c->threads.loop[i - 1] : w->loop,
                                   .idle = true};
    w->more = c->threads.loop;
    w->more_count = LOOPS - 1;
    w->depth = LOOPS * DEPTH;
    shell("qemu-img create -q -f qcow2 -o %s top.qcow2 %llu", options,
          (unsigned long long)size);
    world_model(w, size);
    world_open(w);
    return c;
}

/* Closes it on all loops; what was written is there, for QEMU too, and on one loop. */
static void crew_close(struct crew *c)
{
    struct world *w = c->w;

    assert_int_equal(world_close(w), 0);
    iothreads_close(&c->threads);
    free(c);
    w->more = NULL;
    w->more_count = 0;
    world_open(w); /* the teardown verifies */
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
}

static unsigned ended(const struct crew *c)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LOOPS; i++)
        n += c->lane[i].ended;
    return n;
}

/* ---- the tests ---- */

static void drain_stops_all(void **state)
{
    struct world *w = *state;
    w->filters = "delay:data-write=300us";
    struct crew *c = crew_open(w, "cluster_size=16k", MIB);

    for (unsigned round = 0; round < 4; round++) {
        c->salt = round * 7;
        everywhere(c, start_all);
        w->strategy->drain_begin(w->image);
        for (unsigned i = 0; i < LOOPS; i++) /* what was admitted at once, at least */
            assert_true(c->lane[i].ended >= DEPTH);
        unsigned before = ended(c);
        everywhere(c, start_all); /* goes to the queue */
        w->strategy->drain_begin(w->image);
        everywhere(c, look);
        w->strategy->drain_end(w->image);
        everywhere(c, look);
        assert_int_equal(ended(c), before);
        if (w->strategy->verify)
            w->strategy->verify(w->image);
        w->strategy->drain_end(w->image);
        if (round % 2) { /* drained again before all have heard of the end */
            w->strategy->drain_begin(w->image);
            w->strategy->drain_end(w->image);
        }
        run_to_end(c);
    }
    crew_close(c);
}

/* The lane's first is in flight, the rest queue up behind a depth of one or are slow;
 * every second one is cancelled. */
static void cancel_every_other(struct lane *lane)
{
    struct world *w = lane->crew->w;

    write_some(lane, WRITES);
    for (unsigned i = 1; i < WRITES; i += 2)
        w->strategy->cancel(w->image, &lane->request[i]->g);
    assert_int_equal(lane->ended, 0); /* from a turn, as always */
}

static void cancel_ends_early(void **state)
{
    struct world *w = *state;
    w->filters = "delay:data-write=300us";
    struct crew *c = crew_open(w, "cluster_size=16k", MIB);

    everywhere(c, cancel_every_other);
    everywhere(c, wait_idle);
    for (unsigned i = 0; i < LOOPS; i++) {
        unsigned cancelled = 0;
        for (unsigned k = 0; k < WRITES; k++) {
            int result = c->lane[i].request[k]->g.result;
            assert_true(result == 0 || (k % 2 && result == -ECANCELED));
            cancelled += result != 0;
        }
        /* those that were never admitted, for certain */
        assert_true(cancelled >= (WRITES - DEPTH) / 2);
    }
    /* What was cancelled in flight may be there or not. */
    for (unsigned i = 0; i < LOOPS; i++)
        settle(&c->lane[i]);
    c->salt = 99;
    everywhere(c, start_all);
    run_to_end(c);
    crew_close(c);
}

static void start_special(struct lane *lane)
{
    struct crew *c = lane->crew;

    if (lane->home == c->home)
        submit(lane, c->op, 0, 0, 0);
}

static void start_around(struct lane *lane)
{
    write_some(lane, WRITES);
    start_special(lane);
}

/* Beside writes on all loops, from this one. */
static void special(struct crew *c, enum guest_op op, unsigned home)
{
    c->op = op;
    c->home = home;
    c->salt += 11;
    everywhere(c, start_around);
    everywhere(c, wait_idle);
    struct lane *lane = &c->lane[home];
    assert_int_equal(lane->request[lane->started - 1]->g.result, 0);
}

/* What was acknowledged before is in the snapshot; an apply on each loop in turn brings
 * it back, among writes that may come before it or after it. */
static void snapshots_from_any_loop(void **state)
{
    struct world *w = *state;
    struct crew *c = crew_open(w, "cluster_size=16k", MIB);
    uint8_t *kept = malloc(w->size);

    c->salt = 1;
    everywhere(c, start_all);
    run_to_end(c);
    memcpy(kept, w->model, w->size);
    c->op = GUEST_SNAPSHOT_CREATE;
    c->home = 2;
    everywhere(c, start_special);
    run_to_end(c);
    for (unsigned home = 0; home < LOOPS; home++) {
        special(c, GUEST_SNAPSHOT_APPLY, home);
        /* Each write is there or undone, whole. */
        uint8_t *now = malloc(w->size);
        struct request *r = submit(&c->lane[0], GUEST_READ, 0, w->size, 0);
        wait_idle(&c->lane[0]);
        assert_int_equal(r->g.result, 0);
        memcpy(now, r->buf, w->size);
        for (unsigned i = 0; i < LOOPS; i++)
            for (unsigned k = 0; k < WRITES; k++) {
                struct guest_req *g = &c->lane[i].request[k]->g;
                uint8_t *at = now + g->offset, *old = kept + g->offset;
                uint8_t *new = c->lane[i].request[k]->buf;
                assert_int_equal(g->result, 0);
                assert_true(!memcmp(at, old, g->len) || !memcmp(at, new, g->len));
            }
        for (unsigned i = 0; i < LOOPS; i++)
            settle(&c->lane[i]);
        memcpy(w->model, now, w->size);
        free(now);
    }
    special(c, GUEST_SNAPSHOT_CREATE, 1); /* another of that name */
    for (unsigned i = 0; i < LOOPS; i++)
        settle(&c->lane[i]);
    free(kept);
    crew_close(c);
}

/* Its loop doesn't turn until it is let go. */
static void hold(struct iothread *t, void *opaque)
{
    struct crew *c = opaque;
    (void)t;

    env_mutex_lock(c->w->env, &c->lock);
    c->held++;
    env_cond_broadcast(c->w->env, &c->changed);
    while (!c->let_go)
        env_cond_wait(c->w->env, &c->changed, &c->lock);
    env_mutex_unlock(c->w->env, &c->lock);
}

/* An apply waits for the other loops, which stand still; cancelled, it leaves the way
 * free for what is behind it, and for the next one. */
static void cancelled_apply_lets_others_by(void **state)
{
    struct world *w = *state;
    struct crew *c = crew_open(w, "cluster_size=16k", MIB);
    struct lane *lane = &c->lane[0];

    c->op = GUEST_SNAPSHOT_CREATE;
    everywhere(c, start_special);
    run_to_end(c);
    env_mutex_init(&c->lock);
    env_cond_init(&c->changed);
    iothreads_run(&c->threads, hold, c);
    env_mutex_lock(w->env, &c->lock);
    while (c->held < LOOPS - 1)
        env_cond_wait(w->env, &c->changed, &c->lock);
    env_mutex_unlock(w->env, &c->lock);
    struct request *apply = submit(lane, GUEST_SNAPSHOT_APPLY, 0, 0, 0);
    submit(lane, GUEST_WRITE, 0, LEN, 7);
    look(lane);
    assert_int_equal(lane->ended, 0); /* neither may begin */
    w->strategy->cancel(w->image, &apply->g);
    env_mutex_lock(w->env, &c->lock);
    c->let_go = true;
    env_cond_broadcast(w->env, &c->changed);
    env_mutex_unlock(w->env, &c->lock);
    iothreads_wait(&c->threads);
    wait_idle(lane);
    assert_int_equal(apply->g.result, -ECANCELED);
    run_to_end(c);
    c->op = GUEST_SNAPSHOT_APPLY;
    c->home = 1;
    everywhere(c, start_special);
    run_to_end(c);
    memset(w->model, 0, w->size);
    env_mutex_destroy(&c->lock);
    env_cond_destroy(&c->changed);
    crew_close(c);
}

static void apply_here(struct lane *lane)
{
    write_some(lane, DEPTH - 1);
    submit(lane, GUEST_SNAPSHOT_APPLY, 0, 0, 0);
    submit(lane, GUEST_WRITE, MIB - LEN * (lane->home + 1), LEN, 200 + lane->home);
}

/* An apply on every loop at once, one of them cancelled while it waits for the others,
 * and a drain on top: all of them come to their end. */
static void applies_meet(void **state)
{
    struct world *w = *state;
    w->filters = "delay:data-write=100us";
    struct crew *c = crew_open(w, "cluster_size=16k", MIB);

    c->op = GUEST_SNAPSHOT_CREATE;
    everywhere(c, start_special);
    run_to_end(c);
    for (unsigned round = 0; round < 3; round++) {
        everywhere(c, apply_here);
        struct lane *lane = &c->lane[0];
        if (round && !lane->request[DEPTH - 1]->done)
            w->strategy->cancel(w->image, &lane->request[DEPTH - 1]->g);
        w->strategy->drain_begin(w->image);
        everywhere(c, look);
        w->strategy->drain_end(w->image);
        everywhere(c, wait_idle);
        for (unsigned i = 0; i < LOOPS; i++) {
            int result = c->lane[i].request[DEPTH - 1]->g.result;
            assert_true(result == 0 || (!i && round && result == -ECANCELED));
            assert_int_equal(c->lane[i].request[DEPTH]->g.result, 0);
            settle(&c->lane[i]);
        }
        /* The last apply undid who knows what: the disk says. */
        struct request *r = submit(lane, GUEST_READ, 0, w->size, 0);
        wait_idle(lane);
        memcpy(w->model, r->buf, w->size);
        settle(lane);
    }
    crew_close(c);
}

/* A metadata sync, a flush on each loop and metadata-writes=through, all at once. */
static void flush_here(struct lane *lane)
{
    write_some(lane, WRITES);
    submit(lane, GUEST_FLUSH, 0, 0, 0);
}

static void flushes_meet(void **state)
{
    struct world *w = *state;
    w->cache = 64 * KIB;
    w->through = true;
    struct crew *c = crew_open(w, "cluster_size=512", MIB);
    struct strategy_stats stats;

    for (unsigned round = 0; round < 3; round++) {
        c->salt = round * 5;
        everywhere(c, flush_here);
        w->strategy->stats(w->image, &stats); /* while they run */
        everywhere(c, wait_idle);
        for (unsigned i = 0; i < LOOPS; i++) {
            assert_int_equal(c->lane[i].request[WRITES]->g.result, 0);
            settle(&c->lane[i]);
        }
    }
    w->strategy->stats(w->image, &stats);
    assert_true(stats.top.syncs > 0);
    crew_close(c);
}

/* Raw: nothing is guarded, and nothing needs to be. */
static void raw_image(void **state)
{
    struct world *w = *state;
    w->format = "raw";
    shell("qemu-img create -q -f raw top.raw 1M");
    struct crew *c = crew_open(w, "cluster_size=64k", MIB);

    everywhere(c, start_all);
    run_to_end(c);
    crew_close(c);
}

/* ---- one loop only ---- */

static void refuses(void **state)
{
    struct world *w = *state;
    const char *why = w->strategy->one_loop(w->settings ? w->settings : "");
    struct iothreads threads;
    struct strategy_image *image;
    struct error err = {""};
    struct chain_options co = {.env = w->env, .write = true, .sim = w->env->simulated};

    assert_non_null(why);
    shell("qemu-img create -q -f qcow2 top.qcow2 1M");
    assert_int_equal(chain_open(&w->top, "top.qcow2", &co, &err), 0);
    assert_int_equal(iothreads_open(&threads, w->loop, &w->engine, 1, &err), 0);
    struct strategy_options so = {.loop = w->loop,
                                  .more = threads.loop,
                                  .more_count = 1,
                                  .engine = &w->engine,
                                  .top = w->top,
                                  .settings = w->settings,
                                  .depth = 2,
                                  .cache = 64 * KIB};
    assert_int_equal(w->strategy->open(&image, &so, &err), -ENOTSUP);
    assert_non_null(strstr(err.msg, why));
    iothreads_close(&threads);
    assert_int_equal(chain_close(w->top), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest several[] = {
    T(drain_stops_all),
    T(cancel_ends_early),
    T(snapshots_from_any_loop),
    T(applies_meet),
    T(flushes_meet),
    T(raw_image),
    T(cancelled_apply_lets_others_by),
};
static const struct CMUnitTest one[] = {T(refuses)};

/* What a module says of itself is for `asyncow strategies`; which it must be, for us. */
int main(int argc, char **argv)
{
    bool single =
        argc > 1 && (strstr(argv[1], "callbacks") || strstr(argv[1], "freeze-thaw"));
    if (argc > 3 && strstr(argv[3], "fastpath=on"))
        single = true;
    return single ? test_main(argc, argv, one, 1)
                  : test_main(argc, argv, several, sizeof(several) / sizeof(*several));
}
