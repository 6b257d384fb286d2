/* Images, random requests, and what must come of them: guest.h. */
#include "tests/qcow2/guest.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const struct config configs[] = {
    {"v3-512", "cluster_size=512", 600 * 1024, 512, 0, false, false},
    {"v3-512-r64", "cluster_size=512,refcount_bits=64", 12 << 20, 512, 0, false, false},
    {"v3-1k-r1", "cluster_size=1024,refcount_bits=1", 700 * 1024 + 512, 1024, 0, false,
     false},
    {"v3-4k-r2-backing", "cluster_size=4096,refcount_bits=2", 2 << 20, 4096, 1, true,
     false},
    {"v3-64k", "cluster_size=65536", 8 << 20, 65536, 0, false, false},
    {"v3-2m", "cluster_size=2097152", 6 << 20, 2 << 20, 0, false, false},
    {"v2-512-backing", "compat=0.10,cluster_size=512", 500 * 1024, 512, 1, true, false},
    {"v2-4k", "compat=0.10,cluster_size=4096", 3 << 20, 4096, 0, true, false},
    {"v3-4k-compressed", "cluster_size=4096", 2 << 20, 4096, 2, false, false},
    {"v3-64k-zstd", "cluster_size=65536,compression_type=zstd", 4 << 20, 65536, 2, true,
     false},
    {"v3-16k-prealloc-backing", "cluster_size=16384,refcount_bits=8", 4 << 20, 16384, 1,
     true, false},
};
const unsigned nconfigs = sizeof(configs) / sizeof(*configs);

/* Small disks: an image is looked at in some ten microseconds. */
const struct config small_configs[] = {
    {"v3-512-r64", "cluster_size=512,refcount_bits=64", 48 << 10, 512, 0, false, false},
    {"v3-512-r64-full", "cluster_size=512,refcount_bits=64", 48 << 10, 512, 0, false,
     true},
    {"v3-512", "cluster_size=512", 40 << 10, 512, 0, false, false},
    {"v3-1k-r1", "cluster_size=1024,refcount_bits=1", (64 << 10) + 512, 1024, 0, false,
     false},
    {"v3-4k-r2-backing", "cluster_size=4096,refcount_bits=2", 128 << 10, 4096, 1, true,
     false},
    {"v2-512-backing", "compat=0.10,cluster_size=512", 116 << 10, 512, 1, true, false},
    {"v2-4k", "compat=0.10,cluster_size=4096", 128 << 10, 4096, 0, true, false},
    {"v3-4k-compressed", "cluster_size=4096", 128 << 10, 4096, 2, false, false},
    {"v3-16k-backing", "cluster_size=16384,refcount_bits=8", 256 << 10, 16384, 1, true,
     false},
    {"v3-64k", "cluster_size=65536", 384 << 10, 65536, 0, false, false},
};
const unsigned nsmall = sizeof(small_configs) / sizeof(*small_configs);

static char dir[64];

const char *guest_dir(void)
{
    if (!dir[0]) {
        strcpy(dir, "/dev/shm/asyncow-core-XXXXXX");
        if (!mkdtemp(dir)) {
            strcpy(dir, "/tmp/asyncow-core-XXXXXX");
            if (!mkdtemp(dir))
                abort();
        }
    }
    return dir;
}

void guest_done(void) { shell(0, "rm -rf %s", guest_dir()); }

int shell(int also_ok, const char *fmt, ...)
{
    char cmd[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    int status = system(cmd);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code && code != also_ok) {
        fprintf(stderr, "exit status %d: %s\n", code, cmd);
        abort();
    }
    return code;
}

