/*
 * asyncow explore: every schedule of a few operations, under one strategy after the other.
 *
 *   explore_set.c     which operations
 *   explore_world.c   one schedule
 *   explore_disk.c    ... its image
 *   explore_verdict.c ... what must hold after it
 *   explore_judge.c   linearisability of a sector
 *   explore_search.c  which schedule comes next
 *   explore_child.c   a search in a process of its own
 *   explore_script.c  a failure, made short and written down
 *   explore_draw.c    a schedule as a picture
 *   explore_report.c  what is told
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cmd.h"
#include "harness/explore_report.h"
#include "harness/explore_script.h"
#include "harness/module.h"
#include "harness/options.h"
#include "harness/values.h"

struct explore {
    const char *strategies, *replay;
    struct explore_report report;
    struct explore_set set; /* n 0: all */
    uint64_t operations, schedules, seconds, preemptions, seed;
    enum explore_mode mode;
    bool automatic;              /* all, and where that doesn't end, bounded */
    unsigned depth;              /* of PCT */
    struct explore_config image; /* what there is to set in it */
    struct env *clock;
    uint64_t deadline_ns;
};

/* --- the search ---------------------------------------------------------------------- */

static struct explore_job job_of(const struct explore *x)
{
    return (struct explore_job){
        .config = x->image,
        .mode = x->mode,
        .bound = x->mode == EXPLORE_PCT ? x->depth : (unsigned)x->preemptions,
        .seed = x->seed,
        .schedules = x->schedules,
        .deadline_ns = x->deadline_ns,
        .clock = x->clock,
    };
}

static int explore_one(struct explore *x, const struct module *m,
                       const struct explore_set *set, struct explore_outcome *o,
                       struct explore_sum *sum)
{
    struct explore_job job = job_of(x);

    job.config.strategy = m->table;
    job.config.settings = m->settings;
    job.set = *set;
    explore_child(&job, o);
    sum->schedules += o->count.schedules;
    if (x->automatic && o->end == EXPLORE_CUT) {
        job.mode = EXPLORE_BOUNDED;
        o->path.n = 0;
        explore_child(&job, o);
        sum->schedules += o->count.schedules;
    }
    sum->sets++;
    sum->complete += o->end == EXPLORE_COMPLETE && job.mode == EXPLORE_ALL;
    sum->bounded += o->end == EXPLORE_COMPLETE && job.mode == EXPLORE_BOUNDED;
    sum->cut += o->end == EXPLORE_CUT;
    if (o->end == EXPLORE_FAILED) {
        struct explore_count count = o->count;
        explore_shrink(&job, o);
        o->count = count;
    }
    explore_report_set(&x->report, m->spec, &job, o);
    if (o->end == EXPLORE_FAILED)
        explore_report_failure(&x->report, m->spec, &job, o);
    if (o->end == EXPLORE_ERROR)
        fprintf(stderr, "asyncow explore: %s\n", o->failure);
    return o->end < EXPLORE_FAILED ? CMD_GOOD : CMD_FAILED;
}

static bool out_of_time(const struct explore *x)
{
    return x->deadline_ns && env_now_ns(x->clock) >= x->deadline_ns;
}

/* Up to the first failure. */
static int explore_strategy(struct explore *x, const char *spec,
                            struct explore_outcome *o)
{
    struct error err = {""};
    struct explore_set set = x->set;
    struct explore_sum sum = {0};
    struct module m;
    int ret = CMD_GOOD;

    if (module_open(&m, spec, &err) < 0) {
        fprintf(stderr, "asyncow explore: %s\n", err.msg);
        return CMD_FAILED;
    }
    for (unsigned i = 0; ret == CMD_GOOD && !out_of_time(x); i++) {
        if (x->set.n ? i > 0 : !explore_set_nth((unsigned)x->operations, i, &set))
            break;
        o->path.n = 0;
        ret = explore_one(x, &m, &set, o, &sum);
    }
    explore_report_sum(&x->report, spec, &sum);
    module_close(&m);
    return ret;
}

