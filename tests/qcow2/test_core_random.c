/*
 * Random requests, many in flight, in random order, against a byte model: after each
 * round the image equals the model, `qemu-img check` finds nothing, and every rare path
 * was taken. ASYNCOW_SEED repeats a run; arguments: [rounds].
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/qcow2/world.h"

enum { DEPTH = 8, OPS = 60, SECTOR = 512, SECTORS_MAX = 1 << 15 };

struct config {
    const char *name, *options; /* for qemu-img create */
    uint64_t size, cluster;
    int backing;    /* 1: raw, smaller than the overlay; 2: compressed source as the top */
    bool snapshot;
};
static const struct config configs[] = {
    {"v3-512", "cluster_size=512", 600 * 1024, 512, 0, false},
    {"v3-512-r64", "cluster_size=512,refcount_bits=64", 12 << 20, 512, 0, false},
    {"v3-1k-r1", "cluster_size=1024,refcount_bits=1", 700 * 1024 + 512, 1024, 0, false},
    {"v3-4k-r2-backing", "cluster_size=4096,refcount_bits=2", 2 << 20, 4096, 1, true},
    {"v3-64k", "cluster_size=65536", 8 << 20, 65536, 0, false},
    {"v3-2m", "cluster_size=2097152", 16 << 20, 2 << 20, 0, false},
    {"v2-512-backing", "compat=0.10,cluster_size=512", 500 * 1024, 512, 1, true},
    {"v2-4k", "compat=0.10,cluster_size=4096", 3 << 20, 4096, 0, true},
    {"v3-4k-compressed", "cluster_size=4096", 2 << 20, 4096, 2, false},
    {"v3-64k-zstd", "cluster_size=65536,compression_type=zstd", 4 << 20, 65536, 2, true},
    {"v3-16k-prealloc-backing", "cluster_size=16384,refcount_bits=8", 4 << 20, 16384, 1, true},
};

struct model {
    uint8_t *bytes;
    /* Who is writing each sector: two requests never write one at once, and a read of
     * one being written is not compared. */
    uint16_t *writers, *readers;
    uint64_t *version;
};
struct job {
    struct model *m;
    uint64_t size, cluster;
    unsigned ops;
};
static struct qcow2_stats totals;
static char dir[256];

static void run(const char *fmt, const char *a, const char *b)
{
    char cmd[2048];
    snprintf(cmd, sizeof(cmd), fmt, a, b);
    int ret = system(cmd);
    if (ret) {
        fprintf(stderr, "failed: %s\n", cmd);
        abort();
    }
}

static bool claim(struct model *m, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++) {
        if (m->writers[i] || m->readers[i])
            return false;
    }
    for (uint64_t i = first; i < first + n; i++)
        m->writers[i]++;
    return true;
}

