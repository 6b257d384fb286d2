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
    {"v3-512", "cluster_size=512", 600 * 1024, 512, 0, false},
    {"v3-512-r64", "cluster_size=512,refcount_bits=64", 12 << 20, 512, 0, false},
    {"v3-1k-r1", "cluster_size=1024,refcount_bits=1", 700 * 1024 + 512, 1024, 0, false},
    {"v3-4k-r2-backing", "cluster_size=4096,refcount_bits=2", 2 << 20, 4096, 1, true},
    {"v3-64k", "cluster_size=65536", 8 << 20, 65536, 0, false},
    {"v3-2m", "cluster_size=2097152", 6 << 20, 2 << 20, 0, false},
    {"v2-512-backing", "compat=0.10,cluster_size=512", 500 * 1024, 512, 1, true},
    {"v2-4k", "compat=0.10,cluster_size=4096", 3 << 20, 4096, 0, true},
    {"v3-4k-compressed", "cluster_size=4096", 2 << 20, 4096, 2, false},
    {"v3-64k-zstd", "cluster_size=65536,compression_type=zstd", 4 << 20, 65536, 2,
     true},
    {"v3-16k-prealloc-backing", "cluster_size=16384,refcount_bits=8", 4 << 20, 16384, 1,
     true},
};
const unsigned nconfigs = sizeof(configs) / sizeof(*configs);

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

void guest_init(struct guest *g, const struct config *c, struct world *w, uint64_t seed)
{
    char image[128], base[128], raw[128];
    struct world tmp = {0};

    snprintf(image, sizeof(image), "%s/i.qcow2", guest_dir());
    snprintf(base, sizeof(base), "%s/base.raw", guest_dir());
    snprintf(raw, sizeof(raw), "%s/out.raw", guest_dir());
    make_image(c, image, base, seed);
    shell(0, "qemu-img convert -f qcow2 -O raw %s %s", image, raw);
    *w = (struct world){.rng = seed};
    world_load(w, image);
    if (c->backing == 1) {
        world_load(&tmp, base);
        w->backing = tmp.file;
        w->backing_size = tmp.size;
        tmp = (struct world){0};
    }
    world_load(&tmp, raw);
    assert(tmp.size == c->size);
    *g = (struct guest){.config = c,
                        .bytes = tmp.file,
                        .size = c->size,
                        .cluster = c->cluster,
                        .clock = 1};
    g->flushed = malloc(c->size);
    memcpy(g->flushed, g->bytes, c->size);
    g->sectors = calloc(c->size / SECTOR, sizeof(*g->sectors));
    for (uint64_t i = 0; i < c->size / SECTOR; i++)
        g->sectors[i] = (struct sector){.known = true, .kept = true, .kept_at = 1};
    g->ops = c->size > 4096 * c->cluster ? 240 : 60;
}

void guest_free(struct guest *g, struct world *w)
{
    free(g->bytes);
    free(g->flushed);
    free(g->sectors);
    free(w->file);
    free((void *)w->backing);
    for (unsigned i = 0; i < w->nlog; i++)
        free(w->log[i].data);
    free(w->log);
}

static bool claim(struct guest *g, uint64_t first, uint64_t n)
{
    struct sector *s = g->sectors + first;
    for (uint64_t i = 0; i < n; i++) {
        if (s[i].writers || s[i].readers)
            return false;
    }
    g->clock++;
    for (uint64_t i = 0; i < n; i++) {
        s[i].writers = 1;
        s[i].touched = g->clock;
    }
    return true;
}

/* whole: the request gave every sector new contents (a discard leaves some alone). */
static void release(struct guest *g, uint64_t first, uint64_t n, int ret, bool whole)
{
    g->clock++;
    for (struct sector *s = g->sectors + first; n; n--, s++) {
        s->writers = 0;
        s->touched = g->clock;
        s->known = !ret && (whole || s->known);
    }
}

