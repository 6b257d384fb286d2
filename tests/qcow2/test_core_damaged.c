/*
 * Images that are wrong, and snapshots that come to an early end: what was good before
 * is good afterwards, and nothing asserts. One small image a case; nothing random but
 * the order of events. ASYNCOW_SEED repeats a run; argument: the case.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/qcow2/guest.h"

static char image[128];
static uint64_t seed;

static void world_of_image(struct world *w)
{
    *w = (struct world){.rng = seed};
    world_load(w, image);
}

static void make(const char *options, uint64_t size, const char *io)
{
    snprintf(image, sizeof(image), "%s/i.qcow2", guest_dir());
    shell(0, "qemu-img create -q -f qcow2 -o %s %s %" PRIu64, options, image, size);
    if (io)
        shell(0, "qemu-io -f qcow2 %s %s > /dev/null", io, image);
}

static void run(struct world *w, void (*fn)(struct task *), unsigned n, void *arg)
{
    static struct task tasks[64];
    for (unsigned i = 0; i < n; i++)
        tasks[i] = (struct task){.fn = fn, .arg = arg};
    if (!world_run(w, tasks, n))
        abort(); /* it goes on for ever */
}

static void opens(struct task *t)
{
    if (world_open(t->w, t, 64, 0, 0))
        abort();
}

static void closes(struct task *t) { *(int *)t->arg = world_close(t->w, t); }

static uint64_t l1(const struct world *w) { return qcow2_be64(w->file + 40); }
static uint8_t *l2_entry(struct world *w, uint64_t i)
{
    uint64_t table = qcow2_be64(w->file + l1(w)) & QCOW2_OFFSET_MASK;
    return w->file + table + 8 * i;
}

static bool filled(const uint8_t *p, uint8_t with, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        if (p[i] != with)
            return false;
    return true;
}

/* Two entries own one cluster that is counted once. Freed twice, the second time is an
 * error; it must not go on to free what happens to lie behind. */
static void free_twice(struct task *t)
{
    static uint8_t buf[14 * 4096];
    int *ret = t->arg;
    assert(!guest_discard(t, 0, 4096));
    assert(!guest_discard(t, 4096, 4096));
    *ret = guest_flush(t);
    (void)guest_flush(t);
    (void)guest_flush(t);
    assert(!guest_read(t, 2 * 4096, buf, sizeof(buf)));
    assert(filled(buf, 0x77, sizeof(buf)));
}

static void case_freed_twice(void)
{
    struct world w;
    int ret = 0;
    make("cluster_size=4096", 1 << 20, "-c 'write -P 0x77 0 64k'");
    world_of_image(&w);
    memcpy(l2_entry(&w, 0), l2_entry(&w, 1), 8);
    run(&w, opens, 1, NULL);
    run(&w, free_twice, 1, &ret);
    assert(ret == -EIO);
    run(&w, closes, 1, &ret);
    free(w.file);
}

/* ---- a snapshot that is given up after so many needs ---- */

struct give_up {
    enum qcow2_snapshot_op op;
    unsigned after;
    bool ended;
    struct world cut; /* the file as it was then */
};

static void snapshot_for_a_while(struct task *t)
{
    struct give_up *u = t->arg;
    struct qcow2_snapshot s = {.op = u->op, .name = "two", .date_sec = 1};
    struct qcow2_need need;
    unsigned n = 0;
    int ret;
    do {
        ret = qcow2_snapshot_step(t->w->q, &s, &need);
        world_wake(t->w);
        if (ret == QCOW2_NEED_IO) {
            ret = world_settle(t, &need);
            assert(!ret);
            if (n++ == u->after) {
                u->cut.size = u->cut.cap = t->w->size;
                u->cut.file = malloc(u->cut.size);
                memcpy(u->cut.file, t->w->file, u->cut.size);
                qcow2_snapshot_cancel(t->w->q, &s);
                world_wake(t->w);
                return;
            }
            s.tables_left = 1;
        }
        assert(!ret);
    } while (s.tables_left);
    u->ended = true;
}

static void write_everywhere(struct task *t)
{
    static uint8_t buf[8192];
    memset(buf, 0x99, sizeof(buf));
    for (uint64_t at = 0; at < 1 << 20; at += 64 << 10)
        assert(!guest_write(t, at + 2048, buf, sizeof(buf)));
    assert(!guest_flush(t));
    assert(!guest_discard(t, 32 << 10, 8192));
    assert(!guest_flush(t));
}

/* Writes all over the disk; what is found then: leaks, or COPIED not set where it could
 * be (after a crash also: set where a leak counts the cluster twice). That is no
 * harm. */
