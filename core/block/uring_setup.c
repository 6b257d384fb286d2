/*
 * Setting an io_uring up: each feature is tried, and done without where the kernel
 * lacks it, with a note. What the engine can't do without is an error that says which.
 */
#include "core/block/uring.h"

#include <errno.h>
#include <string.h>

const struct setting uring_settings[] = {
    {"taskrun", "defer|coop|now", "defer",
     "when the kernel finishes I/O: when the ring's one thread asks for it, when that "
     "thread next enters the kernel, or at once, by interrupting it"},
    {"sqpoll", "1..60000", "off",
     "a kernel thread polls for submissions, and sleeps after so many idle ms"},
    {"files", "plain|registered", "plain",
     "descriptors looked up for each I/O, or held by the ring"},
    {"buffers", "plain|registered", "plain",
     "the guest's memory mapped for each I/O, or once"},
    {0},
};

const char *const uring_features[] = {
    "taskrun=defer",    "taskrun=coop",       "taskrun=now", "sqpoll=1",
    "files=registered", "buffers=registered", NULL};

/* ---- the ring ---- */

struct way {
    const char *setting;
    unsigned flags;
};
/* From the newest kernel's to the oldest's; all with the ring disabled at first, so
 * that it belongs to the thread that turns the loop and not to the one that made it. */
static const struct way ways[] = {
#ifdef IORING_SETUP_DEFER_TASKRUN
    {"defer", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                  IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED},
#endif
#ifdef IORING_SETUP_COOP_TASKRUN
    {"coop",
     IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED},
#endif
    {"now", IORING_SETUP_R_DISABLED},
    {NULL, 0},
};

static int init_ring(struct uring *u, unsigned entries, const char *settings)
{
    const struct way *way = ways;
    int ret;

    while (way->setting &&
           !settings_is(uring_settings, settings, "taskrun", way->setting))
        way++;
    for (;; way++) {
        ret = io_uring_queue_init(entries, &u->ring, way->flags);
        if (ret != -EINVAL || !way->setting)
            return ret;
        engine_note(&u->base, "taskrun=%s: the kernel lacks it", way->setting);
    }
}

/* The kernel's thread runs all that taskrun is about. */
static bool init_polled(struct uring *u, unsigned entries, const char *settings)
{
    unsigned idle_ms = settings_number(uring_settings, settings, "sqpoll", 0);
    struct io_uring_params p = {.flags = IORING_SETUP_SQPOLL | IORING_SETUP_R_DISABLED,
                                .sq_thread_idle = idle_ms};
    int ret;

    if (!idle_ms)
        return false;
    ret = io_uring_queue_init_params(entries, &u->ring, &p);
    if (ret == 0 && !(p.features & IORING_FEAT_SQPOLL_NONFIXED)) {
        io_uring_queue_exit(&u->ring);
        ret = -EOPNOTSUPP; /* before Linux 5.11 it took registered files only */
    }
    if (ret < 0)
        engine_note(&u->base, "sqpoll: %s", strerror(-ret));
    return ret == 0;
}

static int explain(struct error *err, int ret)
{
    if (ret == -EPERM)
        return error_set(err, ret,
                         "engine io_uring: forbidden here (sysctl "
                         "kernel.io_uring_disabled, or a seccomp filter)");
    if (ret == -ENOSYS)
        return error_set(err, ret,
                         "engine io_uring: this kernel has none (Linux 5.6 does)");
    if (ret == -ENOMEM)
        return error_set(err, ret,
                         "engine io_uring: no memory for the rings; raise "
                         "ulimit -l");
    return error_set(err, ret, "engine io_uring: %s", strerror(-ret));
}

