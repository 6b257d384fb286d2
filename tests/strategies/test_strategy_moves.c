/*
 * An image moves from one loop to another, which another thread owns, while requests
 * are in flight and more are queued: drain, attach, resume. Those in flight end before,
 * on the old loop; those queued end after, on the new one; every byte is where it was
 * written.
 */
#include "tests/strategies/strategy_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOVES = 12, STARTED = 24, DEPTH = 16, LEN = 12 * KIB };

struct mover {
    struct world *w;
    struct loop *loop[2];
    struct env_mutex lock;
    struct env_cond moved;
    unsigned moves; /* made so far: even: the first thread has the image */
    struct job *job[STARTED];
    unsigned queued; /* of them, when it moved */
    bool there;      /* the other thread */
};

static unsigned queued(const struct mover *m)
{
    unsigned n = 0;

    for (unsigned i = 0; i < STARTED; i++)
        n += !m->job[i]->done;
    return n;
}

/* Ends what came with the image. */
static void resume(struct mover *m)
{
    struct world *w = m->w;

    if (!m->moves)
        return;
    for (int i = 0; i < 5; i++)
        loop_turn(w->loop, false);
    assert_int_equal(queued(m), m->queued); /* nobody was admitted meanwhile */
    w->strategy->drain_end(w->image);
    for (unsigned i = 0; i < STARTED; i++)
        assert_int_equal(job_end(m->job[i]), 0);
}

/* Requests on top of each other's clusters, more than fit in flight; then away with
 * it. */
static void leave(struct mover *m, unsigned self)
{
    struct world *w = m->w;

    for (unsigned i = 0; i < STARTED; i++) {
        uint64_t at = (m->moves * 7 + i) * LEN % (w->size - LEN);
        m->job[i] = job_start(w, GUEST_WRITE, at, LEN, m->moves * 100 + i);
    }
    if (m->moves % 3)
        loop_turn(m->loop[self], false); /* some are further than others */
    w->strategy->drain_begin(w->image);
    m->queued = queued(m);
    if (m->moves % 3 == 0)
        assert_true(m->queued >= STARTED - DEPTH); /* a frozen queue has more */
    w->strategy->attach(w->image, m->loop[!self]);
    w->loop = m->loop[!self];
}

static void take_turns(struct mover *m, unsigned self)
{
    struct env *env = m->w->env;

    for (unsigned i = 0; i < MOVES / 2; i++) {
        env_mutex_lock(env, &m->lock);
        while (m->moves % 2 != self)
            env_cond_wait(env, &m->moved, &m->lock);
        env_mutex_unlock(env, &m->lock);
        resume(m);
        leave(m, self);
        env_mutex_lock(env, &m->lock);
        m->moves++;
        env_cond_broadcast(env, &m->moved);
        env_mutex_unlock(env, &m->lock);
    }
}

static void other(void *opaque)
{
    struct mover *m = opaque;
    struct env *env = m->w->env;
    struct error err = {""};

    if (loop_create(&m->loop[1], env, &m->w->engine, &err) < 0)
        fail_msg("%s", err.msg);
    env_mutex_lock(env, &m->lock);
    m->there = true;
    env_cond_broadcast(env, &m->moved);
    env_mutex_unlock(env, &m->lock);
    take_turns(m, 1);
    loop_destroy(m->loop[1]);
}

static void back_and_forth(void **state)
{
    struct world *w = *state;
    struct mover m = {.w = w, .loop = {w->loop}};
    struct env_thread thread;

    w->depth = DEPTH;
    shell("qemu-img create -q -f qcow2 -o cluster_size=16k top.qcow2 4M");
    world_model(w, 4 * MIB);
    world_open(w);
    env_mutex_init(&m.lock);
    env_cond_init(&m.moved);
    assert_int_equal(env_thread_start(w->env, &thread, other, &m), 0);
    env_mutex_lock(w->env, &m.lock);
    while (!m.there)
        env_cond_wait(w->env, &m.moved, &m.lock);
    env_mutex_unlock(w->env, &m.lock);
    take_turns(&m, 0);
    env_mutex_lock(w->env, &m.lock);
    while (m.moves < MOVES)
        env_cond_wait(w->env, &m.moved, &m.lock);
    env_mutex_unlock(w->env, &m.lock);
    env_thread_join(w->env, &thread);
    resume(&m);
    assert_int_equal(run(w, GUEST_READ, 0, w->size, 0), 0);
    env_mutex_destroy(&m.lock);
    env_cond_destroy(&m.moved);
}

#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
static const struct CMUnitTest tests[] = {T(back_and_forth)};
TEST_MAIN(tests)