static void go_on_writing(struct world *w, const char *refcount)
{
    int ret = 0;
    run(w, write_everywhere, 1, NULL);
    w->verify = false;
    run(w, closes, 1, &ret);
    assert(!ret);
    world_save(w, image);
    shell(0,
          "qemu-img check -f qcow2 %s 2>&1 | grep ERROR | "
          "grep -v 'OFLAG_COPIED.*refcount=%s$' && exit 1 || exit 0",
          image, refcount);
    shell(0, "qemu-io -r -f qcow2 -c 'read -P 0x99 2k 8k' %s | grep -q ops", image);
    free(w->file);
}

/* Given up, and the same moment seen after a crash: written to as if nothing were. */
static void case_given_up(void)
{
    static const enum qcow2_snapshot_op ops[] = {
        QCOW2_SNAPSHOT_CREATE, QCOW2_SNAPSHOT_APPLY, QCOW2_SNAPSHOT_DELETE};
    for (unsigned i = 0; i < 3; i++) {
        struct give_up u = {.op = ops[i]};
        for (u.after = 0; !u.ended; u.after++) {
            struct world w;
            u.cut = (struct world){.rng = seed};
            if (getenv("ASYNCOW_VERBOSE"))
                printf("op %u after %u\n", i, u.after);
            make("cluster_size=4096", 1 << 20, "-c 'write -P 0x77 0 1M'");
            if (ops[i] != QCOW2_SNAPSHOT_CREATE) {
                shell(0, "qemu-img snapshot -c two %s", image);
                shell(0, "qemu-io -f qcow2 -c 'write -P 0x78 128k 200k' %s > /dev/null",
                      image);
            }
            world_of_image(&w);
            run(&w, opens, 1, NULL);
            w.verify = true;
            run(&w, snapshot_for_a_while, 1, &u);
            go_on_writing(&w, "1");
            if (!u.cut.file)
                continue;
            run(&u.cut, opens, 1, NULL);
            go_on_writing(&u.cut, "[12]");
        }
    }
}

/* ---- an L1 table longer than a slice, a block, several of them count ---- */

static void snapshots(struct task *t)
{
    static uint8_t buf[4096];
    memset(buf, 0x99, sizeof(buf));
    assert(!guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, "one"));
    assert(!guest_write(t, 4096, buf, sizeof(buf)));
    assert(!guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, "two"));
    assert(!guest_snapshot(t, QCOW2_SNAPSHOT_APPLY, "one"));
    assert(!guest_write(t, 0, buf, sizeof(buf)));
    assert(!guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, "one"));
    assert(t->w->size < 16 << 20);
}

static void case_long_l1(void)
{
    static const struct {
        const char *options;
        unsigned mib;
    } cases[] = {{"cluster_size=512", 511},
                 {"cluster_size=512", 512},
                 {"cluster_size=512", 4096},
                 {"cluster_size=512,refcount_bits=64", 1024}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct world w;
        int ret = 0;
        make(cases[i].options, (uint64_t)cases[i].mib << 20,
             "-c 'write -P 0x77 0 64k'");
        world_of_image(&w);
        run(&w, opens, 1, NULL);
        run(&w, snapshots, 1, NULL);
        run(&w, closes, 1, &ret);
        assert(!ret);
        world_save(&w, image);
        shell(0, "qemu-img check -q -f qcow2 %s", image);
        shell(0,
              "qemu-io -f qcow2 -c 'read -P 0x99 0 4k' -c 'read -P 0x77 4k 60k' %s "
              "> /dev/null",
              image);
        shell(0, "qemu-img snapshot -a two %s", image);
        shell(0,
              "qemu-io -f qcow2 -c 'read -P 0x77 0 4k' -c 'read -P 0x99 4k 4k' %s "
              "> /dev/null",
              image);
        shell(0, "qemu-img check -q -f qcow2 %s", image);
        free(w.file);
    }
}

/* ---- an L2 table where the refcount table will move to ---- */

static void fill(struct task *t)
{
    static uint8_t buf[64 << 10];
    memset(buf, 0x99, sizeof(buf));
    /* the last table, which is in the way, is dirty */
    int ret = guest_write(t, (10 << 20) - 4096, buf, 4096);
    for (uint64_t at = 0; !ret && at < 9 << 20; at += sizeof(buf))
        ret = guest_write(t, at, buf, sizeof(buf));
    assert(ret == -EIO);
}

static void case_table_in_the_way(void)
{
    struct world w;
    int ret = 0;
    /* one cluster of refcount table: 64 blocks of 256 clusters of 512 bytes, 8 MiB */
    make("cluster_size=512", 10 << 20, "-c 'write -P 0x77 0 4k'");
    world_of_image(&w);
    uint64_t n = (10 << 20) / (64 * 512);
    qcow2_put_be64(w.file + l1(&w) + 8 * (n - 1), (8ull << 20) | QCOW2_COPIED);
    run(&w, opens, 1, NULL);
    run(&w, fill, 1, NULL);
    run(&w, closes, 1, &ret);
    free(w.file);
}

