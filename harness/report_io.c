/* The report in words: which engine and why, what it does without, what filters did. */
#include <string.h>

#include "harness/report.h"
#include "harness/samples.h"

static const char *text_at(const json_t *o, const char *path)
{
    const char *text = json_string_value(samples_at(o, path));
    return text ? text : "";
}

static void print_choice(FILE *f, const json_t *report, unsigned job)
{
    const json_t *jobs = samples_at(report, "manifest/jobs");
    const json_t *c = json_object_get(json_array_get(jobs, job), "engine_choice");
    const char *asked = text_at(c, "asked");

    if (strncmp(asked, "auto", 4) == 0)
        fprintf(f, "engine: %s chose %s: %s\n", asked, text_at(c, "engine"),
                text_at(c, "reason"));
}

/* Each once, though every trial has them. */
static void print_notes(FILE *f, const json_t *report, unsigned job)
{
    const json_t *all = json_object_get(report, "jobs");
    const char *last = "";

    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *r = json_array_get(all, i);
        const char *notes = text_at(r, "engine_notes");
        if (json_integer_value(json_object_get(r, "job")) != (json_int_t)job ||
            !*notes || !strcmp(notes, last))
            continue;
        fprintf(f, "engine: without %s\n", notes);
        last = notes;
    }
}

/* Asked and realised time of the filter delay, a mean over all trials of a strategy. */
static void print_delay(FILE *f, const json_t *report, unsigned job, const char *spec)
{
    const json_t *all = json_object_get(report, "jobs");
    double ios = 0, asked_ns = 0, realised_ns = 0;

    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *r = json_array_get(all, i);
        const json_t *d = json_object_get(r, "host_delay");
        if (!d || !samples_match(r, job, spec, false))
            continue;
        ios += json_number_value(json_object_get(d, "ios"));
        asked_ns += json_number_value(json_object_get(d, "asked_ns"));
        realised_ns += json_number_value(json_object_get(d, "realised_ns"));
    }
    if (ios > 0)
        fprintf(f, "%s: delayed %.0f I/Os: %.1f us asked for, %.1f us realised\n", spec,
                ios, asked_ns / ios / 1000, realised_ns / ios / 1000);
}

/* How the requests fell to several loops, in the strategy's first trial. */
static void print_loops(FILE *f, const json_t *report, unsigned job, const char *spec)
{
    const json_t *all = json_object_get(report, "jobs");

    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *r = json_array_get(all, i);
        const json_t *loops = json_object_get(r, "iothreads");
        if (!loops || !samples_match(r, job, spec, false))
            continue;
        fprintf(f, "%s: requests by loop:", spec);
        for (size_t k = 0; k < json_array_size(loops); k++)
            fprintf(f, " %lld",
                    (long long)json_integer_value(
                        json_object_get(json_array_get(loops, k), "total_ios")));
        fputc('\n', f);
        return;
    }
}

void report_io(FILE *f, const json_t *report, unsigned job,
               const struct module_list *strategies)
{
    print_choice(f, report, job);
    print_notes(f, report, job);
    for (unsigned s = 0; s < strategies->n; s++) {
        print_delay(f, report, job, strategies->spec[s]);
        print_loops(f, report, job, strategies->spec[s]);
    }
}
