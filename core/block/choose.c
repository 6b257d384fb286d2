/* Choosing an engine: choose.h says how. */
#include "core/block/choose.h"

#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/block/engine.h"

#define BLOCK 4096
#define TIMED 8       /* reads in one io_submit */
#define TIMED_TRIES 3 /* the quickest counts: another program may have had the CPU */

static __attribute__((format(printf, 2, 3))) void because(struct engine_choice *c,
                                                          const char *fmt, ...)
{
    size_t used = strlen(c->reason);
    va_list args;

    va_start(args, fmt);
    vsnprintf(c->reason + used, sizeof(c->reason) - used, fmt, args);
    va_end(args);
}

/* ---- what is below the file ---- */

static const struct {
    unsigned magic;
    const char *name;
    bool listed; /* step 3 */
} file_systems[] = {
    {0xef53, "ext4", true},
    {XFS_SUPER_MAGIC, "xfs", true},
    {TMPFS_MAGIC, "tmpfs", false},
    {BTRFS_SUPER_MAGIC, "btrfs", false},
    {NFS_SUPER_MAGIC, "nfs", false},
    {0x65735546, "fuse", false},
    {OVERLAYFS_SUPER_MAGIC, "overlayfs", false},
};
/* Step 4: disks proper, and not what is made of files or networks. */
static const char *const devices[] = {"sd", "hd", "vd", "xvd", "nvme", "mmcblk"};

struct below {
    char fs[24], device[32]; /* device "": none */
    bool fs_listed, device_listed, is_device;
    struct utsname kernel;
    unsigned major, minor;
};

static void find_device(struct below *b, dev_t dev)
{
    char link[64], target[256];
    const char *name;
    ssize_t n;

    snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    n = readlink(link, target, sizeof(target) - 1);
    if (n <= 0)
        return;
    target[n] = '\0';
    name = strrchr(target, '/');
    snprintf(b->device, sizeof(b->device), "%.31s", name ? name + 1 : target);
    for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
        b->device_listed |= !strncmp(b->device, devices[i], strlen(devices[i]));
}

static void look_below(struct below *b, const char *path)
{
    struct statfs fs;
    struct stat st;

    *b = (struct below){.fs = "unknown"};
    uname(&b->kernel);
    sscanf(b->kernel.release, "%u.%u", &b->major, &b->minor);
    if (!path || stat(path, &st) < 0)
        return;
    b->is_device = S_ISBLK(st.st_mode);
    find_device(b, b->is_device ? st.st_rdev : st.st_dev);
    if (b->is_device) {
        snprintf(b->fs, sizeof(b->fs), "block device");
        b->fs_listed = true;
        return;
    }
    if (statfs(path, &fs) < 0)
        return;
    snprintf(b->fs, sizeof(b->fs), "type %#lx", (unsigned long)fs.f_type);
    for (unsigned i = 0; i < sizeof(file_systems) / sizeof(file_systems[0]); i++) {
        if ((unsigned)fs.f_type != file_systems[i].magic)
            continue;
        snprintf(b->fs, sizeof(b->fs), "%s", file_systems[i].name);
        b->fs_listed = file_systems[i].listed;
    }
}

void engine_host(const char *path, char *text, unsigned size)
{
    struct below b;
    int n;

    look_below(&b, path);
    n = snprintf(text, size, "%s %s", b.kernel.sysname, b.kernel.release);
    if (path && n > 0 && (unsigned)n < size)
        snprintf(text + n, size - (unsigned)n, ", %s%s%s", b.fs,
                 *b.device ? " on " : "", b.device);
}

/* ---- auto ---- */

struct subject {
    struct env *env;
    const char *path;
    bool direct;
    struct blk_file *file;
    char *memory; /* TIMED blocks */
};

/* Reads the file's first block through it. */
static int try_engine(const struct subject *s, const char *name, struct error *err)
{
    struct loop_options lo = {.engine = name, .depth = TIMED};
    struct iovec iov = {s->memory, BLOCK};
    struct aio aio = {
        .op = AIO_READ, .file = s->file, .len = BLOCK, .iov = &iov, .iovcnt = 1};
    struct loop *loop;
    int ret = loop_create(&loop, s->env, &lo, err);

    if (ret < 0)
        return ret;
    ret = aio_run(loop, &aio);
    loop_destroy(loop);
    return ret < 0 ? error_set(err, ret, "engine %s: %s: read: %s", name, s->path,
                               strerror(-ret))
                   : 0;
}

/* One batch: how long io_submit took, and how long all of it did. */
static int time_batch(const struct subject *s, io_context_t ctx, uint64_t *submit_ns,
                      uint64_t *all_ns)
{
    uint64_t blocks = blk_size(s->file) / BLOCK, begin_ns;
    struct iocb cb[TIMED], *ptrs[TIMED];
    struct io_event events[TIMED];
    int n, got;

    for (unsigned i = 0; i < TIMED; i++) {
        uint64_t at = i * blocks / TIMED * BLOCK;
        io_prep_pread(&cb[i], blk_fd(s->file), s->memory + i * BLOCK, BLOCK,
                      (long long)at);
        ptrs[i] = &cb[i];
    }
    begin_ns = env_now_ns(s->env);
    n = io_submit(ctx, TIMED, ptrs);
    *submit_ns = env_now_ns(s->env) - begin_ns;
    if (n <= 0)
        return n < 0 ? n : -EAGAIN;
    do
        got = io_getevents(ctx, n, n, events, NULL);
    while (got == -EINTR);
    *all_ns = env_now_ns(s->env) - begin_ns;
    return got < 0 ? got : 0;
}

