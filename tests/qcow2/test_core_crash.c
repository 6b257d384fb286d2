/*
 * Crashes: at random points of random workloads, what may be on the disk (everything a
 * flush covered, of the rest any part, torn by sectors) is an image without corruption,
 * in which every flushed sector that was not touched since reads back.
 * ASYNCOW_SEED repeats a run; arguments: [crashes per config [config]].
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/qcow2/guest.h"

/* The first task makes and drops snapshots, the others are guests. */
static void with_snapshots(struct task *t)
{
    if (t != t->w->tasks) {
        guest_work(t);
        return;
    }
    for (int i = 0; i < 6; i++) {
        char name[8];
        snprintf(name, sizeof(name), "c%d", i / 2);
        for (uint64_t n = world_random(t->w, 60); n; n--)
            world_pause(t);
        guest_snapshot(t, i % 2 ? QCOW2_SNAPSHOT_DELETE : QCOW2_SNAPSHOT_CREATE, name);
    }
}

/* A crash inside a snapshot's deletion may leave COPIED unset where the refcount is 1
 * again: repair sets it, and changes nothing else. */
static void check_image(const char *image, bool snapshots)
{
    int code = shell(snapshots ? 2 : 3,
                     "qemu-img check -q -f qcow2 %s > %s/log 2>&1 || "
                     "{ code=$?; [ $code = 3 ] && exit 0; exit $code; }",
                     image, guest_dir());
    if (code == 2)
        shell(0,
              "! grep -v OFLAG_COPIED %s/log | grep -q ERROR && "
              "qemu-img check -q -r all -f qcow2 %s > /dev/null 2>&1",
              guest_dir(), image);
}

static void crash(const struct config *c, uint64_t seed)
{
    bool snapshots = seed % 2 && !strstr(c->options, "refcount_bits=1");
    struct guest g;
    struct world w;
    char image[128];

    snprintf(image, sizeof(image), "%s/i.qcow2", guest_dir());
    guest_init(&g, c, &w, seed);
    uint64_t base_size = w.size, size;
    uint8_t *base = malloc(base_size);
    memcpy(base, w.file, base_size);
    w.record = true;
    guest_run(&g, &w, guest_open, 1);
    w.stop_at = w.ios + 1 + world_random(&w, 900);
    if (guest_run(&g, &w, snapshots ? with_snapshots : guest_work, DEPTH))
        guest_run(&g, &w, guest_close, 1);
    for (int i = 0; i < 4; i++) {
        struct world disk = {0};
        disk.file = world_crash(&w, base, base_size, &size);
        disk.size = size;
        world_save(&disk, image);
        check_image(image, snapshots);
        guest_compare(&g, image, true);
        free(disk.file);
    }
}

int main(int argc, char **argv)
{
    const char *env = getenv("ASYNCOW_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    int n = argc > 1 ? atoi(argv[1]) : 8;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    guest_dir();
    for (unsigned i = 0; i < nconfigs; i++) {
        if (argc > 2 && strcmp(argv[2], configs[i].name))
            continue;
        for (int k = 0; k < n; k++) {
            uint64_t s = seed + i + (uint64_t)k * 7919;
            pid_t pid = fork(); /* the requests of a crash are left where they are */
            if (!pid) {
                crash(&configs[i], s);
                _exit(0);
            }
            int status;
            waitpid(pid, &status, 0);
            if (status) {
                printf("%s: ASYNCOW_SEED=%" PRIu64 ", crash %d failed\n",
                       configs[i].name, seed, k);
                return 1;
            }
        }
        printf("%s: %d crash images\n", configs[i].name, 4 * n);
    }
    guest_done();
    return 0;
}
