/* An image in memory, checked, read and compared: inspect.h. */
#include "tests/crash/inspect.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/block/aio.h"
#include "core/image/check.h"
#include "core/image/reader.h"
#include "core/image/snapshots.h"

struct memory {
    struct blk_memory m;
    struct blk_file *file;
};
struct tree { /* a disk as one L1 table has it */
    char name[16];
    uint64_t l1_offset;
    uint32_t l1_size;
};
struct inspect {
    struct env *env;
    struct memory image, copy, below;
    struct image_node backing;
    uint8_t *buf[2]; /* disk_size bytes each */
    uint64_t disk_size;
    struct check_result found;
    bool only_copied;
    uint64_t mended;
};

static void memory_open(struct inspect *in, struct memory *m)
{
    if (blk_open_memory(&m->file, in->env, &m->m))
        abort();
}

static void memory_close(struct memory *m)
{
    blk_close(m->file);
    free(m->m.bytes);
}

/* Room to spare: repair may make it longer. */
static void memory_resize(struct memory *m, uint64_t size)
{
    if (2 * size > m->m.cap) {
        m->m.cap = 4 * size + (1 << 20);
        m->m.bytes = realloc(m->m.bytes, m->m.cap);
        assert(m->m.bytes);
    }
    if (blk_truncate(m->file, size))
        abort();
}

static void memory_set(struct memory *m, const uint8_t *file, uint64_t size)
{
    memory_resize(m, size);
    memcpy(m->m.bytes, file, size);
}

struct inspect *inspect_new(const uint8_t *backing, uint64_t backing_size)
{
    struct inspect *in = calloc(1, sizeof(*in));

    assert(in);
    in->env = env_real(1);
    memory_open(in, &in->image);
    memory_open(in, &in->copy);
    memory_open(in, &in->below);
    if (backing) {
        memory_set(&in->below, backing, backing_size);
        in->backing = (struct image_node){
            .file = in->below.file, .format = IMAGE_RAW, .size = backing_size};
    }
    return in;
}

void inspect_free(struct inspect *in)
{
    memory_close(&in->image);
    memory_close(&in->copy);
    memory_close(&in->below);
    env_destroy(in->env);
    free(in->buf[0]);
    free(in->buf[1]);
    free(in);
}

uint8_t *inspect_bytes(struct inspect *in) { return in->image.m.bytes; }
uint64_t inspect_size(const struct inspect *in) { return in->image.m.size; }
uint64_t inspect_mended(const struct inspect *in) { return in->mended; }
void inspect_resize(struct inspect *in, uint64_t size)
{
    memory_resize(&in->image, size);
}

void inspect_set(struct inspect *in, const uint8_t *file, uint64_t size)
{
    memory_set(&in->image, file, size);
}

void inspect_save(struct inspect *in, const char *path)
{
    FILE *f = fopen(path, "wb");

    assert(f);
    size_t put = fwrite(in->image.m.bytes, 1, in->image.m.size, f);
    assert(put == in->image.m.size);
    fclose(f);
}

/* ---- snapshots that come meanwhile ---- */

void expect_begin(struct expect_snapshot *s, const char *name, const struct model *m)
{
    *s = (struct expect_snapshot){.began = m->clock};
    snprintf(s->name, sizeof(s->name), "%s", name);
    s->known = calloc(m->size / SECTOR, sizeof(*s->known));
    assert(s->known);
    for (uint64_t i = 0; i < m->size / SECTOR; i++)
        s->known[i] = model_value_since(m, i, s->began) != NULL;
}

void expect_made(struct expect_snapshot *s, const struct model *m)
{
    s->bytes = calloc(1, m->size);
    assert(s->bytes);
    for (uint64_t i = 0; i < m->size / SECTOR; i++) {
        const uint8_t *value = model_value_since(m, i, s->began);
        s->known[i] &= value != NULL;
        if (s->known[i])
            memcpy(s->bytes + i * SECTOR, value, SECTOR);
    }
    s->must = true;
}

void expect_free(struct expect_snapshot *s)
{
    free(s->bytes);
    free(s->known);
    *s = (struct expect_snapshot){.bytes = NULL};
}

/* ---- reading ---- */

