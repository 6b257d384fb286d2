/* `asyncow img create`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/block/aio.h"
#include "core/image/chain.h"
#include "core/image/create.h"
#include "harness/img.h"

static const char *const preallocations[] = {"off", "metadata", "falloc", "full"};

static int parse_onoff(const struct img_options *o, const char *name, const char *v,
                       bool *out)
{
    *out = !strcmp(v, "on") || !strcmp(v, "true") || !strcmp(v, "yes");
    if (*out || !strcmp(v, "off") || !strcmp(v, "false") || !strcmp(v, "no"))
        return 0;
    return img_fail(o, "%s=%s: must be on or off", name, v);
}

static int parse_compat(const struct img_options *o, const char *v, unsigned *version)
{
    if (!strcmp(v, "0.10") || !strcmp(v, "v2"))
        *version = 2;
    else if (!strcmp(v, "1.1") || !strcmp(v, "v3"))
        *version = 3;
    else
        return img_fail(o, "compat=%s: must be 0.10 or 1.1", v);
    return 0;
}

static int parse_preallocation(const struct img_options *o, const char *v,
                               enum create_preallocation *out)
{
    for (int i = 0; i < 4; i++)
        if (!strcmp(v, preallocations[i])) {
            *out = (enum create_preallocation)i;
            return 0;
        }
    return img_fail(o, "preallocation=%s: must be off, metadata, falloc or full", v);
}

static int one_option(const struct img_options *o, struct create_options *c, char *name,
                      char *v, uint64_t *size, bool *size_given)
{
    uint64_t n = 0;
    bool on;

    if (!strcmp(name, "size")) {
        *size_given = img_parse_size(v, size);
        return *size_given ? 0 : img_fail(o, "size=%s is not a size", v);
    }
    if (!strcmp(name, "cluster_size")) {
        if (!img_parse_size(v, &c->cluster_size))
            return img_fail(o, "cluster_size=%s is not a size", v);
        return 0;
    }
    if (!strcmp(name, "refcount_bits")) {
        if (!img_parse_size(v, &n) || n > 64)
            return img_fail(o, "refcount_bits=%s: must be a power of two within 1..64",
                            v);
        c->refcount_bits = (unsigned)n;
        return 0;
    }
    if (!strcmp(name, "compat"))
        return parse_compat(o, v, &c->version);
    if (!strcmp(name, "lazy_refcounts"))
        return parse_onoff(o, name, v, &c->lazy_refcounts);
    if (!strcmp(name, "preallocation"))
        return parse_preallocation(o, v, &c->preallocation);
    if (!strcmp(name, "compression_type")) {
        c->compression = !strcmp(v, "zstd") ? QCOW2_ZSTD : QCOW2_DEFLATE;
        if (strcmp(v, "zstd") && strcmp(v, "zlib"))
            return img_fail(o, "compression_type=%s: must be zlib or zstd", v);
        return 0;
    }
    if (!strcmp(name, "backing_file")) {
        c->backing = v;
        return 0;
    }
    if (!strcmp(name, "backing_fmt")) {
        c->backing_format = v;
        return 0;
    }
    if (!strcmp(name, "extended_l2") || !strcmp(name, "data_file_raw"))
        return parse_onoff(o, name, v, &on) ? 1
               : on ? img_fail(o, "%s=on is not supported", name)
                    : 0;
    if (!strcmp(name, "data_file") || !strncmp(name, "encrypt", 7))
        return img_fail(o, "option %s is not supported", name);
    return img_fail(
        o, "unknown option '%s'; 'asyncow img create --help' lists them all", name);
}

/* Cuts the list in place: NAME=VALUE,NAME=VALUE; ",," is a comma in a value. What it
 * sets points into the list. */
int img_create_option(const struct img_options *o, struct create_options *c, char *list,
                      uint64_t *size, bool *size_given)
{
    while (*list) {
        char *name = list, *to = list, *from = list;
        for (; *from && (*from != ',' || from[1] == ','); from++) {
            *to++ = *from;
            from += *from == ',';
        }
        list = *from ? from + 1 : from;
        *to = '\0';
        char *v = strchr(name, '=');
        if (v)
            *v++ = '\0';
        if (!v)
            return img_fail(o, "option '%s' needs a value: %s=...", name, name);
        int r = one_option(o, c, name, v, size, size_given);
        if (r)
            return r;
    }
    return 0;
}

static int create_raw(const struct img_options *o, const char *path,
                      const struct create_options *c)
{
    struct blk_options bo = {
        .env = o->env, .write = true, .create = true, .truncate = true};
    struct error err = {""};
    struct blk_file *f;
    int r = blk_open(&f, path, &bo, &err);

    if (r < 0)
        return img_fail(o, "%s", err.msg);
    if (blk_regular(f)) {
        r = blk_truncate(f, c->size);
    } else if (blk_size(f) < c->size) {
        r = -ENOSPC;
    }
    if (!r && c->preallocation != CREATE_SPARSE && c->size)
        r = create_fill(f, c, 0, c->size, &err);
    bool regular = blk_regular(f);
    int closed = blk_close(f);
    if (!r)
        r = closed;
    if (r < 0 && regular)
        unlink(path);
    return r < 0 ? img_fail(o, "%s: %s", path, err.msg[0] ? err.msg : strerror(-r)) : 0;
}

