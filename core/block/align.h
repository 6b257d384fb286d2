/* The alignment layer of direct files: align.c says who may be in flight with whom,
 * bounce.c moves what isn't aligned. */
#ifndef ASYNCOW_ALIGN_H
#define ASYNCOW_ALIGN_H
#include "core/block/file.h"

/* file->align > 1. false: it may go down as it is. true: taken; it goes down, or
 * completes, later. */
bool align_takes(struct loop *, struct aio *);
/* An aio with AIO_COUNTED or AIO_TRACKED is about to be delivered. */
void align_leave(struct aio *);
void align_cancel(struct aio *); /* state AIO_WAITS */

/* Moves it in aligned chunks, then finishes it. Its blocks are its own by now. */
void bounce_start(struct aio *);
void bounce_free(struct loop *);

/* More aio.flags: nobody else may change its blocks; nor anything behind them. */
enum { AIO_EXCLUSIVE = 16, AIO_TAIL = 32 };

static inline uint64_t block_down(uint64_t x, unsigned align)
{
    return x & ~(uint64_t)(align - 1);
}
static inline uint64_t block_up(uint64_t x, unsigned align)
{
    return block_down(x + align - 1, align);
}
static inline uint64_t aio_end(const struct aio *aio) { return aio->offset + aio->len; }

#endif
