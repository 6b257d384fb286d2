/*
 * A FUSE file system with one file, served from memory by a child process that speaks
 * the kernel's protocol; no library. The test is skipped where mounting is forbidden.
 */
#ifndef ASYNCOW_FUSE_MOUNT_H
#define ASYNCOW_FUSE_MOUNT_H
#include <linux/fuse.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/block/block_test.h"

enum { FUSE_FILE_ID = 2, FUSE_SIZE_MAX = 8 << 20, FUSE_WRITE_MAX = 1 << 17 };

static struct {
    int fd;
    uint64_t size;
    char data[FUSE_SIZE_MAX];
} fuse;

static inline void fuse_reply(const struct fuse_in_header *in, int error,
                              const void *body, size_t len)
{
    struct fuse_out_header out = {
        .len = (uint32_t)(sizeof(out) + len), .error = error, .unique = in->unique};
    struct iovec iov[2] = {{&out, sizeof(out)}, {(void *)(uintptr_t)body, len}};

    if (writev(fuse.fd, iov, len ? 2 : 1) < 0 && errno != ENOENT)
        _exit(1); /* ENOENT: nobody waits for it any more */
}

static inline struct fuse_attr fuse_attr_of(uint64_t id)
{
    bool file = id == FUSE_FILE_ID;

    return (struct fuse_attr){.ino = id,
                              .size = file ? fuse.size : 0,
                              .blocks = file ? fuse.size / 512 : 0,
                              .mode = file ? S_IFREG | 0600 : S_IFDIR | 0700,
                              .nlink = 1,
                              .blksize = 4096};
}

static inline void fuse_init(const struct fuse_in_header *in, const void *body)
{
    const struct fuse_init_in *i = body;
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                .minor = FUSE_KERNEL_MINOR_VERSION,
                                .max_readahead = i->max_readahead,
                                .flags = FUSE_BIG_WRITES | FUSE_ASYNC_READ,
                                .max_background = 16,
                                .congestion_threshold = 12,
                                .max_write = FUSE_WRITE_MAX};

    fuse_reply(in, 0, &out, sizeof(out));
}

static inline void fuse_resize(uint64_t size)
{
    if (size > fuse.size)
        memset(fuse.data + fuse.size, 0, size - fuse.size);
    fuse.size = size;
}

static inline void fuse_write(const struct fuse_in_header *in, const void *body)
{
    const struct fuse_write_in *w = body;
    struct fuse_write_out out = {.size = w->size};

    if (w->offset > FUSE_SIZE_MAX || w->size > FUSE_SIZE_MAX - w->offset) {
        fuse_reply(in, -ENOSPC, NULL, 0);
        return;
    }
    if (w->offset + w->size > fuse.size)
        fuse_resize(w->offset + w->size);
    memcpy(fuse.data + w->offset, w + 1, w->size);
    fuse_reply(in, 0, &out, sizeof(out));
}

static inline void fuse_read(const struct fuse_in_header *in, const void *body)
{
    const struct fuse_read_in *r = body;
    uint64_t left = r->offset < fuse.size ? fuse.size - r->offset : 0;

    fuse_reply(in, 0, fuse.data + r->offset, left < r->size ? (size_t)left : r->size);
}

static inline void fuse_attr_reply(const struct fuse_in_header *in, const void *body)
{
    const struct fuse_setattr_in *s = body;
    struct fuse_attr_out out = {.attr_valid = 1};

    if (in->opcode == FUSE_SETATTR && s->valid & FATTR_SIZE) {
        if (s->size > FUSE_SIZE_MAX) {
            fuse_reply(in, -EFBIG, NULL, 0);
            return;
        }
        fuse_resize(s->size);
    }
    out.attr = fuse_attr_of(in->nodeid);
    fuse_reply(in, 0, &out, sizeof(out));
}

static inline void fuse_serve_one(const struct fuse_in_header *in, const void *body)
{
    struct fuse_entry_out entry = {.nodeid = FUSE_FILE_ID,
                                   .entry_valid = 1,
                                   .attr_valid = 1,
                                   .attr = fuse_attr_of(FUSE_FILE_ID)};
    struct fuse_open_out opened = {.fh = 1};
    struct fuse_statfs_out fs = {.st = {.bsize = 4096, .namelen = 255, .frsize = 4096}};

    switch (in->opcode) {
    case FUSE_INIT:
        fuse_init(in, body);
        break;
    case FUSE_LOOKUP:
        if (strcmp(body, "file"))
            fuse_reply(in, -ENOENT, NULL, 0);
        else
            fuse_reply(in, 0, &entry, sizeof(entry));
        break;
    case FUSE_GETATTR:
    case FUSE_SETATTR:
        fuse_attr_reply(in, body);
        break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        fuse_reply(in, 0, &opened, sizeof(opened));
        break;
    case FUSE_READ:
        fuse_read(in, body);
        break;
    case FUSE_WRITE:
        fuse_write(in, body);
        break;
    case FUSE_STATFS:
        fuse_reply(in, 0, &fs, sizeof(fs));
        break;
    case FUSE_FLUSH:
    case FUSE_FSYNC:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        fuse_reply(in, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break; /* want no answer */
    default:
        fuse_reply(in, -ENOSYS, NULL, 0);
        break;
    }
}

static inline __attribute__((noreturn)) void fuse_serve(void)
{
    static char request[FUSE_WRITE_MAX + 8192] __attribute__((aligned(8)));

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        ssize_t n = read(fuse.fd, request, sizeof(request));

        if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
            continue;
        if (n < 0)
            _exit(errno != ENODEV); /* ENODEV: unmounted */
        fuse_serve_one((void *)request, request + sizeof(struct fuse_in_header));
    }
}

/* dir is made, and has one file of `size` bytes of zeros: dir/file. Returns the
 * server. */
static inline pid_t fuse_mount(const char *dir, uint64_t size)
{
    char options[100];
    pid_t pid;

    fuse.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u",
             fuse.fd, geteuid(), getegid());
    if (fuse.fd < 0 || mkdir(dir, 0700) < 0 ||
        mount("asyncow-test", dir, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
        print_message("skipped: mounting FUSE isn't permitted here: %s\n",
                      strerror(errno));
        if (fuse.fd >= 0)
            close(fuse.fd);
        skip();
    }
    fuse.size = size;
    pid = fork();
    if (pid == 0)
        fuse_serve();
    close(fuse.fd);
    return pid;
}

static inline void fuse_unmount(const char *dir, pid_t server)
{
    int status;

    assert_int_equal(umount2(dir, 0), 0);
    assert_int_equal(waitpid(server, &status, 0), server);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
