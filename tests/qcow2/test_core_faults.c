/*
 * Every k-th host I/O fails, once or from then on: nobody hangs, the caller hears of it,
 * what was acknowledged reads back before close, what was flushed reads back after, and
 * the image has no corruption. ASYNCOW_SEED repeats a run; argument: stride of k.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "tests/qcow2/guest.h"

/* Returns how many I/Os the workload made. */
static uint64_t round_of(const struct config *c, uint64_t seed, uint64_t fail_at,
                         bool forever, int err, uint64_t *poisoned)
{
    struct guest g;
    struct world w;
    char image[128];

    snprintf(image, sizeof(image), "%s/i.qcow2", guest_dir());
    guest_init(&g, c, &w, seed);
    g.may_fail = true;
    g.ops = 25;
    w.fail_at = fail_at;
    w.fail_forever = forever;
    w.fail_err = err;
    guest_run(&g, &w, guest_open, 1);
    guest_run(&g, &w, guest_work, DEPTH);
    if (!forever) { /* reads go on, and show what was acknowledged */
        w.fail_at = 0;
        guest_run(&g, &w, guest_work, DEPTH);
    }
    uint64_t ios = w.ios;
    guest_run(&g, &w, guest_close, 1);
    *poisoned += g.totals.poisoned;
    world_save(&w, image);
    shell(3, "qemu-img check -q -f qcow2 %s > /dev/null 2>&1", image);
    guest_compare(&g, image, true);
    guest_free(&g, &w);
    return ios;
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    uint64_t stride = argc > 1 ? strtoull(argv[1], NULL, 0) : 23, runs = 0,
             poisoned = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    for (unsigned i = 0; i < nconfigs; i++) {
        uint64_t ios = 400;
        printf("%s\n", configs[i].name);
        for (uint64_t k = 1 + (seed + i) % stride; k < ios; k += stride, runs++) {
            if (getenv("ASYNCOW_VERBOSE"))
                printf("k=%" PRIu64 "\n", k);
            uint64_t n = round_of(&configs[i], seed + i, k, runs % 3 == 0,
                                  runs % 2 ? -EIO : -ENOSPC, &poisoned);
            if (runs % 3)
                ios = n < 1200 ? n : 1200;
        }
    }
    guest_done();
    printf("%" PRIu64 " faults, %" PRIu64 " images poisoned\n", runs, poisoned);
    return poisoned ? 0 : 1;
}
