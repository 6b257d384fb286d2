/* Reflinked if the file system can; else copied, hole by hole. copy.h. */
#include "harness/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int copy_range(int in, int out, off_t at, off_t end)
{
    enum { PIECE = 1 << 20 };
    char *buf = NULL;
    int ret = 0;

    while (at < end && !ret) {
        off_t to = at;
        ssize_t n =
            buf ? -1
                : copy_file_range(in, &(off_t){at}, out, &to, (size_t)(end - at), 0);
        if (n <= 0) { /* not on this file system: by hand */
            if (!buf && !(buf = malloc(PIECE)))
                return -ENOMEM;
            n = pread(in, buf, end - at < PIECE ? (size_t)(end - at) : PIECE, at);
            ssize_t wrote = n > 0 ? pwrite(out, buf, (size_t)n, at) : n;
            if (wrote >= 0 && wrote < n) {
                ret = -ENOSPC; /* what a short write means on a regular file */
                break;
            }
            n = wrote;
        }
        if (n < 0)
            ret = -errno;
        else if (!n)
            break; /* the file got shorter meanwhile */
        at += n;
    }
    free(buf);
    return ret;
}

static int copy_data(int in, int out, off_t size)
{
    int ret = ftruncate(out, size) < 0 ? -errno : 0;

    for (off_t at = 0; at < size && !ret;) {
        off_t data = lseek(in, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0)
            data = at; /* no such call here: all is data */
        off_t hole = lseek(in, data, SEEK_HOLE);
        if (hole < 0)
            hole = size;
        ret = copy_range(in, out, data, hole);
        at = hole;
    }
    return ret;
}

int image_copy(const char *path, char **copy, struct error *err)
{
    struct stat st;
    int in = open(path, O_RDONLY | O_CLOEXEC), out = -1, ret = 0;

    *copy = NULL;
    if (in < 0 || fstat(in, &st) < 0) {
        ret = error_set(err, -errno, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        ret = error_set(err, -EINVAL,
                        "%s: no regular file, so trials cannot work on copies of it",
                        path);
        goto out;
    }
    if (asprintf(copy, "%s.asyncow-XXXXXX", path) < 0) {
        *copy = NULL;
        ret = error_set(err, -ENOMEM, "out of memory");
        goto out;
    }
    out = mkostemp(*copy, O_CLOEXEC);
    if (out < 0) {
        ret = error_set(err, -errno, "%s: no copy can be made beside it: %s", path,
                        strerror(errno));
        free(*copy);
        *copy = NULL;
        goto out;
    }
    if (ioctl(out, FICLONE, in) < 0)
        ret = copy_data(in, out, st.st_size);
    if (!ret && fsync(out) < 0)
        ret = -errno;
    if (ret < 0)
        error_set(err, ret, "%s: copying it for a trial: %s", path, strerror(-ret));
out:
    if (in >= 0)
        close(in);
    if (out >= 0 && close(out) < 0 && !ret)
        ret = error_set(err, -errno, "%s: %s", *copy, strerror(errno));
    if (ret < 0 && *copy) {
        unlink(*copy);
        free(*copy);
        *copy = NULL;
    }
    return ret;
}
