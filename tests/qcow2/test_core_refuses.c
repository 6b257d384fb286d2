/*
 * What deep inside an image cannot be right is refused with a complaint that names it, and
 * images of unusual kinds are opened as they are: entries of L1, L2 and snapshot tables,
 * one field each; to read only, over a device, with no disk at all.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/qcow2/guest.h"

enum { CLUSTER = 512, DISK = 64 << 10 };

static char image[128];
static struct world original;

static void make(const char *options, uint64_t size)
{
    snprintf(image, sizeof(image), "%s/i.qcow2", guest_dir());
    shell(0, "qemu-img create -q -f qcow2 -o %s %s %" PRIu64, options, image, size);
    if (size)
        shell(0, "qemu-io -f qcow2 -c 'write -P 0x77 0 8k' %s > /dev/null", image);
    free(original.file);
    original = (struct world){.rng = 1};
    world_load(&original, image);
}

static struct world copy(void)
{
    struct world w = original;
    w.file = malloc(w.cap);
    assert(w.file);
    memcpy(w.file, original.file, w.cap);
    return w;
}

static void run(struct world *w, void (*fn)(struct task *), void *arg)
{
    struct task t = {.fn = fn, .arg = arg};
    world_run(w, &t, 1);
}

static uint64_t l1(const struct world *w)
{
    return qcow2_be64(w->file + QCOW2_H_L1_OFFSET);
}
static uint64_t l2(const struct world *w)
{
    return qcow2_be64(w->file + l1(w)) & QCOW2_OFFSET_MASK;
}

/* ---- entries that cannot be ---- */

static void touch_all(struct task *t)
{
    static uint8_t buf[1024];
    const char *told = t->arg;
    assert(!world_open(t->w, t, 4, 0, 0));
    assert(guest_read(t, 0, buf, sizeof(buf)) == -EIO);
    struct qcow2_complaint c = qcow2_complaint(t->w->q);
    assert(c.what && strstr(c.what, told));
    assert(guest_write(t, 0, buf, sizeof(buf)) == -EIO);
    assert(guest_discard(t, 0, sizeof(buf)) == -EIO);
    (void)world_close(t->w, t);
}

