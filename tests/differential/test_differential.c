/*
 * Random requests, many in flight, through a whole stack (chain, strategy, engine)
 * against a byte model: every read is checked, the image is closed and opened again
 * halfway, and our own check finds nothing afterwards. What should be in the image goes
 * to a file, for the caller to compare with what QEMU reads.
 *
 * Arguments are key=value; see parse(). The last line printed is "stats {...}".
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/differential/load.h"

enum { PARTS = 2, HANG_SECONDS = 120 };

struct run {
    struct disk_options o;
    struct disk d;
    struct load l;
    const char *expect;
    unsigned ops;
    bool raw;
    struct strategy_stats sum;
};

static void part(struct run *r, unsigned no)
{
    static const size_t caches[] = {0, 16384, 262144, 1 << 20};
    struct load *l = &r->l;
    struct strategy_stats stats;
    struct error err = {""};
    uint64_t leaks;

    r->o.cache = l->fill ? 0 : caches[load_random(l, 4)];
    r->o.depth =
        l->fill || load_random(l, 2) ? 3 : LOAD_SLOTS; /* some wait for a slot */
    r->o.punch = load_random(l, 4) > 0;
    r->o.seed = load_random(l, UINT64_MAX);
    if (disk_open(&r->d, &r->o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        load_fail(l, NULL, "the image does not open");
    }
    load_attach(l, &r->d);
    r->raw = !r->d.top->header;
    if (no > 0)
        load_read_all(l);
    load_run(l, r->ops);
    if (no == PARTS - 1)
        load_adopt_all(l);
    if (disk_close(&r->d, &stats))
        load_fail(l, NULL, "close failed");
    disk_stats_add(&r->sum, &stats);
    if (stats.poisoned || stats.top.corruptions)
        load_fail(l, NULL, "the image is poisoned, and no I/O failed");
    if (!r->raw && (disk_check(r->o.path, &leaks) || leaks)) {
        fprintf(stderr, "%" PRIu64 " leaks\n", leaks);
        load_fail(l, NULL, "the image is not consistent");
    }
}

static void save(const struct run *r)
{
    FILE *f = fopen(r->expect, "wb");
    assert(f);
    size_t put = fwrite(r->l.m.base, 1, r->l.m.size, f);
    assert(put == r->l.m.size);
    fclose(f);
}

static const char *value(const char *arg, const char *key)
{
    size_t n = strlen(key);
    return !strncmp(arg, key, n) && arg[n] == '=' ? arg + n + 1 : NULL;
}

static void parse(struct run *r, const char *arg, const char **model)
{
    const char *v;

    if ((v = value(arg, "image")))
        r->o.path = v;
    else if ((v = value(arg, "model"))) /* what is in the image, raw */
        *model = v;
    else if ((v = value(arg, "expect"))) /* gets what should be in it afterwards */
        r->expect = v;
    else if ((v = value(arg, "strategy")))
        r->o.strategy = v;
    else if ((v = value(arg, "settings")))
        r->o.settings = v;
    else if ((v = value(arg, "engine")))
        r->o.engine = v;
    else if ((v = value(arg, "filters")))
        r->o.filters = v;
    else if ((v = value(arg, "through")))
        r->o.through = *v == '1';
    else if ((v = value(arg, "direct")))
        r->o.direct = *v == '1';
    else if ((v = value(arg, "unaligned"))) /* some requests are of odd bytes */
        r->l.unaligned = *v == '1';
    else if ((v = value(arg, "fill"))) /* more writes, to fill tables and the cache */
        r->l.fill = *v == '1';
    else if ((v = value(arg, "grow")))
        r->o.grow = strtoull(v, NULL, 0);
    else if ((v = value(arg, "iothreads"))) /* loops beside the first */
        r->o.iothreads = (unsigned)atoi(v);
    else if ((v = value(arg, "ops"))) /* each time it is open */
        r->ops = (unsigned)atoi(v);
    else if ((v = value(arg, "seed")))
        r->l.rng = strtoull(v, NULL, 0);
    else {
        fprintf(stderr, "test_differential: unknown argument %s\n", arg);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct run r = {
        .o = {.engine = "sync"}, .ops = 200, .l = {.drains = true, .cancels = true}};
    const char *model = NULL;
    uint64_t size;

    for (int i = 1; i < argc; i++)
        parse(&r, argv[i], &model);
    if (!r.o.path || !model || !r.o.strategy) {
        fprintf(stderr, "test_differential: image=, model= and strategy= are needed\n");
        return 2;
    }
    uint8_t *base = load_file(model, &size);
    load_init(&r.l, base, size, false);
    load_watch(&r.l, HANG_SECONDS);
    for (unsigned no = 0; no < PARTS; no++)
        part(&r, no);
    if (r.expect)
        save(&r);
    disk_stats_print(&r.sum);
    load_free(&r.l);
    return 0;
}
