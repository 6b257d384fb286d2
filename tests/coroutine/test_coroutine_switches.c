/*
 * Intent: enter and yield pass control in the order they say, coroutines nest, and
 * every misuse aborts.
 */
#include "core/coroutine/coroutine.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/coroutine/backend_test.h"

static char trace[256];
static void note(const char *what) { strcat(trace, what); }

static int setup(void **state)
{
    (void)state;
    trace[0] = 0;
    return 0;
}

/* --- order ------------------------------------------------------------------------ */

static void yields_twice(void *arg)
{
    assert_true(co_in());
    note(arg);
    co_yield ();
    note(arg);
    co_yield ();
    note(arg);
}

static void enter_and_yield_alternate(void **state)
{
    (void)state;
    struct co *a = co_create(yields_twice, "a"), *b = co_create(yields_twice, "b");

    assert_null(co_self());
    for (int i = 0; i < 3; i++) {
        co_enter(a);
        note(".");
        co_enter(b);
        note("|");
    }
    assert_null(co_self());
    assert_string_equal(trace, "a.b|a.b|a.b|");
}

static void inner(void *arg)
{
    (void)arg;
    note("2");
    co_yield ();
    note("4");
}

static void outer(void *arg)
{
    (void)arg;
    struct co *self = co_self(), *co = co_create(inner, NULL);
    note("1");
    co_enter(co);
    assert_ptr_equal(co_self(), self);
    note("3");
    co_enter(co);
    note("5");
}

static void yield_returns_to_who_entered(void **state)
{
    (void)state;
    co_enter(co_create(outer, NULL));
    assert_string_equal(trace, "12345");
}

/* What a switch must keep: the compiler holds these in callee-saved registers. */
static void keeps_values(void *arg)
{
    uint64_t seed = (uintptr_t)arg, a = seed * 3, b = seed * 5, c = seed * 7,
             d = seed * 11;
    double x = (double)seed / 3, y = (double)seed / 7;

    for (unsigned i = 0; i < 100; i++) {
        a += b ^ i, b += c ^ i, c += d ^ i, d += a ^ i, x += y, y += x / 2;
        uint64_t before[4] = {a, b, c, d};
        double fbefore[2] = {x, y};
        co_yield ();
        assert_memory_equal(before, ((uint64_t[]){a, b, c, d}), sizeof(before));
        assert_memory_equal(fbefore, ((double[]){x, y}), sizeof(fbefore));
    }
}

static void switch_keeps_registers(void **state)
{
    (void)state;
    struct co *co[8];

    for (uintptr_t i = 0; i < 8; i++)
        co[i] = co_create(keeps_values, (void *)(i + 1));
    for (int turn = 0; turn <= 100; turn++)
        for (int i = 0; i < 8; i++)
            co_enter(co[i]);
}

static unsigned nested;

static void nests(void *arg)
{
    unsigned depth = *(unsigned *)arg;

    if (depth-- == 0)
        return;
    struct co *co = co_create(nests, &depth);
    assert_non_null(co);
    co_enter(co);
    assert_int_equal(depth, *(unsigned *)arg - 1);
    nested++;
}

static void nesting_goes_deep(void **state)
{
    (void)state;
    unsigned depth = 3000; /* beyond the pool's limit */

    nests(&depth);
    assert_int_equal(nested, 3000);
    co_pool_drain();
}

static void uses_stack(void *arg)
{
    volatile char buf[200 << 10];

    for (size_t i = 0; i < sizeof(buf); i += 512)
        buf[i] = (char)i;
    *(int *)arg = buf[512];
}

static void stack_is_large(void **state)
{
    (void)state;
    int got = -1;

    co_enter(co_create(uses_stack, &got));
    assert_int_equal(got, 0);
}

/* --- ready list ------------------------------------------------------------------- */

static void again(void *arg)
{
    for (int i = 0; i < 2; i++) {
        note(arg);
        co_wake(co_self());
        co_yield ();
    }
}

static void ready_run_oldest_first_and_once_a_turn(void **state)
{
    (void)state;
    assert_false(co_run_ready());
    co_wake(co_create(again, "a"));
    co_wake(co_create(again, "b"));
    assert_true(co_has_ready());
    assert_true(co_run_ready());
    note(".");
    assert_true(co_run_ready());
    note(".");
    assert_true(co_run_ready());
    assert_false(co_has_ready());
    assert_false(co_run_ready());
    assert_string_equal(trace, "ab.ab.");
}

/* --- misuse ----------------------------------------------------------------------- */

static struct co *victim;

static void does_nothing(void *arg) { (void)arg; }
static void enters_self(void *arg)
{
    (void)arg;
    co_enter(co_self());
}
static void enters_victim(void *arg)
{
    (void)arg;
    co_enter(victim);
}
static void enters_one_that_enters_victim(void *arg)
{
    co_enter(co_create(enters_victim, arg));
}
static void runs_ready(void *arg)
{
    (void)arg;
    co_wake(co_create(does_nothing, NULL));
    co_run_ready();
}
static void locks_twice(void *arg)
{
    co_mutex_lock(arg);
    co_mutex_lock(arg);
}