static void case_entries(void)
{
    static const struct {
        bool l1;
        uint64_t entry;
        const char *told;
        bool v2;
    } rows[] = {
        {true, QCOW2_COPIED, "L1", false},
        {true, 1ull << 57 | 0x1000, "L1", false},
        {false, QCOW2_COPIED, "L2", false},
        {false, 1ull << 57 | 0x1000, "L2", false},
        {false, QCOW2_COMPRESSED_FLAG | QCOW2_COPIED | 0x1000, "L2", false},
        {false, QCOW2_COMPRESSED_FLAG, "L2", false},
        {false, QCOW2_COMPRESSED_FLAG | 1ull << 56, "L2", false},
        {false, QCOW2_ZERO_FLAG, "L2", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        make(rows[i].v2 ? "compat=0.10,cluster_size=512" : "cluster_size=512", DISK);
        struct world w = copy();
        qcow2_put_be64(w.file + (rows[i].l1 ? l1(&w) : l2(&w)), rows[i].entry);
        run(&w, touch_all, (void *)(uintptr_t)rows[i].told);
        free(w.file);
    }
    for (int level = 0; level < 2; level++) { /* no cluster of larger ones */
        make("cluster_size=4096", DISK);
        struct world w = copy();
        uint8_t *p = w.file + (level ? l2(&w) : l1(&w));
        qcow2_put_be64(p, qcow2_be64(p) + 512);
        run(&w, touch_all, (void *)(uintptr_t)(level ? "L2" : "L1"));
        free(w.file);
    }
}

static void write_new(struct task *t)
{
    static uint8_t buf[4096];
    assert(!world_open(t->w, t, 4, 0, 0));
    assert(guest_write(t, 32 << 10, buf, sizeof(buf)) == -EIO);
    assert(strstr(qcow2_complaint(t->w->q).what, t->arg));
    (void)world_close(t->w, t);
}

static void case_refcount_table(void)
{
    static const struct {
        uint64_t entry;
        const char *told;
    } rows[] = {{1 << 9 | 1, "refcount table entry"},
                {QCOW2_MAX_HOST_OFFSET + CLUSTER, "refcount table entry"},
                {1ull << 40, "refcount block"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        make("cluster_size=512", DISK);
        struct world w = copy();
        qcow2_put_be64(w.file + qcow2_be64(w.file + QCOW2_H_REFTABLE_OFFSET),
                       rows[i].entry);
        run(&w, write_new, (void *)(uintptr_t)rows[i].told);
        free(w.file);
    }
}

/* ---- the table of snapshots ---- */

struct table {
    uint64_t at;
    uint8_t *end;
};

static uint8_t *add_entry(struct world *w, struct table *t, uint32_t extra,
                          uint16_t name)
{
    uint64_t offset = t->at, len = (40 + extra + name + 7) / 8 * 8ull;
    world_reach(w, offset + len);
    uint8_t *p = w->file + offset;
    memset(p, 0, len);
    qcow2_put_be32(p + 12, name); /* no id */
    qcow2_put_be32(p + 36, extra);
    memset(p + 40 + extra, 'n', name);
    t->at += len;
    return w->file + offset;
}

static struct table begin_table(struct world *w, uint32_t n)
{
    struct table t = {.at = (w->size + CLUSTER - 1) / CLUSTER * CLUSTER};
    world_reach(w, t.at + 1);
    qcow2_put_be32(w->file + QCOW2_H_NB_SNAPSHOTS, n);
    qcow2_put_be64(w->file + QCOW2_H_SNAPSHOTS_OFFSET, t.at);
    return t;
}

struct ask {
    enum qcow2_snapshot_op op;
    const char *name;
    int result;
    bool list;
    unsigned count;
    struct qcow2_snapshot_info info[4];
};

static void asks(struct task *t)
{
    struct ask *a = t->arg;
    assert(!world_open(t->w, t, 4, 0, 0));
    if (a->list) {
        a->result = guest_list(t);
        a->count = qcow2_snapshot_count(t->w->q);
        for (unsigned i = 0; i < a->count && i < 4; i++)
            qcow2_snapshot_at(t->w->q, i, &a->info[i]);
    } else {
        a->result = guest_snapshot(t, a->op, a->name);
    }
    (void)world_close(t->w, t);
}

static struct ask ask(struct world *w, struct ask a)
{
    run(w, asks, &a);
    free(w->file);
    return a;
}

static void case_snapshot_fields(void)
{
    make("cluster_size=512", DISK);
    static const struct {
        unsigned at, width;
        uint64_t value;
    } rows[] = {{36, 4, 1025},
                {8, 4, QCOW2_MAX_L1_BYTES / 8 + 1},
                {0, 8, 513},
                {0, 8, QCOW2_MAX_HOST_OFFSET + CLUSTER}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct world w = copy();
        struct table t = begin_table(&w, 1);
        uint8_t *p = add_entry(&w, &t, 16, 3) + rows[i].at;
        if (rows[i].width == 4)
            qcow2_put_be32(p, (uint32_t)rows[i].value);
        else
            qcow2_put_be64(p, rows[i].value);
        assert(ask(&w, (struct ask){.list = true}).result == -EIO);
    }
}

static void case_snapshot_infos(void)
{
    make("cluster_size=512", DISK);
    struct world w = copy();
    struct table t = begin_table(&w, 4);
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t *p = add_entry(&w, &t, i * 8, 1);
        qcow2_put_be32(p + 32, 7);
        for (uint32_t k = 0; k < i; k++)
            qcow2_put_be64(p + 40 + 8 * k, 100 + k);
    }
    struct ask a = ask(&w, (struct ask){.list = true});
    assert(!a.result && a.count == 4);
    for (unsigned i = 0; i < 4; i++) {
        assert(a.info[i].vm_state_size == (i > 0 ? 100 : 7));
        assert(a.info[i].disk_size == (i > 1 ? 101 : 0));
        assert(a.info[i].icount == (i > 2 ? 102 : UINT64_MAX));
    }
}

static void case_snapshot_table_is_long(void)
{
    struct world w;
    struct table t;
    struct ask a;

    make("cluster_size=512", DISK);
    for (unsigned n = 2; n < 4; n++) { /* the first 64 KiB end inside an entry */
        w = copy();
        t = begin_table(&w, n);
        add_entry(&w, &t, 0, n == 2 ? 60000 : 65000);
        add_entry(&w, &t, 0, n == 2 ? 60000 : 400); /* that leaves some bytes */
        if (n == 3)
            add_entry(&w, &t, 0, 9);
        a = ask(&w, (struct ask){.list = true});
        assert(!a.result && a.count == n);
    }
    w = copy(); /* as many as there may be */
    t = begin_table(&w, QCOW2_MAX_SNAPSHOTS);
    world_reach(&w, t.at + QCOW2_MAX_SNAPSHOTS * 40ull);
    a = ask(&w, (struct ask){.op = QCOW2_SNAPSHOT_CREATE, .name = "x"});
    assert(a.result == -EFBIG);
    w = copy(); /* longer than 64 MiB */
    t = begin_table(&w, 1030);
    world_reach(&w, 70 << 20);
    for (unsigned i = 0; i < 1030; i++)
        add_entry(&w, &t, 0, 65535);
    assert(ask(&w, (struct ask){.list = true}).result == -EIO);
}

static void case_snapshot_names(void)
{
    static char longest[UINT16_MAX + 2];
    memset(longest, 'n', sizeof(longest) - 1);
    make("cluster_size=512", DISK);
    const char *bad[] = {"", longest};
    for (int i = 0; i < 2; i++) {
        struct world w = copy();
        struct ask a = {.op = QCOW2_SNAPSHOT_CREATE, .name = bad[i]};
        assert(ask(&w, a).result == -EINVAL);
    }
    struct world w = copy(); /* of another size */
    struct table t = begin_table(&w, 1);
    qcow2_put_be64(add_entry(&w, &t, 16, 1) + 48, DISK + 512);
    assert(ask(&w, (struct ask){.op = QCOW2_SNAPSHOT_APPLY, .name = "n"}).result ==
           -ENOTSUP);
}

/* Its L1 table: entries that lead nowhere. */
static void case_snapshot_trees(void)
{
    static const uint64_t entries[] = {QCOW2_COPIED, 1ull << 57 | 0x1000, 0x1200};
    for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
        make("cluster_size=4096", DISK);
        struct world w = copy();
        struct table t = begin_table(&w, 1);
        t.at = (t.at + 4095) / 4096 * 4096;
        qcow2_put_be64(w.file + QCOW2_H_SNAPSHOTS_OFFSET, t.at);
        uint64_t its = t.at + 4096;
        world_reach(&w, its + 4096);
        uint8_t *p = add_entry(&w, &t, 0, 1);
        qcow2_put_be64(p, its);
        qcow2_put_be32(p + 8, 1);
        qcow2_put_be64(w.file + its, entries[i]);
        struct ask a = {.op = QCOW2_SNAPSHOT_APPLY, .name = "n"};
        assert(ask(&w, a).result == -EIO);
    }
}

