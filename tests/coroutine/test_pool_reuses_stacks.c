/*
 * Intent: stacks are reused without a system call or malloc, last in first out, also
 * far beyond the pool's limit; what is too much is given back slowly; how deep they
 * were used is known.
 */
#include "core/coroutine/coroutine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "tests/coroutine/backend_test.h"

/* The program is linked with --wrap for these (mmap64: with 64-bit offsets mmap is a
 * name for it). */
static unsigned maps, mallocs;
void *__real_mmap64(void *, size_t, int, int, int, off_t);
void *__wrap_mmap64(void *, size_t, int, int, int, off_t);
void *__real_malloc(size_t);
void *__wrap_malloc(size_t);

void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
    maps++;
    return __real_mmap64(addr, len, prot, flags, fd, off);
}

void *__wrap_malloc(size_t len)
{
    mallocs++;
    return __real_malloc(len);
}

static void yields_once(void *arg)
{
    (void)arg;
    co_yield ();
}

static void spin_pool(unsigned n)
{
    struct co *co[64];

    while (n--) {
        for (int i = 0; i < 64; i++)
            co_enter(co[i] = co_create(yields_once, NULL));
        for (int i = 0; i < 64; i++)
            co_enter(co[i]);
    }
}

static void steady_state_maps_and_mallocs_nothing(void **state)
{
    (void)state;
    spin_pool(1);
    unsigned maps_before = maps, mallocs_before = mallocs;
    assert_true(maps_before >= 64);
    spin_pool(100);
    assert_int_equal(maps, maps_before);
    assert_int_equal(mallocs, mallocs_before);
}

static void pool_is_last_in_first_out(void **state)
{
    (void)state;
    struct co *a = co_create(yields_once, NULL), *b = co_create(yields_once, NULL);

    co_enter(a), co_enter(b);
    co_enter(a), co_enter(b); /* b ended last */
    assert_ptr_equal(co_create(yields_once, NULL), b);
    assert_ptr_equal(co_create(yields_once, NULL), a);
    co_enter(b), co_enter(a), co_enter(b), co_enter(a);
}

static void nests(void *arg)
{
    unsigned depth = *(unsigned *)arg;

    if (depth--)
        co_enter(co_create(nests, &depth));
}

static struct co_usage usage(void)
{
    struct co_usage u;

    co_usage(&u);
    return u;
}

/* Beyond the limit, again and again: no cliff. */
static void overrun_maps_only_once(void **state)
{
    (void)state;
    enum { DEEP = 3000 };
    unsigned depth = DEEP;

    nests(&depth);
    unsigned maps_before = maps, mallocs_before = mallocs;
    assert_int_equal(usage().stacks, DEEP);
    for (int i = 0; i < 5; i++) {
        depth = DEEP;
        nests(&depth);
        assert_int_equal(usage().stacks_idle, DEEP);
    }
    assert_int_equal(maps, maps_before);
    assert_int_equal(mallocs, mallocs_before);
}

/* What nobody needs any more goes, one stack a turn of the loop, down to the limit. */
static void overrun_is_given_back(void **state)
{
    (void)state;
    unsigned before = usage().stacks_idle, turns = 0;

    assert_true(before > 1024);
    for (unsigned idle = before; idle > 1024; turns++) {
        assert_true(turns < 10000);
        co_run_ready();
        unsigned now = usage().stacks_idle;
        assert_in_range(idle - now, 0, 1);
        idle = now;
    }
    assert_true(turns > before - 1024);
    for (int i = 0; i < 5000; i++)
        co_run_ready();
    assert_in_range(usage().stacks_idle, 1024 - 128, 1024); /* whole batches go */
    co_pool_drain();
    assert_int_equal(usage().stacks, 0);
}

static void pool_that_is_off_keeps_nothing(void **state)
{
    (void)state;
    co_pool_limit(0);
    unsigned before = maps;
    for (int i = 0; i < 10; i++) {
        struct co *co = co_create(yields_once, NULL);
        co_enter(co), co_enter(co);
        assert_in_range(usage().stacks, 0, 1); /* the last one can't unmap itself */
    }
    assert_int_equal(maps - before, 10);
    unsigned depth = 100;
    nests(&depth);
    assert_int_equal(usage().stacks, 1);
    co_pool_limit(1024);
    assert_int_equal(usage().stacks, 0);
}

static void small_limit_holds(void **state)
{
    (void)state;
    co_pool_limit(3);
    spin_pool(2);
    for (int i = 0; i < 5000; i++)
        co_run_ready();
    assert_in_range(usage().stacks_idle, 1, 3);
    co_pool_limit(1024);
}

static void needs_stack(void *arg)
{
    volatile char buf[100 << 10];

    for (size_t i = 0; i < sizeof(buf); i += 512)
        buf[i] = 1;
    *(size_t *)arg = co_stack_used(co_self());
}

static void high_water_mark_is_seen(void **state)
{
    (void)state;
    size_t used = 0;

    co_pool_drain();
    co_enter(co_create(yields_once, NULL));
    struct co *co = co_create(yields_once, NULL);
    co_enter(co), co_enter(co);
    size_t before = co_stack_used_max();
    assert_in_range(before, 1, usage().stack_bytes - (100 << 10));
    co_enter(co_create(needs_stack, &used)); /* on the stack of co */
    assert_in_range(used, 100 << 10, usage().stack_bytes);
    assert_int_equal(co_stack_used_max(), used);
}

static void stacks_differ_in_colour(void **state)
{
    (void)state;
    struct co *co[16];
    unsigned same = 0;

    co_pool_drain();
    for (int i = 0; i < 16; i++)
        co_enter(co[i] = co_create(yields_once, NULL));
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++)
            same += (((uintptr_t)co[i] ^ (uintptr_t)co[j]) & 4095) == 0;
    assert_int_equal(same, 0);
    for (int i = 0; i < 16; i++)
        co_enter(co[i]);
}

int main(int argc, char **argv)
{
    backend_from_args(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_state_maps_and_mallocs_nothing),
        cmocka_unit_test(pool_is_last_in_first_out),
        cmocka_unit_test(overrun_maps_only_once),
        cmocka_unit_test(overrun_is_given_back),
        cmocka_unit_test(pool_that_is_off_keeps_nothing),
        cmocka_unit_test(small_limit_holds),
        cmocka_unit_test(high_water_mark_is_seen),
        cmocka_unit_test(stacks_differ_in_colour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
