/*
 * Intent: whatever is locked and unlocked in whatever order, CoMutex, CoRwlock and
 * CoQueue let in whom a plain model of "first come, first served" lets in, in the same
 * order.
 *
 * Coroutines wait for orders. The driver gives one a random order, runs what that made
 * ready until all is quiet, does the same to the model, and compares who holds, who
 * waits and who was let in when.
 */
#include "core/coroutine/coroutine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/coroutine/backend_test.h"

enum { CREW = 7, STEPS = 20000, LOG = 4 * CREW };

enum order {
    END,
    LOCK,
    TRYLOCK,
    SHARE,
    UNLOCK,
    UPGRADE,
    DOWNGRADE,
    WAIT,
    WAKE_ONE,
    WAKE_ALL
};
enum state { IDLE, SHARED, ALONE, WAITS, ASLEEP };

static uint64_t seed, rng;

static unsigned below(unsigned n)
{
    rng += 0x9e3779b97f4a7c15u;
    uint64_t z = rng;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (unsigned)((z ^ (z >> 31)) % n);
}

/* --- the real thing --------------------------------------------------------------- */

static struct member {
    struct co *co;
    enum order order;
    enum state state;
    bool at_once; /* what try and upgrade said */
} crew[CREW];
static struct co_mutex mutex;
static struct co_rwlock rwlock;
static struct co_queue queue;
static bool shared_too; /* the lock under test is the rwlock */
static unsigned in_log[LOG], in_n;

static void obey(struct member *m)
{
    m->at_once = false;
    switch (m->order) {
    case LOCK:
        m->state = WAITS;
        shared_too ? co_rwlock_exclusive(&rwlock) : co_mutex_lock(&mutex);
        m->state = ALONE;
        break;
    case SHARE:
        m->state = WAITS;
        co_rwlock_shared(&rwlock);
        m->state = SHARED;
        break;
    case TRYLOCK:
        m->at_once = co_mutex_trylock(&mutex);
        m->state = m->at_once ? ALONE : IDLE;
        break;
    case UNLOCK:
        shared_too ? co_rwlock_unlock(&rwlock) : co_mutex_unlock(&mutex);
        m->state = IDLE;
        break;
    case UPGRADE:
        m->state = WAITS;
        m->at_once = co_rwlock_upgrade(&rwlock);
        m->state = ALONE;
        break;
    case DOWNGRADE:
        co_rwlock_downgrade(&rwlock);
        m->state = SHARED;
        break;
    case WAIT:
        m->state = ASLEEP;
        co_queue_wait(&queue, &mutex);
        m->state = ALONE;
        break;
    case WAKE_ONE:
        m->at_once = co_queue_wake_one(&queue);
        break;
    case WAKE_ALL:
        co_queue_wake_all(&queue);
        break;
    case END:
        break;
    }
}

static void member_main(void *arg)
{
    struct member *m = arg;

    while (m->order != END) {
        bool held = m->state == SHARED || m->state == ALONE;
        obey(m);
        if (m->state != IDLE && (!held || m->order == WAIT || m->order == UPGRADE))
            in_log[in_n++ % LOG] = (unsigned)(m - crew);
        co_yield ();
    }
}

/* --- the model -------------------------------------------------------------------- */

static struct {
    enum state state[CREW];
    struct {
        unsigned who;
        bool alone;
    } waits[CREW];
    unsigned waits_n;
    unsigned asleep[CREW], asleep_n;
    unsigned in_log[LOG], in_n;
    bool at_once;
} model;

static unsigned holders(enum state s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < CREW; i++)
        n += model.state[i] == s;
    return n;
}

static void let_in(unsigned who, bool alone)
{
    model.state[who] = alone ? ALONE : SHARED;
    model.in_log[model.in_n++ % LOG] = who;
}

static bool fits(bool alone) { return !holders(ALONE) && (!alone || !holders(SHARED)); }

static void admit(void)
{
    while (model.waits_n && fits(model.waits[0].alone)) {
        let_in(model.waits[0].who, model.waits[0].alone);
        model.waits_n--;
        memmove(model.waits, model.waits + 1, sizeof(model.waits[0]) * model.waits_n);
    }
}

static void come(unsigned who, bool alone)
{
    model.state[who] = WAITS;
    model.waits[model.waits_n].who = who;
    model.waits[model.waits_n++].alone = alone;
    admit();
}

static void wake(void)
{
    unsigned who = model.asleep[0];

    model.asleep_n--;
    memmove(model.asleep, model.asleep + 1, sizeof(who) * model.asleep_n);
    come(who, true);
}

static void model_step(unsigned who, enum order order)
{
    switch (order) {
    case LOCK:
    case SHARE:
        come(who, order == LOCK);
        break;
    case TRYLOCK:
        model.at_once = fits(true);
        if (model.at_once)
            let_in(who, true);
        break;
    case UNLOCK:
        model.state[who] = IDLE;
        admit();
        break;
    case UPGRADE:
        model.at_once = holders(SHARED) == 1;
        model.state[who] = IDLE;
        if (model.at_once)
            let_in(who, true);
        else
            come(who, true);
        break;
    case DOWNGRADE:
        model.state[who] = SHARED;
        admit();
        break;
    case WAIT:
        model.state[who] = ASLEEP;
        model.asleep[model.asleep_n++] = who;
        admit();
        break;
    case WAKE_ONE:
        model.at_once = model.asleep_n > 0;
        if (model.asleep_n)
            wake();
        break;
    case WAKE_ALL:
        for (unsigned n = model.asleep_n; n--;)
            wake();
        break;
    case END:
        break;
    }
}

