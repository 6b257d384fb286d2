/*
 * asyncow explore: every schedule of a few operations, under one strategy after the other.
 *
 *   explore_set.c     which operations
 *   explore_world.c   one schedule: run and judged
 *   explore_judge.c   linearisability of a sector
 *   explore_search.c  which schedule comes next
 *   explore_child.c   a search in a process of its own
 *   explore_script.c  a failure, made short and written down
 *   explore_draw.c    a schedule as a picture
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cmd.h"
#include "harness/explore_script.h"
#include "harness/module.h"
#include "harness/options.h"
#include "harness/values.h"
#include "harness/version.h"

struct explore {
    const char *strategies, *replay, *script;
    struct explore_set set; /* n 0: all */
    uint64_t operations, schedules, seconds, preemptions, seed, cluster;
    enum explore_mode mode;
    bool automatic; /* all, and where that doesn't end, bounded */
    unsigned depth; /* of PCT */
    bool through, warm, json;
    struct env *clock;
    uint64_t deadline_ns;
    json_t *results;
};
struct sum { /* of a strategy */
    uint64_t sets, complete, bounded, cut, schedules;
};

/* --- reports ------------------------------------------------------------------------- */

static const char *mode_text(const struct explore_job *job, char text[40])
{
    switch (job->mode) {
    case EXPLORE_ALL:
        return "all";
    case EXPLORE_EVERY:
        return "every";
    case EXPLORE_UNIFORM:
        return "uniform";
    case EXPLORE_PCT:
        snprintf(text, 40, "pct:%u", job->bound);
        return text;
    default:
        snprintf(text, 40, "%u pre-emptions", job->bound);
        return text;
    }
}

static const char *end_text(enum explore_end end)
{
    static const char *const texts[] = {"complete", "cut", "failed", "error"};

    return texts[end];
}

static void report_json(struct explore *x, const char *strategy,
                        const struct explore_job *job, const struct explore_outcome *o)
{
    const struct explore_count *c = &o->count;
    char set[EXPLORE_TEXT], text[40];

    explore_set_text(&job->set, set);
    json_t *one = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:I}", "strategy", strategy,
        "operations", set, "mode", mode_text(job, text), "end", end_text(o->end),
        "schedules", (json_int_t)c->schedules, "repeats", (json_int_t)c->repeats,
        "states", (json_int_t)c->states, "outcomes", (json_int_t)c->outcomes,
        "stands_for", c->stands_for, "longest", (json_int_t)c->longest);
    if (o->end >= EXPLORE_FAILED)
        json_object_set_new(one, "failure", json_string(o->failure));
    json_array_append_new(x->results, one);
}

static void report_set(struct explore *x, const char *strategy,
                       const struct explore_job *job, const struct explore_outcome *o)
{
    const struct explore_count *c = &o->count;
    char set[EXPLORE_TEXT], text[40];

    if (x->json) {
        report_json(x, strategy, job, o);
        return;
    }
    explore_set_text(&job->set, set);
    printf("%-12s %-32s %-15s %-8s %9" PRIu64 " schedules %5" PRIu64 " outcomes",
           strategy, set, mode_text(job, text), end_text(o->end), c->schedules,
           c->outcomes);
    if (c->stands_for > 0 && o->end == EXPLORE_COMPLETE)
        printf(", for %.6g", c->stands_for);
    printf("\n");
}

static void report_sum(const struct explore *x, const char *strategy,
                       const struct sum *sum)
{
    if (!x->json)
        printf("%s: %" PRIu64 " sets, %" PRIu64 " searched through, %" PRIu64
               " within the bound, %" PRIu64 " cut; %" PRIu64 " schedules\n",
               strategy, sum->sets, sum->complete, sum->bounded, sum->cut,
               sum->schedules);
}