static int explore_all(struct explore *x, struct explore_outcome *o)
{
    struct module_list list;
    struct error err = {""};
    int ret = CMD_GOOD;

    if (module_list_parse(&list, x->strategies, &err) < 0) {
        fprintf(stderr, "asyncow explore: %s\n", err.msg);
        return CMD_FAILED;
    }
    explore_report_begin(&x->report);
    for (unsigned i = 0; i < list.n; i++)
        ret |= explore_strategy(x, list.spec[i], o);
    module_list_free(&list);
    explore_report_end(&x->report, &x->image, x->seed);
    return ret;
}

/* Draws the schedule; fails if the schedule does, as the search did. */
static int replay(struct explore *x, struct explore_outcome *o)
{
    struct explore_job job = {.mode = EXPLORE_REPLAY, .draw = true};
    struct error err = {""};
    struct module m;
    char *spec = NULL;

    int ret = explore_script_read(x->replay, &spec, &job, &o->path, &err);
    if (ret == 0)
        ret = module_open(&m, spec, &err);
    free(spec);
    if (ret < 0) {
        fprintf(stderr, "asyncow explore: %s\n", err.msg);
        return CMD_FAILED;
    }
    job.config.strategy = m.table;
    job.config.settings = m.settings;
    explore_child(&job, o);
    module_close(&m);
    if (o->end == EXPLORE_COMPLETE)
        printf("\nnothing is wrong with that\n");
    else
        printf("\n%s\n", o->failure);
    return o->end == EXPLORE_COMPLETE ? CMD_GOOD : CMD_FAILED;
}

/* --- the command --------------------------------------------------------------------- */

static void help(void)
{
    printf(
        "Usage: asyncow explore [OPTION...]\n"
        "       asyncow explore --replay=FILE\n\n"
        "Runs a few operations on a small image in memory under every schedule: every\n"
        "order in which they can arrive, I/Os complete, requests and threads go on. "
        "After\n"
        "each the guest must have seen something possible, nothing be lost or stuck, "
        "the\n"
        "image be clean and hold what was written.\n\n"
        "  --strategy=LIST     as for asyncow run (all)\n"
        "  --operations=N      all sets of up to so many, 1 to 3 (2)\n"
        "  --set=SET           this one: alloc,read@same. Operations: alloc, rewrite,\n"
        "                      discard, zero, read, flush, snapshot, cancel; places: "
        "same,\n"
        "                      neighbour, l2, refblock\n"
        "  --mode=MODE         all, but those whose end is known from another; every: "
        "those,\n"
        "                      too; bounded; auto: all, and where that doesn't end, "
        "bounded\n"
        "                      (auto); uniform, pct:D: random\n"
        "  --preemptions=N     the bound (2)\n"
        "  --schedules=N       at most, of a set and mode; 0: no limit (10000)\n"
        "  --seconds=N         at most, of all; 0: no limit (0)\n"
        "  --seed=N            of the random modes (1)\n"
        "  --cluster-size=N    of the image (1024)\n"
        "  --metadata-writes=back|through  (back)\n"
        "  --image=v3|v2|v3-overlay|v2-overlay  the version, and whether over a file "
        "(v3)\n"
        "  --cache=cold|warm   whether metadata is in memory, and some dirty (cold)\n"
        "  --script=FILE       where a schedule that fails goes, made short\n"
        "  --replay=FILE       runs that one and draws it\n"
        "  --output-format=text|json\n\n"
        "Exit status: 0 nothing found, 1 a failure, 2 used wrongly.\n");
}

static const char *set_mode(struct explore *x, const char *value)
{
    char *end;

    x->automatic = !strcmp(value, "auto");
    if (x->automatic || !strcmp(value, "all")) {
        x->mode = EXPLORE_ALL;
    } else if (!strcmp(value, "every")) {
        x->mode = EXPLORE_EVERY;
    } else if (!strcmp(value, "bounded")) {
        x->mode = EXPLORE_BOUNDED;
    } else if (!strcmp(value, "uniform")) {
        x->mode = EXPLORE_UNIFORM;
    } else if (!strncmp(value, "pct:", 4)) {
        x->mode = EXPLORE_PCT;
        x->depth = (unsigned)strtoul(value + 4, &end, 10);
        if (*end || x->depth < 1 || x->depth > EXPLORE_PCT_MAX)
            return "pct:1 to pct:16";
    } else {
        return "auto, all, every, bounded, uniform or pct:D";
    }
    return NULL;
}