static void make_image(const struct config *c, const char *path, const char *base,
                       uint64_t seed)
{
    unlink(path);
    if (c->backing) {
        FILE *f = fopen(base, "wb");
        uint64_t size = c->backing == 1 ? c->size * 3 / 4 : c->size;
        for (uint64_t i = 0; i < size; i++)
            fputc(((i >> 9) * 31 + seed) % 5 ? (int)((i >> 6) & 0xff) : 0, f);
        fclose(f);
    }
    if (c->backing == 2)
        shell(0, "qemu-img convert -c -O qcow2 -o %s %s %s", c->options, base, path);
    else
        shell(0, "qemu-img create -q -f qcow2 -o %s%s%s %s %" PRIu64, c->options,
              c->backing ? ",backing_fmt=raw,backing_file=" : "",
              c->backing ? base : "", path, c->size);
    if (c->snapshot) {
        shell(0,
              "qemu-io -f qcow2 -c 'write -P 0x5a 8k 100k' -c 'write -z 16k 32k' %s "
              "> /dev/null",
              path);
        shell(0, "qemu-img snapshot -c one %s", path);
        shell(0, "qemu-io -f qcow2 -c 'write -P 0x6b 64k 50k' %s > /dev/null", path);
    }
}

/* Counts what nobody uses, up to a little before the end of what the table can
 * count. */
static void fill_counts(struct world *w, const struct config *c)
{
    struct qcow2_header h;
    struct error err = {""};
    if (qcow2_header_parse(&h, w->file, w->size, w->size, &err))
        abort();
    uint64_t per_block = c->cluster * 8 >> h.refcount_order;
    uint64_t entries = ((uint64_t)h.reftable_clusters << h.cluster_bits) / 8;
    uint64_t first = (w->size + c->cluster - 1) / c->cluster;
    uint64_t end = entries * per_block - 24;
    world_reach(w, (end + 24) * c->cluster);
    for (uint64_t i = first / per_block; i < entries; i++) {
        uint8_t *slot = w->file + h.reftable_offset + 8 * i;
        uint64_t block = qcow2_be64(slot), self = i * per_block;
        if (!block) {
            block = self * c->cluster;
            qcow2_put_be64(slot, block);
        }
        for (uint64_t k = self > first ? self : first; k < self + per_block; k++)
            if (k < end || k * c->cluster == block)
                qcow2_refcount_set(w->file + block, k - self, h.refcount_order, 1);
    }
}

struct template
{ /* an image as QEMU made it, the file below it, what it shows */
    struct world image, base, raw;
    bool made;
};
static struct template templates[32];

static struct template *template_of(const struct config *c, uint64_t seed)
{
    static const struct config *of[32];
    unsigned n = 0;
    char image[128], base[128], raw[128];

    while (of[n] && of[n] != c)
        n++;
    of[n] = c;
    struct template *t = &templates[n];
    if (t->made)
        return t;
    snprintf(image, sizeof(image), "%s/template-%u.qcow2", guest_dir(), n);
    snprintf(base, sizeof(base), "%s/base-%u.raw", guest_dir(), n);
    snprintf(raw, sizeof(raw), "%s/out.raw", guest_dir());
    make_image(c, image, base, seed);
    shell(0, "qemu-img convert -f qcow2 -O raw %s %s", image, raw);
    world_load(&t->image, image);
    if (c->backing == 1)
        world_load(&t->base, base);
    world_load(&t->raw, raw);
    assert(t->raw.size == c->size);
    if (c->full)
        fill_counts(&t->image, c);
    t->made = true;
    return t;
}

static uint8_t *copy(const struct world *w)
{
    uint8_t *p = malloc(w->cap);
    assert(p);
    return memcpy(p, w->file, w->cap);
}

void guest_init(struct guest *g, const struct config *c, struct world *w, uint64_t seed)
{
    const struct template *t = template_of(c, seed);

    *w = (struct world){.rng = seed,
                        .file = copy(&t->image),
                        .size = t->image.size,
                        .cap = t->image.cap,
                        .backing = t->base.file,
                        .backing_size = t->base.size};
    *g = (struct guest){.config = c, .size = c->size, .cluster = c->cluster};
    model_init(&g->m, copy(&t->raw), c->size, true);
    g->ops = c->size > 4096 * c->cluster ? 240 : 60;
}

