/* The history's hash: the same for orders that make no difference, another for those that
 * do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/env/history.h"

enum { ACTORS = 3 };

struct run {
    struct history h;
    uint64_t past[ACTORS];
    int object[4], queue[2], item[4];
};

static int set_up(void **state)
{
    static struct run run;
    assert_int_equal(history_open(&run.h), 0);
    *state = &run;
    return 0;
}

static int tear_down(void **state)
{
    history_close(&((struct run *)*state)->h);
    return 0;
}

static void begin(struct run *r)
{
    history_clear(&r->h);
    for (unsigned i = 0; i < ACTORS; i++)
        r->past[i] = i;
}

static uint64_t hash(const struct run *r)
{
    uint64_t hash = r->h.queues;
    for (unsigned i = 0; i < ACTORS; i++)
        hash = history_mix(hash, r->past[i]);
    return hash;
}

/* "0w1": actor 0 writes object 1; r: reads; +, -: an item into queue 0 and out again. */
static uint64_t play(struct run *r, const char *steps)
{
    begin(r);
    for (const char *p = steps; *p; p += p[3] ? 4 : 3) {
        uint64_t *past = &r->past[p[0] - '0'];
        int i = p[2] - '0';
        if (p[1] == '+')
            history_push(&r->h, past, &r->queue[0], &r->item[i]);
        else if (p[1] == '-')
            history_pop(&r->h, past, &r->queue[0], &r->item[i]);
        else
            history_touch(&r->h, past, &r->object[i], 7, p[1] == 'w');
    }
    return hash(r);
}

#define SAME(a, b) assert_true(play(r, a) == play(r, b))
#define DIFFERENT(a, b) assert_true(play(r, a) != play(r, b))

static void independent_steps_commute(void **state)
{
    struct run *r = *state;
    SAME("0w0 1w1", "1w1 0w0");
    SAME("0w0 1w1 0w0 2w2", "2w2 1w1 0w0 0w0");
    SAME("0r0 1r0", "1r0 0r0");
    SAME("0w0 1r0 2r0 0w0", "0w0 2r0 1r0 0w0");
}

static void dependent_steps_do_not(void **state)
{
    struct run *r = *state;
    DIFFERENT("0w0 1w0", "1w0 0w0");
    DIFFERENT("0w0 1r0", "1r0 0w0");
    DIFFERENT("0w0 1w0 2w1", "1w0 0w0 2w1");
    DIFFERENT("0r0 1w0 2r0", "2r0 1w0 0r0");
    DIFFERENT("0w0", "0r0");
    DIFFERENT("0w0 1w1 0w1", "0w1 1w1 0w0"); /* by way of another */
}

static void queues_keep_order(void **state)
{
    struct run *r = *state;
    DIFFERENT("1+0 2+1", "2+1 1+0");
    /* adding at one end and taking at the other commute */
    SAME("1+0 0-0 2+1", "1+0 2+1 0-0");
    SAME("1+0 2+1 0-0 0-1", "1+0 0-0 2+1 0-1");
    DIFFERENT("1+0 2+1 0-0 0-1", "2+1 1+0 0-1 0-0");
    /* what the reader does between makes a difference */
    DIFFERENT("1+0 0-0 0w0 2+1 0-1", "1+0 2+1 0-0 0-1 0w0");
    /* an empty queue is an empty queue */
    assert_true((play(r, "1+0 0-0"), r->h.queues) == (play(r, "1w0"), r->h.queues));
}

static void many_objects_fit(void **state)
{
    struct run *r = *state;
    uint64_t last[2];
    for (int round = 0; round < 2; round++) {
        begin(r);
        for (uint64_t i = 0; i < 5000; i++)
            history_touch(&r->h, &r->past[i % ACTORS], &r->object[0], i, true);
        for (uint64_t i = 0; i < 5000; i++)
            history_touch(&r->h, &r->past[0], &r->object[0], i, false);
        last[round] = hash(r);
    }
    assert_true(last[0] == last[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(independent_steps_commute),
        cmocka_unit_test(dependent_steps_do_not),
        cmocka_unit_test(queues_keep_order),
        cmocka_unit_test(many_objects_fit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