static void one_op(struct task *t)
{
    struct job *j = t->arg;
    struct model *m = j->m;
    struct world *w = t->w;
    uint64_t nsectors = j->size / SECTOR;
    uint64_t most = 3 * j->cluster / SECTOR < 64 ? 64 : 3 * j->cluster / SECTOR;

    if (j->size > 4096 * j->cluster)
        most = 512; /* fills a table of many small clusters */

    uint64_t n = 1 + world_random(w, world_random(w, 2) ? most : 8);
    uint64_t first = world_random(w, nsectors);
    int ret = 0;

    if (!world_random(w, 3)) /* a hot corner, for overlaps */
        first %= 64;
    if (world_random(w, 2)) /* whole clusters */
        first -= first % (j->cluster / SECTOR);
    if (n > nsectors - first)
        n = nsectors - first;
    uint64_t at = first * SECTOR, len = n * SECTOR;
    uint8_t *buf = malloc(len), tag = (uint8_t)world_random(w, 256);
    switch (world_random(w, 10)) {
    case 0 ... 3:
        if (!claim(m, first, n))
            break;
        for (uint64_t i = 0; i < len; i++)
            buf[i] = (uint8_t)(tag + i * 7 + i / 256);
        ret = guest_write(t, at, buf, len);
        memcpy(m->bytes + at, buf, len);
        for (uint64_t i = first; i < first + n; i++)
            m->writers[i]--;
        break;
    case 4:
        if (!claim(m, first, n))
            break;
        ret = guest_zero(t, at, len);
        memset(m->bytes + at, 0, len);
        for (uint64_t i = first; i < first + n; i++)
            m->writers[i]--;
        break;
    case 5: {
        if (!claim(m, first, n))
            break;
        uint64_t start = at % j->cluster ? at + j->cluster - at % j->cluster : at;
        uint64_t end = at + len == j->size ? at + len : (at + len) - (at + len) % j->cluster;
        bool ignored = w->backing && w->file[7] == 2;
        ret = guest_discard(t, at, len);
        if (end > start && !ignored)
            memset(m->bytes + start, 0, end - start);
        for (uint64_t i = first; i < first + n; i++)
            m->writers[i]--;
        break;
    }
    case 6:
        ret = guest_flush(t);
        break;
    default:
        for (uint64_t i = first; i < first + n; i++) {
            if (m->writers[i])
                goto out;
        }
        for (uint64_t i = first; i < first + n; i++)
            m->readers[i]++;
        ret = guest_read(t, at, buf, len);
        if (!ret && memcmp(buf, m->bytes + at, len)) {
            for (uint64_t i = 0; i < len; i++) {
                if (buf[i] != m->bytes[at + i]) {
                    fprintf(stderr, "byte %" PRIu64 ": read %02x, should be %02x\n",
                            at + i, buf[i], m->bytes[at + i]);
                    abort();
                }
            }
        }
        for (uint64_t i = first; i < first + n; i++)
            m->readers[i]--;
    }
out:
    free(buf);
    if (ret) {
        fprintf(stderr, "request failed: %s\n", strerror(-ret));
        abort();
    }
}

static void worker(struct task *t)
{
    struct job *j = t->arg;
    for (unsigned i = 0; i < j->ops; i++)
        one_op(t);
}

static void opener(struct task *t)
{
    struct world *w = t->w;
    uint64_t grow = world_random(w, 2) ? 1 << 20 : 0;
    w->verify = false; /* not while it is half open */
    if (world_open(w, t, DEPTH + 2, world_random(w, 2) ? 0 : 1 << 20, grow))
        abort();
    w->verify = true;
}

static void closer(struct task *t)
{
    const uint64_t *from = (const uint64_t *)qcow2_stats(t->w->q);
    uint64_t *to = (uint64_t *)&totals;
    for (size_t i = 0; i < sizeof(totals) / sizeof(*to); i++)
        to[i] += from[i];
    if (world_close(t->w, t))
        abort();
}

static void make_image(const struct config *c, const char *path, const char *base,
                       uint64_t seed)
{
    char opts[512];
    unlink(path);
    snprintf(opts, sizeof(opts), "%s%s%s", c->options,
             c->backing == 1 ? ",backing_fmt=raw,backing_file=" : "",
             c->backing == 1 ? base : "");
    if (c->backing) {
        FILE *f = fopen(base, "wb");
        uint64_t size = c->backing == 1 ? c->size * 3 / 4 : c->size;
        for (uint64_t i = 0; i < size; i++)
            fputc(((i >> 9) * 31 + seed) % 5 ? (int)((i >> 6) & 0xff) : 0, f);
        fclose(f);
    }
    char cmd[1200];
    if (c->backing == 2)
        snprintf(cmd, sizeof(cmd), "qemu-img convert -c -O qcow2 -o %s %s %s", opts, base,
                 path);
    else
        snprintf(cmd, sizeof(cmd), "qemu-img create -q -f qcow2 -o %s %s %" PRIu64, opts,
                 path, c->size);
    run("%s%s", cmd, "");
    if (c->snapshot) {
        run("qemu-io -f qcow2 -c 'write -P 0x5a 8k 100k' -c 'write -z 16k 32k' %s%s "
            "> /dev/null", path, "");
        run("qemu-img snapshot -c one %s%s", path, "");
        run("qemu-io -f qcow2 -c 'write -P 0x6b 64k 50k' %s%s > /dev/null", path, "");
    }
}