void guest_free(struct guest *g, struct world *w)
{
    model_free(&g->m);
    free(w->file);
}

static int do_write(struct guest *g, struct task *t, uint64_t at, uint64_t len)
{
    uint8_t *buf = malloc(len);
    uint64_t tag = world_random(t->w, UINT64_MAX);

    assert(buf);
    for (uint64_t i = 0; i < len; i += 8) {
        uint64_t word = (tag ^ (at + i)) * 0x9e3779b97f4a7c15ull;
        memcpy(buf + i, &word, 8);
    }
    uint64_t writer = model_write(&g->m, at, len, buf);
    int ret = guest_write(t, at, buf, len);
    model_written(&g->m, at, len, writer, !ret);
    free(buf);
    return ret;
}

static int do_zero(struct guest *g, struct task *t, uint64_t at, uint64_t len)
{
    uint64_t writer = model_write(&g->m, at, len, NULL);
    int ret = guest_zero(t, at, len);
    model_written(&g->m, at, len, writer, !ret);
    return ret;
}

static int do_discard(struct guest *g, struct task *t, uint64_t at, uint64_t len)
{
    uint64_t c = g->cluster, end = at + len == g->size ? at + len : (at + len) / c * c;
    uint64_t start = (at + c - 1) / c * c, writer = 0;
    bool zeros = end > start &&
                 !(t->w->backing && t->w->file[7] == 2); /* version 2 over a file */

    if (zeros)
        writer = model_write(&g->m, start, end - start, NULL);
    int ret = guest_discard(t, at, len);
    if (zeros)
        model_written(&g->m, start, end - start, writer, !ret);
    return ret;
}

static int do_flush(struct guest *g, struct task *t)
{
    uint64_t began = g->m.clock;
    int ret = guest_flush(t);
    if (ret)
        return ret;
    model_flushed(&g->m, began);
    return 0;
}

static int do_read(struct guest *g, struct task *t, uint64_t at, uint64_t len)
{
    uint8_t *buf = malloc(len);
    uint64_t began = model_read(&g->m, at, len), bad;

    assert(buf);
    int ret = guest_read(t, at, buf, len);
    if (!ret && !model_check(&g->m, at, len, buf, began, &bad)) {
        fprintf(stderr, "byte %" PRIu64 " is read as %02x; it is\n", bad,
                buf[bad - at]);
        model_tell(&g->m, bad, began);
        abort();
    }
    model_read_end(&g->m, at, len);
    free(buf);
    return ret;
}

static void choose_range(struct guest *g, struct world *w, uint64_t *at, uint64_t *len)
{
    uint64_t nsectors = g->size / SECTOR, per = g->cluster / SECTOR;
    uint64_t most = 3 * per < 64 ? 64 : 3 * per;

    if (g->size > 4096 * g->cluster)
        most = 512; /* fills a table of many small clusters */
    if (g->most)
        most = g->most;
    uint64_t n = 1 + world_random(w, world_random(w, 2) || most < 8 ? most : 8);
    uint64_t first = world_random(w, nsectors);
    if (!world_random(w, 3)) /* a hot corner, for overlaps */
        first %= 64;
    if (world_random(w, 2)) /* whole clusters */
        first -= first % per;
    if (n > nsectors - first)
        n = nsectors - first;
    *at = first * SECTOR;
    *len = n * SECTOR;
}

/* What somebody reads or writes is discarded at once, that is flushed, and more is written:
 * if the first is slow, its clusters are wanted again before it has ended. */
static int chase(struct guest *g, struct task *t)
{
    uint64_t c = g->cluster, at = g->at / c * c, end = (g->at + g->len + c - 1) / c * c;
    int ret = 0;

    if (end > g->size)
        end = g->size;
    if (at >= end || !model_claim(&g->m, at, end - at, false))
        return 0;
    ret = do_discard(g, t, at, end - at);
    model_release(&g->m, at, end - at);
    if (!ret)
        ret = do_flush(g, t);
    for (int i = 0; i < 3 && !ret; i++) {
        uint64_t len;
        choose_range(g, t->w, &at, &len);
        if (!model_claim(&g->m, at, len, false))
            continue;
        ret = do_write(g, t, at, len);
        model_release(&g->m, at, len);
    }
    return ret;
}