static int check_ops(struct io_uring *ring, struct error *err)
{
    static const struct {
        int op;
        const char *name;
    } needed[] = {
        {IORING_OP_READ, "read"},
        {IORING_OP_FALLOCATE, "fallocate"},
        {IORING_OP_FSYNC, "fsync"},
        {IORING_OP_POLL_ADD, "poll"},
    };
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    int ret = 0;

    if (!probe)
        return error_set(err, -ENOSYS,
                         "engine io_uring: the kernel can't list its "
                         "operations; Linux 5.6 is the oldest that will do");
    for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]) && ret == 0; i++)
        if (!io_uring_opcode_supported(probe, needed[i].op))
            ret = error_set(err, -ENOSYS, "engine io_uring: the kernel lacks %s",
                            needed[i].name);
    io_uring_free_probe(probe);
    return ret;
}

int uring_probe(struct error *err)
{
    struct uring u = {.enabled = false};
    int ret = init_ring(&u, 1, NULL);

    if (ret < 0)
        return explain(err, ret);
    ret = check_ops(&u.ring, err);
    io_uring_queue_exit(&u.ring);
    return ret;
}

/* ---- files and memory that the ring holds ---- */

static void set_up_files(struct uring *u)
{
    int none[URING_FILES], ret;

    memset(none, -1, sizeof(none));
    ret = io_uring_register_files(&u->ring, none, URING_FILES);
    u->register_files = ret == 0;
    if (ret < 0)
        engine_note(&u->base, "files=registered: %s", strerror(-ret));
}

int uring_add_file(struct uring *u, const struct blk_file *f)
{
    unsigned slot = u->next_file;
    int fd = f->fd, ret = io_uring_register_files_update(&u->ring, slot, &fd, 1);

    if (ret != 1) {
        engine_note(&u->base, "files=registered: %s: %s", f->path,
                    ret < 0 ? strerror(-ret) : "refused");
        u->register_files = false;
        return -1;
    }
    u->next_file = (slot + 1) % URING_FILES;
    u->file_id[slot] = f->id;
    return (int)slot;
}

static void set_up_memory(struct uring *u)
{
    int ret = io_uring_register_buffers_sparse(&u->ring, URING_BUFFERS);

    u->register_memory = ret == 0;
    if (ret < 0)
        engine_note(&u->base, "buffers=registered: %s (Linux 5.19 can)",
                    strerror(-ret));
}

static int update_buffer(struct uring *u, unsigned slot, struct iovec iov)
{
    __u64 tag = 0;
    int ret = io_uring_register_buffers_update_tag(&u->ring, slot, &iov, &tag, 1);

    return ret < 0 ? ret : 0;
}

static void forget_memory(struct uring *u)
{
    while (u->buffers)
        update_buffer(u, --u->buffers, (struct iovec){NULL, 0});
}

void uring_memory(struct engine *e, void *base, size_t len)
{
    struct uring *u = (struct uring *)e;
    struct iovec iov = {base, len};
    int ret;

    if (!base) {
        forget_memory(u);
        return;
    }
    if (!u->register_memory)
        return;
    ret = u->buffers == URING_BUFFERS ? -ENOSPC : update_buffer(u, u->buffers, iov);
    if (ret == 0)
        u->buffer[u->buffers++] = iov;
    else
        engine_note(e, "buffers=registered: %zu bytes: %s%s", len, strerror(-ret),
                    ret == -ENOMEM ? "; raise ulimit -l" : "");
}

/* ---- all of it ---- */

int uring_set_up(struct uring *u, unsigned entries, const char *settings,
                 struct error *err)
{
    int ret = 0;

    if (!init_polled(u, entries, settings))
        ret = init_ring(u, entries, settings);
    if (ret < 0)
        return explain(err, ret);
    ret = check_ops(&u->ring, err);
    if (ret < 0) {
        io_uring_queue_exit(&u->ring);
        return ret;
    }
    if (settings_is(uring_settings, settings, "files", "registered"))
        set_up_files(u);
    if (settings_is(uring_settings, settings, "buffers", "registered"))
        set_up_memory(u);
    return 0;
}
