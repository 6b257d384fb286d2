/*
 * Opening an image and what lies below it. Blocking; see chain.h.
 *
 * Names come from images, so nothing but a plain file name is followed, only when the
 * caller allows it, and no file twice: a chain that meets itself would never end.
 */
#include "core/image/chain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/image/ready.h"
#include "core/vdi/vdi.h"

enum { PROBE_BYTES = 512 };

struct seen { /* the files of the chain so far, to notice a loop */
    dev_t dev;
    ino_t ino;
};

static int read_header(struct image_node *n, struct error *err)
{
    uint64_t file_size = blk_size(n->file);
    uint8_t start[PROBE_BYTES];
    int r = blk_pread(n->file, 0, start, sizeof(start));

    if (r < 0)
        return error_set(err, r, "cannot read the header: %s", strerror(-r));
    uint32_t bits = qcow2_be32(start + QCOW2_H_CLUSTER_BITS);
    if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
        bits = QCOW2_MIN_CLUSTER_BITS; /* the parser says what is wrong */
    uint64_t cluster = 1ull << bits;

    n->header = calloc(1, sizeof(*n->header));
    n->header_cluster = calloc(1, cluster);
    if (!n->header || !n->header_cluster)
        return error_set(err, -ENOMEM, "out of memory");
    r = blk_pread(n->file, 0, n->header_cluster, cluster);
    if (r < 0)
        return error_set(err, r, "cannot read the header: %s", strerror(-r));
    r = qcow2_header_parse(n->header, n->header_cluster,
                           file_size < cluster ? file_size : cluster, file_size, err);
    n->size = n->header->size;
    return r;
}

int image_read_header(struct image_node *n, struct error *err)
{
    free(n->header);
    free(n->header_cluster);
    n->header = NULL;
    n->header_cluster = NULL;
    return read_header(n, err);
}

/* What format names, or what the magic shows when it is NULL or "". drivers: whether
 * that may be a format whose driver blocks. */
static int find_format(struct image_node *n, const char *format, bool drivers,
                       struct error *err)
{
    uint8_t magic[PROBE_BYTES]; /* a whole block: for direct files */

    if (drivers && format && !strcmp(format, "vdi")) {
        n->format = IMAGE_VDI;
    } else if (format && !strcmp(format, "raw")) {
        n->format = IMAGE_RAW;
    } else if (format && !strcmp(format, "qcow2")) {
        n->format = IMAGE_QCOW2;
    } else if (format && *format) {
        return error_set(err, -ENOTSUP,
                         "format \"%s\" is not supported (raw%s qcow2%s are)", format,
                         drivers ? "," : " and", drivers ? " and vdi" : "");
    } else {
        int r = blk_pread(n->file, 0, magic, sizeof(magic));
        if (r < 0)
            return error_set(err, r, "cannot read the first bytes: %s", strerror(-r));
        n->format = qcow2_be32(magic) == QCOW2_MAGIC && blk_size(n->file) >= 4
                        ? IMAGE_QCOW2
                    : drivers && vdi_probe(magic) ? IMAGE_VDI
                                                  : IMAGE_RAW;
    }
    return 0;
}

static int open_vdi(struct image_node *n, struct error *err)
{
    struct vdi *vdi;
    int r = vdi_open(&vdi, n->file, &n->size, err);

    if (r < 0)
        return r;
    n->driver = &vdi_driver;
    n->driver_state = vdi;
    return 0;
}

static int open_node(struct image_node **out, const char *path, const char *format,
                     bool top, const struct chain_options *o, struct error *err)
{
    struct blk_options bo = {.write = top && o->write,
                             .direct = o->direct,
                             .no_lock = o->no_lock,
                             .sim = o->sim,
                             .env = o->env,
                             .filters = top ? o->filters : NULL};
    struct image_node *n = calloc(1, sizeof(*n));
    int r;

    *out = n;
    if (!n)
        return error_set(err, -ENOMEM, "%s: out of memory", path);
    n->write = bo.write;
    r = blk_open(&n->file, path, &bo, err);
    if (r < 0) {
        n->file = NULL;
        return r;
    }
    r = find_format(n, format, top && o->drivers, err);
    if (!r && n->format == IMAGE_QCOW2)
        r = read_header(n, err);
    else if (!r && n->format == IMAGE_VDI)
        r = open_vdi(n, err);
    else if (!r) /* shown in whole sectors, as QEMU shows it; past its end reads 0 */
        n->size = (blk_size(n->file) + 511) & ~511ull;
    if (r < 0)
        error_prefix(err, "%s", path);
    return r;
}

