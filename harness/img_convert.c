/* `asyncow img convert`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/block/aio.h"
#include "core/image/chain.h"
#include "core/image/create.h"
#include "core/image/reader.h"
#include "core/image/writer.h"
#include "harness/img.h"

enum { CHUNK = 1 << 20, SECTOR = 512 };

struct conversion {
    struct img_options *o;
    const char *to;
    struct create_options create;
    bool size_given, exists; /* exists: -n */
    uint64_t sparse;         /* bytes of zeros that are left out; 0: none are */
    struct image_node *source, *target;
    struct reader *r;
    struct writer *w;
    uint8_t *buf;
};

static bool is_zero(const uint8_t *p, uint64_t len)
{
    return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

/* How many bytes from p on are all zero, or all to be written; in units of
 * c->sparse. */
static uint64_t run_length(const struct conversion *c, const uint8_t *p, uint64_t len,
                           bool *zero)
{
    uint64_t unit = c->sparse, at;

    *zero = false;
    if (!unit)
        return len;
    for (at = 0; at < len; at += unit) {
        uint64_t n = len - at < unit ? len - at : unit;
        bool z = is_zero(p + at, n);
        if (at && z != *zero)
            break;
        *zero = z;
    }
    return at < len ? at : len;
}

/* A new file reads zeros already; one that existed does not. */
static int put_zeros(struct conversion *c, uint64_t at, uint64_t len, struct error *err)
{
    return c->exists || !c->sparse ? writer_zero(c->w, at, len, err) : 0;
}

static int copy_data(struct conversion *c, uint64_t at, uint64_t len, struct error *err)
{
    int r = 0;

    for (uint64_t n; !r && len; at += n, len -= n) {
        bool zero;
        n = len < CHUNK ? len : CHUNK;
        r = reader_read(c->r, at, c->buf, n, err);
        for (uint64_t i = 0, k; !r && i < n; i += k) {
            k = run_length(c, c->buf + i, n - i, &zero);
            r = zero ? put_zeros(c, at + i, k, err)
                     : writer_write(c->w, at + i, c->buf + i, k, err);
        }
    }
    return r;
}

/* -S 0: everything is written, zeros too. */
static int copy_all(struct conversion *c, struct error *err)
{
    uint64_t size = c->source->size;
    struct reader_status s;
    int r = 0;

    if (size > c->target->size)
        return error_set(err, -ENOSPC,
                         "the target's disk of %" PRIu64
                         " bytes is smaller than %" PRIu64,
                         c->target->size, size);
    img_progress(c->o, 0, size);
    for (uint64_t at = 0; !r && at < size; at += s.len) {
        uint64_t want = size - at < 64 * CHUNK ? size - at : 64 * CHUNK;
        r = reader_status(c->r, at, want, 0, &s, err);
        if (r < 0)
            break;
        r = s.zero && c->sparse ? put_zeros(c, at, s.len, err)
                                : copy_data(c, at, s.len, err);
        img_progress(c->o, at + s.len, size);
    }
    if (!r && c->exists && c->target->size > size)
        r = put_zeros(c, size, c->target->size - size, err);
    return r;
}

static int make_raw(const struct conversion *c, struct error *err)
{
    struct blk_options bo = {
        .env = c->o->env, .write = true, .create = true, .truncate = true};
    struct blk_file *f;
    int r = blk_open(&f, c->to, &bo, err);

    if (r < 0)
        return r;
    if (blk_regular(f)) {
        r = blk_truncate(f, c->create.size);
        if (!r && c->create.preallocation != CREATE_SPARSE && c->create.size)
            r = create_fill(f, &c->create, 0, c->create.size, err);
    } else if (blk_size(f) < c->create.size) {
        r = -ENOSPC;
    }
    int closed = blk_close(f);
    return r ? r : closed;
}

static int make_target(struct conversion *c, struct error *err)
{
    const char *format = c->o->format2 ? c->o->format2 : "raw";
    bool qcow2 = !strcmp(format, "qcow2");

    if (!qcow2 && strcmp(format, "raw"))
        return error_set(err, -ENOTSUP,
                         "format '%s' is not supported (raw and qcow2 are)", format);
    if (c->exists)
        return 0;
    if (!c->size_given)
        c->create.size = c->source->size;
    return qcow2 ? image_create(c->to, &c->create, err) : make_raw(c, err);
}

static int open_target(struct conversion *c, struct error *err)
{
    struct chain_options co = {.env = c->o->env,
                               .write = true,
                               .allow_backing = true,
                               .format = c->o->format2 ? c->o->format2 : "raw"};
    int r = chain_open(&c->target, c->to, &co, err);

    if (!r && !blk_regular(c->target->file) && c->target->format == IMAGE_RAW)
        c->exists = true; /* a device: what was on it must go */
    return r ? r : writer_create(&c->w, c->target, err);
}

static int convert(struct conversion *c)
{
    const char *from = c->o->argv[0];
    struct error err = {""};
    bool made = false;
    int r = 0;

    if (img_open(c->o, &c->source, from, c->o->format,
                 (struct img_open){.backing = true}) < 0)
        return 1;
    if (img_target(c->o, &c->to, c->source)) {
        chain_close(c->source);
        return 1;
    }
    c->buf = malloc(CHUNK);
    if (!c->buf || reader_create(&c->r, c->source) < 0)
        r = error_set(&err, -ENOMEM, "out of memory");
    if (!r)
        r = make_target(c, &err);
    made = !r && !c->exists;
    if (!r)
        r = open_target(c, &err);
    if (!r)
        r = copy_all(c, &err);
    if (c->w) {
        int finished = writer_finish(c->w, r ? NULL : &err);
        r = r ? r : finished;
    }
    bool regular = c->target && blk_regular(c->target->file);
    int closed = chain_close(c->target);
    r = r ? r : closed;
    if (r < 0 && made && regular)
        unlink(c->to);
    reader_free(c->r);
    free(c->buf);
    chain_close(c->source);
    if (r < 0 && !err.msg[0]) /* all that reading can meet says so itself */
        return img_fail(c->o, "%s: %s", c->to, strerror(-r));
    return r < 0 ? img_fail(c->o, "%s", err.msg) : 0;
}

static int refuse(const struct img_options *o, int opt)
{
    static const struct {
        char letter;
        const char *what;
    } lacking[] = {{'c', "compressed output"},
                   {'B', "a backing file for the target"},
                   {'F', "a backing file for the target"},
                   {'l', "reading an internal snapshot"},
                   {'C', "copy offloading"},
                   {'r', "a rate limit"}};

    for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++)
        if (lacking[i].letter == opt)
            return img_fail(o, "-%c: %s is not supported", opt, lacking[i].what);
    return 0;
}

