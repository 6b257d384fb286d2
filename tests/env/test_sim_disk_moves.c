/*
 * Intent: the simulated disk's times are those that one works out by hand: seek, rotation,
 * transfer, switches in sequence without a pause, reading ahead; and the seek curve has the
 * mean that it was told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/block/sim_disk.h"

#define US 1000u
#define MS 1000000u

/* One turn takes 10 ms and passes 10000 bytes: a byte a microsecond. The curve is
 * 1 ms + 12 ms sqrt(x). */
static const struct sim_disk_model disk = {.rpm = 6000,
                                           .cylinders = 10002,
                                           .heads = 2,
                                           .track_bytes = 10000,
                                           .seek_track_ns = 1 * MS,
                                           .seek_average_ns = 7400 * US,
                                           .seek_full_ns = 13 * MS,
                                           .head_switch_ns = 500 * US,
                                           .interface = 1000000};

static struct sim_arm arm;
static uint64_t at(uint64_t now_us, uint64_t offset, uint64_t len, bool write)
{
    uint64_t done = sim_disk_access(&disk, &arm, now_us * US, offset, len, write);

    assert_int_equal(done % US, 0);
    return done / US;
}

static void rotation_and_transfer(void **state)
{
    (void)state;
    arm = (struct sim_arm){0};
    assert_int_equal(at(0, 0, 1000, false), 1000);
    assert_int_equal(at(1000, 1000, 1000, false), 2000);  /* right under the head */
    assert_int_equal(at(2000, 3000, 1000, false), 4000);  /* waits for 1000 bytes */
    assert_int_equal(at(4000, 1000, 1000, false), 12000); /* nearly a turn */
    assert_int_equal(at(12001, 2000, 1, false), 22001);   /* just missed */
}

static void sequences_pass_without_a_pause(void **state)
{
    (void)state;
    arm = (struct sim_arm){0};
    /* 500 bytes, a head switch, 500 bytes: the next track begins so much later */
    assert_int_equal(at(9500, 9500, 1000, false), 11000);
    assert_int_equal(arm.head, 1);
    assert_int_equal(at(11000, 10500, 1000, false), 12000);
    /* ... and across a cylinder: 500 bytes, 1 ms, 500 bytes */
    assert_int_equal(at(20000, 19500, 1000, false), 22000);
    assert_int_equal(arm.cylinder, 1);
    assert_int_equal(at(22000, 20500, 9500, false), 31500); /* to the track's end, */
    assert_int_equal(at(31500, 30000, 100, false),
                     32100); /* the switch not counted twice */
    /* Two whole cylinders in one go: four turns, two switches of heads, one of
     * cylinders. */
    arm = (struct sim_arm){0};
    assert_int_equal(at(0, 0, 40000, true), 40000 + 2 * 500 + 1000);
}

static void seeks(void **state)
{
    (void)state;
    assert_int_equal(sim_disk_seek_ns(&disk, 0), 0);
    assert_int_equal(sim_disk_seek_ns(&disk, 1), 1 * MS);
    assert_in_range(sim_disk_seek_ns(&disk, 101), 2200 * US - 100, 2200 * US);
    assert_in_range(sim_disk_seek_ns(&disk, 2501), 7 * MS - 100, 7 * MS);
    assert_int_equal(sim_disk_seek_ns(&disk, 10001), 13 * MS);

    /* From cylinder 0 to the first byte of cylinder 2501. Its angle: 2501 head switches and
     * as many cylinder switches, 3751.5 ms, so 1.5 ms. The arm is there after 7 ms. */
    arm = (struct sim_arm){0};
    assert_int_equal(at(0, 2501ull * 20000, 500, false), 11500 + 500);
    assert_int_equal(arm.cylinder, 2501);
    /* The other head's track begins now, but the switch takes 0.5 ms: a turn later. */
    assert_int_equal(at(12000, 2501ull * 20000 + 10000, 500, false), 22500);
}

