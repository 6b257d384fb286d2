/*
 * Intent: a CoMutex, a CoRwlock and a CoQueue that coroutines of several threads share
 * exclude whom they should, lose no wake-up, and have everybody go on running on the
 * thread that is its own.
 */
#include "core/block/loop.h"
#include "core/coroutine/coroutine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "tests/coroutine/backend_test.h"

enum { THREADS = 3, CREW = 6, ROUNDS = 150, TOKENS = 40 };

struct crew { /* of a thread */
    struct env *env;
    struct env_thread thread;
    unsigned number, left;
    bool over;
    struct co_inbox *inbox; /* by which a coroutine knows its thread */
    uint64_t rng;
    unsigned waited;
};

static struct co_guard guard_m, guard_r, guard_q;
static struct co_mutex mutex = {.guard = &guard_m}, queue_mutex = {.guard = &guard_q};
static struct co_rwlock rwlock = {.guard = &guard_r};
static struct co_queue queue;
static uint64_t seed;

static struct {
    unsigned inside; /* guarded by mutex: plain, so that TSan sees a lock that isn't */
    unsigned long sections;
    unsigned alone; /* guarded by rwlock */
    unsigned long written;
    unsigned tokens; /* guarded by queue_mutex */
} shared;

static unsigned below(struct crew *c, unsigned n)
{
    c->rng = c->rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(c->rng >> 33) % n;
}

/* A turn of the loop later; on the thread that it was on. */
static void pause(struct crew *c)
{
    co_wake(co_self());
    co_yield ();
    assert_ptr_equal(co_inbox(), c->inbox);
}

static void exclude(struct crew *c)
{
    c->waited += co_mutex_lock(&mutex);
    assert_ptr_equal(co_inbox(), c->inbox);
    assert_int_equal(shared.inside++, 0);
    if (below(c, 3) == 0)
        pause(c);
    shared.sections++;
    assert_int_equal(--shared.inside, 0);
    co_mutex_unlock(&mutex);
}

static void share(struct crew *c)
{
    unsigned long before;

    co_rwlock_shared(&rwlock);
    assert_int_equal(shared.alone, 0);
    before = shared.written;
    if (below(c, 3) == 0)
        pause(c);
    assert_int_equal(shared.written, before);
    if (below(c, 4) == 0) {
        bool at_once = co_rwlock_upgrade(&rwlock);
        assert_true(!at_once || shared.written == before);
        shared.written++;
    }
    co_rwlock_unlock(&rwlock);
    assert_ptr_equal(co_inbox(), c->inbox);
}

static void write_alone(struct crew *c)
{
    co_rwlock_exclusive(&rwlock);
    assert_int_equal(shared.alone++, 0);
    shared.written++;
    if (below(c, 3) == 0)
        pause(c);
    assert_int_equal(--shared.alone, 0);
    if (below(c, 2))
        co_rwlock_downgrade(&rwlock);
    co_rwlock_unlock(&rwlock);
}

static void take_token(struct crew *c)
{
    co_mutex_lock(&queue_mutex);
    while (!shared.tokens)
        co_queue_wait(&queue, &queue_mutex);
    assert_ptr_equal(co_inbox(), c->inbox);
    shared.tokens--;
    co_mutex_unlock(&queue_mutex);
}

static void give_token(struct crew *c)
{
    co_mutex_lock(&queue_mutex);
    shared.tokens++;
    if (below(c, 2))
        co_queue_wake_one(&queue);
    else
        co_queue_wake_all(&queue);
    co_mutex_unlock(&queue_mutex);
}

/* Whoever takes gives later on, so the last one finds what it waits for. */
static void member(void *opaque)
{
    struct crew *c = opaque;
    unsigned taken = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        switch (below(c, 5)) {
        case 0:
        case 1:
            exclude(c);
            break;
        case 2:
            share(c);
            break;
        case 3:
            write_alone(c);
            break;
        default:
            if (taken == 2) {
                give_token(c);
                taken--;
            } else {
                take_token(c);
                taken++;
            }
        }
    }
    for (; taken; taken--)
        give_token(c);
    c->over = --c->left == 0;
}

static void crew_main(void *opaque)
{
    struct crew *c = opaque;
    struct loop_options o = {.engine = "sync"};
    struct error err = {""};
    struct loop *loop;

    if (loop_create(&loop, c->env, &o, &err) < 0)
        fail_msg("%s", err.msg);
    loop_take_wakes(loop);
    c->inbox = co_inbox();
    for (unsigned i = 0; i < CREW; i++)
        co_enter(co_create(member, c));
    loop_run_until(loop, &c->over);
    loop_destroy(loop);
    assert_null(co_inbox());
}

static void several_threads(void **state)
{
    struct env *env = env_real(1);
    struct crew crew[THREADS];
    unsigned waited = 0;
    (void)state;
    struct co_guard *guards[] = {&guard_m, &guard_r, &guard_q};

    for (unsigned i = 0; i < 3; i++) {
        guards[i]->env = env;
        env_mutex_init(&guards[i]->mutex);
    }
    /* Two each at most, and one over: nobody waits for a token for ever. */
    shared.tokens = THREADS * CREW + 1;
    for (unsigned i = 0; i < THREADS; i++) {
        crew[i] = (struct crew){.env = env, .number = i, .left = CREW, .rng = seed + i};
        assert_int_equal(env_thread_start(env, &crew[i].thread, crew_main, &crew[i]),
                         0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        env_thread_join(env, &crew[i].thread);
        waited += crew[i].waited;
    }
    assert_int_equal(shared.inside, 0);
    assert_int_equal(shared.tokens, THREADS * CREW + 1);
    assert_true(co_queue_empty(&queue) && !mutex.owner && !rwlock.shared);
    printf("%lu sections, waited for %u\n", shared.sections, waited);
    assert_true(waited > 0);
    for (unsigned i = 0; i < 3; i++)
        env_mutex_destroy(&guards[i]->mutex);
    env_destroy(env);
}

int main(int argc, char **argv)
{
    const char *text = getenv("ASYNCOW_SEED");
    const struct CMUnitTest tests[] = {cmocka_unit_test(several_threads)};

    seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    printf("ASYNCOW_SEED=%llu\n", (unsigned long long)seed);
    backend_from_args(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
