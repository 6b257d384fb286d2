/*
 * Image locks that QEMU's programs see and respect, and the other way round.
 *
 * QEMU (docs/system/images, "disk image file locking") maps permissions to bytes of the
 * file and locks those, with shared OFD locks only: byte 100+i says "I use permission
 * i", byte 200+i says "I don't share permission i". After placing its own, a program
 * tests for the opposite: nobody may use what it doesn't share, nor refuse to share
 * what it uses. Two that conflict both place first and then test, so at least one of
 * them sees it.
 *
 * A reader uses consistent-read, a writer write and resize too; neither shares write
 * and resize. OFD locks belong to the open file: they go with the last close, a crash
 * included.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/block/file.h"

#define USED_BASE 100
#define UNSHARED_BASE 200

enum { PERM_READ = 1, PERM_WRITE = 2, PERM_UNCHANGED = 4, PERM_RESIZE = 8, PERMS = 4 };
static const char *const perm_name[PERMS] = {"consistent read", "write",
                                             "write unchanged", "resize"};

static struct flock one_byte(short type, int at)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
}

static int place(int fd, unsigned used, unsigned unshared)
{
    for (int i = 0; i < PERMS; i++) {
        struct flock use = one_byte(F_RDLCK, USED_BASE + i);
        struct flock keep = one_byte(F_RDLCK, UNSHARED_BASE + i);

        if ((used & 1u << i && fcntl(fd, F_OFD_SETLK, &use) < 0) ||
            (unshared & 1u << i && fcntl(fd, F_OFD_SETLK, &keep) < 0))
            return -errno;
    }
    return 0;
}

/* Would an exclusive lock meet somebody else's shared one? */
static bool held_by_other(int fd, int at)
{
    struct flock fl = one_byte(F_WRLCK, at);

    return fcntl(fd, F_OFD_GETLK, &fl) == 0 && fl.l_type != F_UNLCK;
}

int filelock_take(int fd, bool write, const char *path, struct error *err)
{
    unsigned used = PERM_READ | (write ? PERM_WRITE | PERM_RESIZE : 0);
    unsigned unshared = PERM_WRITE | PERM_RESIZE;
    int ret = place(fd, used, unshared);

    /* A file system without locks (some network ones): nobody can see ours. */
    if (ret == -EINVAL || ret == -ENOLCK || ret == -EOPNOTSUPP || ret == -ENOSYS)
        return 0;
    for (int i = 0; i < PERMS && ret == 0; i++) {
        if (unshared & 1u << i && held_by_other(fd, USED_BASE + i))
            return error_set(
                err, -EAGAIN,
                "%s: failed to get shared \"%s\" lock: another process has "
                "the image open for writing; close it there first",
                path, perm_name[i]);
        if (used & 1u << i && held_by_other(fd, UNSHARED_BASE + i))
            return error_set(err, -EAGAIN,
                             "%s: failed to get \"%s\" lock: another process has the "
                             "image open; close it there first",
                             path, perm_name[i]);
    }
    if (ret < 0)
        return error_set(err, ret, "%s: failed to lock: %s", path, strerror(-ret));
    return 0;
}

void filelock_release(int fd)
{
    struct flock all = {.l_type = F_UNLCK,
                        .l_whence = SEEK_SET,
                        .l_start = USED_BASE,
                        .l_len = UNSHARED_BASE + PERMS - USED_BASE};

    (void)fcntl(fd, F_OFD_SETLK, &all); /* not locked: nothing to do */
}