static int do_write(struct guest *g, struct task *t, uint64_t at, uint64_t len)
{
    uint8_t *buf = malloc(len), tag = (uint8_t)world_random(t->w, 256);
    for (uint64_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(tag + i * 7 + i / 256);
    int ret = guest_write(t, at, buf, len);
    memcpy(g->bytes + at, buf, len);
    free(buf);
    return ret;
}

static int do_discard(struct guest *g, struct task *t, uint64_t at, uint64_t len)
{
    uint64_t c = g->cluster, end = at + len == g->size ? at + len : (at + len) / c * c;
    uint64_t start = (at + c - 1) / c * c;
    bool ignored =
        t->w->backing && t->w->file[7] == 2; /* version 2 over a backing file */
    int ret = guest_discard(t, at, len);
    if (end > start && !ignored)
        memset(g->bytes + start, 0, end - start);
    return ret;
}

static int do_flush(struct guest *g, struct task *t)
{
    uint64_t begin = ++g->clock;
    int ret = guest_flush(t);
    if (ret)
        return ret;
    for (uint64_t i = 0; i < g->size / SECTOR; i++) {
        struct sector *s = &g->sectors[i];
        if (s->touched > begin || s->writers)
            continue;
        s->kept = s->known;
        s->kept_at = begin;
        memcpy(g->flushed + i * SECTOR, g->bytes + i * SECTOR, SECTOR);
    }
    return 0;
}

static int do_read(struct guest *g, struct task *t, uint64_t first, uint64_t n)
{
    struct sector *s = g->sectors + first;
    for (uint64_t i = 0; i < n; i++) {
        if (s[i].writers)
            return 0;
    }
    for (uint64_t i = 0; i < n; i++)
        s[i].readers++;
    uint8_t *buf = malloc(n * SECTOR);
    int ret = guest_read(t, first * SECTOR, buf, n * SECTOR);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *want = g->bytes + (first + i) * SECTOR;
        if (!ret && s[i].known && memcmp(buf + i * SECTOR, want, SECTOR)) {
            fprintf(stderr, "sector %" PRIu64 ": read %02x.., should be %02x..\n",
                    first + i, buf[i * SECTOR], want[0]);
            abort();
        }
        s[i].readers--;
    }
    free(buf);
    return ret;
}

static void one_request(struct guest *g, struct task *t)
{
    struct world *w = t->w;
    uint64_t nsectors = g->size / SECTOR, per = g->cluster / SECTOR;
    uint64_t most = 3 * per < 64 ? 64 : 3 * per;
    int ret = 0;

    if (g->size > 4096 * g->cluster)
        most = 512; /* fills a table of many small clusters */
    uint64_t n = 1 + world_random(w, world_random(w, 2) ? most : 8);
    uint64_t first = world_random(w, nsectors);
    if (!world_random(w, 3)) /* a hot corner, for overlaps */
        first %= 64;
    if (world_random(w, 2)) /* whole clusters */
        first -= first % per;
    if (n > nsectors - first)
        n = nsectors - first;
    uint64_t kind = world_random(w, 10);
    if (kind == 6) {
        ret = do_flush(g, t);
    } else if (kind > 6) {
        ret = do_read(g, t, first, n);
    } else if (claim(g, first, n)) {
        if (kind < 4) {
            ret = do_write(g, t, first * SECTOR, n * SECTOR);
        } else if (kind == 4) {
            ret = guest_zero(t, first * SECTOR, n * SECTOR);
            memset(g->bytes + first * SECTOR, 0, n * SECTOR);
        } else {
            ret = do_discard(g, t, first * SECTOR, n * SECTOR);
        }
        release(g, first, n, ret, kind <= 4);
    }
    g->errors += ret != 0;
    if (ret && !g->may_fail) {
        fprintf(stderr, "request failed: %s\n", strerror(-ret));
        abort();
    }
}

void guest_work(struct task *t)
{
    struct guest *g = t->arg;
    for (unsigned i = 0; i < g->ops; i++)
        one_request(g, t);
}

void guest_open(struct task *t)
{
    struct world *w = t->w;
    uint64_t grow = world_random(w, 2) ? 1 << 20 : 0, fail_at = w->fail_at;
    size_t cache = world_random(w, 2) ? 0 : 1 << 20;
    w->verify = false; /* not while it is half open */
    w->fail_at = 0;
    if (world_open(w, t, DEPTH + 2, cache, grow))
        abort();
    w->verify = true;
    w->fail_at = fail_at;
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
}

bool guest_run(struct guest *g, struct world *w, void (*fn)(struct task *), unsigned n)
{
    static struct task tasks[DEPTH];
    for (unsigned i = 0; i < n; i++) {
        tasks[i] = (struct task){.fn = fn, .arg = g};
    }
    return world_run(w, tasks, n);
}

void guest_compare(const struct guest *g, const char *path, bool only_flushed)
{
    char raw[128];
    struct world out = {0};
    snprintf(raw, sizeof(raw), "%s/compare.raw", guest_dir());
    shell(0, "qemu-img convert -f qcow2 -O raw %s %s", path, raw);
    world_load(&out, raw);
    assert(out.size == g->size);
    for (uint64_t i = 0; i < g->size / SECTOR; i++) {
        const struct sector *s = &g->sectors[i];
        const uint8_t *want = (only_flushed ? g->flushed : g->bytes) + i * SECTOR;
        if (only_flushed ? !s->kept || s->touched > s->kept_at : !s->known)
            continue;
        if (memcmp(out.file + i * SECTOR, want, SECTOR)) {
            fprintf(stderr,
                    "sector %" PRIu64 ": qemu-img reads %02x.., should be %02x..\n", i,
                    out.file[i * SECTOR], want[0]);
            abort();
        }
    }
    free(out.file);
}
