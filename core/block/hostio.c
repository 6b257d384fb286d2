/*
 * The blocking system calls behind an aio, with the fallbacks of file systems that lack
 * one: used by the sync engine, the threads engine's workers and the helper pool.
 */
#include "core/block/hostio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/block/file.h"

#define ZEROS 65536
static char zeros[ZEROS] __attribute__((aligned(4096))); /* never written */

static int64_t transfer(struct aio *aio)
{
    const struct iovec *iov;
    uint64_t offset;
    ssize_t n;
    int cnt, fd = aio->file->fd;
    size_t len = engine_piece(aio, &iov, &cnt, &offset);

    do {
        if (cnt == 1 && aio->op == AIO_READ)
            n = pread(fd, iov->iov_base, len, (off_t)offset);
        else if (cnt == 1)
            n = pwrite(fd, iov->iov_base, len, (off_t)offset);
        else if (aio->op == AIO_READ)
            n = preadv(fd, iov, cnt, (off_t)offset);
        else
            n = pwritev(fd, iov, cnt, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int try_fallocate(struct blk_file *f, int mode, uint64_t offset, uint64_t len)
{
    int ret;

    do
        ret = fallocate(f->fd, mode, (off_t)offset, (off_t)len);
    while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : 0;
}

/* The call or the mode is missing here, as opposed to having failed. */
static bool lacking(int ret)
{
    return ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -ENOTTY || ret == -ENODEV ||
           ret == -EINVAL;
}

static int device_range(struct blk_file *f, unsigned long request, uint64_t offset,
                        uint64_t len)
{
    uint64_t range[2] = {offset, len};

    return ioctl(f->fd, request, range) < 0 ? -errno : 0;
}

static int discard(struct aio *aio)
{
    struct blk_file *f = aio->file;
    int ret = f->regular ? try_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                         aio->offset, aio->len)
                         : device_range(f, BLKDISCARD, aio->offset, aio->len);

    return lacking(ret) ? 0 : ret;
}

static int write_zeros(struct aio *aio)
{
    for (uint64_t at = 0; at < aio->len;) {
        size_t len = aio->len - at < ZEROS ? (size_t)(aio->len - at) : ZEROS;
        ssize_t n = pwrite(aio->file->fd, zeros, len, (off_t)(aio->offset + at));

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return -ENOSPC;
        at += n > 0 ? (uint64_t)n : 0;
    }
    return 0;
}

static int zero(struct aio *aio)
{
    struct blk_file *f = aio->file;
    uint64_t offset = aio->offset, len = aio->len;
    int ret = -EOPNOTSUPP;

    if (!f->regular)
        ret = device_range(f, BLKZEROOUT, offset, len);
    else if (!atomic_load_explicit(&f->no_zero_range, memory_order_relaxed))
        ret = try_fallocate(f, FALLOC_FL_ZERO_RANGE, offset, len);
    if (lacking(ret) && f->regular) {
        atomic_store_explicit(&f->no_zero_range, true, memory_order_relaxed);
        ret = try_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
        if (ret == 0)
            ret = try_fallocate(f, 0, offset, len);
    }
    return lacking(ret) ? write_zeros(aio) : ret;
}

static int grow(struct aio *aio)
{
    struct blk_file *f = aio->file;
    uint64_t end = aio->offset + aio->len;
    int ret;

    if (!f->regular)
        return 0;
    ret = try_fallocate(f, 0, aio->offset, aio->len);
    if (lacking(ret))
        ret = blk_size(f) >= end || ftruncate(f->fd, (off_t)end) == 0 ? 0 : -errno;
    return ret;
}

int64_t hostio_run(struct aio *aio)
{
    file_arrives(aio);
    switch (aio->op) {
    case AIO_READ:
    case AIO_WRITE:
        return transfer(aio);
    case AIO_FLUSH:
        return fdatasync(aio->file->fd) < 0 ? -errno : 0;
    case AIO_DISCARD:
        return aio->len ? discard(aio) : 0;
    case AIO_ZERO:
        return aio->len ? zero(aio) : 0;
    case AIO_GROW:
        return aio->len ? grow(aio) : 0;
    default:
        return -EINVAL;
    }
}