/* --- driver ----------------------------------------------------------------------- */

/* One that the coroutine may be given in its state; END: none, it cannot run. */
static enum order draw_order(enum state s)
{
    static const enum order idle[] = {LOCK, TRYLOCK, WAKE_ONE, WAKE_ALL},
                            held[] = {UNLOCK, UNLOCK, WAIT, WAKE_ONE, WAKE_ALL},
                            idle_rw[] = {LOCK, SHARE, SHARE},
                            shared[] = {UNLOCK, UNLOCK, UPGRADE},
                            alone[] = {UNLOCK, UNLOCK, DOWNGRADE};

    switch (s) {
    case IDLE:
        return shared_too ? idle_rw[below(3)] : idle[below(4)];
    case SHARED:
        return shared[below(3)];
    case ALONE:
        return shared_too ? alone[below(3)] : held[below(5)];
    default:
        return END;
    }
}

static void give(unsigned who, enum order order)
{
    crew[who].order = order;
    co_enter(crew[who].co);
    while (co_run_ready())
        ;
}

/* Woken from the queue, it waits for the mutex, and hasn't said so. */
static enum state seen(enum state s) { return s == ASLEEP ? WAITS : s; }

static void compare(unsigned step)
{
    for (unsigned i = 0; i < CREW; i++)
        if (seen(crew[i].state) != seen(model.state[i]))
            fail_msg("seed %llu, step %u: coroutine %u is %d, the model says %d",
                     (unsigned long long)seed, step, i, crew[i].state, model.state[i]);
    if (in_n != model.in_n || memcmp(in_log, model.in_log, sizeof(in_log)))
        fail_msg("seed %llu, step %u: let in in another order",
                 (unsigned long long)seed, step);
}

static void run(bool rw)
{
    shared_too = rw;
    memset(&model, 0, sizeof(model));
    memset(crew, 0, sizeof(crew));
    memset(in_log, 0, sizeof(in_log));
    in_n = 0;
    for (unsigned i = 0; i < CREW; i++) {
        crew[i].order = WAKE_ONE; /* of nobody */
        crew[i].co = co_create(member_main, &crew[i]);
        co_enter(crew[i].co);
    }
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned who = below(CREW);
        enum order order = draw_order(model.state[who]);
        if (order == END)
            continue;
        if (order == WAIT && model.asleep_n == CREW - 1)
            order = WAKE_ALL; /* somebody must stay up to wake the others */
        give(who, order);
        model_step(who, order);
        if (order == TRYLOCK || order == UPGRADE || order == WAKE_ONE)
            assert_int_equal(crew[who].at_once, model.at_once);
        compare(step);
    }
    /* All go home; whoever holds lets the next in. */
    for (unsigned idle = 0; idle < CREW;) {
        idle = 0;
        for (unsigned i = 0; i < CREW; i++) {
            if (crew[i].state == SHARED || crew[i].state == ALONE)
                give(i, UNLOCK);
            else if (crew[i].state == IDLE)
                give(i, WAKE_ONE);
            idle += crew[i].state == IDLE;
        }
    }
    for (unsigned i = 0; i < CREW; i++)
        give(i, END);
}

static void mutex_and_queue_match_the_model(void **state)
{
    (void)state;
    run(false);
    assert_null(mutex.owner);
    assert_true(co_queue_empty(&mutex.waiters) && co_queue_empty(&queue));
}

static void rwlock_matches_the_model(void **state)
{
    (void)state;
    run(true);
    assert_true(!rwlock.owner && !rwlock.shared && co_queue_empty(&rwlock.waiters));
}

/* --- no starvation, seen directly ------------------------------------------------- */

static unsigned reads, writes;

static void reads_for_ever(void *arg)
{
    while (!*(bool *)arg) {
        co_rwlock_shared(&rwlock);
        co_wake(co_self());
        co_yield ();
        reads++;
        co_rwlock_unlock(&rwlock);
    }
}

static void writes_for_ever(void *arg)
{
    while (!*(bool *)arg) {
        co_rwlock_exclusive(&rwlock);
        co_wake(co_self());
        co_yield ();
        writes++;
        co_rwlock_unlock(&rwlock);
    }
}

/* Readers that always overlap don't keep a writer out, nor writers that queue up a
 * reader. */
static void nobody_starves(void **state)
{
    (void)state;
    for (unsigned writers = 1; writers < CREW; writers += CREW - 2) {
        bool end = false;
        reads = writes = 0;
        for (unsigned i = 0; i < CREW; i++)
            co_wake(co_create(i < writers ? writes_for_ever : reads_for_ever, &end));
        for (unsigned i = 0; i < 1000; i++)
            co_run_ready();
        end = true;
        while (co_run_ready())
            ;
        assert_true(reads >= 30 && writes >= 30);
    }
}

int main(int argc, char **argv)
{
    const char *given = getenv("ASYNCOW_SEED");

    backend_from_args(argc, argv);
    seed = rng = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("ASYNCOW_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutex_and_queue_match_the_model),
        cmocka_unit_test(rwlock_matches_the_model),
        cmocka_unit_test(nobody_starves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
