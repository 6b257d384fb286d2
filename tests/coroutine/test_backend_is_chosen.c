/*
 * Intent: a back end is chosen by name, at a time when that can be right, for this
 * thread and those that start using coroutines later; where there are shadow stacks it
 * refuses in words; and what a back end doesn't switch is known.
 */
#include "core/coroutine/coroutine.h"
#include "core/env/error.h"

#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

/* Linked with --wrap: the kernel says that there is a shadow stack. */
static bool shadow;
long __real_syscall(long, long, unsigned long *);
long __wrap_syscall(long, long, unsigned long *);
int __real_prctl(int, unsigned long *, long, long, long);
int __wrap_prctl(int, unsigned long *, long, long, long);

long __wrap_syscall(long number, long what, unsigned long *features)
{
    if (!shadow)
        return __real_syscall(number, what, features);
    *features = 1;
    return 0;
}

int __wrap_prctl(int what, unsigned long *features, long a, long b, long c)
{
    if (!shadow)
        return __real_prctl(what, features, a, b, c);
    *features = 1;
    return 0;
}

static struct error err;

static int set(const char *name)
{
    err.msg[0] = 0;
    return co_set_backend(name, &err);
}

static void yields_once(void *arg)
{
    co_yield ();
    strcat(arg, "x");
}

static void every_one_listed_can_be_chosen(void **state)
{
    (void)state;
    const char *name, *summary;
    unsigned n = 0;

    for (; (name = co_backend_name(n, &summary)); n++) {
        char trace[4] = "";
        int ret = set(name);
        if (ret == -ENOTSUP) { /* sigaltstack under ThreadSanitizer */
            assert_non_null(strstr(err.msg, "ThreadSanitizer"));
            continue;
        }
        assert_int_equal(ret, 0);
        assert_string_equal(co_backend(), name);
        assert_true(strlen(summary) > 5);
        struct co *co = co_create(yields_once, trace);
        co_enter(co);
        assert_string_equal(trace, "");
        co_enter(co);
        assert_string_equal(trace, "x");
    }
    assert_true(n >= 3);
    assert_int_equal(set("auto"), 0);
}

static void unknown_name_is_refused(void **state)
{
    (void)state;
    assert_int_equal(set("fibres"), -EINVAL);
    assert_non_null(strstr(err.msg, "fibres"));
    assert_non_null(strstr(err.msg, "|thread"));
}

static void not_while_a_coroutine_lives(void **state)
{
    (void)state;
    char trace[4] = "";
    assert_int_equal(set("ucontext"), 0);
    struct co *co = co_create(yields_once, trace);

    co_enter(co);
    assert_int_equal(set("thread"), -EBUSY);
    assert_non_null(strstr(err.msg, "1 coroutine"));
    assert_int_equal(set(co_backend()), 0); /* nothing changes */
    co_enter(co);
    assert_int_equal(set("thread"), 0);
    assert_string_equal(co_backend(), "thread");
    co_pool_drain();
}

static void *uses_coroutines(void *opaque)
{
    char trace[4] = "";
    struct co *co = co_create(yields_once, trace);

    co_enter(co), co_enter(co);
    *(const char **)opaque = co_backend();
    co_pool_drain();
    return NULL;
}

static void later_threads_take_it_over(void **state)
{
    (void)state;
    pthread_t thread;
    const char *used = NULL;

    assert_int_equal(set("ucontext"), 0);
    assert_int_equal(pthread_create(&thread, NULL, uses_coroutines, &used), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(used, "ucontext");
}

static void shadow_stack_is_refused_in_words(void **state)
{
    (void)state;
    shadow = true;
    assert_int_equal(set("ucontext"), -ENOTSUP);
    assert_non_null(strstr(err.msg, "shadow stack"));
    assert_non_null(strstr(err.msg, "thread"));
    assert_int_equal(set("thread"), 0);
    shadow = false;
    assert_int_equal(set("auto"), 0);
}

/* --- the FPU's control words ------------------------------------------------------ */

static double third(void)
{
    volatile double a = 1, b = 3;
    return a / b;
}

static void divides(void *arg)
{
    double *r = arg;

    r[0] = third();
    fesetround(FE_DOWNWARD);
    co_yield ();
    r[1] = third();
}

/* The rounding mode is the thread's: it stays as it is over a switch, either way. (With
 * `thread` it is each coroutine's own.) Who changes it must set it back before a
 * yield. */
static void rounding_belongs_to_the_thread(void **state)
{
    (void)state;
    const char *name;

    for (unsigned i = 0; (name = co_backend_name(i, NULL)); i++) {
        if (!strcmp(name, "thread") || set(name) < 0)
            continue;
#if defined(__SANITIZE_THREAD__)
        if (!strcmp(name, "ucontext"))
            continue; /* there it is swapcontext(), which keeps them */
#endif
        double r[2], near = third(), up, down;
        struct co *co = co_create(divides, r);
        fesetround(FE_UPWARD);
        up = third();
        co_enter(co);
        int mode = fegetround();
        down = third();
        fesetround(FE_TONEAREST);
        co_enter(co);
        assert_int_equal(mode, FE_DOWNWARD);
        assert_true(r[0] == up && up > down);
        assert_true(r[1] == near);
    }
    assert_int_equal(set("auto"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_one_listed_can_be_chosen),
        cmocka_unit_test(unknown_name_is_refused),
        cmocka_unit_test(not_while_a_coroutine_lives),
        cmocka_unit_test(later_threads_take_it_over),
        cmocka_unit_test(shadow_stack_is_refused_in_words),
        cmocka_unit_test(rounding_belongs_to_the_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
