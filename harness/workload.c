/* Offsets and directions, one request after the other: workload.h. */
#include "harness/workload.h"

#include <errno.h>
#include <stdlib.h>

static int region(struct workload *w, const struct job *j, uint64_t disk,
                  struct error *err)
{
    uint64_t start = j->offset.set ? amount_of(&j->offset, disk) : 0, size;

    if (j->offset.is_percent)
        start -= start % j->bs;
    if (start >= disk)
        return error_set(err, -EINVAL,
                         "offset: %llu lies beyond the disk of %llu bytes",
                         (unsigned long long)start, (unsigned long long)disk);
    size = j->size.set ? amount_of(&j->size, disk) : disk - start;
    if (j->size.is_percent && size > disk - start)
        size = disk - start;
    if (size > disk - start)
        return error_set(err, -EINVAL,
                         "size: offset %llu + size %llu exceeds the disk of %llu bytes",
                         (unsigned long long)start, (unsigned long long)size,
                         (unsigned long long)disk);
    if (size < j->bs)
        return error_set(err, -EINVAL,
                         "size: the region of %llu bytes is less than bs=%llu",
                         (unsigned long long)size, (unsigned long long)j->bs);
    w->start = start;
    w->blocks = size / j->bs;
    return 0;
}

/* Requests in one pass over the region: with rw=write:NR, as many as find room. */
static uint64_t one_pass(const struct workload *w)
{
    uint64_t stride;

    if (w->rw.random || !w->rw.skip)
        return w->blocks;
    if (__builtin_add_overflow(w->bs, w->rw.skip, &stride))
        return 1;
    return (w->blocks - 1) * w->bs / stride + 1;
}

int workload_init(struct workload *w, const struct job *j, uint64_t disk_size,
                  uint64_t seed, struct error *err)
{
    *w = (struct workload){.rw = j->rw,
                           .bs = j->bs,
                           .mix_read = (unsigned)j->rwmixread,
                           .map = j->rw.random && !j->norandommap && !j->rw.skip,
                           .streams = (unsigned)j->streams,
                           .rng = {seed},
                           .seed = seed};
    int ret = region(w, j, disk_size, err);
    if (ret < 0)
        return ret;
    if (w->streams > 1) {
        w->stream_position = calloc(w->streams, sizeof(*w->stream_position));
        if (!w->stream_position)
            return error_set(err, -ENOMEM, "out of memory");
        if (w->blocks / w->streams == 0)
            return error_set(err, -EINVAL,
                             "streams: %u: the region has only %llu blocks", w->streams,
                             (unsigned long long)w->blocks);
    }
    if (w->map)
        permute_init(&w->permute, w->blocks, seed);
    if (j->time_based)
        w->requests = UINT64_MAX;
    else if (j->io_size.set)
        w->requests = amount_of(&j->io_size, w->blocks * j->bs) / j->bs;
    else if (__builtin_mul_overflow(one_pass(w), j->loops, &w->requests))
        w->requests = UINT64_MAX;
    if (w->rw.trim_first && !j->io_size.set && w->requests < UINT64_MAX / 2)
        w->requests *= 2; /* each block is trimmed and written */
    if (j->number_ios && j->number_ios < w->requests)
        w->requests = j->number_ios;
    return 0;
}

static uint64_t sequential(struct workload *w, enum load_dir dir)
{
    uint64_t at = w->position[dir], size = w->blocks * w->bs;

    if (at > size - w->bs)
        at = 0; /* the region is gone round again */
    w->position[dir] = at + w->bs + w->rw.skip;
    return at;
}

/* Each stream has a part of the region. */
static uint64_t of_stream(struct workload *w)
{
    uint64_t size = w->blocks / w->streams * w->bs,
             *next = &w->stream_position[w->stream];
    uint64_t at = *next;

    if (at > size - w->bs)
        at = 0;
    *next = at + w->bs + w->rw.skip;
    return w->stream * size + at;
}

void workload_free(struct workload *w) { free(w->stream_position); }

static uint64_t random_block(struct workload *w)
{
    if (w->map) {
        if (w->index == w->blocks) {
            w->index = 0;
            permute_init(&w->permute, w->blocks, rng_mix(w->seed + ++w->pass));
        }
        return permute_at(&w->permute, w->index++);
    }
    if (w->row_left && w->row_block + 1 < w->blocks) {
        w->row_left--;
        return ++w->row_block;
    }
    w->row_left = w->rw.skip ? w->rw.skip - 1 : 0;
    return w->row_block = rng_below(&w->rng, w->blocks);
}

static enum load_dir direction(struct workload *w)
{
    if (w->rw.read && w->rw.write)
        return rng_below(&w->rng, 100) < w->mix_read ? LOAD_READ : LOAD_WRITE;
    return w->rw.trim ? LOAD_TRIM : w->rw.write ? LOAD_WRITE : LOAD_READ;
}

enum load_dir workload_next(struct workload *w, uint64_t *offset)
{
    if (w->write_due) {
        w->write_due = false;
        *offset = w->due_offset;
        return LOAD_WRITE;
    }
    enum load_dir dir = direction(w);
    *offset = w->start + (w->rw.random         ? random_block(w) * w->bs
                          : w->stream_position ? of_stream(w)
                                               : sequential(w, dir));
    w->write_due = w->rw.trim_first;
    w->due_offset = *offset;
    return dir;
}
