/*
 * Intent: a coroutine that has yielded can be adopted and entered by another thread,
 * there and back, many times, and ends where it was created; its stack, and what it
 * keeps on it, go with it, and each thread goes on to have coroutines of its own.
 */
#include "core/coroutine/coroutine.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/coroutine/backend_test.h"

enum { THREADS = 3, MOVERS = 8, MOVES = 400 };

struct mover {
    struct co *co;
    unsigned steps;
    uint64_t sum;
};
static struct mover movers[MOVERS];

/* The queue of those to go on, for any thread. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mover *ready[MOVERS];
static unsigned ready_n, ended;
static unsigned entered[THREADS];

static void moves(void *arg)
{
    struct mover *m = arg;
    uint64_t own[32]; /* on the stack, across threads */

    for (unsigned i = 0; i < 32; i++)
        own[i] = i * (uintptr_t)m;
    for (; m->steps < MOVES; m->steps++) {
        assert_true(co_in() && co_self() == m->co);
        own[m->steps % 32] += m->steps;
        co_yield ();
    }
    for (unsigned i = 0; i < 32; i++)
        m->sum += own[i];
    m->steps++;
    co_yield (); /* ends where it was created */
}

static struct mover *take(void)
{
    struct mover *m = NULL;

    pthread_mutex_lock(&lock);
    if (ready_n)
        m = ready[--ready_n];
    pthread_mutex_unlock(&lock);
    return m;
}

static bool put(struct mover *m)
{
    bool over;

    pthread_mutex_lock(&lock);
    if (m && m->steps > MOVES)
        ended++;
    else if (m)
        ready[ready_n++] = m;
    over = ended == MOVERS;
    pthread_mutex_unlock(&lock);
    return over;
}

static void counts(void *arg)
{
    ++*(unsigned *)arg;
    co_yield ();
    ++*(unsigned *)arg;
}

static void *enters(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg, own = 0, rounds = 0;
    struct mover *m;

    for (bool over = false; !over; rounds++) {
        struct co *co = co_create(counts, &own);
        co_enter(co);
        if ((m = take())) {
            entered[me]++;
            co_adopt(m->co);
            co_enter(m->co);
            assert_false(co_in());
        }
        co_enter(co); /* whatever ran in between */
        over = put(m);
        if (!m)
            sched_yield();
    }
    assert_int_equal(own, 2 * rounds);
    co_pool_drain();
    return NULL;
}

static void threads_pass_coroutines_around(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    struct co_usage before, after;

    for (unsigned i = 0; i < MOVERS; i++) {
        movers[i].co = co_create(moves, &movers[i]);
        ready[ready_n++] = &movers[i];
    }
    co_usage(&before);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, enters, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    for (unsigned i = 0; i < MOVERS; i++) {
        uint64_t sum = 0;
        for (unsigned k = 0; k < 32; k++)
            sum += k * (uintptr_t)&movers[i];
        assert_int_equal(movers[i].sum, sum + MOVES * (MOVES - 1) / 2);
        co_adopt(movers[i].co);
        co_enter(movers[i].co); /* the end */
    }
    assert_int_equal(entered[0] + entered[1] + entered[2], MOVERS * (MOVES + 1));
    co_usage(&after);
    assert_int_equal(after.stacks, before.stacks);
    assert_int_equal(after.stacks_idle, before.stacks_idle + MOVERS);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_pass_coroutines_around),
    };

    backend_from_args(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
