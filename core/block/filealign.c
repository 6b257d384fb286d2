/*
 * What alignment a direct file wants: asked of the kernel where it knows, else tried.
 *
 * statx (Linux 6.1) knows for the usual file systems and block devices; BLKSSZGET for
 * older kernels' block devices. tmpfs takes O_DIRECT and ignores it. Elsewhere reads
 * tell, but a read of nothing succeeds at any alignment: an empty file counts as 4096.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/block/file.h"

#define ALIGN_MAX 65536

static bool ask_statx(int fd, unsigned *align, unsigned *mem_align)
{
#ifdef STATX_DIOALIGN
    struct statx sx;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) < 0 ||
        !(sx.stx_mask & STATX_DIOALIGN) || sx.stx_dio_offset_align == 0)
        return false;
    *align = sx.stx_dio_offset_align;
    *mem_align = sx.stx_dio_mem_align;
    return true;
#else
    (void)fd, (void)align, (void)mem_align;
    return false;
#endif
}

static bool ask_device(int fd, unsigned *align, unsigned *mem_align)
{
    struct stat st;
    int size;

    if (fstat(fd, &st) < 0 || !S_ISBLK(st.st_mode) || ioctl(fd, BLKSSZGET, &size) < 0)
        return false;
    *align = *mem_align = (unsigned)size;
    return true;
}

bool filealign_is_tmpfs(int fd)
{
    struct statfs fs;
    struct stat st;

    /* /dev is one too, but what a device node stands for isn't. */
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fstatfs(fd, &fs) == 0 &&
           fs.f_type == TMPFS_MAGIC;
}

static int try_reads(int fd, unsigned *align, unsigned *mem_align)
{
    char *buf;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (posix_memalign((void **)&buf, ALIGN_MAX, ALIGN_MAX))
        return -ENOMEM;
    *align = *mem_align = st.st_size == 0 ? 4096 : 512;
    while (*align <= ALIGN_MAX && pread(fd, buf, *align, 0) < 0 && errno == EINVAL)
        *align *= 2;
    *mem_align = *align;
    free(buf);
    return *align <= ALIGN_MAX ? 0 : -EINVAL;
}

int filealign_probe(int fd, const char *path, unsigned *align, unsigned *mem_align,
                    struct error *err)
{
    int ret;

    if (filealign_is_tmpfs(fd)) {
        *align = *mem_align = 1;
        return 0;
    }
    if (!ask_statx(fd, align, mem_align) && !ask_device(fd, align, mem_align)) {
        ret = try_reads(fd, align, mem_align);
        if (ret < 0)
            return error_set(err, ret,
                             "%s: no alignment up to %d bytes works for direct "
                             "reads; open it buffered",
                             path, ALIGN_MAX);
    }
    if (*align > ALIGN_MAX || *align & (*align - 1))
        return error_set(err, -ENOTSUP,
                         "%s: direct I/O wants an alignment of %u bytes; "
                         "a power of two up to %d would do; open it buffered",
                         path, *align, ALIGN_MAX);
    return 0;
}
