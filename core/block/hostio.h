/* One aio done here and now, blocking. Any thread. */
#ifndef ASYNCOW_HOSTIO_H
#define ASYNCOW_HOSTIO_H
#include "core/block/aio.h"

/* READ, WRITE: one attempt at what is left of it: bytes moved. Others: all of it, by
 * whatever way the file system knows: 0. Or -errno. */
int64_t hostio_run(struct aio *);

#endif
