/*
 * Intent: each elevator gives its I/Os out in the order that it promises: noop as they came,
 * deadline ascending in batches with reads first and nobody passed by for ever, anticipatory
 * waiting for who reads on, and only for those. All merge neighbours. Whatever comes in
 * comes out, once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/block/elevator.h"
#include "core/env/random.h"

enum { MAX = 64, BLOCK = 4096 };
static struct elevator elevator;
static struct elevator_io ios[MAX];
static unsigned used;
static uint64_t now, again;

static void start(enum elevator_kind kind, uint64_t merge)
{
    const struct elevator_options o = {.kind = kind,
                                       .merge_bytes = merge,
                                       .read_expire_ns = 1000,
                                       .write_expire_ns = 5000,
                                       .batch = 4,
                                       .starved = 2,
                                       .antic_ns = 100,
                                       .antic_bytes = 16 * BLOCK};
    elevator_init(&elevator, &o);
    used = 0;
    now = 1;
}

static struct elevator_io *add_of(unsigned source, uint64_t block, bool write)
{
    struct elevator_io *io = &ios[used++];

    *io = (struct elevator_io){
        .offset = block * BLOCK, .len = BLOCK, .write = write, .source = source};
    elevator_add(&elevator, io, now);
    return io;
}
static void add(uint64_t block) { add_of(0, block, false); }
static void add_write(uint64_t block) { add_of(0, block, true); }

static struct elevator_io *next(void) { return elevator_next(&elevator, now, &again); }

#define NONE UINT64_MAX
static uint64_t next_block(void)
{
    const struct elevator_io *io = next();

    return io ? io->begin / BLOCK : NONE;
}

/* The blocks, in this order, and no more. */
static void gives(const uint64_t *blocks, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(next_block(), blocks[i]);
    assert_int_equal(next_block(), NONE);
    assert_int_equal(again, UINT64_MAX);
}
#define GIVES(...)                                                                     \
    gives((const uint64_t[]){__VA_ARGS__},                                             \
          sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void noop_keeps_the_order(void **state)
{
    (void)state;
    start(ELEVATOR_NOOP, 0);
    add(9);
    add_write(2);
    add(7);
    add(8); /* a neighbour, but nothing is merged */
    GIVES(9, 2, 7, 8);
}

static void neighbours_are_merged(void **state)
{
    (void)state;
    start(ELEVATOR_NOOP, 3 * BLOCK);
    add(20);
    struct elevator_io *a = add_of(0, 5, false), *c = add_of(0, 7, false);
    struct elevator_io *b = add_of(0, 6, false); /* closes the gap */
    add(8);                                      /* but there is no more room */
    add_write(9); /* and a write is no read's neighbour */
    assert_int_equal(next_block(), 20);
    const struct elevator_io *group = next();
    assert_int_equal(group->begin, 5 * BLOCK);
    assert_int_equal(group->end, 8 * BLOCK);
    assert_ptr_equal(group->first, a);
    assert_ptr_equal(a->member_next, b);
    assert_ptr_equal(b->member_next, c);
    assert_null(c->member_next);
    GIVES(8, 9);
    assert_int_equal(elevator.merged, 2);
    add(6);
    add(5); /* in front */
    group = next();
    assert_int_equal(group->begin, 5 * BLOCK);
    assert_int_equal(group->first->offset, 5 * BLOCK);
    assert_int_equal(group->first->member_next->offset, 6 * BLOCK);
}

static void deadline_goes_up_and_begins_again(void **state)
{
    (void)state;
    start(ELEVATOR_DEADLINE, 0);
    add(50);
    add(10);
    add(30);
    assert_int_equal(next_block(), 10);
    add(5);
    add(20);
    GIVES(20, 30, 50, 5);
}

static void reads_come_first_until_writes_are_starved(void **state)
{
    (void)state;
    start(ELEVATOR_DEADLINE, 0);
    add_write(1);
    add_write(2);
    for (uint64_t i = 10; i < 24; i++)
        add(i);
    /* Two batches of four reads pass the writes by; the batch of writes ends early. */
    GIVES(10, 11, 12, 13, 14, 15, 16, 17, 1, 2, 18, 19, 20, 21, 22, 23);
}

static void who_waited_too_long_is_next(void **state)
{
    (void)state;
    start(ELEVATOR_DEADLINE, 0);
    add(40);
    assert_int_equal(next_block(), 40);
    add(7);
    for (uint64_t i = 41; i < 49; i++)
        add(i);
    for (uint64_t i = 41; i < 44; i++)
        assert_int_equal(next_block(), i); /* the batch goes on */
    now += 999;
    assert_int_equal(next_block(), 44); /* not yet late: the next batch goes on there */
    now += 1;
    for (uint64_t i = 45; i < 48; i++)
        assert_int_equal(next_block(), i);
    assert_int_equal(elevator.expired, 0);
    GIVES(7, 48); /* late, and the batch was over */
    assert_int_equal(elevator.expired, 1);
}

/* Source 1 has read block 100, source 2 waits with a read far away. */
static void a_read_has_ended(uint64_t block)
{
    struct elevator_io *io = add_of(1, block, false);

    assert_ptr_equal(next(), io);
    now += 10;
    elevator_done(&elevator, io, now);
}

static void anticipatory_waits_for_who_reads_on(void **state)
{
    (void)state;
    start(ELEVATOR_ANTICIPATORY, 0);
    a_read_has_ended(100);
    add_of(2, 9000, false);
    assert_int_equal(next_block(), NONE);
    assert_int_equal(again, now + 100);
    now += 60;
    assert_int_equal(next_block(), NONE);
    add_of(1, 101, false);
    assert_int_equal(next_block(), 101);
    assert_int_equal(elevator.waits, 1);
    assert_int_equal(elevator.waits_won, 1);
    assert_int_equal(next_block(), 9000); /* nothing has ended: it doesn't wait */

    start(ELEVATOR_ANTICIPATORY, 0); /* not for longer than that */
    a_read_has_ended(100);
    add_of(2, 9000, false);
    assert_int_equal(next_block(), NONE);
    now = again;
    assert_int_equal(next_block(), 9000);
    assert_int_equal(elevator.waits_won, 0);

    start(ELEVATOR_ANTICIPATORY, 0); /* anybody's read nearby will do */
    a_read_has_ended(100);
    add_of(2, 110, false);
    assert_int_equal(next_block(), 110);

    start(ELEVATOR_ANTICIPATORY, 0); /* writes wait too, and aren't waited for */
    a_read_has_ended(100);
    add_of(1, 101, true);
    assert_int_equal(next_block(), NONE);

    start(ELEVATOR_ANTICIPATORY, 0); /* nor is anybody, after a write */
    struct elevator_io *io = add_of(1, 100, true);
    assert_ptr_equal(next(), io);
    elevator_done(&elevator, io, now);
    add_of(2, 9000, false);
    assert_int_equal(next_block(), 9000);
}

static void anticipation_ends_when_another_is_late(void **state)
{
    (void)state;
    start(ELEVATOR_ANTICIPATORY, 0);
    struct elevator_io *io = add_of(1, 100, false);
    assert_ptr_equal(next(), io);
    add_of(2, 9000, false);
    now += 950;
    elevator_done(&elevator, io, now);
    assert_int_equal(next_block(), NONE);
    assert_int_equal(again, now + 50); /* 9000 is late then */
    now = again;
    assert_int_equal(next_block(), 9000);
}

static void who_never_reads_on_is_not_waited_for(void **state)
{
    /* far away; or late */
    static const struct {
        uint64_t step, think;
    } sources[] = {{100, 10}, {1, 150}};
    (void)state;

    for (int i = 0; i < 2; i++) {
        start(ELEVATOR_ANTICIPATORY, 0);
        for (uint64_t k = 0; k < 5; k++) {
            a_read_has_ended(100 + k * sources[i].step);
            now += sources[i].think;
        }
        a_read_has_ended(1000);
        add_of(2, 9000, false);
        assert_int_equal(next_block(), 9000);
        /* And who has changed his ways is, after a while. */
        for (uint64_t k = 0; k < 40; k++) {
            a_read_has_ended(20000 + k);
            now += 10;
        }
        add_of(2, 90000, false);
        assert_int_equal(next_block(), NONE);
    }
}

static void all_that_comes_in_comes_out(void **state)
{
    const char *seed_text = getenv("ASYNCOW_SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 1;
    (void)state;

    print_message("ASYNCOW_SEED=%llu\n", (unsigned long long)seed);
    for (unsigned round = 0; round < 600; round++) {
        unsigned out = 0, seen[MAX] = {0};
        struct elevator_io *active = NULL;
        start((enum elevator_kind)(round % 3), round % 2 ? 4 * BLOCK : 0);
        while (out < MAX) {
            uint64_t r = splitmix_next(&seed);
            now += r % 40;
            if (used < MAX && (r >> 32) % 2)
                add_of((unsigned)(r >> 20 & 3), r >> 40 & 31, r >> 50 & 1);
            if (active && (r >> 34) % 2) {
                elevator_done(&elevator, active, now);
                active = NULL;
            } else if (!active && (active = next())) {
                uint64_t at = active->begin;
                for (struct elevator_io *m = active->first; m; m = m->member_next) {
                    assert_int_equal(m->offset, at);
                    assert_int_equal(m->write, active->write);
                    assert_int_equal(seen[m - ios]++, 0);
                    at += m->len;
                    out++;
                }
                assert_int_equal(at, active->end);
                assert_true(at - active->begin <= 4 * BLOCK);
            } else if (!active && again != UINT64_MAX && used == MAX) {
                assert_true(again > now && again <= now + 100);
                now = again;
            }
        }
        assert_int_equal(elevator.queued, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noop_keeps_the_order),
        cmocka_unit_test(neighbours_are_merged),
        cmocka_unit_test(deadline_goes_up_and_begins_again),
        cmocka_unit_test(reads_come_first_until_writes_are_starved),
        cmocka_unit_test(who_waited_too_long_is_next),
        cmocka_unit_test(anticipatory_waits_for_who_reads_on),
        cmocka_unit_test(anticipation_ends_when_another_is_late),
        cmocka_unit_test(who_never_reads_on_is_not_waited_for),
        cmocka_unit_test(all_that_comes_in_comes_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
