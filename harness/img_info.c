/* `asyncow img info`: gathered as JSON, shown as it is or for people. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/block/aio.h"
#include "core/image/bitmaps.h"
#include "core/image/chain.h"
#include "harness/img.h"

static void set(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

static json_t *number(uint64_t v) { return json_integer((json_int_t)v); }

static int add_bitmaps(json_t *data, const struct image_node *n, struct error *err)
{
    struct bitmap_reader b;
    json_t *list = json_array();
    int r;

    bitmaps_start(&b, n->file, n->header);
    while ((r = bitmaps_next(&b, err)) > 0) {
        json_t *e = json_object(), *flags = json_array();
        if (b.flags & BITMAP_IN_USE)
            json_array_append_new(flags, json_string("in-use"));
        if (b.flags & BITMAP_AUTO)
            json_array_append_new(flags, json_string("auto"));
        set(e, "flags", flags);
        set(e, "name", img_json_text(b.name));
        set(e, "granularity", number(1ull << b.granularity_bits));
        json_array_append_new(list, e);
    }
    if (json_array_size(list))
        set(data, "bitmaps", list);
    else
        json_decref(list);
    return r;
}

static int add_specific(json_t *o, const struct image_node *n, struct error *err)
{
    const struct qcow2_header *h = n->header;
    json_t *spec = json_object(), *data = json_object();
    int r = 0;

    set(spec, "type", json_string("qcow2"));
    set(spec, "data", data);
    set(o, "format-specific", spec);
    set(data, "compat", json_string(h->version == 2 ? "0.10" : "1.1"));
    set(data, "compression-type",
        json_string(h->compression == QCOW2_ZSTD ? "zstd" : "zlib"));
    if (h->version > 2) {
        set(data, "lazy-refcounts",
            json_boolean(h->compat & QCOW2_COMPAT_LAZY_REFCOUNTS));
        r = add_bitmaps(data, n, err);
    }
    set(data, "refcount-bits", number(1u << h->refcount_order));
    if (h->version > 2) {
        set(data, "corrupt", json_boolean(h->incompat & QCOW2_INCOMPAT_CORRUPT));
        set(data, "extended-l2", json_false());
    }
    return r;
}

static int add_qcow2(json_t *o, const struct image_node *n, const char *path,
                     struct error *err)
{
    const struct qcow2_header *h = n->header;
    struct error ignored = {""};
    char *full;
    json_t *list = json_array();
    int r = img_snapshot_list(n, list, err);

    if (json_array_size(list))
        set(o, "snapshots", json_incref(list));
    json_decref(list);

    set(o, "cluster-size", number(1ull << h->cluster_bits));
    if (!r)
        r = add_specific(o, n, err);
    if (h->has_backing) {
        set(o, "backing-filename", img_json_text(h->backing));
        if (chain_backing_path(&full, path, h->backing, &ignored) == 0)
            set(o, "full-backing-filename", img_json_text(full));
        free(full);
        if (h->backing_format[0])
            set(o, "backing-filename-format", img_json_text(h->backing_format));
    }
    set(o, "dirty-flag", json_boolean(h->incompat & QCOW2_INCOMPAT_DIRTY));
    return r;
}

static json_t *gather(const struct img_options *o, const struct image_node *n,
                      const char *path)
{
    struct error err = {""};
    json_t *j = json_object();
    struct stat st;
    int r = 0;

    set(j, "virtual-size", number(n->size));
    set(j, "filename", img_json_text(path));
    set(j, "format", json_string(n->format == IMAGE_RAW ? "raw" : "qcow2"));
    if (stat(path, &st) == 0)
        set(j, "actual-size", number((uint64_t)st.st_blocks * 512));
    if (n->format == IMAGE_QCOW2)
        r = add_qcow2(j, n, path, &err);
    else
        set(j, "dirty-flag", json_false());
    if (r < 0) {
        img_fail(o, "%s: %s", path, err.msg);
        json_decref(j);
        return NULL;
    }
    return j;
}

/* --- for people ------------------------------------------------------------------- */

static uint64_t value(const json_t *j, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(j, key));
}