static bool parse(struct memory *m, struct qcow2_header *h)
{
    struct error err = {""};

    if (qcow2_header_parse(h, m->m.bytes, m->m.size, m->m.size, &err) == 0)
        return true;
    fprintf(stderr, "the header: %s\n", err.msg);
    return false;
}

static bool read_tree(struct inspect *in, struct memory *m,
                      const struct qcow2_header *of, const struct tree *tree,
                      uint8_t *buf)
{
    struct qcow2_header h = *of;
    struct image_node node = {.file = m->file,
                              .format = IMAGE_QCOW2,
                              .size = h.size,
                              .header = &h,
                              .backing = in->backing.file ? &in->backing : NULL};
    struct reader *r;
    struct error err = {""};

    if (tree) {
        h.l1_offset = tree->l1_offset;
        h.l1_size = tree->l1_size;
    }
    if (reader_create(&r, &node) < 0)
        abort();
    int ret = reader_read(r, 0, buf, h.size, &err);
    reader_free(r);
    if (ret < 0)
        fprintf(stderr, "%s: %s\n", tree ? tree->name : "the disk", err.msg);
    return ret == 0;
}

/* The snapshots of an image, at most max; -1: the table is damaged. */
static int list_trees(struct memory *m, const struct qcow2_header *h, struct tree *tree,
                      int max)
{
    struct snapshot_reader s;
    struct error err = {""};
    int n = 0, ret;

    snapshots_start(&s, m->file, h);
    while ((ret = snapshots_next(&s, &err)) > 0) {
        assert(n < max);
        tree[n] = (struct tree){.l1_offset = s.l1_offset, .l1_size = s.l1_size};
        snprintf(tree[n++].name, sizeof(tree->name), "%s", s.name);
    }
    snapshots_end(&s);
    if (ret < 0)
        fprintf(stderr, "snapshots: %s\n", err.msg);
    return ret < 0 ? -1 : n;
}

static void make_room(struct inspect *in, uint64_t disk_size)
{
    if (in->disk_size >= disk_size)
        return;
    in->disk_size = disk_size;
    for (int i = 0; i < 2; i++) {
        free(in->buf[i]);
        in->buf[i] = malloc(disk_size);
        assert(in->buf[i]);
    }
}

void inspect_read(struct inspect *in, const char *snapshot, uint8_t *buf, uint64_t size)
{
    struct tree tree[16];
    struct qcow2_header h;
    int i = 0, n = 0;

    if (!parse(&in->image, &h) || h.size != size)
        abort();
    if (snapshot) {
        n = list_trees(&in->image, &h, tree, 16);
        while (i < n && strcmp(tree[i].name, snapshot))
            i++;
        assert(i < n);
    }
    if (!read_tree(in, &in->image, &h, snapshot ? &tree[i] : NULL, buf))
        abort();
}

/* ---- check, and what it may find ---- */

static void note_line(void *opaque, const char *line)
{
    struct inspect *in = opaque;

    if (!strncmp(line, "ERROR", 5) && !strstr(line, "COPIED"))
        in->only_copied = false;
}

static void print_line(void *opaque, const char *line)
{
    (void)opaque;
    fprintf(stderr, "  check: %s\n", line);
}

static bool check(struct memory *m, unsigned repair, struct check_result *res,
                  void (*log)(void *, const char *), void *opaque)
{
    struct error err = {""};
    int ret = image_check(m->file, repair, res, log, opaque, &err);

    if (ret < 0)
        fprintf(stderr, "check: %s\n", err.msg);
    return ret == 0 && !res->check_errors;
}

static bool tell(struct inspect *in, const char *what)
{
    struct check_result res;

    fprintf(stderr, "%s:\n", what);
    check(&in->image, 0, &res, print_line, NULL);
    return false;
}

/* Repair mends what is wrong, and disk and snapshots are as they were. */
static bool mends(struct inspect *in, const struct qcow2_header *h)
{
    struct tree tree[16], after[16];
    struct check_result res;
    struct qcow2_header now;
    int n = list_trees(&in->image, h, tree, 16);

    memory_set(&in->copy, in->image.m.bytes, in->image.m.size);
    if (!check(&in->copy, CHECK_REPAIR_LEAKS | CHECK_REPAIR_ERRORS, &res, NULL, NULL) ||
        !check(&in->copy, 0, &res, NULL, NULL) || res.corruptions || res.leaks ||
        !parse(&in->copy, &now) || list_trees(&in->copy, &now, after, 16) != n)
        return tell(in, "repair does not mend it");
    for (int i = -1; i < n; i++)
        if (!read_tree(in, &in->image, h, i < 0 ? NULL : &tree[i], in->buf[0]) ||
            !read_tree(in, &in->copy, &now, i < 0 ? NULL : &after[i], in->buf[1]) ||
            memcmp(in->buf[0], in->buf[1], h->size))
            return tell(in, "repair changes what can be read");
    in->mended++;
    return true;
}

