/*
 * Intent: a CoMutex is handed over first come first served with nobody slipping in
 * between, and a CoQueue's wait drops the mutex while asleep and has it back
 * afterwards.
 */
#include "core/coroutine/coroutine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/coroutine/backend_test.h"

static char trace[256];
static struct co_mutex mutex;
static struct co_queue queue;

static int setup(void **state)
{
    (void)state;
    trace[0] = 0;
    memset(&mutex, 0, sizeof(mutex));
    memset(&queue, 0, sizeof(queue));
    return 0;
}

static void note(const char *what) { strcat(trace, what); }

static void locks_and_yields(void *arg)
{
    co_mutex_lock(&mutex);
    note(arg);
    co_yield ();
    note(arg);
    co_mutex_unlock(&mutex);
}

static void mutex_hands_over_in_order(void **state)
{
    (void)state;
    struct co *a = co_create(locks_and_yields, "a");
    struct co *b = co_create(locks_and_yields, "b");
    struct co *c = co_create(locks_and_yields, "c");

    co_enter(a), co_enter(b), co_enter(c);
    assert_string_equal(trace, "a");
    co_enter(a); /* unlocks: b owns it before b runs */
    assert_ptr_equal(mutex.owner, b);
    struct co *late = co_create(locks_and_yields, "d");
    co_enter(late); /* queues behind c though nobody is inside */
    assert_string_equal(trace, "aa");
    assert_true(co_run_ready());
    co_enter(b);
    assert_true(co_run_ready());
    co_enter(c);
    assert_true(co_run_ready());
    co_enter(late);
    assert_string_equal(trace, "aabbccdd");
    assert_null(mutex.owner);
    assert_false(co_has_ready());
}

static void waits(void *arg)
{
    co_mutex_lock(&mutex);
    note(arg);
    co_queue_wait(&queue, &mutex);
    assert_ptr_equal(mutex.owner, co_self());
    note(arg);
    co_mutex_unlock(&mutex);
}

static void wakes_all(void *arg)
{
    co_mutex_lock(&mutex);
    note(arg);
    co_queue_wake_all(&queue);
    co_yield (); /* holds the mutex while those woken want it */
    note(arg);
    co_mutex_unlock(&mutex);
}

static void queue_wait_drops_and_retakes_the_mutex(void **state)
{
    (void)state;
    struct co *waker = co_create(wakes_all, "w");

    co_enter(co_create(waits, "a"));
    assert_null(mutex.owner);
    co_enter(co_create(waits, "b"));
    co_enter(waker);
    assert_true(co_queue_empty(&queue));
    co_run_ready();
    assert_string_equal(trace, "abw"); /* awake, but the mutex is taken */
    co_enter(waker);
    while (co_run_ready())
        ;
    assert_string_equal(trace, "abwwab");
    assert_null(mutex.owner);
}

static void waits_without_mutex(void *arg)
{
    co_queue_wait(&queue, NULL);
    note(arg);
}

static void wake_one_wakes_the_oldest(void **state)
{
    (void)state;
    assert_false(co_queue_wake_one(&queue));
    co_enter(co_create(waits_without_mutex, "1"));
    co_enter(co_create(waits_without_mutex, "2"));
    co_enter(co_create(waits_without_mutex, "3"));
    assert_true(co_queue_wake_one(&queue));
    co_run_ready();
    assert_string_equal(trace, "1");
    co_queue_wake_all(&queue);
    co_run_ready();
    assert_string_equal(trace, "123");
    assert_true(co_queue_empty(&queue));
}

static void counts(void *arg)
{
    static unsigned inside;

    for (int i = 0; i < 50; i++) {
        co_mutex_lock(&mutex);
        assert_int_equal(inside++, 0);
        co_wake(co_self());
        co_yield ();
        inside--;
        ++*(unsigned *)arg;
        co_mutex_unlock(&mutex);
    }
}

static void mutex_excludes(void **state)
{
    (void)state;
    unsigned n = 0;

    for (int i = 0; i < 20; i++)
        co_wake(co_create(counts, &n));
    while (co_run_ready())
        ;
    assert_int_equal(n, 1000);
}

int main(int argc, char **argv)
{
    backend_from_args(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(mutex_hands_over_in_order, setup),
        cmocka_unit_test_setup(queue_wait_drops_and_retakes_the_mutex, setup),
        cmocka_unit_test_setup(wake_one_wakes_the_oldest, setup),
        cmocka_unit_test_setup(mutex_excludes, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
