/* One run of a workload with a fault: trial.h. */
#include "tests/faults/trial.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { HANG_SECONDS = 120 };

/* ---- memory ---- */

static struct {
    uint64_t n, fail_at, hits;
    int64_t live; /* that the module has */
    bool for_ever;
} memory;

bool trial_denies_memory(void)
{
    uint64_t n = ++memory.n;

    if (!memory.fail_at ||
        !(n == memory.fail_at || (memory.for_ever && n > memory.fail_at)))
        return false;
    memory.hits++;
    errno = ENOMEM;
    return true;
}

void trial_memory(int change) { memory.live += change; }

/* ---- before and after ---- */

static void copy_image(const struct test *t)
{
    FILE *f = fopen(t->image, "wb");
    assert(f);
    size_t put = fwrite(t->template, 1, t->template_size, f);
    assert(put == t->template_size);
    fclose(f);
}

static void load_start(struct test *t, struct load *l)
{
    uint8_t *base = malloc(t->size);
    assert(base);
    memcpy(base, t->base, t->size);
    *l = (struct load){.rng = t->seed,
                       .max_len = 32 << 10,
                       .in_flight_max = 8,
                       .fill = t->fill,
                       .cancels = t->cancels};
    load_init(l, base, t->size, true);
    load_watch(l, HANG_SECONDS);
}

static void check_image(const struct test *t, const struct load *l, bool leaks_too)
{
    uint64_t leaks;

    if (disk_check(t->image, &leaks) || (leaks && leaks_too))
        load_fail(l, NULL, "the image is not consistent");
    if (!t->qemu_every || t->trials % t->qemu_every)
        return;
    char command[512];
    snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s > %s.log 2>&1",
             t->image, t->image);
    int status = system(command);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code != 0 && (code != 3 || leaks_too)) { /* 3: leaks alone */
        fprintf(stderr, "%s: status %d\n", command, code);
        load_fail(l, NULL, "QEMU finds the image not consistent");
    }
}