/* ---- a snapshot that claims the active L1 table for data ---- */

static void drop(struct task *t)
{
    *(int *)t->arg = guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, "two");
    (void)guest_flush(t);
}

static void case_snapshot_of_l1(void)
{
    struct world w;
    int ret = 0;
    make("cluster_size=4096", 1 << 20, "-c 'write -P 0x77 0 1M'");
    shell(0, "qemu-img snapshot -c two %s", image);
    shell(0, "qemu-io -f qcow2 -c 'write -P 0x77 0 1M' %s > /dev/null", image);
    world_of_image(&w);
    uint64_t its_l1 = qcow2_be64(w.file + qcow2_be64(w.file + 64));
    uint64_t its_l2 = qcow2_be64(w.file + its_l1) & QCOW2_OFFSET_MASK;
    qcow2_put_be64(w.file + its_l2, l1(&w));
    run(&w, opens, 1, NULL);
    run(&w, drop, 1, &ret);
    assert(ret == -EIO);
    assert(qcow2_be64(w.file + l1(&w)));
    run(&w, closes, 1, &ret);
    world_save(&w, image);
    shell(0, "qemu-io -r -f qcow2 -c 'read -P 0x77 0 1M' %s > /dev/null", image);
    free(w.file);
}

/* ---- limbo full of promises when the refcount table must move ---- */

enum { WRITERS = 64, TABLE = 64 * 512 }; /* bytes that an L2 table of 512 bytes maps */

static void overwrite(struct task *t)
{
    static uint8_t buf[TABLE];
    uint64_t i = (uint64_t)(t - t->w->tasks);
    memset(buf, 0x99, sizeof(buf));
    assert(!guest_write(t, i * TABLE, buf, sizeof(buf)));
}

static void case_promises(void)
{
    struct world w;
    int ret = 0;
    make("cluster_size=512", 15900 * 512, "-c 'write -P 0x77 0 8140800'");
    world_of_image(&w);
    uint64_t reftable = qcow2_be64(w.file + 48);
    for (uint64_t i = 0; i < 64; i++) { /* every cluster it can count is in use */
        uint64_t block = qcow2_be64(w.file + reftable + 8 * i);
        assert(block);
        for (uint64_t k = 0; k < 256; k++)
            qcow2_refcount_set(w.file + block, k, 4, 1);
    }
    for (uint64_t i = 0; i < WRITERS; i++) { /* and nothing is rewritten in place */
        uint64_t table = qcow2_be64(w.file + l1(&w) + 8 * i) & QCOW2_OFFSET_MASK;
        for (uint64_t k = 0; k < 64; k++)
            w.file[table + 8 * k] &= 0x7f;
    }
    w.even = true; /* all promise before the first can keep its own */
    run(&w, opens, 1, NULL);
    w.stop_at = w.ios + (1 << 16);
    run(&w, overwrite, WRITERS, NULL);
    assert(qcow2_stats(w.q)->limbo_full && qcow2_stats(w.q)->table_moves == 1);
    w.stop_at = 0;
    run(&w, closes, 1, &ret);
    assert(!ret);
    world_save(&w, image);
    shell(3, "qemu-img check -q -f qcow2 %s > /dev/null 2>&1", image);
    shell(0, "qemu-io -r -f qcow2 -c 'read -P 0x99 0 2M' %s > /dev/null", image);
    free(w.file);
}

/* ---- a request that dies while its table is zeroed ---- */

static void plan_until(struct task *t, struct qcow2_write *w, uint64_t guest,
                       enum qcow2_op op, struct qcow2_need *need)
{
    int ret;
    while ((ret = qcow2_plan(t->w->q, guest, 4096, w, need)) > 0 &&
           !(ret == QCOW2_NEED_IO && need->io.op == op))
        assert(!world_settle(t, need));
    assert(ret >= 0);
}

static void late_zeros(struct task *t)
{
    static uint8_t buf[8192], back[8192];
    struct qcow2_write a = {0}, b = {0};
    struct qcow2_need need;
    plan_until(t, &a, 4096, QCOW2_FLUSH, &need); /* planned: it has a cluster */
    plan_until(t, &b, 2 << 20, QCOW2_ZERO, &need);
    qcow2_abort(t->w->q, &b); /* its I/O is under way */
    qcow2_abort(t->w->q, &a);
    memset(buf, 0x99, sizeof(buf));
    assert(!guest_write(t, 4096, buf, sizeof(buf)));
    assert(!world_settle(t, &need));
    assert(!guest_read(t, 4096, back, sizeof(back)));
    assert(!memcmp(buf, back, sizeof(buf)));
}