static void round_of(const struct config *c, uint64_t seed)
{
    char image[300], base[300], raw[300];
    snprintf(image, sizeof(image), "%s/i.qcow2", dir);
    snprintf(base, sizeof(base), "%s/base.raw", dir);
    snprintf(raw, sizeof(raw), "%s/out.raw", dir);
    make_image(c, image, base, seed);
    run("qemu-img convert -f qcow2 -O raw %s %s", image, raw);

    struct world w = {.rng = seed, .verify = true}, m = {0}, b = {0};
    world_load(&w, image);
    world_load(&m, raw);
    if (c->backing == 1) {
        world_load(&b, base);
        w.backing = b.file;
        w.backing_size = b.size;
    }
    assert(m.size == c->size);
    struct model model = {.bytes = m.file,
                          .writers = calloc(c->size / SECTOR, 2),
                          .readers = calloc(c->size / SECTOR, 2)};
    struct job job = {&model, c->size, c->cluster,
                      c->size > 4096 * c->cluster ? 4 * OPS : OPS};
    struct task tasks[DEPTH] = {0};
    for (int part = 0; part < 2; part++) { /* closed and opened again in between */
        tasks[0].fn = opener;
        world_run(&w, tasks, 1);
        for (int i = 0; i < DEPTH; i++) {
            tasks[i].fn = worker;
            tasks[i].arg = &job;
        }
        world_run(&w, tasks, DEPTH);
        tasks[0].fn = closer;
        world_run(&w, tasks, 1);
        world_save(&w, image);
        run("qemu-img check -q -f qcow2 %s%s", image, "");
    }
    run("qemu-img convert -f qcow2 -O raw %s %s", image, raw);
    struct world out = {0};
    world_load(&out, raw);
    if (out.size != m.size || memcmp(out.file, m.file, m.size)) {
        fprintf(stderr, "qemu-img reads something else than the model\n");
        abort();
    }
    free(out.file);
    free(w.file);
    free(m.file);
    free(b.file);
    free(model.writers);
    free(model.readers);
}

static int rare(const char *name, uint64_t n)
{
    printf("  %-20s %" PRIu64 "\n", name, n);
    return n ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    int rounds = argc > 1 ? atoi(argv[1]) : 2, missed = 0;
    size_t n = sizeof(configs) / sizeof(*configs);

    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
    snprintf(dir, sizeof(dir), "/dev/shm/asyncow-core-XXXXXX");
    if (!mkdtemp(dir)) {
        snprintf(dir, sizeof(dir), "/tmp/asyncow-core-XXXXXX");
        assert(mkdtemp(dir));
    }
    for (int r = 0; r < rounds; r++) {
        for (size_t i = 0; i < n; i++) {
            if (argc > 2 && strcmp(argv[2], configs[i].name))
                continue;
            printf("%s round %d\n", configs[i].name, r);
            fflush(stdout);
            round_of(&configs[i], seed + (uint64_t)r * 977 + i);
        }
    }
    run("rm -rf %s%s", dir, "");
    printf("rare paths taken:\n");
    missed += rare("overlap_waits", totals.overlap_waits);
    missed += rare("new_refblocks", totals.new_refblocks);
    missed += rare("table_moves", totals.table_moves);
    missed += rare("limbo_reuse", totals.limbo_reuse);
    missed += rare("dirty_evictions", totals.dirty_evictions);
    missed += rare("evictions", totals.evictions);
    missed += rare("cow_zero", totals.cow_zero);
    missed += rare("cow_shared", totals.cow_shared);
    missed += rare("cow_backing", totals.cow_backing);
    missed += rare("cow_compressed", totals.cow_compressed);
    missed += rare("zero_skipped", totals.zero_skipped);
    missed += rare("new_l2", totals.new_l2);
    missed += rare("l2_copies", totals.l2_copies);
    missed += rare("grows", totals.grows);
    missed += rare("grow_waits", totals.grow_waits);
    missed += rare("discard_under_io", totals.discard_under_io);
    missed += rare("punches", totals.punches);
    missed += rare("sync_joins", totals.sync_joins);
    missed += rare("shadow_copies", totals.shadow_copies);
    if (missed && argc <= 2)
        printf("%d rare paths were never taken\n", missed);
    return missed && argc <= 2 && rounds > 1;
}