static void misuse_yield_outside(void) { co_yield (); }
static void misuse_enter_self(void) { co_enter(co_create(enters_self, NULL)); }
static void misuse_enter_caller(void)
{
    victim = co_create(enters_one_that_enters_victim, NULL);
    co_enter(victim);
}
static void misuse_enter_ended(void)
{
    struct co *co = co_create(does_nothing, NULL);
    co_enter(co);
    co_enter(co);
}
static void misuse_wake_ended(void)
{
    struct co *co = co_create(does_nothing, NULL);
    co_enter(co);
    co_wake(co);
}
static void misuse_wake_twice(void)
{
    struct co *co = co_create(does_nothing, NULL);
    co_wake(co);
    co_wake(co);
}
static void misuse_enter_ready(void)
{
    struct co *co = co_create(does_nothing, NULL);
    co_wake(co);
    co_enter(co);
}
static void misuse_run_ready_inside(void) { co_enter(co_create(runs_ready, NULL)); }
static void misuse_lock_outside(void)
{
    struct co_mutex m = {0};
    co_mutex_lock(&m);
}
static void misuse_lock_twice(void)
{
    struct co_mutex m = {0};
    co_enter(co_create(locks_twice, &m));
}
static void unlocks(void *arg) { co_mutex_unlock(arg); }
static void misuse_unlock_not_owner(void)
{
    struct co_mutex m = {0};
    co_enter(co_create(unlocks, &m));
}
static void ends_with(void *arg) { co_mutex_lock(arg); }
static void misuse_end_with_a_lock(void)
{
    struct co_mutex m = {0};
    co_enter(co_create(ends_with, &m));
}
static void shares_then_wants_alone(void *arg)
{
    co_rwlock_exclusive(arg);
    co_rwlock_shared(arg);
}
static void misuse_share_what_is_owned(void)
{
    struct co_rwlock l = {0};
    co_enter(co_create(shares_then_wants_alone, &l));
}
static void unlocks_rwlock(void *arg) { co_rwlock_unlock(arg); }
static void misuse_unlock_free_rwlock(void)
{
    struct co_rwlock l = {0};
    co_enter(co_create(unlocks_rwlock, &l));
}
static void downgrades(void *arg)
{
    co_rwlock_shared(arg);
    co_rwlock_downgrade(arg);
}
static void misuse_downgrade_shared(void)
{
    struct co_rwlock l = {0};
    co_enter(co_create(downgrades, &l));
}
static void misuse_overflow(void)
{
    /* the guard page is right below the stack */
    struct co *co = co_create(does_nothing, NULL);
    volatile char *p = (char *)co;
    struct co_usage u;
    co_usage(&u);
    for (size_t i = 0; i < u.stack_bytes + (16u << 10); i += 512)
        p[-(ptrdiff_t)i] = 1;
}

static void dies_of(void (*fn)(void), int signal)
{
    int status;

    co_pool_drain(); /* the child has no threads but this one */
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 1; i < NSIG; i++)
            sigaction(i, &(struct sigaction){.sa_handler = SIG_DFL},
                      NULL); /* cmocka's */
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        close(STDERR_FILENO);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (signal == SIGSEGV) { /* a sanitizer reports it and exits in its own way */
        assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
        return;
    }
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal);
}

static void misuse_aborts(void **state)
{
    (void)state;
    dies_of(misuse_yield_outside, SIGABRT);
    dies_of(misuse_enter_self, SIGABRT);
    dies_of(misuse_enter_caller, SIGABRT);
    dies_of(misuse_enter_ended, SIGABRT);
    dies_of(misuse_wake_ended, SIGABRT);
    dies_of(misuse_wake_twice, SIGABRT);
    dies_of(misuse_enter_ready, SIGABRT);
    dies_of(misuse_run_ready_inside, SIGABRT);
    dies_of(misuse_lock_outside, SIGABRT);
    dies_of(misuse_lock_twice, SIGABRT);
    dies_of(misuse_unlock_not_owner, SIGABRT);
    dies_of(misuse_end_with_a_lock, SIGABRT);
    dies_of(misuse_share_what_is_owned, SIGABRT);
    dies_of(misuse_unlock_free_rwlock, SIGABRT);
    dies_of(misuse_downgrade_shared, SIGABRT);
    dies_of(misuse_overflow, SIGSEGV);
}

int main(int argc, char **argv)
{
    backend_from_args(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(enter_and_yield_alternate, setup),
        cmocka_unit_test_setup(yield_returns_to_who_entered, setup),
        cmocka_unit_test(switch_keeps_registers),
        cmocka_unit_test(nesting_goes_deep),
        cmocka_unit_test(stack_is_large),
        cmocka_unit_test_setup(ready_run_oldest_first_and_once_a_turn, setup),
        cmocka_unit_test(misuse_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
