/*
 * Seek, rotation, transfer: sim_disk.h.
 *
 * The seek curve goes through the three figures that data sheets give (Lee and Katz, "An
 * analytic performance model of disk arrays", SIGMETRICS 1993): over x of N cylinders
 *
 *     a sqrt(x - 1) + b (x - 1) + track
 *     a = (-10 track + 15 average - 5 full) / (3 sqrt(N))
 *     b = (  7 track - 15 average + 8 full) / (3 N)
 */
#include "core/block/sim_disk.h"

uint64_t sim_disk_revolution_ns(const struct sim_disk_model *d)
{
    return 60000000000u / d->rpm;
}

uint64_t sim_disk_capacity(const struct sim_disk_model *d)
{
    return d->cylinders * d->heads * d->track_bytes;
}

/* The whole part of the root. */
static uint64_t root(uint64_t n)
{
    uint64_t r = 0;

    for (uint64_t bit = 1ull << 31; bit; bit >>= 1)
        if ((r | bit) * (r | bit) <= n)
            r |= bit;
    return r;
}

uint64_t sim_disk_seek_ns(const struct sim_disk_model *d, uint64_t cylinders)
{
    int64_t track = (int64_t)d->seek_track_ns, average = (int64_t)d->seek_average_ns,
            full = (int64_t)d->seek_full_ns;

    if (cylinders == 0)
        return 0;
    if (d->cylinders <= 2)
        return d->seek_track_ns;
    /* The share of the way and its root, in 1/2^30. */
    uint64_t share = ((cylinders - 1) << 30) / (d->cylinders - 2);
    __int128 bent =
        (__int128)(-10 * track + 15 * average - 5 * full) * (int64_t)root(share << 30);
    __int128 straight =
        (__int128)(7 * track - 15 * average + 8 * full) * (int64_t)share;
    return (uint64_t)(track + (int64_t)((bent + straight) / 3 / (1 << 30)));
}

/* ---- where bytes are ---- */

struct place {
    uint64_t cylinder, head;
    uint64_t angle_ns; /* of its beginning */
};

static uint64_t skew_ns(const struct sim_disk_model *d, uint64_t track)
{
    uint64_t cylinder = track / d->heads;

    return (track - cylinder) * d->head_switch_ns + cylinder * d->seek_track_ns;
}

/* As if the disk were one endless track with gaps for the switches: when the byte begins,
 * counted from the disk's first. */
static uint64_t begins_ns(const struct sim_disk_model *d, uint64_t byte)
{
    uint64_t turn = sim_disk_revolution_ns(d), track = byte / d->track_bytes;

    return track * turn + byte % d->track_bytes * turn / d->track_bytes +
           skew_ns(d, track);
}

/* And when what lies before it has ended: no switch after the last byte of a track. */
static uint64_t ended_ns(const struct sim_disk_model *d, uint64_t byte)
{
    uint64_t turn = sim_disk_revolution_ns(d), track = (byte - 1) / d->track_bytes;

    if (byte == 0)
        return 0;
    return track * turn + (byte - track * d->track_bytes) * turn / d->track_bytes +
           skew_ns(d, track);
}

static struct place place_of(const struct sim_disk_model *d, uint64_t byte)
{
    uint64_t track = byte / d->track_bytes;

    return (struct place){.cylinder = track / d->heads,
                          .head = track % d->heads,
                          .angle_ns = begins_ns(d, byte) % sim_disk_revolution_ns(d)};
}

/* ---- the buffer ---- */

/* When what lies before byte will be or was in the buffer. */
static uint64_t buffered_ns(const struct sim_disk_model *d, const struct sim_arm *arm,
                            uint64_t byte)
{
    return byte <= arm->mark
               ? arm->mark_ns
               : arm->mark_ns + ended_ns(d, byte) - ended_ns(d, arm->mark);
}

static uint64_t wire_ns(const struct sim_disk_model *d, uint64_t len)
{
    return (uint64_t)((unsigned __int128)len * 1000000000u / d->interface);
}

/* Of a read: it finds in the buffer what it wants, or the drive is about to read it. */
static bool from_buffer(const struct sim_disk_model *d, struct sim_arm *arm,
                        uint64_t now_ns, uint64_t offset, uint64_t end,
                        uint64_t *done_ns)
{
    bool reading = now_ns <= buffered_ns(d, arm, arm->limit);

    if (arm->from == arm->limit || offset < arm->from || offset > arm->limit ||
        (end > arm->limit && !reading))
        return false;
    if (reading && end + d->readahead > arm->limit)
        arm->limit = end + d->readahead;
    if (arm->limit - arm->from > 2 * d->readahead) /* no room for what lies behind */
        arm->from = arm->limit - 2 * d->readahead;
    uint64_t ready_ns = buffered_ns(d, arm, end);
    *done_ns = now_ns + d->command_ns;
    if (*done_ns < ready_ns)
        *done_ns = ready_ns;
    *done_ns += wire_ns(d, end - offset);
    return true;
}

/* The arm is where reading on has brought it; that ends. */
static void stop_reading(const struct sim_disk_model *d, struct sim_arm *arm,
                         uint64_t now_ns)
{
    if (arm->from == arm->limit)
        return;
    uint64_t turn = sim_disk_revolution_ns(d), at = arm->limit;

    if (now_ns < buffered_ns(d, arm, at)) { /* switches on the way left out */
        uint64_t ran = now_ns > arm->mark_ns ? now_ns - arm->mark_ns : 0;
        uint64_t there = arm->mark + ran / turn * d->track_bytes +
                         ran % turn * d->track_bytes / turn;
        at = there < at ? there : at;
    }
    struct place p = place_of(d, at ? at - 1 : 0);
    arm->cylinder = p.cylinder;
    arm->head = p.head;
    arm->from = arm->limit;
}

/* ---- an access ---- */

uint64_t sim_disk_access(const struct sim_disk_model *d, struct sim_arm *arm,
                         uint64_t now_ns, uint64_t offset, uint64_t len, bool write)
{
    uint64_t turn = sim_disk_revolution_ns(d), end = offset + len, at_ns;

    if (!write && from_buffer(d, arm, now_ns, offset, end, &at_ns))
        return at_ns;
    stop_reading(d, arm, now_ns);
    struct place p = place_of(d, offset);
    uint64_t apart = p.cylinder > arm->cylinder ? p.cylinder - arm->cylinder
                                                : arm->cylinder - p.cylinder;
    at_ns = now_ns + d->command_ns;
    if (apart)
        at_ns += sim_disk_seek_ns(d, apart);
    else if (p.head != arm->head)
        at_ns += d->head_switch_ns;
    at_ns += (p.angle_ns + turn - at_ns % turn) % turn;
    at_ns += ended_ns(d, end) - begins_ns(d, offset);
    p = place_of(d, end - 1);
    arm->cylinder = p.cylinder;
    arm->head = p.head;
    if (!write && d->readahead) {
        arm->from = offset;
        arm->mark = end;
        arm->mark_ns = at_ns;
        arm->limit = end + d->readahead;
    }
    return at_ns;
}
