/*
 * Snapshots made, dropped and applied, the first two while requests are in flight: each
 * holds what was acknowledged before it began and nothing submitted after it ended,
 * `qemu-img check` finds nothing, and the disk equals its model all along.
 * ASYNCOW_SEED repeats a run; arguments: [rounds [config]]; 0 rounds: one of every
 * third configuration.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/qcow2/guest.h"

enum { KEPT = 6 };
struct kept { /* what a snapshot must hold */
    char name[16];
    uint8_t *bytes;
    bool *known;
    bool live;
};
static struct kept kept[KEPT];
static unsigned counts[3], refused;

static uint64_t sectors(const struct guest *g) { return g->size / SECTOR; }

static void create(struct guest *g, struct task *t, struct kept *k)
{
    uint64_t began = g->m.clock;
    bool *quiet = calloc(sectors(g), 1);
    static unsigned serial;

    for (uint64_t i = 0; i < sectors(g); i++)
        quiet[i] = model_value_since(&g->m, i, began) != NULL;
    snprintf(k->name, sizeof(k->name), "s%u", serial++);
    int ret = guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, k->name);
    if (ret == -ERANGE) {
        refused++;
        free(quiet);
        return;
    }
    if (ret)
        abort();
    k->live = true;
    k->known = quiet;
    k->bytes = calloc(1, g->size);
    for (uint64_t i = 0; i < sectors(g); i++) {
        const uint8_t *value = model_value_since(&g->m, i, began);
        k->known[i] &= value != NULL;
        if (k->known[i])
            memcpy(k->bytes + i * SECTOR, value, SECTOR);
    }
    counts[0]++;
}

static void drop(struct task *t, struct kept *k)
{
    if (guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, k->name))
        abort();
    k->live = false;
    free(k->bytes);
    free(k->known);
    counts[1]++;
}

/* The disk becomes the snapshot: nothing else may be in flight. */
static void apply(struct task *t)
{
    struct guest *g = t->arg;
    struct kept *k = &kept[world_random(t->w, KEPT)];
    if (!k->live)
        return;
    int ret = guest_snapshot(t, QCOW2_SNAPSHOT_APPLY, k->name);
    if (ret == -ERANGE) {
        refused++;
        return;
    }
    if (ret)
        abort();
    /* Where nobody knows what the snapshot has, what is read is right from now on. */
    uint8_t *now = malloc(g->size);
    if (!model_claim(&g->m, 0, g->size, true) || guest_read(t, 0, now, g->size))
        abort();
    for (uint64_t i = 0; i < sectors(g); i++)
        if (k->known[i] && memcmp(now + i * SECTOR, k->bytes + i * SECTOR, SECTOR))
            abort();
    model_adopt(&g->m, 0, g->size, now);
    model_release(&g->m, 0, g->size);
    free(now);
    counts[2]++;
}

static void snapshotter(struct task *t)
{
    for (int i = 0; i < 3; i++) {
        struct kept *k = &kept[world_random(t->w, KEPT)];
        for (uint64_t n = world_random(t->w, 40); n; n--)
            world_pause(t);
        if (k->live)
            drop(t, k);
        else
            create(t->arg, t, k);
    }
}

static void one(struct task *t)
{
    /* The first task is the snapshotter, the others are guests. */
    if (t == t->w->tasks)
        snapshotter(t);
    else
        guest_work(t);
}

static void compare_snapshots(const struct guest *g, const char *image)
{
    char raw[128];
    snprintf(raw, sizeof(raw), "%s/snapshot.raw", guest_dir());
    for (struct kept *k = kept; k < kept + KEPT; k++) {
        struct world out = {0};
        if (!k->live)
            continue;
        shell(0, "qemu-img convert -f qcow2 -l snapshot.name=%s -O raw %s %s", k->name,
              image, raw);
        world_load(&out, raw);
        for (uint64_t i = 0; i < sectors(g); i++) {
            if (k->known[i] &&
                memcmp(out.file + i * SECTOR, k->bytes + i * SECTOR, SECTOR)) {
                fprintf(stderr, "snapshot %s, sector %" PRIu64 ": %02x.., not %02x..\n",
                        k->name, i, out.file[i * SECTOR], k->bytes[i * SECTOR]);
                abort();
            }
        }
        free(out.file);
    }
}

static void round_of(const struct config *c, uint64_t seed)
{
    struct guest g;
    struct world w;
    char image[128];

    snprintf(image, sizeof(image), "%s/i.qcow2", guest_dir());
    guest_init(&g, c, &w, seed);
    g.ops = 20;
    for (int part = 0; part < 3; part++) {
        guest_run(&g, &w, guest_open, 1);
        guest_run(&g, &w, one, DEPTH);
        guest_run(&g, &w, apply, 1);
        guest_run(&g, &w, one, DEPTH);
        guest_run(&g, &w, guest_close, 1);
        world_save(&w, image);
        shell(0, "qemu-img check -q -f qcow2 %s", image);
        guest_compare(&g, image);
        compare_snapshots(&g, image);
    }
    for (struct kept *k = kept; k < kept + KEPT; k++) {
        if (k->live) {
            free(k->bytes);
            free(k->known);
        }
        k->live = false;
    }
    guest_free(&g, &w);
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    int rounds = argc > 1 ? atoi(argv[1]) : 2;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    unsigned step = rounds ? 1 : 3;
    for (int r = 0; r < (rounds ? rounds : 1); r++) {
        for (unsigned i = rounds ? 0 : (unsigned)(seed % 3); i < nconfigs; i += step) {
            if (argc > 2 && strcmp(argv[2], configs[i].name))
                continue;
            printf("%s round %d\n", configs[i].name, r);
            round_of(&configs[i], seed + (uint64_t)r * 977 + i);
        }
    }
    guest_done();
    printf("%u created, %u deleted, %u applied, %u refused for want of refcount bits\n",
           counts[0], counts[1], counts[2], refused);
    return counts[0] && counts[1] && counts[2] && (refused || !rounds) ? 0 : 1;
}