static bool consistent(struct inspect *in, const struct expect *e,
                       const struct qcow2_header *h)
{
    if (!check(&in->image, 0, &in->found, NULL, NULL))
        return false;
    if (e->no_leaks && in->found.leaks)
        return tell(in, "clusters are leaked");
    if (!in->found.corruptions)
        return true;
    in->only_copied = true;
    check(&in->image, 0, &in->found, note_line, in);
    if (!e->in_snapshot || !in->only_copied)
        return tell(in, "the image is corrupt");
    return mends(in, h);
}

static bool look_at_disk(struct inspect *in, const struct expect *e,
                         const struct qcow2_header *h)
{
    uint64_t bad;

    if (!read_tree(in, &in->image, h, NULL, in->buf[0]))
        return false;
    if (!e->model || model_check_crashed(e->model, 0, h->size, in->buf[0], &bad))
        return true;
    fprintf(stderr, "sector %" PRIu64 " reads", bad / SECTOR);
    for (int k = 0; k < 8; k++)
        fprintf(stderr, " %02x", in->buf[0][bad + (uint64_t)k]);
    fprintf(stderr, "; it is\n");
    model_tell(e->model, bad, 0);
    return false;
}

static bool look_at_snapshots(struct inspect *in, const struct expect *e,
                              const struct qcow2_header *h)
{
    struct tree tree[16];
    int n = list_trees(&in->image, h, tree, 16);

    for (unsigned k = 0; n >= 0 && k < e->nsnapshots; k++) {
        const struct expect_snapshot *s = &e->snapshots[k];
        int i = 0;
        while (i < n && strcmp(tree[i].name, s->name))
            i++;
        if (i == n && s->must) {
            fprintf(stderr, "snapshot %s is not there\n", s->name);
            return false;
        }
        if (i == n || !s->bytes)
            continue;
        if (!read_tree(in, &in->image, h, &tree[i], in->buf[0]))
            return false;
        for (uint64_t at = 0; at < h->size; at += SECTOR)
            if ((!s->known || s->known[at / SECTOR]) &&
                memcmp(in->buf[0] + at, s->bytes + at, SECTOR)) {
                fprintf(stderr, "snapshot %s, sector %" PRIu64 ": %02x.., not %02x..\n",
                        s->name, at / SECTOR, in->buf[0][at], s->bytes[at]);
                return false;
            }
    }
    return n >= 0;
}

bool inspect_look(struct inspect *in, const struct expect *e)
{
    struct qcow2_header h;

    if (!parse(&in->image, &h))
        return false;
    make_room(in, h.size);
    return consistent(in, e, &h) && look_at_disk(in, e, &h) &&
           look_at_snapshots(in, e, &h);
}

/* ---- QEMU ---- */

static uint64_t number(const json_t *j, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(j, key));
}

bool inspect_ask_qemu(struct inspect *in)
{
    char command[160];
    int fd = memfd_create("image", 0);

    snprintf(command, sizeof(command),
             "qemu-img check -U -f qcow2 --output=json /dev/fd/%d 2>/dev/null", fd);
    if (fd < 0 ||
        write(fd, in->image.m.bytes, in->image.m.size) != (ssize_t)in->image.m.size)
        abort();
    FILE *f = popen(command, "r");
    json_t *j = f ? json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    if (f)
        pclose(f);
    close(fd);
    bool same = j && number(j, "corruptions") == in->found.corruptions &&
                number(j, "leaks") == in->found.leaks && number(j, "check-errors") == 0;
    if (!same) {
        char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
        fprintf(stderr, "qemu-img check says %s\n", text ? text : "nothing");
        free(text);
        tell(in, "our check says");
    }
    json_decref(j);
    return same;
}
