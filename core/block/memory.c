/*
 * Memory as a file, for whole-image work on an image that is in no file: the blocking
 * helpers alone work on it, at the cost of a memcpy. Nothing may be submitted to it.
 */
#include <errno.h>
#include <string.h>

#include "core/block/file.h"

int memory_io(struct blk_memory *m, enum aio_op op, uint64_t offset, void *buf,
              size_t len)
{
    uint64_t end;

    switch (op) {
    case AIO_READ:
        if (offset < m->size) {
            size_t n = len < m->size - offset ? len : (size_t)(m->size - offset);
            memcpy(buf, m->bytes + offset, n);
            memset((uint8_t *)buf + n, 0, len - n);
        } else {
            memset(buf, 0, len);
        }
        return 0;
    case AIO_WRITE:
        if (__builtin_add_overflow(offset, len, &end) || end > m->cap)
            return -ENOSPC;
        if (end > m->size)
            memory_truncate(m, end);
        memcpy(m->bytes + offset, buf, len);
        return 0;
    case AIO_FLUSH:
        return 0;
    default:
        return -ENOTSUP;
    }
}

int memory_truncate(struct blk_memory *m, uint64_t size)
{
    if (size > m->cap)
        return -ENOSPC;
    if (size > m->size)
        memset(m->bytes + m->size, 0, size - m->size);
    m->size = size;
    return 0;
}
