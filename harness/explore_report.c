/* What was searched, and what was found: explore_report.h. */
#include "harness/explore_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/explore_script.h"
#include "harness/version.h"

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

static void report_json(struct explore_report *r, const char *strategy,
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
    json_array_append_new(r->results, one);
}

void explore_report_set(struct explore_report *r, const char *strategy,
                        const struct explore_job *job, const struct explore_outcome *o)
{
    const struct explore_count *c = &o->count;
    char set[EXPLORE_TEXT], text[40];

    if (r->json) {
        report_json(r, strategy, job, o);
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

void explore_report_sum(const struct explore_report *r, const char *strategy,
                        const struct explore_sum *sum)
{
    if (!r->json)
        printf("%s: %" PRIu64 " sets, %" PRIu64 " searched through, %" PRIu64
               " within the bound, %" PRIu64 " cut; %" PRIu64 " schedules\n",
               strategy, sum->sets, sum->complete, sum->bounded, sum->cut,
               sum->schedules);
}

/* The script goes to the file asked for, and into the report. */
void explore_report_failure(struct explore_report *r, const char *strategy,
                            const struct explore_job *job, struct explore_outcome *o)
{
    struct explore_job shown = *job;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return;
    explore_script_write(f, strategy, job, o);
    fclose(f);
    if (r->script) {
        f = fopen(r->script, "we");
        if (!f || fputs(text, f) < 0 || fclose(f))
            fprintf(stderr, "asyncow explore: %s: %s\n", r->script, strerror(errno));
    }
    if (r->json) {
        json_t *last = json_array_get(r->results, json_array_size(r->results) - 1);
        json_object_set_new(last, "script", json_string(text));
    } else {
        printf("\n%s\n", text);
        shown.mode = EXPLORE_REPLAY;
        shown.schedules = 0;
        shown.draw = true;
        explore_child(&shown, o);
    }
    free(text);
}

void explore_report_begin(struct explore_report *r)
{
    r->results = r->json ? json_array() : NULL;
}

void explore_report_end(struct explore_report *r, const struct explore_config *c,
                        uint64_t seed)
{
    json_int_t total = 0;
    json_t *one;
    size_t i;

    if (!r->json)
        return;
    json_array_foreach(r->results, i, one) total +=
        json_integer_value(json_object_get(one, "schedules"));
    json_t *o = json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:I, s:O}", "version",
                          ASYNCOW_VERSION_LONG, "seed", (json_int_t)seed,
                          "cluster_size", (json_int_t)c->cluster, "metadata_writes",
                          c->through ? "through" : "back", "cache",
                          c->warm ? "warm" : "cold", "image", explore_image_text(c),
                          "schedules", total, "sets", r->results);
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
    json_decref(r->results);
}