/* A name with a colon before any slash is a protocol's ("nbd:", "json:"), as in
 * QEMU. */
static bool has_protocol(const char *name) { return name[strcspn(name, ":/")] == ':'; }

const char *chain_file_name(const char *name)
{
    if (!strncmp(name, "file:", 5))
        return name + 5;
    return has_protocol(name) ? NULL : name;
}

int chain_backing_path(char **out, const char *of, const char *name, struct error *err)
{
    const char *slash = strrchr(of, '/');

    *out = NULL;
    if (!strncmp(name, "file:", 5))
        name += 5;
    else if (has_protocol(name))
        return error_set(err, -ENOTSUP,
                         "backing file \"%s\": \"%.*s:\" names are not supported (file "
                         "names are)",
                         name, (int)strcspn(name, ":"), name);
    if (!strncmp(of, "file:", 5))
        of += 5;
    size_t dir = *name == '/' || !slash ? 0 : (size_t)(slash + 1 - of);
    char *path = malloc(dir + strlen(name) + 1);
    if (!path)
        return error_set(err, -ENOMEM, "out of memory");
    memcpy(path, of, dir);
    strcpy(path + dir, name);
    *out = path;
    return 0;
}

/* -ELOOP when path is a file of the chain already. Files of the simulator are told
 * apart by the real ones they were loaded from, if any; the length limit ends the
 * rest. */
static int note_file(struct seen *seen, unsigned n, const char *path, struct error *err)
{
    struct stat st;

    if (n == IMAGE_CHAIN_MAX)
        return error_set(err, -ELOOP, "%s: the backing chain is longer than %d files",
                         path, IMAGE_CHAIN_MAX);
    seen[n].dev = 0;
    seen[n].ino = 0;
    if (stat(path, &st) < 0)
        return 0; /* blk_open() says why */
    for (unsigned i = 0; i < n; i++)
        if (seen[i].dev == st.st_dev && seen[i].ino == st.st_ino && st.st_ino)
            return error_set(err, -ELOOP,
                             "%s: the backing chain comes back to this file: a loop",
                             path);
    seen[n].dev = st.st_dev;
    seen[n].ino = st.st_ino;
    return 0;
}

static int backing_of(const struct image_node *n, const char *path,
                      const struct chain_options *o, char **below, struct error *err)
{
    *below = NULL;
    if (o->no_backing || n->format != IMAGE_QCOW2 || !n->header->has_backing)
        return 0;
    if (!o->allow_backing)
        return error_set(err, -EPERM,
                         "%s: names the backing file \"%s\", and an image's word alone "
                         "opens no file: allow it with --allow-backing",
                         path, n->header->backing);
    int r = chain_backing_path(below, path, n->header->backing, err);
    if (r < 0)
        error_prefix(err, "%s", path);
    return r;
}

int chain_open(struct image_node **out, const char *path, const struct chain_options *o,
               struct error *err)
{
    struct seen seen[IMAGE_CHAIN_MAX];
    struct image_node *top = NULL, **at = &top;
    const char *format = o->format;
    char *name = chain_file_name(path) ? strdup(chain_file_name(path)) : NULL;
    char *below = NULL;
    int r = name ? 0 : -ENOMEM;

    if (!chain_file_name(path))
        r = error_set(err, -ENOTSUP, "%s: only file names are supported", path);
    for (unsigned n = 0; !r && name; n++) {
        r = note_file(seen, n, name, err);
        if (!r)
            r = open_node(at, name, format, at == &top, o, err);
        if (!r && at == &top && o->write && top->format == IMAGE_QCOW2)
            r = image_make_ready(top, o->no_repair, err);
        if (!r)
            r = backing_of(*at, name, o, &below, err);
        free(name);
        name = below;
        below = NULL;
        if (!r && name) {
            format = (*at)->header->backing_format;
            at = &(*at)->backing;
        }
    }
    free(name);
    if (r < 0) {
        chain_close(top);
        top = NULL;
    }
    *out = top;
    return r;
}

int chain_close(struct image_node *n)
{
    int first = 0;

    while (n) {
        struct image_node *below = n->backing;
        int r = n->file ? blk_close(n->file) : 0;
        if (r < 0 && !first)
            first = r;
        if (n->driver)
            n->driver->close(n->driver_state);
        free(n->header);
        free(n->header_cluster);
        free(n);
        n = below;
    }
    return first;
}
