/*
 * Listing, making, applying and deleting a snapshot and resizing the disk, alone, with
 * every host I/O and every allocation failing in turn, once or from then on: the error is
 * told, the disk holds what it held or what was asked for, the snapshots what they held,
 * no corruption is left that repair doesn't mend; what failed once, and left an image that
 * goes on, has leaked nothing; and what is written and flushed after
 * that, if it can be, is there.
 *
 * Linked with --wrap for the allocator, as test_core_faults.c. ASYNCOW_SEED repeats a run.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/crash/inspect.h"
#include "tests/qcow2/guest.h"
#include "tests/qcow2/memory.h"

enum operation { LIST, CREATE, APPLY, DELETE, ENLARGE, OPERATIONS };
static const char *const names[OPERATIONS] = {"list", "create", "apply", "delete",
                                              "enlarge"};
static const struct {
    const char *options;
    uint64_t size;
} images[] = {
    {"cluster_size=512", 200 << 10},
    {"cluster_size=512,refcount_bits=64", 100 << 10},
    {"compat=0.10,cluster_size=4096", 2 << 20},
    {"cluster_size=65536", 4 << 20},
};
static const struct {
    const char *name;
    int error;
    bool forever, allocation;
} ways[] = {{"eio", -EIO, false, false},
            {"enospc for ever", -ENOSPC, true, false},
            {"no memory", -ENOMEM, false, true},
            {"no memory for ever", -ENOMEM, true, true}};

static uint64_t seed, trials, hits;
static struct world template;
static uint8_t *before, *kept, *now;
static uint64_t size;
#define LARGER (size * 21 + SECTOR)

struct trial {
    enum operation op;
    int opened, result, written, closed;
};

static int write_some(struct task *t)
{
    static uint8_t buf[4096];
    memset(buf, 0x77, sizeof(buf));
    int ret = guest_write(t, 40 << 10, buf, sizeof(buf));
    return ret ? ret : guest_flush(t);
}

static void work(struct task *t)
{
    struct trial *x = t->arg;

    memory.on = true;
    x->opened = world_open(t->w, t, 4, 0, 0);
    if (!x->opened) {
        switch (x->op) {
        case LIST:
            x->result = guest_list(t);
            break;
        case CREATE:
            x->result = guest_snapshot(t, QCOW2_SNAPSHOT_CREATE, "new");
            break;
        case APPLY:
            x->result = guest_snapshot(t, QCOW2_SNAPSHOT_APPLY, "kept");
            break;
        case DELETE:
            x->result = guest_snapshot(t, QCOW2_SNAPSHOT_DELETE, "kept");
            break;
        default:
            x->result = guest_resize(t, LARGER);
        }
        x->written = write_some(t);
        x->closed = world_close(t->w, t);
    }
    memory.on = false;
}

static void judge(struct inspect *in, const struct world *w, const struct trial *x,
                  bool once)
{
    struct expect_snapshot s = {.name = "kept", .bytes = kept, .must = x->op != DELETE};
    struct expect e = {.snapshots = &s,
                       .nsnapshots = x->op != ENLARGE,
                       .in_snapshot = true,
                       .no_leaks = once && !x->opened && !x->written && !x->closed};
    bool may_be_kept = x->op == APPLY,
         must_be = may_be_kept && !x->opened && !x->result;

    inspect_set(in, w->file, w->size);
    assert(inspect_look(in, &e));
    uint64_t is = qcow2_be64(inspect_bytes(in) + QCOW2_H_SIZE);
    assert(is == size || (x->op == ENLARGE && is == LARGER));
    inspect_read(in, NULL, now, is);
    for (uint64_t at = 0; at < size; at += SECTOR) {
        bool ours = at >= 40 << 10 && at < 44 << 10;
        if (ours && !x->opened && !x->written) {
            assert(now[at] == 0x77);
            continue;
        }
        assert((!must_be && !memcmp(now + at, before + at, SECTOR)) ||
               (may_be_kept && !memcmp(now + at, kept + at, SECTOR)) ||
               (ours && now[at] == 0x77));
    }
}

/* The k-th fails. false: there was none. */
static bool trial(struct inspect *in, enum operation op, unsigned way, uint64_t k)
{
    static struct task task;
    struct world w = template;
    struct trial x = {.op = op};

    w.rng = seed + k;
    w.file = malloc(w.cap);
    memcpy(w.file, template.file, w.cap);
    w.even = true;
    w.fail_err = ways[way].error;
    w.fail_forever = memory.forever = ways[way].forever;
    memory.n = memory.failures = memory.fail_at = 0;
    *(ways[way].allocation ? &memory.fail_at : &w.fail_at) = k;
    task = (struct task){.fn = work, .arg = &x};
    world_run(&w, &task, 1);
    bool hit = w.failures || memory.failures;
    bool errors = x.opened || x.result || x.written || x.closed;
    bool refused = op == ENLARGE && template.file[7] == 2 && x.result == -ENOTSUP;
    if (w.failures > w.silent && !errors) {
        fprintf(stderr, "%s, %s, k=%" PRIu64 ": the error reached nobody\n", names[op],
                ways[way].name, k);
        abort();
    }
    assert(hit || !errors || refused);
    judge(in, &w, &x, !ways[way].forever);
    free(w.file);
    trials++;
    hits += hit;
    return hit;
}

static void make(unsigned i)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/i.qcow2", guest_dir());
    size = images[i].size;
    shell(0, "qemu-img create -q -f qcow2 -o %s %s %" PRIu64, images[i].options, path,
          size);
    shell(0, "qemu-io -f qcow2 -c 'write -P 0x11 0 60k' %s > /dev/null", path);
    shell(0, "qemu-img snapshot -c kept %s", path);
    shell(0, "qemu-io -f qcow2 -c 'write -P 0x22 16k 70k' %s > /dev/null", path);
    template = (struct world){.rng = seed};
    world_load(&template, path);
    before = malloc(size);
    kept = malloc(size);
    now = malloc(LARGER);
}

int main(void)
{
    const char *env = getenv("ASYNCOW_SEED");
    seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ASYNCOW_SEED=%" PRIu64 "\n", seed);
    for (unsigned i = 0; i < sizeof(images) / sizeof(*images); i++) {
        struct inspect *in = inspect_new(NULL, 0);
        make(i);
        inspect_set(in, template.file, template.size);
        inspect_read(in, NULL, before, size);
        inspect_read(in, "kept", kept, size);
        for (int op = 0; op < OPERATIONS; op++)
            for (unsigned way = 0; way < sizeof(ways) / sizeof(*ways); way++)
                for (uint64_t k = 1; trial(in, (enum operation)op, way, k); k++)
                    ;
        printf("%s: %" PRIu64 " trials\n", images[i].options, trials);
        inspect_free(in);
        free(template.file);
        free(before);
        free(kept);
        free(now);
    }
    guest_done();
    printf("%" PRIu64 " trials, %" PRIu64 " hit\n", trials, hits);
    return hits ? 0 : 1;
}
