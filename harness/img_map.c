/* `asyncow img map`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/block/aio.h"
#include "core/image/chain.h"
#include "core/image/reader.h"
#include "harness/img.h"

struct entry {
    uint64_t start;
    struct reader_status s;
};

static const char *yes(bool b) { return b ? "true" : "false"; }

static bool merges(const struct entry *a, const struct entry *b)
{
    const struct reader_status *x = &a->s, *y = &b->s;

    return x->depth == y->depth && x->present == y->present && x->zero == y->zero &&
           x->data == y->data && x->has_offset == y->has_offset &&
           (!x->has_offset || x->offset + x->len == y->offset);
}

static int show(const struct img_options *o, const struct entry *e, bool first)
{
    const struct reader_status *s = &e->s;

    if (o->output == IMG_JSON) {
        printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, "
               "\"present\": %s, \"zero\": %s, \"data\": %s",
               first ? "[" : ",\n", e->start, s->len, s->depth, yes(s->present),
               yes(s->zero), yes(s->data));
        if (s->has_offset)
            printf(", \"offset\": %" PRIu64, s->offset);
        putchar('}');
        return 0;
    }
    if (s->data && !s->has_offset)
        return img_fail(o,
                        "%s contains compressed clusters: they have no place to show; "
                        "--output json shows the rest",
                        blk_path(s->node->file));
    if (s->data && !s->zero) {
        char start[24], len[24], offset[24];
        snprintf(start, sizeof(start), "%#" PRIx64, e->start);
        snprintf(len, sizeof(len), "%#" PRIx64, s->len);
        snprintf(offset, sizeof(offset), "%#" PRIx64, s->offset);
        printf("%-16s%-16s%-16s%s\n", start, len, offset, blk_path(s->node->file));
    }
    return 0;
}

static int walk(const struct img_options *o, struct reader *r, uint64_t start,
                uint64_t end)
{
    struct entry now = {0}, last = {0};
    struct error err = {""};
    bool first = true, have = false;

    if (o->output == IMG_HUMAN)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (uint64_t at = start; at < end; at += now.s.len) {
        now.start = at;
        if (reader_status(r, at, end - at, 0, &now.s, &err) < 0)
            return img_fail(o, "%s", err.msg);
        if (have && merges(&last, &now)) {
            last.s.len += now.s.len;
            continue;
        }
        if (have && show(o, &last, first))
            return 1;
        first &= !have;
        last = now;
        have = true;
    }
    if (have && show(o, &last, first))
        return 1;
    if (o->output == IMG_JSON)
        printf("%s]\n", have ? "" : "[");
    return 0;
}

int img_map(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"output", required_argument, NULL, IMG_OPT_OUTPUT},
        {"start-offset", required_argument, NULL, IMG_OPT_START},
        {"max-length", required_argument, NULL, IMG_OPT_LENGTH},
        {"force-share", no_argument, NULL, 'U'},
        {"image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"object", no_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    uint64_t start = 0, length = UINT64_MAX;
    struct image_node *top;
    struct reader *r;
    int opt, status = 0;

    while ((opt = img_getopt(o, argc, argv, ":hf:s:l:U", longs, &status)) > 0) {
        uint64_t *to = opt == IMG_OPT_START || opt == 's' ? &start : &length;
        if (!img_parse_size(optarg, to))
            return img_fail(o,
                            "'%s' is not a size: a number of bytes, suffixes k, M, G, "
                            "T, P, E",
                            optarg);
    }
    if (!opt)
        return status;
    if (img_need_files(o, 1, 1, "one image file name") ||
        img_open(o, &top, o->argv[0], o->format, (struct img_open){.backing = true}) <
            0)
        return 1;
    uint64_t end =
        start < top->size && length < top->size - start ? start + length : top->size;
    if (reader_create(&r, top) < 0)
        status = img_fail(o, "out of memory");
    else
        status = walk(o, r, start, end);
    reader_free(r);
    chain_close(top);
    return status;
}
