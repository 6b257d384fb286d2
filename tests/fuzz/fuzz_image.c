/*
 * libFuzzer: any bytes as an image file. Opened, loaded, mapped, read, checked; then
 * written through the core and checked again; then repaired. Nothing may crash, hang or
 * grow without bound, and an image that was sound before is sound after.
 *
 * The file is a memfd, so that a run costs no disk. What it names as its backing file
 * is never opened.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/block/aio.h"
#include "core/image/bitmaps.h"
#include "core/image/chain.h"
#include "core/image/check.h"
#include "core/image/reader.h"
#include "core/image/snapshots.h"
#include "core/image/writer.h"
#include "core/qcow2/qcow2.h"

enum { STEPS = 300, READ_MAX = 4 << 20, GUEST_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct env *env;

static void settle(struct qcow2 *q, struct blk_file *f, struct qcow2_need *need, int *r)
{
    if (*r == QCOW2_NEED_IO)
        *r = need->io.op == QCOW2_READ
                 ? qcow2_io_done(
                       q, &need->io,
                       blk_pread(f, need->io.offset, need->io.buf, need->io.len))
                 : -EPROTO; /* who only reads owes no other I/O */
    else
        *r = -EDEADLK;
    if (*r == -EPROTO || *r == -EDEADLK)
        abort();
    while (qcow2_wake(q))
        ;
}

/* Walks the disk with the core as a reader would. */
static void walk_core(struct image_node *n)
{
    struct qcow2_options o = {.inflight = 4,
                              .cache = 1 << 16,
                              .file_size = blk_size(n->file),
                              .regular = true,
                              .no_backing = true};
    struct qcow2_ticket t = {0};
    struct qcow2_need need;
    struct error err = {""};
    struct qcow2 *q;
    int r = qcow2_open(&q, n->header, n->header_cluster, &o, &err);

    if (r < 0)
        return;
    while ((r = qcow2_load(q, &t, &need, &err)) > 0) {
        settle(q, n->file, &need, &r);
        if (r < 0)
            break;
    }
    uint64_t at = 0, end = qcow2_size(q);
    for (unsigned i = 0; !r && i < STEPS && at < end; i++) {
        struct qcow2_extent e;
        uint64_t len = end - at < 1 << 20 ? end - at : 1 << 20;
        int m;
        while ((m = qcow2_map(q, &t, at, len, &e, &need)) > 0)
            settle(q, n->file, &need, &m);
        if (m == 0) {
            if (e.len == 0 || e.len > len)
                abort();
            len = e.len;
            qcow2_unmap(q, &e);
        }
        at += len;
    }
    qcow2_free(q);
}

static void walk_reader(struct image_node *n)
{
    struct reader_status s;
    struct reader *rd;
    static uint8_t buf[GUEST_MAX];
    uint64_t at = 0, left = READ_MAX;

    if (reader_create(&rd, n) < 0)
        return;
    for (unsigned i = 0; i < STEPS && at < n->size; i++) {
        struct error err = {""};
        if (reader_status(rd, at, n->size - at, 0, &s, &err) < 0) {
            if (!err.msg[0])
                abort();
            at += 512;
            continue;
        }
        if (s.len == 0 || s.len > n->size - at)
            abort();
        uint64_t len = s.len < GUEST_MAX ? s.len : GUEST_MAX;
        if (len <= left && reader_read(rd, at, buf, len, &err) == 0)
            left -= len;
        at += s.len;
    }
    reader_free(rd);
}

static void walk_tables(struct image_node *n)
{
    struct snapshot_reader s;
    struct bitmap_reader b;
    struct error err = {""};

    snapshots_start(&s, n->file, n->header);
    while (snapshots_next(&s, &err) > 0)
        ;
    snapshots_end(&s);
    bitmaps_start(&b, n->file, n->header);
    while (bitmaps_next(&b, &err) > 0)
        ;
}

static int check(const char *path, unsigned repair, struct check_result *res)
{
    struct blk_options o = {.env = env, .write = repair, .no_lock = true};
    struct error err = {""};
    struct blk_file *f;

    if (blk_open(&f, path, &o, &err) < 0)
        return -1;
    int r = image_check(f, repair, res, NULL, NULL, &err);
    if (r < 0 && !err.msg[0])
        abort();
    blk_close(f);
    return r < 0 ? r : res->corruptions || res->check_errors;
}

/* A few writes and zeroes that the input chooses. */
static void write_some(const char *path, const uint8_t *data, size_t size)
{
    struct chain_options o = {.env = env,
                              .write = true,
                              .no_lock = true,
                              .no_backing = true,
                              .format = "qcow2"};
    static uint8_t buf[GUEST_MAX];
    struct error err = {""};
    struct image_node *n;
    struct writer *w;

    memset(buf, 0x5a, sizeof(buf));
    if (chain_open(&n, path, &o, &err) < 0)
        return;
    if (n->size && writer_create(&w, n, &err) == 0) {
        for (size_t i = 0; i + 4 <= size && i < 32; i += 4) {
            uint64_t at = (uint64_t)(data[i] << 8 | data[i + 1]) * 4096 % n->size;
            uint64_t len = 1 + (uint64_t)(data[i + 2] << 8 | data[i + 3]);
            if (len > n->size - at)
                len = n->size - at;
            struct error ignored = {""};
            if (data[i] & 1)
                writer_zero(w, at, len, &ignored);
            else
                writer_write(w, at, buf, len, &ignored);
        }
        writer_finish(w, &err);
    }
    chain_close(n);
}

static void read_all(const char *path)
{
    struct chain_options o = {.env = env, .no_lock = true, .no_backing = true};
    struct error err = {""};
    struct image_node *n;

    if (chain_open(&n, path, &o, &err) < 0) {
        if (!err.msg[0])
            abort();
        return;
    }
    walk_reader(n);
    if (n->format == IMAGE_QCOW2) {
        walk_core(n);
        walk_tables(n);
    }
    chain_close(n);
}

static void say(void *opaque, const char *line)
{
    (void)opaque;
    fprintf(stderr, "%s\n", line);
}

/* Says what check finds, keeps the file, ends. */
static void broken(const char *path, const char *what)
{
    struct blk_options o = {.env = env, .no_lock = true};
    struct check_result res;
    struct error err = {""};
    struct blk_file *f;
    char command[256];

    fprintf(stderr, "%s:\n", what);
    if (blk_open(&f, path, &o, &err) == 0)
        image_check(f, 0, &res, say, NULL, &err);
    snprintf(command, sizeof(command), "cp /proc/%d/%s broken.qcow2", getpid(),
             path + strlen("/proc/self/"));
    if (err.msg[0] || system(command) != 0)
        fprintf(stderr, "%s\n", err.msg);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct check_result res;
    char path[64];

    if (!env)
        env = env_real(0);
    int fd = memfd_create("image", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    read_all(path);
    bool sound = check(path, 0, &res) == 0;
    write_some(path, data + size / 2, size - size / 2);
    if (sound && check(path, 0, &res) != 0)
        broken(path, "sound before our own writes, now not");
    if (check(path, CHECK_REPAIR_LEAKS | CHECK_REPAIR_ERRORS, &res) == 0 &&
        check(path, 0, &res) != 0)
        broken(path, "repair said that all is well");
    close(fd);
    return 0;
}