static void show_value(const json_t *v, int depth);

static void show_object(const json_t *obj, int depth)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)obj, key, v)
    {
        printf("%*s", depth * 4, "");
        for (const char *c = key; *c; c++)
            putchar(*c == '-' ? ' ' : *c);
        putchar(':');
        show_value(v, depth + 1);
    }
}

static void show_value(const json_t *v, int depth)
{
    size_t i;
    json_t *e;

    if (json_is_object(v)) {
        putchar('\n');
        show_object(v, depth);
    } else if (json_is_array(v)) {
        putchar('\n');
        json_array_foreach(v, i, e)
        {
            printf("%*s[%zu]:", depth * 4, "", i);
            show_value(e, depth + 1);
        }
    } else if (json_is_string(v)) {
        printf(" %s\n", json_string_value(v));
    } else if (json_is_integer(v)) {
        printf(" %" JSON_INTEGER_FORMAT "\n", json_integer_value(v));
    } else {
        printf(" %s\n", json_is_true(v) ? "true" : "false");
    }
}

static void show(const json_t *j)
{
    const char *backing = json_string_value(json_object_get(j, "backing-filename"));
    const char *full = json_string_value(json_object_get(j, "full-backing-filename"));
    const char *fmt = json_string_value(json_object_get(j, "backing-filename-format"));
    char size[32];

    printf("image: %s\n", json_string_value(json_object_get(j, "filename")));
    printf("file format: %s\n", json_string_value(json_object_get(j, "format")));
    printf("virtual size: %s (%" PRIu64 " bytes)\n",
           img_human_size(value(j, "virtual-size"), size), value(j, "virtual-size"));
    printf("disk size: %s\n", img_human_size(value(j, "actual-size"), size));
    if (json_object_get(j, "cluster-size"))
        printf("cluster_size: %" PRIu64 "\n", value(j, "cluster-size"));
    if (json_is_true(json_object_get(j, "dirty-flag")))
        printf("cleanly shut down: no\n");
    if (backing && full && strcmp(backing, full))
        printf("backing file: %s (actual path: %s)\n", backing, full);
    else if (backing)
        printf("backing file: %s%s\n", backing,
               full ? "" : " (cannot determine actual path)");
    if (fmt)
        printf("backing file format: %s\n", fmt);
    if (json_object_get(j, "snapshots"))
        img_show_snapshots(json_object_get(j, "snapshots"));
    if (json_object_get(j, "format-specific")) {
        printf("Format specific information:\n");
        show_object(json_object_get(json_object_get(j, "format-specific"), "data"), 1);
    }
}

static void print(const struct img_options *o, json_t *list, bool chain)
{
    json_t *j;
    size_t i;

    if (o->output == IMG_JSON) {
        json_dumpf(chain ? list : json_array_get(list, 0), stdout,
                   JSON_INDENT(4) | JSON_ENCODE_ANY);
        putchar('\n');
        return;
    }
    json_array_foreach(list, i, j)
    {
        if (i)
            putchar('\n');
        show(j);
    }
}

int img_info(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"output", required_argument, NULL, IMG_OPT_OUTPUT},
        {"backing-chain", no_argument, NULL, IMG_OPT_CHAIN},
        {"force-share", no_argument, NULL, 'U'},
        {"image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"object", no_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    struct image_node *top;
    bool chain = false;
    int opt, status = 0;

    while ((opt = img_getopt(o, argc, argv, ":hf:U", longs, &status)) > 0)
        chain |= opt == IMG_OPT_CHAIN;
    if (!opt)
        return status;
    if (img_need_files(o, 1, 1, "one image file name") ||
        img_open(o, &top, o->argv[0], o->format, (struct img_open){.backing = chain}) <
            0)
        return 1;
    json_t *list = json_array();
    for (struct image_node *n = top; n && !status; n = n->backing) {
        json_t *j = gather(o, n, n == top ? o->argv[0] : blk_path(n->file));
        if (j)
            json_array_append_new(list, j);
        else
            status = 1;
    }
    if (!status)
        print(o, list, chain);
    json_decref(list);
    chain_close(top);
    return status;
}
