/*
 * Writing an image, blocking. See writer.h. With one request at a time there is nobody
 * to wait for: what the core needs is I/O, done on the spot.
 */
#include "core/image/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/block/aio.h"
#include "core/image/decompress.h"
#include "core/image/reader.h"
#include "core/qcow2/qcow2.h"

enum { CHUNK = 1 << 20, CACHE = 2 << 20, GROW = 64 << 20 };

struct writer {
    struct image_node *node;
    struct qcow2 *q;      /* NULL: raw */
    struct reader *below; /* the backing chain; NULL: none */
    uint8_t *buf;         /* CHUNK and a cluster on either side */
};

static int zero_range(struct blk_file *f, uint64_t offset, uint64_t len)
{
    uint8_t *zeros = calloc(1, len < CHUNK ? len : CHUNK);
    int r = zeros ? 0 : -ENOMEM;

    while (!r && len) {
        uint64_t n = len < CHUNK ? len : CHUNK;
        r = blk_pwrite(f, offset, zeros, n);
        offset += n;
        len -= n;
    }
    free(zeros);
    return r;
}

static int copy_range(struct blk_file *f, uint64_t from, uint64_t to, uint64_t len)
{
    uint8_t *buf = malloc(len);
    int r = buf ? blk_pread(f, from, buf, len) : -ENOMEM;

    if (!r)
        r = blk_pwrite(f, to, buf, len);
    free(buf);
    return r;
}

static int do_io(struct writer *w, const struct qcow2_io *io)
{
    struct blk_file *f = w->node->file;

    switch (io->op) {
    case QCOW2_READ:
        return blk_pread(f, io->offset, io->buf, io->len);
    case QCOW2_WRITE:
        return blk_pwrite(f, io->offset, io->buf, io->len);
    case QCOW2_FLUSH:
        return blk_flush(f);
    case QCOW2_ZERO:
        return zero_range(f, io->offset, io->len);
    case QCOW2_COPY:
        return copy_range(f, io->from, io->offset, io->len);
    case QCOW2_GROW: /* an optimisation: the writes that follow extend the file too */
        return blk_size(f) < io->offset + io->len
                   ? blk_truncate(f, io->offset + io->len)
                   : 0;
    default: /* PUNCH: nothing is given back here; refcounts say it is free */
        return 0;
    }
}

/* Settles one need: 0: repeat the verb. */
static int settle(struct writer *w, int verdict, struct qcow2_need *need)
{
    int r = verdict;

    if (verdict == QCOW2_NEED_IO)
        r = qcow2_io_done(w->q, &need->io, do_io(w, &need->io));
    else if (verdict == QCOW2_NEED_WAIT) /* for whom? One request at a time. */
        r = -EDEADLK;
    while (qcow2_wake(w->q)) /* nobody sleeps */
        ;
    return r;
}

static int load(struct writer *w, struct error *err)
{
    struct image_node *n = w->node;
    struct qcow2_options o = {.inflight = 1,
                              .cache = CACHE,
                              .grow = GROW,
                              .file_size = blk_size(n->file),
                              .regular = blk_regular(n->file),
                              .write = true,
                              .no_backing = !n->backing};
    struct qcow2_ticket t = {0};
    struct qcow2_need need;
    int r = qcow2_open(&w->q, n->header, n->header_cluster, &o, err);

    while (!r && (r = qcow2_load(w->q, &t, &need, err)) > 0)
        r = settle(w, r, &need);
    return r;
}

int writer_create(struct writer **out, struct image_node *n, struct error *err)
{
    struct writer *w = calloc(1, sizeof(*w));
    uint64_t cluster = n->header ? 1ull << n->header->cluster_bits : 0;
    int r = w ? 0 : -ENOMEM;

    *out = NULL;
    if (!r) {
        w->node = n;
        w->buf = malloc(CHUNK + 2 * cluster);
        r = w->buf ? 0 : -ENOMEM;
        if (!r && n->backing)
            r = reader_create(&w->below, n->backing);
    }
    if (!r && n->format == IMAGE_QCOW2)
        r = load(w, err);
    if (r < 0) {
        error_set(err, r, "cannot open for write: %s", strerror(-r));
        if (w) {
            qcow2_free(w->q);
            reader_free(w->below);
            free(w->buf);
        }
        free(w);
        return r;
    }
    *out = w;
    return 0;
}

static int read_compressed(struct writer *w, const struct qcow2_extent *e, uint8_t *to)
{
    uint64_t cluster = qcow2_cluster_size(w->q);
    uint8_t *in = malloc(e->host_len), *out = malloc(cluster);
    int r = in && out ? blk_pread(w->node->file, e->host, in, e->host_len) : -ENOMEM;

    if (!r)
        r = image_decompress(qcow2_compression(w->q), in, e->host_len, out, cluster);
    if (!r)
        memcpy(to, out + e->cluster_skip, e->len);
    free(in);
    free(out);
    return r;
}