/* What the image promised is there, and it is as good as new. */
static void reopen(struct test *t, struct load *l)
{
    struct disk_options o = t->o;
    struct strategy_stats stats;
    struct disk d;
    struct error err = {""};

    o.filters = NULL;
    if (disk_open(&d, &o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        load_fail(l, NULL, "the image does not open again");
    }
    l->faulty = l->fill = false;
    l->m.torn = true; /* what an earlier failure left may be anything between */
    load_attach(l, &d);
    load_read_all(l);
    load_run(l, t->afterwards);
    if (disk_close(&d, &stats))
        load_fail(l, NULL, "the image opened again does not close");
    disk_stats_add(&t->sum, &stats);
    check_image(t, l, false);
}

/* ---- what the caller hears ---- */

static bool explained(const struct plan *plan, int error)
{
    return error == -EIO || (plan->allocation && error == -ENOMEM) ||
           (plan->io[0].n && error == plan->io[0].error) ||
           (plan->io[1].n && error == plan->io[1].error);
}

/* That which fails does so unheard: a short transfer, or nobody's loss. */
static bool unheard(const struct fault_plan *f)
{
    return f->action == FAULT_SHORT || (f->kinds & SILENT);
}

/* Only errors that the fault explains, and one if it hit what somebody waits for. */
static void judge_errors(const struct test *t, const struct load *l,
                         const struct plan *plan, bool loud, int opened, int closed,
                         const struct strategy_stats *stats)
{
    const struct fault_plan *f = &plan->io[0], *also = &plan->io[1];
    int first = opened ? opened : l->errors ? l->error : closed;
    unsigned errors = l->errors + (opened < 0) + (closed < 0);
    bool one = !also->n && !plan->allocation, once = one && f->times == 1;

    if (!plan->allocation && f->action == FAULT_SHORT &&
        (!also->n || also->action == FAULT_SHORT) && errors)
        load_fail(l, NULL, "a short transfer became an error");
    if (loud && !errors && !t->cancels)
        load_fail(l, NULL, "the error reached nobody");
    if (first && !explained(plan, first)) {
        fprintf(stderr, "%s\n", strerror(-first));
        load_fail(l, NULL, "the error is another one");
    }
    if (!opened && closed && !stats->poisoned && once && l->errors)
        load_fail(l, NULL, "close failed, though the image is not poisoned");
    unsigned data = 1u << AIO_READ | 1u << AIO_WRITE;
    if (once && !(f->kinds & ~data) && errors > 1)
        load_fail(l, NULL, "one failed transfer of data failed more than one request");
}

/* ---- a run ---- */

static void arm(struct filter *const *filter, const struct plan *plan)
{
    fault_arm(filter[0], &plan->io[0]);
    fault_arm(filter[1], &plan->io[1]);
    memory.fail_at = plan->allocation;
    memory.for_ever = plan->for_ever;
}

static void disarm(struct filter *const *filter)
{
    arm(filter, &(struct plan){.allocation = 0});
}

static uint64_t hits(struct filter *const *filter)
{
    return fault_hits(filter[0]) + fault_hits(filter[1]) + memory.hits;
}

/* It has failed: from now on nothing does, so every byte that was acknowledged can be
 * read. */
static void calm_down(struct load *l, struct filter *const *filter)
{
    unsigned errors = l->errors;

    disarm(filter);
    load_read_all(l);
    if (l->errors > errors)
        load_fail(l, NULL, "reads fail though nothing does any more");
}

/* What fails for ever. */
static void break_again(struct filter *const *filter, const struct plan *plan)
{
    struct plan again = *plan;

    if (plan->io[0].n)
        again.io[0].n = plan->io[0].times > 1;
    if (plan->allocation)
        again.allocation = plan->for_ever;
    arm(filter, &again);
}

static void count_all(struct test *t, struct filter *filter)
{
    for (int kind = 0; kind < KINDS; kind++)
        t->count[kind] = fault_passed(filter, 1u << kind);
    t->allocations = memory.n;
}

static void begin(struct test *t, struct load *l, struct disk *d,
                  const struct plan *plan)
{
    struct error err = {""};

    copy_image(t);
    load_start(t, l);
    l->faulty = plan && (plan->allocation || plan->io[0].action != FAULT_SHORT ||
                         (plan->io[1].n && plan->io[1].action != FAULT_SHORT));
    l->m.torn = plan && (plan->io[0].action == FAULT_TORN || plan->io[1].n);
    memory.n = memory.hits = memory.fail_at = 0;
    memory.live = 0;
    if (disk_open_files(d, &t->o, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        load_fail(l, NULL, "the image does not open");
    }
}

bool trial_run(struct test *t, const struct plan *plan, bool broken_at_close)
{
    struct load l;
    struct disk d;
    struct strategy_stats stats = {0};
    struct error err = {""};
    int closed = 0;
    bool two = plan && plan->io[1].n;

    begin(t, &l, &d, plan);
    struct filter *outer = blk_filter(d.top->file, "fault");
    struct filter *filter[] = {outer, outer->next};
    if (plan)
        arm(filter, plan);
    int opened = disk_open_image(&d, &t->o, &err);
    if (!opened) {
        load_attach(&l, &d);
        load_run(&l, t->ops);
    }
    if (plan && hits(filter) && !two) {
        if (!opened)
            calm_down(&l, filter);
        else
            disarm(filter);
        if (broken_at_close)
            break_again(filter, plan);
    }
    if (!opened)
        closed = disk_close_image(&d, &stats);
    bool hit = hits(filter) > 0, all = hits(filter) > two;
    bool loud =
        plan && ((fault_hits(filter[0]) && !unheard(&plan->io[0])) ||
                 (fault_hits(filter[1]) && !unheard(&plan->io[1])) || memory.hits);
    if (!plan)
        count_all(t, filter[0]);
    if (memory.live)
        load_fail(&l, NULL, "the strategy has not given its memory back");
    memory.fail_at = 0;
    if (disk_close_files(&d))
        load_fail(&l, NULL, "the files do not close");
    disk_stats_add(&t->sum, &stats);
    if (!hit && (opened || closed || l.errors))
        load_fail(&l, NULL, "an error without a cause");
    if (hit)
        judge_errors(t, &l, plan, loud, opened, closed, &stats);
    if (!closed && !opened)
        model_flushed(&l.m, l.m.clock);
    model_crashed(&l.m);
    check_image(t, &l, !hit);
    reopen(t, &l);
    load_free(&l);
    t->trials++;
    t->hit += all;
    return all;
}
