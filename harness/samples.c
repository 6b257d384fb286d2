/* Numbers looked up by path in the report, which alone verdicts rest on: samples.h. */
#include "harness/samples.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/stats.h"

const json_t *samples_at(const json_t *o, const char *path)
{
    char key[64];

    while (o && *path) {
        size_t n = strcspn(path, "/");
        snprintf(key, sizeof(key), "%.*s", (int)n, path);
        o = json_object_get(o, key);
        path += n + (path[n] == '/');
    }
    return o;
}

bool samples_match(const json_t *result, unsigned job, const char *strategy,
                   bool heartbeat)
{
    const char *name = json_string_value(json_object_get(result, "strategy"));

    return name && !strcmp(name, strategy) &&
           json_integer_value(json_object_get(result, "job")) == (json_int_t)job &&
           json_is_true(json_object_get(result, "heartbeat")) == heartbeat &&
           !json_integer_value(json_object_get(result, "error"));
}

struct pick {
    json_int_t round;
    double value;
};

static int by_round(const void *a, const void *b)
{
    json_int_t x = ((const struct pick *)a)->round, y = ((const struct pick *)b)->round;
    return (x > y) - (x < y);
}

void samples_take(struct samples *s, const json_t *report, unsigned job,
                  const char *strategy, const char *metric)
{
    const json_t *all = json_object_get(report, "jobs");
    size_t n = json_array_size(all);
    struct pick *pick = calloc(n + 1, sizeof(*pick));

    *s = (struct samples){.metric = metric, .v = calloc(n + 1, sizeof(double))};
    for (size_t i = 0; pick && s->v && i < n; i++) {
        const json_t *r = json_array_get(all, i);
        const json_t *value = samples_at(r, metric);
        if (value && samples_match(r, job, strategy, false))
            pick[s->n++] =
                (struct pick){json_integer_value(json_object_get(r, "round")),
                              json_number_value(value)};
    }
    if (s->n)
        qsort(pick, s->n, sizeof(*pick), by_round);
    for (unsigned i = 0; i < s->n; i++)
        s->v[i] = pick[i].value;
    free(pick);
}

void samples_drop(struct samples *s)
{
    free(s->v);
    *s = (struct samples){0};
}

double samples_median(const json_t *report, unsigned job, const char *strategy,
                      const char *metric, double fallback)
{
    struct samples s;

    samples_take(&s, report, job, strategy, metric);
    double m = s.n ? stats_median(s.v, s.n) : fallback;
    samples_drop(&s);
    return m;
}