/* The script goes to the file asked for, and into the report. */
static int report_failure(struct explore *x, const char *strategy,
                          const struct explore_job *job, struct explore_outcome *o)
{
    struct explore_job shown = *job;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return CMD_FAILED;
    explore_script_write(f, strategy, job, o);
    fclose(f);
    if (x->script) {
        f = fopen(x->script, "we");
        if (!f || fputs(text, f) < 0 || fclose(f))
            fprintf(stderr, "asyncow explore: %s: %s\n", x->script, strerror(errno));
    }
    if (x->json) {
        json_t *last = json_array_get(x->results, json_array_size(x->results) - 1);
        json_object_set_new(last, "script", json_string(text));
    } else {
        printf("\n%s\n", text);
        shown.mode = EXPLORE_REPLAY;
        shown.schedules = 0;
        shown.draw = true;
        explore_child(&shown, o);
    }
    free(text);
    return CMD_FAILED;
}

/* --- the search ---------------------------------------------------------------------- */

static struct explore_job job_of(const struct explore *x, const struct module *m)
{
    return (struct explore_job){
        .config = {.strategy = m->table,
                   .settings = m->settings,
                   .cluster = x->cluster,
                   .through = x->through,
                   .warm = x->warm},
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
                       struct sum *sum)
{
    struct explore_job job = job_of(x, m);

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
    report_set(x, m->spec, &job, o);
    if (o->end == EXPLORE_FAILED)
        return report_failure(x, m->spec, &job, o);
    if (o->end == EXPLORE_ERROR) {
        fprintf(stderr, "asyncow explore: %s\n", o->failure);
        return CMD_FAILED;
    }
    return CMD_GOOD;
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
    struct sum sum = {0};
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
    report_sum(x, spec, &sum);
    module_close(&m);
    return ret;
}

static void print_json(struct explore *x)
{
    json_int_t total = 0;
    json_t *one;
    size_t i;

    json_array_foreach(x->results, i, one) total +=
        json_integer_value(json_object_get(one, "schedules"));
    json_t *o = json_pack(
        "{s:s, s:I, s:I, s:s, s:s, s:I, s:O}", "version", ASYNCOW_VERSION_LONG, "seed",
        (json_int_t)x->seed, "cluster_size", (json_int_t)x->cluster, "metadata_writes",
        x->through ? "through" : "back", "cache", x->warm ? "warm" : "cold",
        "schedules", total, "sets", x->results);
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
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
    x->results = json_array();
    for (unsigned i = 0; i < list.n; i++)
        ret |= explore_strategy(x, list.spec[i], o);
    module_list_free(&list);
    if (x->json)
        print_json(x);
    json_decref(x->results);
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

/* What would be right, or NULL: it is. */
static const char *set_option(void *opaque, const char *name, char *value)
{
    struct explore *x = opaque;

    static struct error err;

    if (!strcmp(name, "strategy"))
        x->strategies = value;
    else if (!strcmp(name, "script"))
        x->script = value;
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
    else if (!strcmp(name, "cluster-size")) {
        const char *right = "a power of two from 512 to 65536";
        if (parse_bytes(value, 1024, &x->cluster) < 0 || x->cluster & (x->cluster - 1))
            return right;
        return x->cluster >= 512 && x->cluster <= 65536 ? NULL : right;
    } else if (!strcmp(name, "metadata-writes")) {
        x->through = !strcmp(value, "through");
        return x->through || !strcmp(value, "back") ? NULL : "back or through";
    } else if (!strcmp(name, "cache")) {
        x->warm = !strcmp(value, "warm");
        return x->warm || !strcmp(value, "cold") ? NULL : "cold or warm";
    } else {
        x->json = !strcmp(value, "json");
        return x->json || !strcmp(value, "text") ? NULL : "text or json";
    }
    return NULL;
}

static const char *const options[] = {
    "strategy",     "operations",      "set",   "mode",          "schedules",
    "seconds",      "preemptions",     "seed",  "script",        "replay",
    "cluster-size", "metadata-writes", "cache", "output-format", NULL};

int cmd_explore(int argc, char **argv)
{
    struct explore x = {.strategies = "all",
                        .operations = 2,
                        .schedules = 10000,
                        .preemptions = 2,
                        .seed = 1,
                        .cluster = 1024,
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
