/*
 * Requests that a direct file can't take as they are, moved through an aligned buffer.
 *
 * Chunk by chunk, one I/O at a time: a read takes the blocks and copies out; a change
 * reads the blocks it covers in part (at most two, the first and the last), copies in
 * and writes. That nobody else changes those blocks meanwhile is align.c's doing. A
 * partial block at the end of the file is written whole and what is too much cut off.
 *
 * Buffers are kept on the loop's free list: as many as were ever needed at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/block/align.h"

#define BOUNCE_SIZE (128u << 10)
#define BOUNCE_ALIGN 65536 /* the most filealign_probe() lets pass */

struct bounce {
    struct aio io; /* what goes down; one after the other */
    struct aio *user;
    struct bounce *next; /* on the loop's free list */
    struct iovec iov;
    uint64_t at;                     /* the user's request is done up to here */
    uint64_t begin, end;             /* this chunk's blocks */
    uint64_t size_before;            /* of the file */
    enum { HEAD, TAIL, DATA } phase; /* of the chunk */
    struct loop_work cut;
    int result;
    char *buf;
};

static struct bounce *bounce_get(struct loop *loop)
{
    struct bounce *b = loop->bounces;

    if (b) {
        loop->bounces = b->next;
        return b;
    }
    b = calloc(1, sizeof(*b));
    if (b && posix_memalign((void **)&b->buf, BOUNCE_ALIGN, BOUNCE_SIZE)) {
        free(b);
        b = NULL;
    }
    return b;
}

static void bounce_put(struct loop *loop, struct bounce *b)
{
    b->next = loop->bounces;
    loop->bounces = b;
}

void bounce_free(struct loop *loop)
{
    struct bounce *b;

    while ((b = loop->bounces)) {
        loop->bounces = b->next;
        free(b->buf);
        free(b);
    }
}

static void bounce_end(struct bounce *b)
{
    struct aio *user = b->user;
    int result = b->result;

    bounce_put(user->loop, b);
    aio_finish(user, result);
}

static void cut_run(struct loop_work *work)
{
    struct bounce *b = (struct bounce *)((char *)work - offsetof(struct bounce, cut));
    struct blk_file *f = b->user->file;
    uint64_t want = b->at > b->size_before ? b->at : b->size_before;
    int ret = 0;

    if (blk_size(f) > want)
        ret = f->sim ? sim_file_truncate(f->sim, want)
                     : (ftruncate(f->fd, (off_t)want) < 0 ? -errno : 0);
    if (b->result == 0)
        b->result = ret;
}

static void cut_done(struct loop_work *work)
{
    bounce_end((struct bounce *)((char *)work - offsetof(struct bounce, cut)));
}

static void bounce_stop(struct bounce *b, int result)
{
    b->result = result;
    if (b->user->flags & AIO_TAIL) {
        b->cut.fn = cut_run;
        b->cut.done = cut_done;
        loop_work(b->user->loop, &b->cut);
    } else {
        bounce_end(b);
    }
}

static void bounce_done(struct aio *io);

static void bounce_io(struct bounce *b, enum aio_op op, uint64_t begin, uint64_t end)
{
    struct aio *io = &b->io;

    io->op = op;
    io->file = b->user->file;
    io->offset = begin;
    io->len = end - begin;
    io->iov = NULL;
    io->iovcnt = 0;
    if (op == AIO_READ || op == AIO_WRITE) {
        b->iov.iov_base = b->buf + (begin - b->begin);
        b->iov.iov_len = (size_t)io->len;
        io->iov = &b->iov;
        io->iovcnt = 1;
    }
    io->metadata = b->user->metadata;
    io->done = bounce_done;
    aio_prepare(b->user->loop, io);
    aio_below_align(b->user->loop, io);
}

/* The user's bytes in this chunk. */
static uint64_t part_end(const struct bounce *b)
{
    uint64_t end = aio_end(b->user);

    return end < b->end ? end : b->end;
}

static void write_chunk(struct bounce *b)
{
    struct aio *user = b->user;
    char *to = b->buf + (b->at - b->begin);
    size_t len = (size_t)(part_end(b) - b->at);

    if (user->op == AIO_ZERO)
        memset(to, 0, len);
    else
        iov_to_buf(user->iov, user->iovcnt, (size_t)(b->at - user->offset), to, len);
    bounce_io(b, AIO_WRITE, b->begin, b->end);
}

/* Reads what the request covers only in part, at either end, then writes. */
static void change_chunk(struct bounce *b)
{
    unsigned align = b->user->file->align;
    bool head = b->at > b->begin, tail = part_end(b) < b->end;

    if (b->phase == HEAD && head) {
        bounce_io(b, AIO_READ, b->begin, b->begin + align);
        return;
    }
    if (b->phase == HEAD)
        b->phase = TAIL;
    if (b->phase == TAIL && tail && !(head && b->end - b->begin == align)) {
        bounce_io(b, AIO_READ, b->end - align, b->end);
        return;
    }
    b->phase = DATA;
    write_chunk(b);
}

static void next_chunk(struct bounce *b)
{
    struct aio *user = b->user;
    unsigned align = user->file->align;
    uint64_t end = aio_end(user), most = BOUNCE_SIZE;

    if (b->at >= end) {
        bounce_stop(b, 0);
        return;
    }
    b->phase = HEAD;
    b->begin = block_down(b->at, align);
    if (user->op == AIO_DISCARD) { /* a device: whole blocks, it is advice */
        b->begin = block_up(b->at, align);
        b->end = block_down(end, align);
        if (b->begin < b->end)
            bounce_io(b, AIO_DISCARD, b->begin, b->end);
        else
            bounce_stop(b, 0);
        return;
    }
    if (user->op == AIO_ZERO) {
        most = align;
        if (b->begin == b->at && end - b->at >= align) {
            b->phase = DATA;
            b->end = block_down(end, align);
            bounce_io(b, AIO_ZERO, b->begin, b->end);
            return;
        }
    }
    b->end = block_up(end, align);
    if (b->end - b->begin > most)
        b->end = b->begin + most;
    if (user->op == AIO_READ)
        bounce_io(b, AIO_READ, b->begin, b->end);
    else
        change_chunk(b);
}

static void bounce_done(struct aio *io)
{
    struct bounce *b = (struct bounce *)((char *)io - offsetof(struct bounce, io));
    struct aio *user = b->user;

    if (io->result < 0) {
        bounce_stop(b, io->result);
        return;
    }
    if (user->op == AIO_DISCARD) {
        b->at = aio_end(user);
    } else if (user->op == AIO_READ) {
        iov_from_buf(user->iov, user->iovcnt, (size_t)(b->at - user->offset),
                     b->buf + (b->at - b->begin), (size_t)(part_end(b) - b->at));
        b->at = part_end(b);
    } else if (b->phase == DATA) {
        b->at = part_end(b);
    } else {
        b->phase++;
        change_chunk(b);
        return;
    }
    next_chunk(b);
}

void bounce_start(struct aio *user)
{
    struct bounce *b = bounce_get(user->loop);

    user->state = AIO_STARTED;
    if (!b) {
        aio_finish(user, -ENOMEM);
        return;
    }
    b->user = user;
    b->at = user->offset;
    b->size_before = user->flags & AIO_TAIL ? blk_size(user->file) : 0;
    next_chunk(b);
}
