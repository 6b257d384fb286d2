/*
 * `asyncow img resize`: the disk of an image gets another size. What it gains reads
 * zeros; to lose anything takes --shrink.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/block/aio.h"
#include "core/image/chain.h"
#include "core/image/writer.h"
#include "harness/img.h"

enum { SECTOR = 512 };

/* "10G", "+1G", "-512M": the new size of a disk that has `old` bytes. */
static int new_size(const struct img_options *o, const char *text, uint64_t old,
                    uint64_t *size)
{
    char sign = *text == '+' || *text == '-' ? *text : 0;
    uint64_t n;

    if (!img_parse_size(text + !!sign, &n))
        return img_fail(o, "invalid size '%s': like 10G, +1G or -512M", text);
    if (sign && !n)
        return img_fail(o, "invalid size '%s': it changes nothing", text);
    if (sign == '-' && n >= old)
        return img_fail(o, "invalid size '%s': the disk has %" PRIu64 " bytes", text,
                        old);
    if (sign == '+' && n > (uint64_t)INT64_MAX - old)
        return img_fail(o, "invalid size '%s': the disk would be too large", text);
    *size = sign == '+' ? old + n : sign == '-' ? old - n : n;
    if (*size % SECTOR)
        *size += SECTOR - *size % SECTOR;
    return 0;
}

static int resize(struct img_options *o, struct image_node *n, uint64_t size)
{
    struct error err = {""};
    struct writer *w;
    int r = writer_create(&w, n, &err);

    if (!r) {
        r = writer_resize(w, size, &err);
        int finished = writer_finish(w, r ? NULL : &err);
        r = r ? r : finished;
    }
    return r < 0 ? img_fail(o, "%s: %s", blk_path(n->file), err.msg) : 0;
}

int img_resize(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"quiet", no_argument, NULL, 'q'},
        {"shrink", no_argument, NULL, IMG_OPT_SHRINK},
        {"preallocation", required_argument, NULL, IMG_OPT_PREALLOC},
        {"image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"object", required_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    struct image_node *n;
    uint64_t size = 0, old;
    bool shrink = false;
    char text[64] = "";
    int opt, status = 0;

    /* "-512M" is a size, not options: it comes last, as in qemu-img. */
    if (argc > 1 && argv[argc - 1][0] == '-' && argv[argc - 1][1] >= '0' &&
        argv[argc - 1][1] <= '9')
        snprintf(text, sizeof(text), "%s", argv[--argc]);
    while ((opt = img_getopt(o, argc, argv, ":hf:q", longs, &status)) > 0) {
        if (opt == IMG_OPT_SHRINK)
            shrink = true;
        else if (strcmp(optarg, "off"))
            return img_fail(o, "--preallocation %s is not supported: off is", optarg);
    }
    if (!opt)
        return status;
    if (img_need_files(o, text[0] ? 1 : 2, text[0] ? 1 : 2,
                       "an image file name and a size"))
        return 1;
    if (!text[0])
        snprintf(text, sizeof(text), "%s", o->argv[1]);
    if (img_open(o, &n, o->argv[0], o->format,
                 (struct img_open){.write = true, .backing = true}) < 0)
        return 1;
    old = n->size;
    status = new_size(o, text, old, &size);
    if (!status && size < old && !shrink)
        status = img_fail(o,
                          "%s would lose what lies past byte %" PRIu64
                          "; --shrink says that this is meant",
                          o->argv[0], size);
    if (!status && size != old)
        status = resize(o, n, size);
    int closed = chain_close(n);
    if (!status && closed < 0)
        status = img_fail(o, "%s: %s", o->argv[0], strerror(-closed));
    if (!status && !o->quiet)
        puts("Image resized.");
    return status;
}