/* Asynchronous: it comes back well before the I/O is done. The first batch warms up. */
static bool submit_returns_early(const struct subject *s, struct engine_choice *c)
{
    uint64_t submit_ns = 0, all_ns = 1, submit = 0, all = 1;
    io_context_t ctx = NULL;
    int ret = io_setup(TIMED, &ctx);

    for (int i = 0; i <= TIMED_TRIES && ret == 0; i++) {
        ret = time_batch(s, ctx, &submit, &all);
        if (i == 0 || (ret == 0 && submit * all_ns < submit_ns * all))
            submit_ns = submit, all_ns = all;
    }
    if (ctx)
        io_destroy(ctx);
    if (ret < 0) {
        because(c, "not linux-aio: %s; ", strerror(-ret));
        return false;
    }
    because(c, "%slinux-aio: io_submit took %.0f of %.0f us; ",
            2 * submit_ns < all_ns ? "" : "not ", (double)submit_ns / 1e3,
            (double)all_ns / 1e3);
    return 2 * submit_ns < all_ns;
}

static bool linux_aio_suits(const struct subject *s, struct engine_choice *c)
{
    struct error err = {""};

    if (!s->direct)
        because(c, "not linux-aio: buffered I/O blocks in io_submit; ");
    else if (blk_size(s->file) < TIMED * BLOCK)
        because(c, "not linux-aio: the file is too small to see whether io_submit "
                   "blocks; ");
    else if (try_engine(s, "linux-aio", &err) < 0)
        because(c, "not linux-aio: %.100s; ", err.msg);
    else
        return submit_returns_early(s, c);
    return false;
}

static void choose_auto(const struct subject *s, struct engine_choice *c)
{
    struct error err = {""};

    if (try_engine(s, "io_uring", &err) == 0) {
        c->engine = "io_uring";
        because(c, "works here, and what would block goes to the kernel's workers");
        return;
    }
    because(c, "not io_uring: %.120s; ", err.msg);
    if (linux_aio_suits(s, c)) {
        c->engine = "linux-aio";
        because(c, "asynchronous here");
    } else if (err.msg[0] = '\0', try_engine(s, "threads", &err) == 0) {
        c->engine = "threads";
        because(c, "threads work everywhere");
    } else {
        c->engine = "sync";
        because(c, "not threads: %.60s; sync always works", err.msg);
    }
}

/* ---- auto=recipe ---- */

static void choose_recipe(const struct subject *s, struct engine_choice *c)
{
    struct below b;

    look_below(&b, s->path);
    c->engine = "posix-aio";
    if (!s->direct) /* opening succeeded already, as it was asked for */
        because(c, "step 1: no O_DIRECT");
    else if (!b.fs_listed) /* step 2 found out what is tested here */
        because(c, "step 3: %s is not on the list of file systems", b.fs);
    else if (!b.device_listed)
        because(c, "step 4: %s is not on the list of devices",
                *b.device ? b.device : "what is below");
    else if (b.major < 2 || (b.major == 2 && b.minor < 6))
        because(c, "step 5: Linux %s is too old", b.kernel.release);
    else
        c->engine = "linux-aio";
    if (!strcmp(c->engine, "linux-aio"))
        because(c, "O_DIRECT on %s on %s, Linux %s; step 6: aligned to %u bytes", b.fs,
                b.device, b.kernel.release, blk_align(s->file));
}

/* ---- both ---- */

bool engine_is_choice(const char *name)
{
    return !strcmp(name, "auto") || !strcmp(name, "auto=recipe");
}

static int open_subject(struct subject *s, struct error *err)
{
    struct blk_options bo = {.direct = s->direct, .no_lock = true, .env = s->env};
    int ret = blk_open(&s->file, s->path, &bo, err);

    if (ret < 0)
        return ret;
    if (posix_memalign((void **)&s->memory, BLOCK, TIMED * BLOCK) != 0) {
        blk_close(s->file);
        return error_set(err, -ENOMEM, "%s: out of memory", s->path);
    }
    memset(s->memory, 0, TIMED * BLOCK);
    return 0;
}

static void close_subject(struct subject *s)
{
    free(s->memory);
    blk_close(s->file);
}

int engine_choose(struct engine_choice *c, const char *how, struct env *env,
                  const char *path, bool direct, struct error *err)
{
    struct subject s = {.env = env, .path = path, .direct = direct};
    int ret;

    *c = (struct engine_choice){0};
    if (!engine_is_choice(how))
        return error_set(err, -EINVAL, "engine %s: auto or auto=recipe would be", how);
    ret = open_subject(&s, err);
    if (ret < 0)
        return ret;
    if (!strcmp(how, "auto"))
        choose_auto(&s, c);
    else
        choose_recipe(&s, c);
    close_subject(&s);
    return 0;
}

int engine_try(struct engine_choice *c, const char *name, struct env *env,
               const char *path, bool direct, struct error *err)
{
    struct subject s = {.env = env, .path = path, .direct = direct};
    int ret = open_subject(&s, err);

    *c = (struct engine_choice){.engine = name};
    if (ret < 0)
        return ret;
    ret = try_engine(&s, name, err);
    if (ret == 0 && !strcmp(name, "linux-aio")) {
        linux_aio_suits(&s, c);
        c->reason[strlen(c->reason) - 2] = '\0'; /* "; " */
    }
    close_subject(&s);
    return ret;
}