static void a_command_costs(void **state)
{
    struct sim_disk_model d = disk;
    (void)state;
    d.command_ns = 300 * US;
    arm = (struct sim_arm){0};
    /* What lies right under the head is gone by when the command has been taken. */
    assert_int_equal(sim_disk_access(&d, &arm, 0, 0, 100, true), 10100 * US);
    assert_int_equal(sim_disk_access(&d, &arm, 0, 400, 100, true), 500 * US);
}

/* The mean over all pairs of cylinders, each as likely, is what the curve was told. */
static void the_mean_seek_is_the_given_one(void **state)
{
    static const uint64_t figures[][3] = {{1 * MS, 7400 * US, 13 * MS},
                                          {1 * MS, 12 * MS, 20 * MS},
                                          {800 * US, 8500 * US, 18 * MS}};
    (void)state;

    for (int i = 0; i < 3; i++) {
        struct sim_disk_model d = disk;
        d.seek_track_ns = figures[i][0];
        d.seek_average_ns = figures[i][1];
        d.seek_full_ns = figures[i][2];
        double sum = 0, n = (double)d.cylinders;
        uint64_t last = 0;
        for (uint64_t x = 1; x < d.cylinders; x++) {
            uint64_t t = sim_disk_seek_ns(&d, x);
            assert_true(t >= last); /* further is never quicker */
            last = t;
            sum += (double)t * 2 * (n - (double)x) / (n * (n - 1));
        }
        assert_true(sum > 0.999 * (double)figures[i][1] &&
                    sum < 1.001 * (double)figures[i][1]);
        assert_int_equal(last, figures[i][2]);
    }
}

static struct sim_disk_model ahead;
static uint64_t read_us(uint64_t now_us, uint64_t offset, uint64_t len)
{
    return sim_disk_access(&ahead, &arm, now_us * US, offset, len, false) / US;
}

static void reading_ahead(void **state)
{
    uint64_t done;
    (void)state;
    ahead = disk;
    ahead.readahead = 4000;
    arm = (struct sim_arm){0};
    assert_int_equal(read_us(0, 0, 1000), 1000);
    /* In the buffer long since: a byte a microsecond over the wire. */
    assert_int_equal(read_us(5000, 1000, 1000), 5000 + 1000);
    /* About to come: at 4700 of the turn that began at 0; then the wire. */
    arm = (struct sim_arm){0};
    read_us(0, 0, 1000);
    assert_int_equal(read_us(2000, 4000, 700), 4700 + 700);
    /* Each read lets it go on further: a stream never waits for the platter. */
    arm = (struct sim_arm){0};
    done = read_us(0, 0, 1000);
    for (uint64_t offset = 1000; offset < 30000; offset += 1000)
        done = read_us(done + 50, offset, 1000);
    assert_true(done < 30 * 1000 + 30 * 1100 + 2000);
    /* But what lies far behind is forgotten. */
    assert_true(read_us(done + 50, 0, 100) > done + 50 + 150);
    /* It stopped where it was told to: the rest needs the platter. */
    arm = (struct sim_arm){0};
    read_us(0, 0, 1000);
    assert_int_equal(read_us(8000, 4500, 1000), 15500);
    /* A write ends it; what was read on is forgotten, and the arm is where it got to. */
    arm = (struct sim_arm){0};
    read_us(0, 0, 1000);
    assert_int_equal(sim_disk_access(&ahead, &arm, 2000 * US, 9000, 100, true),
                     9100 * US);
    assert_int_equal(read_us(9100, 1000, 100), 11100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotation_and_transfer),
        cmocka_unit_test(sequences_pass_without_a_pause),
        cmocka_unit_test(seeks),
        cmocka_unit_test(a_command_costs),
        cmocka_unit_test(the_mean_seek_is_the_given_one),
        cmocka_unit_test(reading_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