static int parse_sparse(struct conversion *c, const char *s)
{
    if (!img_parse_size(s, &c->sparse) || c->sparse % SECTOR || c->sparse > CHUNK)
        return img_fail(c->o, "-S %s: must be 0 or a multiple of 512 up to 1M", s);
    return 0;
}

int img_convert(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"force-share", no_argument, NULL, 'U'},
        {"bitmaps", no_argument, NULL, IMG_OPT_REFUSED},
        {"salvage", no_argument, NULL, IMG_OPT_REFUSED},
        {"target-is-zero", no_argument, NULL, IMG_OPT_REFUSED},
        {"target-image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"object", no_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    struct conversion c = {
        .o = o, .create = create_defaults(o->env, 0), .sparse = 4096};
    int opt, status = 0;

    while ((opt = img_getopt(o, argc, argv, ":hf:O:o:B:F:cCl:S:m:Wnpqt:T:r:U", longs,
                             &status)) > 0) {
        if (refuse(o, opt))
            return 1;
        if (opt == 'O')
            o->format2 = optarg;
        else if (opt == 'n')
            c.exists = true;
        else if (opt == 'S' && parse_sparse(&c, optarg))
            return 1;
        else if (opt == 'o' &&
                 img_create_option(o, &c.create, optarg, &c.create.size, &c.size_given))
            return 1; /* -m, -W, -t, -T: how, not what; one after the other here */
    }
    if (!opt)
        return status;
    if (img_need_files(o, 2, 2, "a source and a target file name"))
        return 1;
    if (c.create.backing)
        return img_fail(
            o, "-o backing_file: a backing file for the target is not supported");
    if (c.size_given)
        return img_fail(o, "-o size: the size is the source's");
    c.to = o->argv[1];
    return convert(&c);
}
