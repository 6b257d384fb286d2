/* The alignment layer of direct files: see align.c. */
#ifndef ASYNCOW_ALIGN_H
#define ASYNCOW_ALIGN_H
#include "core/block/loop_int.h"

/* file->align > 1. false: it may go down as it is. true: taken; it goes down, or
 * completes, later. */
bool align_takes(struct loop *, struct aio *);
/* An aio with AIO_COUNTED or AIO_TRACKED is about to be delivered. */
void align_leave(struct aio *);
void align_cancel(struct aio *); /* state AIO_WAITS */
void align_free_bounces(struct loop *);

#endif