static void case_late_zeros(void)
{
    struct world w;
    int ret = 0;
    make("cluster_size=4096", 4 << 20, "-c 'write -P 0x77 0 4k'");
    world_of_image(&w);
    run(&w, opens, 1, NULL);
    run(&w, late_zeros, 1, NULL);
    run(&w, closes, 1, &ret);
    assert(!ret);
    free(w.file);
}

/* ---- two tables in one place ---- */

static void is_refused(struct task *t)
{
    int ret = world_open(t->w, t, 4, 0, 0);
    assert(ret == -EINVAL && strstr(t->w->err.msg, (const char *)t->arg));
}

static void case_tables_overlap(void)
{
    static const struct {
        unsigned field, of;
        int64_t by;
        const char *told;
    } cases[] = {{QCOW2_H_L1_OFFSET, QCOW2_H_REFTABLE_OFFSET, 0, "l1_table_offset"},
                 {QCOW2_H_REFTABLE_OFFSET, QCOW2_H_L1_OFFSET, -4096, "refcount_table"},
                 {QCOW2_H_SNAPSHOTS_OFFSET, QCOW2_H_L1_OFFSET, 0, "snapshots_offset"}};
    for (unsigned i = 0; i < 3; i++) {
        struct world w;
        make("cluster_size=4096", 1 << 20, "-c 'write -P 0x77 0 64k'");
        shell(0, "qemu-img snapshot -c one %s", image);
        world_of_image(&w);
        qcow2_put_be32(w.file + QCOW2_H_REFTABLE_CLUSTERS, 2);
        uint64_t at = qcow2_be64(w.file + cases[i].of) + (uint64_t)cases[i].by;
        qcow2_put_be64(w.file + cases[i].field, at);
        run(&w, is_refused, 1, (void *)(uintptr_t)cases[i].told);
        free(w.file);
    }
}

/* ---- written to without what lies below it ---- */

static void discards(struct task *t)
{
    assert(!guest_discard(t, 0, 8192));
    assert(!guest_zero(t, 16384, 8192));
    assert(!guest_flush(t));
}

static void case_without_backing(void)
{
    struct world w;
    int ret = 0;
    shell(0, "head -c 1048576 /dev/zero | tr '\\0' w > %s/below.raw", guest_dir());
    make("cluster_size=4096", 1 << 20, NULL);
    shell(0, "qemu-img rebase -u -f qcow2 -F raw -b %s/below.raw %s", guest_dir(),
          image);
    shell(0, "qemu-io -f qcow2 -c 'write -P 0x77 0 4k' %s > /dev/null", image);
    world_of_image(&w);
    run(&w, opens, 1, NULL);
    run(&w, discards, 1, NULL);
    run(&w, closes, 1, &ret);
    assert(!ret);
    world_save(&w, image);
    shell(0,
          "qemu-io -r -f qcow2 -c 'read -P 0 0 8k' -c 'read -P 0x77 8k 8k' "
          "-c 'read -P 0 16k 8k' %s > /dev/null",
          image);
    free(w.file);
}

/* ---- a file cut short: what is written past its end must not be trimmed ---- */

static void case_cut_short(void)
{
    make("cluster_size=4096", 1 << 20, "-c 'write -P 0x77 0 1M'");
    for (uint64_t keep = 2; keep < 40; keep += 13) { /* before, amid and after tables */
        struct world w;
        int ret = 0;
        world_of_image(&w);
        w.size = (l1(&w) & ~4095ull) + keep * 4096;
        memset(w.file + w.size, 0, w.cap - w.size);
        run(&w, opens, 1, NULL);
        run(&w, write_everywhere, 1, NULL);
        assert(qcow2_file_end(w.q) >= w.size);
        run(&w, closes, 1, &ret);
        assert(!ret);
        free(w.file);
    }
}

static const struct {
    const char *name;
    void (*fn)(void);
} cases[] = {{"freed-twice", case_freed_twice},
             {"given-up", case_given_up},
             {"long-l1", case_long_l1},
             {"table-in-the-way", case_table_in_the_way},
             {"snapshot-of-l1", case_snapshot_of_l1},
             {"promises", case_promises},
             {"late-zeros", case_late_zeros},
             {"cut-short", case_cut_short},
             {"tables-overlap", case_tables_overlap},
             {"without-backing", case_without_backing}};

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name))
            continue;
        printf("%s\n", cases[i].name);
        cases[i].fn();
    }
    guest_done();
    return 0;
}