/* What surrounds a write inside its clusters. */
static int read_around(struct writer *w, const struct qcow2_extent *e, uint8_t *to,
                       struct error *err)
{
    if (!e->len)
        return 0;
    switch (e->type) {
    case QCOW2_DATA:
        return blk_pread(w->node->file, e->host, to, e->len);
    case QCOW2_COMPRESSED:
        return read_compressed(w, e, to);
    case QCOW2_BACKING:
        return reader_read(w->below, e->guest, to, e->len, err);
    default:
        memset(to, 0, e->len);
        return 0;
    }
}

static int write_part(struct writer *w, uint64_t guest, const void *data, uint64_t *len,
                      struct error *err)
{
    struct qcow2_write qw = {0};
    struct qcow2_need need;
    int r;

    while ((r = qcow2_plan(w->q, guest, *len, &qw, &need)) > 0)
        if ((r = settle(w, r, &need)) < 0)
            break;
    if (!r) {
        uint8_t *p = w->buf;
        uint64_t head = qw.cow[0].len, tail = qw.cow[1].len;
        *len = qw.len;
        r = read_around(w, &qw.cow[0], p, err);
        memcpy(p + head, data, qw.len);
        if (!r)
            r = read_around(w, &qw.cow[1], p + head + qw.len, err);
        if (!r)
            r = blk_pwrite(w->node->file, qw.host - head, p, head + qw.len + tail);
    }
    if (r < 0)
        qcow2_abort(w->q, &qw);
    else
        qcow2_commit(w->q, &qw);
    while (qcow2_wake(w->q))
        ;
    return r;
}

int writer_write(struct writer *w, uint64_t guest, const void *buf, uint64_t len,
                 struct error *err)
{
    const uint8_t *p = buf;
    int r;

    while (len) {
        uint64_t n = len < CHUNK ? len : CHUNK;
        r = w->q ? write_part(w, guest, p, &n, err)
                 : blk_pwrite(w->node->file, guest, p, n);
        if (r < 0)
            return error_set(err, r, "%s: cannot write at offset %" PRIu64 ": %s",
                             blk_path(w->node->file), guest, strerror(-r));
        p += n;
        guest += n;
        len -= n;
    }
    return 0;
}

static int zero_part(struct writer *w, uint64_t guest, uint64_t *len, bool *write)
{
    struct qcow2_ticket t = {0};
    struct qcow2_need need;
    enum qcow2_part part;
    uint64_t done = 0;
    int r;

    while ((r = qcow2_zero(w->q, &t, guest, *len, &done, &part, &need)) > 0)
        if ((r = settle(w, r, &need)) < 0) {
            qcow2_cancel(w->q, &t);
            break;
        }
    while (qcow2_wake(w->q))
        ;
    *len = done;
    *write = part == QCOW2_PART_WRITE;
    return r;
}

static int write_zeros(struct writer *w, uint64_t guest, uint64_t len,
                       struct error *err)
{
    uint64_t n = len < CHUNK ? len : CHUNK;
    void *zeros = calloc(1, n);
    int r = zeros ? 0 : -ENOMEM;

    for (uint64_t at = 0; !r && at < len; at += n) {
        n = len - at < CHUNK ? len - at : CHUNK;
        r = writer_write(w, guest + at, zeros, n, err);
    }
    free(zeros);
    return r;
}

int writer_zero(struct writer *w, uint64_t guest, uint64_t len, struct error *err)
{
    int r = 0;

    if (!w->q)
        r = zero_range(w->node->file, guest, len);
    while (w->q && !r && len) {
        uint64_t n = len;
        bool write = false;
        r = zero_part(w, guest, &n, &write);
        if (!r && write)
            r = write_zeros(w, guest, n, err);
        if (r < 0)
            break;
        guest += n;
        len -= n;
    }
    return r < 0 ? error_set(err, r, "%s: cannot write zeros at offset %" PRIu64 ": %s",
                             blk_path(w->node->file), guest, strerror(-r))
                 : 0;
}

/* What shuts the gate: a snapshot operation, a resize. */
static int operate(struct writer *w, struct qcow2_snapshot *s)
{
    struct qcow2_need need;
    int r;

    do {
        r = qcow2_snapshot_step(w->q, s, &need);
        if (r > 0) {
            if ((r = settle(w, r, &need)) < 0)
                qcow2_snapshot_failed(w->q, s, r);
            r = 0;
            s->tables_left = 1;
        }
    } while (!r && s->tables_left);
    while (qcow2_wake(w->q))
        ;
    return r;
}

int writer_discard(struct writer *w, uint64_t guest, uint64_t len, struct error *err)
{
    while (w->q && len) {
        struct qcow2_ticket t = {0};
        struct qcow2_need need;
        uint64_t done = 0;
        int r;

        while ((r = qcow2_discard(w->q, &t, guest, len, &done, &need)) > 0)
            if ((r = settle(w, r, &need)) < 0) {
                qcow2_cancel(w->q, &t);
                break;
            }
        while (qcow2_wake(w->q))
            ;
        if (r < 0)
            return error_set(err, r, "%s: cannot discard at offset %" PRIu64 ": %s",
                             blk_path(w->node->file), guest, strerror(-r));
        guest += done;
        len -= done;
    }
    return 0;
}

