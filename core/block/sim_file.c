/*
 * Simulated files: bytes in memory, by path, in their simulated world.
 *
 * A name that begins with "mem:" exists in memory only and lives as long as its world.
 * Any other names a real file too: its contents show through until they are changed
 * here (pages are read when first touched), and the last close of it writes what
 * changed back, if it was open for writing. In between the real file stays as it was,
 * but for being created or truncated as the open asked.
 *
 * No time passes here and nothing waits: engine_sim.c adds that. Real I/O on the file
 * behind blocks the whole world, and costs it nothing.
 */
#include "core/block/sim_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void file_free(struct sim_file *f)
{
    struct sim_file **p = &f->files->head;

    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    sim_pages_free(f);
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    free(f);
}

static void files_free(void *data)
{
    struct sim_files *files = data;

    while (files->head)
        file_free(files->head);
    free(files);
}

static struct sim_files *files_of(struct env *env)
{
    struct sim_slot *slot = sim_files(env);

    if (!slot->data) {
        slot->data = calloc(1, sizeof(struct sim_files));
        slot->free = files_free;
    }
    return slot->data;
}

/* The real file behind. Reading and writing: a file that one opens to read only may be
 * opened again to write. */
static int open_real(struct sim_file *f, const struct blk_options *o, struct error *err)
{
    int flags = O_CLOEXEC | (o->write ? O_RDWR : O_RDONLY);

    if (o->create)
        flags |= O_CREAT | (o->truncate ? O_TRUNC : O_EXCL);
    int fd = open(f->path, flags, 0644);
    if (fd < 0)
        return error_set(err, -errno, "%s: cannot open for the simulation: %s", f->path,
                         strerror(errno));
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0) {
        int ret = error_set(err, -errno, "%s: cannot find its size: %s", f->path,
                            strerror(errno));
        close(fd);
        return ret;
    }
    if (f->fd >= 0)
        close(f->fd);
    else
        f->size = f->base = (uint64_t)size;
    f->fd = fd;
    return 0;
}

static int open_known(struct sim_file *f, const struct blk_options *o,
                      struct error *err)
{
    if (o->create && !o->truncate)
        return error_set(err, -EEXIST, "%s: exists already", f->path);
    if (o->write && !f->write && f->fd >= 0) {
        struct blk_options again = {.write = true};
        int ret = open_real(f, &again, err);
        if (ret < 0)
            return ret;
    }
    f->write |= o->write;
    f->direct |= o->direct;
    f->opens++;
    return o->create ? sim_file_truncate(f, 0) : 0;
}

int sim_file_open(struct sim_file **out, struct env *env, const char *path,
                  const struct blk_options *o, struct error *err)
{
    struct sim_files *files = files_of(env);
    struct sim_file *f;
    int ret;

    if (!files)
        return error_set(err, -ENOMEM, "%s: out of memory", path);
    for (f = files->head; f && strcmp(f->path, path); f = f->next)
        ;
    if (f) {
        ret = open_known(f, o, err);
        *out = f;
        return ret;
    }
    bool memory = !strncmp(path, "mem:", 4);
    if (memory && !o->create)
        return error_set(err, -ENOENT, "%s: no such file in this simulation", path);
    f = calloc(1, sizeof(*f));
    if (!f || !(f->path = strdup(path))) {
        free(f);
        return error_set(err, -ENOMEM, "%s: out of memory", path);
    }
    f->files = files;
    f->next = files->head;
    files->head = f;
    f->number = files->opened++;
    f->fd = -1;
    f->write = o->write;
    f->direct = o->direct;
    f->opens = 1;
    ret = memory ? 0 : open_real(f, o, err);
    if (ret < 0)
        file_free(f);
    *out = ret < 0 ? NULL : f;
    return ret;
}

int sim_file_close(struct sim_file *f)
{
    int ret = 0;

    assert(f->opens > 0);
    if (--f->opens == 0 && f->fd >= 0) {
        ret = sim_pages_write_back(f);
        file_free(f);
    }
    return ret;
}
