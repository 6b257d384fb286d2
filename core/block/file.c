/*
 * Host files: opening, closing, counters and the blocking helpers.
 *
 * A blocking helper is an aio run on a private loop (engine sync; sim on a simulated
 * file), so it goes through alignment and filters like everything else, and waits its
 * turn behind what other loops have in flight. The private loops are kept with the
 * file, one per caller at the same time.
 */
#include "core/block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/block/filter.h"

/* ---- open ---- */

static int explain_open(struct error *err, const char *path,
                        const struct blk_options *o, int code)
{
    if (code == -EINVAL && o->direct)
        return error_set(err, -ENOTSUP,
                         "%s: this file system has no direct I/O (O_DIRECT); "
                         "open it buffered",
                         path);
    if (code == -EEXIST)
        return error_set(err, code,
                         "%s: exists already; overwriting it has to be asked "
                         "for",
                         path);
    return error_set(err, code, "%s: %s", path, strerror(-code));
}

static int check_kind(struct blk_file *f, const char *path, struct error *err)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    f->regular = S_ISREG(st.st_mode);
    if (!f->regular && !S_ISBLK(st.st_mode))
        return error_set(err, -EINVAL, "%s: neither a regular file nor a block device",
                         path);
    return 0;
}

static int open_real(struct blk_file *f, const char *path, const struct blk_options *o,
                     struct error *err)
{
    int flags = O_CLOEXEC | (o->write || o->create ? O_RDWR : O_RDONLY);
    int ret;

    if (o->direct)
        flags |= O_DIRECT;
    if (o->create) /* cut only once it is locked */
        flags |= O_CREAT | (o->truncate ? 0 : O_EXCL);
    /* Reads need leave no trace in the inode; only its owner may ask for that. */
    f->fd = open(path, flags | O_NOATIME, 0644);
    if (f->fd < 0 && errno == EPERM)
        f->fd = open(path, flags, 0644);
    if (f->fd < 0)
        return explain_open(err, path, o, -errno);
    ret = check_kind(f, path, err);
    if (ret == 0 && !o->no_lock)
        ret = filelock_take(f->fd, o->write || o->create, path, err);
    if (ret == 0 && o->create && o->truncate && f->regular && ftruncate(f->fd, 0) < 0)
        ret = error_set(err, -errno, "%s: truncate: %s", path, strerror(errno));
    /* tmpfs doesn't tell io_uring that it never waits for a device, so each I/O would
     * go to a kernel thread, at three times the cost; O_NONBLOCK tells. */
    if (ret == 0 && filealign_is_tmpfs(f->fd))
        fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) | O_NONBLOCK);
    if (ret == 0 && o->direct)
        ret = filealign_probe(f->fd, path, &f->align, &f->mem_align, err);
    return ret;
}

static int open_sim(struct blk_file *f, const char *path, const struct blk_options *o,
                    struct error *err)
{
    int ret = sim_file_open(&f->sim, o->env, path, o, err);

    if (ret < 0)
        return ret;
    f->regular = true;
    if (o->direct)
        f->align = f->mem_align = sim_file_align(f->sim);
    return 0;
}

static _Atomic uint64_t ids;

static int allocate(struct blk_file **out, const char *path)
{
    struct blk_file *f = calloc(1, sizeof(*f));

    if (!f)
        return -ENOMEM;
    f->id = atomic_fetch_add(&ids, 1) + 1;
    f->fd = -1;
    f->align = f->mem_align = 1;
    f->path = strdup(path);
    if (!f->path ||
        posix_memalign((void **)&f->shards, 128, LOOP_SLOTS * sizeof(*f->shards))) {
        free(f->path);
        free(f);
        return -ENOMEM;
    }
    memset(f->shards, 0, LOOP_SLOTS * sizeof(*f->shards));
    env_mutex_init(&f->track.lock);
    env_mutex_init(&f->helper_lock);
    *out = f;
    return 0;
}

int blk_open(struct blk_file **out, const char *path, const struct blk_options *o,
             struct error *err)
{
    struct blk_file *f;
    int ret = allocate(&f, path);

    if (ret < 0)
        return error_set(err, ret, "%s: out of memory", path);
    f->env = o->env;
    f->direct = o->direct;
    if (o->sim != o->env->simulated)
        ret = error_set(err, -EINVAL,
                        "%s: simulated time goes with simulated files, and "
                        "the machine with real ones",
                        path);
    if (ret == 0 && o->filters) {
        ret = filter_parse(&f->filters, o->env, o->filters, err);
        if (ret < 0)
            error_prefix(err, "%s", path);
    }
    if (ret == 0)
        ret = o->sim ? open_sim(f, path, o, err) : open_real(f, path, o, err);
    if (ret < 0) {
        blk_close(f);
        return ret;
    }
    *out = f;
    return 0;
}

int blk_open_memory(struct blk_file **out, struct env *env, struct blk_memory *m)
{
    int ret = allocate(out, "memory");

    if (ret < 0)
        return ret;
    (*out)->env = env;
    (*out)->memory = m;
    (*out)->regular = true;
    return 0;
}

