/*
 * Random requests, many in flight, in random order, against a byte model: the image
 * equals the model, `qemu-img check` finds nothing, every rare path was taken. In the second
 * part some requests die while the core still has I/O of theirs in flight.
 * ASYNCOW_SEED repeats a run; arguments: [rounds [config]].
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/qcow2/guest.h"

static unsigned died; /* requests, with their I/O in flight */

static void add_stats(struct qcow2_stats *sum, const struct qcow2_stats *s)
{
    for (size_t i = 0; i < sizeof(*s) / sizeof(uint64_t); i++)
        ((uint64_t *)sum)[i] += ((const uint64_t *)s)[i];
}

static void round_of(const struct config *c, uint64_t seed, struct qcow2_stats *sum)
{
    struct guest g;
    struct world w;
    char image[128];

    snprintf(image, sizeof(image), "%s/i.qcow2", guest_dir());
    guest_init(&g, c, &w, seed);
    for (int part = 0; part < 2; part++) { /* closed and opened again in between */
        guest_run(&g, &w, guest_open, 1);
        w.deaths = part ? 20 : 0;
        guest_run(&g, &w, guest_work, DEPTH);
        guest_run(&g, &w, guest_close, 1);
        world_save(&w, image);
        shell(0, "qemu-img check -q -f qcow2 %s", image);
    }
    guest_compare(&g, image);
    add_stats(sum, &g.totals);
    died += w.died;
    guest_free(&g, &w);
}

static int rare(const char *name, uint64_t n)
{
    printf("  %-20s %" PRIu64 "\n", name, n);
    return n ? 0 : 1;
}

static int rare_paths(const struct qcow2_stats *s)
{
    printf("rare paths taken:\n");
    return rare("overlap_waits", s->overlap_waits) +
           rare("new_refblocks", s->new_refblocks) +
           rare("table_moves", s->table_moves) + rare("limbo_reuse", s->limbo_reuse) +
           rare("dirty_evictions", s->dirty_evictions) +
           rare("evictions", s->evictions) + rare("cow_zero", s->cow_zero) +
           rare("cow_shared", s->cow_shared) + rare("cow_backing", s->cow_backing) +
           rare("cow_compressed", s->cow_compressed) +
           rare("zero_skipped", s->zero_skipped) + rare("new_l2", s->new_l2) +
           rare("l2_copies", s->l2_copies) + rare("grows", s->grows) +
           rare("grow_waits", s->grow_waits) +
           rare("discard_under_io", s->discard_under_io) + rare("punches", s->punches) +
           rare("sync_joins", s->sync_joins) + rare("shadow_copies", s->shadow_copies) +
           rare("died", died);
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    int rounds = argc > 1 ? atoi(argv[1]) : 2;
    struct qcow2_stats sum = {0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    for (int r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < nconfigs; i++) {
            if (argc > 2 && strcmp(argv[2], configs[i].name))
                continue;
            printf("%s round %d\n", configs[i].name, r);
            round_of(&configs[i], seed + (uint64_t)r * 977 + i, &sum);
        }
    }
    guest_done();
    int missed = rare_paths(&sum);
    if (missed && argc <= 2) {
        printf("%d rare paths were never taken\n", missed);
        return 1;
    }
    return 0;
}