/* Zeros where a qcow2 shows anything else. */
static int erase(struct writer *w, uint64_t guest, uint64_t end, struct error *err)
{
    while (guest < end) {
        struct qcow2_extent e;
        struct qcow2_ticket t = {0};
        struct qcow2_need need;
        int r;

        while ((r = qcow2_map(w->q, &t, guest, end - guest, &e, &need)) > 0)
            if ((r = settle(w, r, &need)) < 0)
                break;
        if (r < 0)
            return error_set(err, r, "cannot map offset %" PRIu64 ": %s", guest,
                             strerror(-r));
        qcow2_unmap(w->q, &e);
        bool shows = e.type != QCOW2_HOLE &&
                     (e.type != QCOW2_BACKING || guest < w->node->backing->size);
        if (shows && (r = writer_zero(w, guest, e.len, err)) < 0)
            return r;
        guest += e.len;
    }
    return 0;
}

static int resize_core(struct writer *w, enum qcow2_snapshot_op part, uint64_t size,
                       struct error *err)
{
    struct qcow2_snapshot s = {.op = part, .size = size};
    int r = operate(w, &s);

    switch (r) {
    case 0:
        return 0;
    case -ENOTSUP:
        return error_set(err, r,
                         "version 2 does not record the size of the disk in "
                         "its snapshots: delete them first");
    case -EFBIG:
        return error_set(err, r,
                         "size %" PRIu64 ": the L1 table would be larger than "
                         "is allowed; clusters of %" PRIu64 " bytes are too small",
                         size, qcow2_cluster_size(w->q));
    default:
        return error_set(err, r, "%s", strerror(-r));
    }
}

int writer_resize(struct writer *w, uint64_t size, struct error *err)
{
    uint64_t old = w->node->size;
    int r = 0;

    if (!w->q) {
        r = blk_truncate(w->node->file, size);
        return r < 0 ? error_set(err, r, "%s", strerror(-r)) : 0;
    }
    /* What is cut off or added comes first, the size last: whatever stops it half way,
     * the disk has its old size, or the new one and zeros where it grew. */
    r = resize_core(w, QCOW2_RESIZE_BEGIN, size, err);
    if (!r && size < old) {
        uint64_t c = qcow2_cluster_size(w->q), whole = (size + c - 1) & ~(c - 1);
        r = erase(w, size, whole < old ? whole : old, err);
        if (!r && whole < old)
            r = writer_discard(w, whole, old - whole, err);
    }
    if (!r)
        r = erase(w, old, size, err);
    if (!r)
        r = resize_core(w, QCOW2_RESIZE, size, err);
    if (!r)
        w->node->size = size;
    return r;
}

static const char *why_not(const struct writer *w, int r, char *buf, size_t len)
{
    switch (r) {
    case -ENOENT:
        return "no such snapshot";
    case -ERANGE:
        snprintf(buf, len,
                 "refcount_bits is %u: a cluster that one more snapshot would share "
                 "cannot count it",
                 1u << w->node->header->refcount_order);
        return buf;
    case -ENOTSUP:
        return "the disk had another size when it was made";
    case -EFBIG:
        return "the table of snapshots, or of refcounts, would be larger than is "
               "allowed";
    default:
        return strerror(-r);
    }
}

int writer_snapshot(struct writer *w, enum qcow2_snapshot_op op, const char *name,
                    uint64_t now_ns, struct error *err)
{
    struct qcow2_snapshot s = {.op = op,
                               .name = name,
                               .date_sec = (uint32_t)(now_ns / 1000000000),
                               .date_nsec = (uint32_t)(now_ns % 1000000000)};
    char buf[128];
    int r = operate(w, &s);

    return r < 0 ? error_set(err, r, "%s", why_not(w, r, buf, sizeof(buf))) : 0;
}

static int close_core(struct writer *w)
{
    struct qcow2_ticket t = {0};
    struct qcow2_need need;
    int r;

    while ((r = qcow2_close_sync(w->q, &t, &need)) > 0)
        if ((r = settle(w, r, &need)) < 0) {
            qcow2_cancel(w->q, &t);
            break;
        }
    uint64_t end = qcow2_file_end(w->q);
    if (!r && blk_regular(w->node->file) && blk_size(w->node->file) != end)
        r = blk_truncate(w->node->file, end);
    qcow2_free(w->q);
    return r;
}

int writer_finish(struct writer *w, struct error *err)
{
    int r = w->q ? close_core(w) : 0;

    if (!r)
        r = blk_flush(w->node->file);
    reader_free(w->below);
    free(w->buf);
    free(w);
    return r < 0 ? error_set(err, r, "cannot finish writing: %s", strerror(-r)) : 0;
}