int blk_close(struct blk_file *f)
{
    struct helper_loop *h;
    int ret = 0;

    if (!f)
        return 0;
    while ((h = f->helpers)) {
        f->helpers = h->next;
        loop_destroy(h->loop);
        free(h);
    }
    if (f->fd >= 0) {
        filelock_release(f->fd);
        if (close(f->fd) < 0)
            ret = -errno;
    }
    if (f->sim)
        ret = sim_file_close(f->sim);
    filter_close(f->filters);
    env_mutex_destroy(&f->track.lock);
    env_mutex_destroy(&f->helper_lock);
    free(f->shards);
    free(f->path);
    free(f);
    return ret;
}

/* ---- facts ---- */

const char *blk_path(const struct blk_file *f) { return f->path; }
bool blk_regular(const struct blk_file *f) { return f->regular; }
unsigned blk_align(const struct blk_file *f) { return f->align; }
int blk_fd(const struct blk_file *f) { return f->fd; }
struct sim_file *blk_sim(const struct blk_file *f) { return f->sim; }

void blk_count_arrivals(struct blk_file *f)
{
    atomic_store_explicit(&f->counts_arrivals, true, memory_order_relaxed);
}

uint64_t blk_size(const struct blk_file *f)
{
    struct stat st;
    uint64_t size;

    if (f->sim)
        return sim_file_size(f->sim);
    if (f->memory)
        return f->memory->size;
    if (f->regular)
        return fstat(f->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    return ioctl(f->fd, BLKGETSIZE64, &size) == 0 ? size : 0;
}

uint64_t blk_allocated(const struct blk_file *f)
{
    struct stat st;

    if (f->sim || f->memory)
        return blk_size(f);
    return fstat(f->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

bool blk_is_data(struct blk_file *f, uint64_t offset, uint64_t *len)
{
    off_t data, hole, at = (off_t)offset;

    if (f->sim)
        return sim_file_is_data(f->sim, offset, len);
    if (!f->regular || f->memory)
        return true;
    data = lseek(f->fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        return false; /* a hole up to the end of the file, or beyond it */
    if (data > at) {
        if ((uint64_t)(data - at) < *len)
            *len = (uint64_t)(data - at);
        return false;
    }
    hole = data < 0 ? -1 : lseek(f->fd, at, SEEK_HOLE);
    if (hole > at && (uint64_t)(hole - at) < *len)
        *len = (uint64_t)(hole - at);
    return true; /* also when the file system can't tell */
}

void blk_get_stats(const struct blk_file *f, struct blk_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    for (int i = 0; i < LOOP_SLOTS; i++) {
        struct blk_shard *s = &f->shards[i];

        for (int op = 0; op < AIO_OPS; op++) {
            stats->ios[op] += atomic_load_explicit(&s->ios[op], memory_order_relaxed);
            stats->bytes[op] +=
                atomic_load_explicit(&s->bytes[op], memory_order_relaxed);
        }
        stats->metadata_ios +=
            atomic_load_explicit(&s->metadata_ios, memory_order_relaxed);
    }
}

/* ---- blocking helpers ---- */

static struct helper_loop *helper_get(struct blk_file *f)
{
    struct loop_options options = {.engine = f->sim ? "sim" : "sync", .depth = 4};
    struct helper_loop *h;

    env_mutex_lock(f->env, &f->helper_lock);
    h = f->helpers;
    if (h)
        f->helpers = h->next;
    env_mutex_unlock(f->env, &f->helper_lock);
    if (h)
        return h;
    h = calloc(1, sizeof(*h));
    if (h && loop_create(&h->loop, f->env, &options, NULL) < 0) {
        free(h);
        h = NULL;
    }
    return h;
}

static void helper_put(struct blk_file *f, struct helper_loop *h)
{
    env_mutex_lock(f->env, &f->helper_lock);
    h->next = f->helpers;
    f->helpers = h;
    env_mutex_unlock(f->env, &f->helper_lock);
}

static int run_blocking(struct blk_file *f, enum aio_op op, uint64_t offset, void *buf,
                        size_t len)
{
    struct iovec iov = {buf, len};
    struct aio aio = {.op = op, .file = f, .offset = offset, .len = len};
    struct helper_loop *h;
    int ret;

    if (len == 0 && op != AIO_FLUSH)
        return 0;
    if (f->memory)
        return memory_io(f->memory, op, offset, buf, len);
    h = helper_get(f);
    if (!h)
        return -ENOMEM;
    if (buf) {
        aio.iov = &iov;
        aio.iovcnt = 1;
    }
    ret = aio_run(h->loop, &aio);
    helper_put(f, h);
    return ret;
}

int blk_pread(struct blk_file *f, uint64_t offset, void *buf, size_t len)
{
    return run_blocking(f, AIO_READ, offset, buf, len);
}

int blk_pwrite(struct blk_file *f, uint64_t offset, const void *buf, size_t len)
{
    return run_blocking(f, AIO_WRITE, offset, (void *)(uintptr_t)buf, len);
}

int blk_flush(struct blk_file *f) { return run_blocking(f, AIO_FLUSH, 0, NULL, 0); }

int blk_truncate(struct blk_file *f, uint64_t size)
{
    int ret;

    if (f->sim)
        return sim_file_truncate(f->sim, size);
    if (f->memory)
        return memory_truncate(f->memory, size);
    do
        ret = ftruncate(f->fd, (off_t)size);
    while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : 0;
}
