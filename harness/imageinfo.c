/* The chain opened for reading, described, and searched for data: imageinfo.h. */
#include "harness/imageinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "core/block/blocking.h"
#include "core/env/env.h"
#include "core/image/chain.h"
#include "core/qcow2/format.h"
#include "harness/session.h"

/* ---- does it hold data? ---- */

/* Is any of n big-endian words at offset of the file other than zero? first: which. */
static int any_word(struct blk_file *f, uint64_t offset, uint64_t n, uint64_t *words,
                    bool *any)
{
    int ret = blk_pread(f, offset, words, n * 8);

    *any = false;
    for (uint64_t i = 0; !ret && i < n && !*any; i++)
        *any = words[i] != 0;
    return ret;
}

static int qcow2_holds(const struct image_node *top, bool *holds)
{
    const struct qcow2_header *h = top->header;
    uint64_t l2_entries = 1ull << (h->cluster_bits - 3), size = blk_size(top->file);
    uint64_t *l1 = calloc(h->l1_size + 1ull, 8), *l2 = malloc(l2_entries * 8);
    int ret = l1 && l2 ? 0 : -ENOMEM;
    bool any = false;

    *holds = h->nb_snapshots > 0;
    if (!ret && !*holds)
        ret = any_word(top->file, h->l1_offset, h->l1_size, l1, &any);
    for (uint32_t i = 0; any && !ret && !*holds && i < h->l1_size; i++) {
        uint64_t at = be64toh(l1[i]) & QCOW2_OFFSET_MASK;
        if (!at)
            continue;
        if (at >= size) /* damaged: nothing to be trusted with writes */
            *holds = true;
        else
            ret = any_word(top->file, at, l2_entries, l2, holds);
    }
    free(l1);
    free(l2);
    return ret;
}

static int node_holds(const struct image_node *top, bool *holds)
{
    uint64_t len = blk_size(top->file);

    if (top->format == IMAGE_QCOW2)
        return qcow2_holds(top, holds);
    if (top->driver) {
        *holds = top->driver->holds_data(top->driver_state);
        return 0;
    }
    *holds = !blk_regular(top->file);
    for (uint64_t at = 0; !*holds && at < blk_size(top->file); at += len)
        *holds = blk_is_data(top->file, at, &len);
    return 0;
}

/* ---- what it is ---- */

static const char *fs_name(const char *path)
{
    static const struct {
        unsigned magic;
        const char *name;
    } names[] = {{0xef53, "ext4"},      {0x01021994, "tmpfs"},   {0x58465342, "xfs"},
                 {0x9123683e, "btrfs"}, {0x794c7630, "overlay"}, {0x6969, "nfs"},
                 {0x65735546, "fuse"},  {0x2fc12fc1, "zfs"},     {0xf2f52010, "f2fs"}};
    struct statfs s;

    if (statfs(path, &s) < 0)
        return "unknown";
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((unsigned)s.f_type == names[i].magic)
            return names[i].name;
    return "other";
}

static json_t *node_info(const struct image_node *n, bool host)
{
    json_t *o = json_object();
    const char *path = blk_path(n->file);
    struct stat st;

    json_object_set_new(o, "filename", json_string(path));
    json_object_set_new(o, "format",
                        json_string(n->driver                  ? n->driver->name
                                    : n->format == IMAGE_QCOW2 ? "qcow2"
                                                               : "raw"));
    json_object_set_new(o, "virtual-size", json_integer((json_int_t)n->size));
    json_object_set_new(o, "file-size", json_integer((json_int_t)blk_size(n->file)));
    if (n->format == IMAGE_QCOW2) {
        const struct qcow2_header *h = n->header;
        json_object_set_new(o, "version", json_integer(h->version));
        json_object_set_new(o, "cluster-size", json_integer(1ll << h->cluster_bits));
        json_object_set_new(o, "refcount-bits", json_integer(1ll << h->refcount_order));
        json_object_set_new(o, "snapshots", json_integer(h->nb_snapshots));
    }
    if (host && !stat(path, &st)) {
        json_object_set_new(o, "actual-size",
                            json_integer((json_int_t)st.st_blocks * 512));
        json_object_set_new(o, "file-system", json_string(fs_name(path)));
    }
    if (n->backing)
        json_object_set_new(o, "backing", node_info(n->backing, host));
    return o;
}

int image_look(const struct job *j, bool host, json_t **info, bool *holds,
               struct error *err)
{
    struct env *env = env_real(0);
    struct chain_options o = {.env = env,
                              .no_lock = j->no_lock,
                              .allow_backing = j->allow_backing,
                              .drivers = true,
                              .format = j->format};
    struct image_node *top;
    int ret;

    *info = NULL;
    if (!env)
        return error_set(err, -ENOMEM, "out of memory");
    ret = chain_open(&top, j->image, &o, err);
    if (!ret) {
        ret = node_holds(top, holds);
        if (ret < 0)
            error_set(err, ret, "%s: cannot be read: %s", j->image, strerror(-ret));
        else
            *info = node_info(top, host);
        chain_close(top);
    }
    env_destroy(env);
    return ret;
}