static void one_request(struct guest *g, struct task *t)
{
    struct world *w = t->w;
    uint64_t at, len, kind = world_random(w, 9);
    int ret = 0;

    choose_range(g, w, &at, &len);
    if (world_random(w, g->flushes ? g->flushes : 10) == 0) {
        ret = do_flush(g, t);
    } else if (world_random(w, 12) == 0) {
        ret = chase(g, t);
    } else if (kind >= 6) {
        g->at = at;
        g->len = len;
        ret = do_read(g, t, at, len);
    } else if (model_claim(&g->m, at, len, world_random(w, 2))) {
        if (kind < 4) {
            g->at = at;
            g->len = len;
        }
        ret = kind < 4    ? do_write(g, t, at, len)
              : kind == 4 ? do_zero(g, t, at, len)
                          : do_discard(g, t, at, len);
        model_release(&g->m, at, len);
    }
    if (ret == -ECANCELED && w->deaths)
        return;
    g->errors += ret != 0;
    if (ret && !g->may_fail) {
        fprintf(stderr, "request failed: %s\n", strerror(-ret));
        abort();
    }
}

void guest_open(struct task *t)
{
    struct world *w = t->w;
    struct guest *g = t->arg;
    uint64_t grow = world_random(w, 2) ? 1 << 20 : 0, fail_at = w->fail_at;
    /* In turn: a small cache has paths of its own. */
    bool large = g->opens++ ? !g->large_cache : world_random(w, 2);
    size_t cache = large ? 1 << 20 : 0;
    g->large_cache = large;
    w->verify = false; /* not while it is half open */
    w->fail_at = 0;
    if (world_open(w, t, DEPTH + 2, cache, grow)) {
        fprintf(stderr, "open: %s\n", w->err.msg);
        abort();
    }
    w->verify = true;
    w->fail_at = fail_at;
}

void guest_work(struct task *t)
{
    struct guest *g = t->arg;
    for (unsigned i = 0; i < g->ops; i++)
        one_request(g, t);
}

void guest_close(struct task *t)
{
    struct guest *g = t->arg;
    const uint64_t *from = (const uint64_t *)qcow2_stats(t->w->q);
    uint64_t *to = (uint64_t *)&g->totals;
    for (size_t i = 0; i < sizeof(g->totals) / sizeof(*to); i++)
        to[i] += from[i];
    int ret = world_close(t->w, t);
    g->errors += ret != 0;
    if (ret && !g->may_fail)
        abort();
    if (!ret)
        model_flushed(&g->m, g->m.clock);
}

bool guest_run(struct guest *g, struct world *w, void (*fn)(struct task *), unsigned n)
{
    static struct task tasks[DEPTH];
    for (unsigned i = 0; i < n; i++) {
        tasks[i] = (struct task){.fn = fn, .arg = g};
    }
    return world_run(w, tasks, n);
}

void guest_compare(const struct guest *g, const char *path)
{
    char raw[128];
    struct world out = {0};
    uint64_t bad;

    snprintf(raw, sizeof(raw), "%s/compare.raw", guest_dir());
    shell(0, "qemu-img convert -f qcow2 -O raw %s %s", path, raw);
    world_load(&out, raw);
    assert(out.size == g->size);
    if (!model_check(&g->m, 0, g->size, out.file, g->m.clock, &bad)) {
        fprintf(stderr, "byte %" PRIu64 " is %02x for qemu-img; it is\n", bad,
                out.file[bad]);
        model_tell(&g->m, bad, g->m.clock);
        abort();
    }
    free(out.file);
}