/* Two operations at once, and the list not yet read. */
static void deletes(struct task *t)
{
    const char *name = t == t->w->tasks ? "one" : "two";
    assert(!guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, name));
}

static void opens(struct task *t) { assert(!world_open(t->w, t, 8, 0, 0)); }

static void lists_one(struct task *t)
{
    struct qcow2_snapshot_info info;
    assert(!guest_list(t) && qcow2_snapshot_count(t->w->q) == 1);
    qcow2_snapshot_at(t->w->q, 0, &info);
    assert(!strcmp(info.name, "three"));
    assert(!guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, info.id));
    assert(!world_close(t->w, t));
}

static void case_two_operations(void)
{
    make("cluster_size=4096", DISK);
    for (int i = 0; i < 3; i++)
        shell(0, "qemu-img snapshot -c %s %s",
              i == 0   ? "one"
              : i == 1 ? "two"
                       : "three",
              image);
    free(original.file);
    original = (struct world){.rng = 1};
    world_load(&original, image);
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct world w = copy();
        struct task two[2] = {{.fn = deletes}, {.fn = deletes}};
        w.rng = seed;
        run(&w, opens, NULL);
        world_run(&w, two, 2);
        run(&w, lists_one, NULL);
        world_save(&w, image);
        shell(0, "qemu-img check -q -f qcow2 %s", image);
        free(w.file);
    }
}

/* ---- opened otherwise ---- */

struct open {
    uint64_t incompat;
    bool write, device;
    int result;
};