static const char *set_number(const char *value, uint64_t low, uint64_t high,
                              uint64_t *n, const char *right)
{
    return parse_count(value, n) == 0 && *n >= low && *n <= high ? NULL : right;
}

static const char *set_cluster_size(uint64_t *size, const char *value)
{
    if (parse_bytes(value, 1024, size) == 0 && *size >= 512 && *size <= 65536 &&
        !(*size & (*size - 1)))
        return NULL;
    return "a power of two from 512 to 65536";
}

/* What would be right, or NULL: it is. */
static const char *set_option(void *opaque, const char *name, char *value)
{
    struct explore *x = opaque;

    static struct error err;

    if (!strcmp(name, "strategy"))
        x->strategies = value;
    else if (!strcmp(name, "script"))
        x->report.script = value;
    else if (!strcmp(name, "replay"))
        x->replay = value;
    else if (!strcmp(name, "set"))
        return explore_set_parse(&x->set, value, &err) < 0 ? err.msg : NULL;
    else if (!strcmp(name, "mode"))
        return set_mode(x, value);
    else if (!strcmp(name, "operations"))
        return set_number(value, 1, EXPLORE_OPS_MAX, &x->operations, "1 to 3");
    else if (!strcmp(name, "preemptions"))
        return set_number(value, 0, 1000, &x->preemptions, "0 to 1000");
    else if (!strcmp(name, "schedules"))
        return set_number(value, 0, UINT64_MAX, &x->schedules, "a number");
    else if (!strcmp(name, "seconds"))
        return set_number(value, 0, 1000000000, &x->seconds, "a number of seconds");
    else if (!strcmp(name, "seed"))
        return set_number(value, 0, UINT64_MAX, &x->seed, "a number");
    else if (!strcmp(name, "cluster-size"))
        return set_cluster_size(&x->image.cluster, value);
    else if (!strcmp(name, "metadata-writes")) {
        x->image.through = !strcmp(value, "through");
        return x->image.through || !strcmp(value, "back") ? NULL : "back or through";
    } else if (!strcmp(name, "cache")) {
        x->image.warm = !strcmp(value, "warm");
        return x->image.warm || !strcmp(value, "cold") ? NULL : "cold or warm";
    } else if (!strcmp(name, "image")) {
        return explore_image_parse(&x->image, value)
                   ? NULL
                   : "v3, v2, v3-overlay or v2-overlay";
    } else {
        x->report.json = !strcmp(value, "json");
        return x->report.json || !strcmp(value, "text") ? NULL : "text or json";
    }
    return NULL;
}

static const char *const options[] = {
    "strategy",  "operations", "set",           "mode",
    "schedules", "seconds",    "preemptions",   "seed",
    "script",    "replay",     "cluster-size",  "metadata-writes",
    "cache",     "image",      "output-format", NULL};

int cmd_explore(int argc, char **argv)
{
    struct explore x = {.strategies = "all",
                        .operations = 2,
                        .schedules = 10000,
                        .preemptions = 2,
                        .seed = 1,
                        .image.cluster = 1024,
                        .mode = EXPLORE_ALL,
                        .automatic = true};

    const struct cmd_options words = {"explore", options, set_option, &x};

    if (cmd_wants_help(argc, argv)) {
        help();
        return CMD_GOOD;
    }
    int ret = cmd_options_parse(&words, argc, argv);
    if (ret)
        return ret;
    struct explore_outcome *o = calloc(1, sizeof(*o));
    x.clock = env_real(x.seed);
    if (!o || !x.clock) {
        fprintf(stderr, "asyncow explore: out of memory\n");
        return CMD_FAILED;
    }
    if (x.seconds)
        x.deadline_ns = env_now_ns(x.clock) + x.seconds * 1000000000;
    ret = x.replay ? replay(&x, o) : explore_all(&x, o);
    env_destroy(x.clock);
    free(o);
    return ret;
}