/* The size of the backing file, as seen from the new image. */
static int backing_size(const struct img_options *o, const char *path,
                        const struct create_options *c, uint64_t *size)
{
    struct error err = {""};
    struct image_node *n;
    char *below;

    if (chain_backing_path(&below, path, c->backing, &err) < 0)
        return img_fail(o, "%s: %s", path, err.msg);
    int r =
        img_open(o, &n, below, c->backing_format, (struct img_open){.backing = true});
    free(below);
    if (r < 0)
        return 1;
    *size = n->size;
    r = img_target(o, &path, n);
    chain_close(n);
    return r;
}

/* The backing file isn't opened and need not be there; but it must not be the image. */
static int not_itself(const struct img_options *o, const char *path,
                      const struct create_options *c)
{
    struct error err = {""};
    struct stat image, below;
    char *name;

    if (chain_backing_path(&name, path, c->backing, &err) < 0)
        return 0; /* no file's */
    bool same = !strcmp(name, path) ||
                (stat(path, &image) == 0 && stat(name, &below) == 0 &&
                 image.st_dev == below.st_dev && image.st_ino == below.st_ino);
    free(name);
    return same ? img_fail(o, "%s: it would be its own backing file", path) : 0;
}

static int check_backing(const struct img_options *o, const char *path, bool unsafe,
                         struct create_options *c, bool size_given)
{
    uint64_t size = 0;

    if (!c->backing_format && !unsafe)
        return img_fail(
            o, "%s: backing file without its format: give -F raw or -F qcow2", path);
    if (c->backing_format && strcmp(c->backing_format, "raw") &&
        strcmp(c->backing_format, "qcow2"))
        return img_fail(o, "backing format \"%s\" is not supported (raw and qcow2 are)",
                        c->backing_format);
    if (unsafe)
        return not_itself(o, path, c);
    if (backing_size(o, path, c, &size))
        return 1;
    if (!size_given)
        c->size = size;
    return 0;
}

static void announce(const struct img_options *o, const char *path, bool qcow2,
                     const struct create_options *c)
{
    if (o->quiet)
        return;
    printf("Formatting '%s', fmt=%s", path, qcow2 ? "qcow2" : "raw");
    if (qcow2)
        printf(" cluster_size=%" PRIu64 " extended_l2=off", c->cluster_size);
    if (qcow2 && c->preallocation)
        printf(" preallocation=%s", preallocations[c->preallocation]);
    if (qcow2)
        printf(" compression_type=%s", c->compression == QCOW2_ZSTD ? "zstd" : "zlib");
    printf(" size=%" PRIu64, c->size);
    if (c->backing)
        printf(" backing_file=%s", c->backing);
    if (c->backing && c->backing_format)
        printf(" backing_fmt=%s", c->backing_format);
    if (qcow2 && c->version == 2)
        printf(" compat=0.10");
    if (qcow2)
        printf(" lazy_refcounts=%s refcount_bits=%u", c->lazy_refcounts ? "on" : "off",
               c->refcount_bits);
    if (!qcow2 && c->preallocation)
        printf(" preallocation=%s", preallocations[c->preallocation]);
    putchar('\n');
    fflush(stdout);
}

static int create(struct img_options *o, struct create_options *c, bool unsafe,
                  bool size_given)
{
    bool qcow2 = o->format && !strcmp(o->format, "qcow2");
    struct error err = {""};
    const char *path = o->argv[0];

    if (o->format && !qcow2 && strcmp(o->format, "raw"))
        return img_fail(o, "format '%s' is not supported (raw and qcow2 are)",
                        o->format);
    if (img_target(o, &path, NULL))
        return 1;
    if (!qcow2 && c->backing)
        return img_fail(o, "a raw image cannot have a backing file");
    if (c->backing && check_backing(o, path, unsafe, c, size_given))
        return 1;
    if (!size_given && (!c->backing || unsafe))
        return img_fail(o, "%s: image creation needs a size", path);
    if (qcow2 && create_check(c, &err) < 0)
        return img_fail(o, "%s: %s", path, err.msg);
    announce(o, path, qcow2, c);
    if (!qcow2)
        return create_raw(o, path, c);
    return image_create(path, c, &err) < 0 ? img_fail(o, "%s", err.msg) : 0;
}

int img_create(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"object", no_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    struct create_options c = create_defaults(o->env, 0);
    bool unsafe = false, size_given = false;
    const char *backing = NULL, *backing_format = NULL;
    int opt, status = 0;

    while ((opt = img_getopt(o, argc, argv, ":hf:b:F:uo:q", longs, &status)) > 0) {
        if (opt == 'b')
            backing = optarg;
        else if (opt == 'F')
            backing_format = optarg;
        else if (opt == 'u')
            unsafe = true;
        else if (img_create_option(o, &c, optarg, &c.size, &size_given))
            return 1;
    }
    if (!opt)
        return status;
    if (img_need_files(o, 1, 2, "an image file name"))
        return 1;
    if (backing)
        c.backing = backing;
    if (backing_format)
        c.backing_format = backing_format;
    if (c.backing_format && !c.backing)
        return img_fail(o, "a backing format is given, but no backing file");
    if (o->argc > 1) {
        if (!img_parse_size(o->argv[1], &c.size))
            return img_fail(
                o,
                "'%s' is not a size: a number of bytes, suffixes k, M, G, T, "
                "P, E",
                o->argv[1]);
        size_given = true;
    }
    return create(o, &c, unsafe, size_given);
}