static void open_so(struct task *t)
{
    struct open *o = t->arg;
    struct world *w = t->w;
    struct qcow2_header h;
    struct qcow2_need need;
    struct qcow2_ticket ticket = {0};
    struct qcow2_options opt = {.inflight = 4,
                                .cache = 1ull << 40,
                                .grow = o->device ? 1 << 20 : 0,
                                .file_size = w->size,
                                .regular = !o->device,
                                .write = o->write,
                                .no_backing = true};
    static uint8_t buf[8192];
    uint64_t done;
    int ret;

    if (o->device) /* its end is where it is */
        world_reach(w, 1 << 20);
    opt.cache = 0;
    assert(!qcow2_header_parse(&h, w->file, w->size, w->size, &w->err));
    h.incompat |= o->incompat;
    o->result = qcow2_open(&w->q, &h, w->file, &opt, &w->err);
    if (o->result)
        return;
    while ((ret = qcow2_load(w->q, &ticket, &need, &w->err)) > 0)
        assert(!world_settle(t, &need));
    assert(!ret);
    assert(!guest_read(t, 0, buf, sizeof(buf)) && buf[0] == 0x77);
    qcow2_verify(w->q);
    if (o->write) {
        assert(!guest_write(t, 20000, buf, 4096));
        assert(!world_close(w, t));
        return;
    }
    assert(guest_write(t, 0, buf, 512) == -EROFS);
    assert(guest_zero(t, 0, 512) == -EROFS);
    assert(qcow2_discard(w->q, &ticket, 1, 512, &done, &need) == -EROFS);
    qcow2_put_be64(w->file + l2(w), QCOW2_COPIED); /* cached: nothing changes */
    qcow2_free(w->q);
    w->q = NULL;
}

static void read_damaged(struct task *t)
{
    static uint8_t buf[512];
    struct qcow2_header h;
    struct qcow2_options opt = {
        .inflight = 4, .file_size = t->w->size, .regular = true};
    struct qcow2_need need;
    struct qcow2_ticket ticket = {0};

    assert(!qcow2_header_parse(&h, t->w->file, t->w->size, t->w->size, &t->w->err));
    assert(!qcow2_open(&t->w->q, &h, t->w->file, &opt, &t->w->err));
    while (qcow2_load(t->w->q, &ticket, &need, &t->w->err) > 0)
        assert(!world_settle(t, &need));
    assert(guest_read(t, 0, buf, sizeof(buf)) == -EIO); /* told, and no more */
    assert(guest_read(t, 512, buf, sizeof(buf)) == 0);
    qcow2_free(t->w->q);
    t->w->q = NULL;
}

static void case_opened_otherwise(void)
{
    static const struct open rows[] = {
        {.write = false},
        {.write = false, .incompat = QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY},
        {.write = true, .device = true},
        {.write = true, .incompat = QCOW2_INCOMPAT_CORRUPT, .result = -EROFS},
        {.write = true, .incompat = QCOW2_INCOMPAT_DIRTY, .result = -EROFS}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        make("cluster_size=512", DISK);
        struct world w = copy();
        struct open o = rows[i];
        run(&w, open_so, &o);
        assert(o.result == rows[i].result);
        free(w.file);
    }
    struct world w = copy();
    qcow2_put_be64(w.file + l2(&w), QCOW2_COPIED);
    run(&w, read_damaged, NULL);
    free(w.file);
}

/* ---- no disk at all, and then one ---- */

static void grow_from_nothing(struct task *t)
{
    static uint8_t buf[4096];
    assert(!world_open(t->w, t, 4, 0, 0));
    assert(!guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, "empty"));
    assert(!guest_resize(t, 16 << 20));
    memset(buf, 0x55, sizeof(buf));
    assert(!guest_write(t, (16 << 20) - 4096, buf, sizeof(buf)));
    assert(guest_resize(t, 1ull << 60) == -EFBIG);
    assert(!world_close(t->w, t));
}

static void case_no_disk(void)
{
    make("cluster_size=512", 0);
    struct world w = copy();
    qcow2_put_be32(w.file + QCOW2_H_L1_SIZE, 0);
    qcow2_put_be64(w.file + QCOW2_H_L1_OFFSET, 0);
    run(&w, grow_from_nothing, NULL);
    world_save(&w, image);
    shell(3, "qemu-img check -q -f qcow2 %s", image); /* the L1 cut off is leaked */
    free(w.file);
}

int main(void)
{
    case_entries();
    case_refcount_table();
    case_snapshot_fields();
    case_snapshot_infos();
    case_snapshot_table_is_long();
    case_snapshot_names();
    case_snapshot_trees();
    case_two_operations();
    case_opened_otherwise();
    case_no_disk();
    free(original.file);
    guest_done();
    return 0;
}
