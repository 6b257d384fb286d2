/* The trials of asyncow run, each on the images that it may touch. */
#include "harness/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/copy.h"
#include "harness/rng.h"
#include "harness/trial.h"

/* The images that this trial writes to are fresh copies; jobs that share one still
 * do. */
static int prepare_images(struct run *r, struct error *err)
{
    for (unsigned i = 0; i < r->jobs.n; i++)
        r->paths[i] = r->jobs.job[i].image;
    for (unsigned i = 0; r->copies && i < r->jobs.n; i++) {
        struct job *j = &r->jobs.job[i];
        char *copy;
        if (!job_writes(j) || r->paths[i] != j->image)
            continue;
        int ret = image_copy(j->image, &copy, err);
        if (ret < 0)
            return ret;
        for (unsigned k = 0; k < r->jobs.n; k++)
            if (r->paths[k] == r->jobs.job[k].image &&
                !strcmp(r->jobs.job[k].image, j->image))
                r->paths[k] = copy;
    }
    return 0;
}

static void drop_copies(struct run *r)
{
    for (unsigned i = 0; i < r->jobs.n; i++) {
        char *copy = r->paths[i];
        if (!copy || copy == r->jobs.job[i].image)
            continue;
        unlink(copy);
        for (unsigned k = i; k < r->jobs.n; k++)
            if (r->paths[k] == copy)
                r->paths[k] = NULL;
        free(copy);
    }
}

static int one_trial(struct run *r, unsigned strategy, unsigned round, bool heartbeat,
                     const char *label, struct error *err)
{
    struct trial t = {.jobs = &r->jobs,
                      .run = &r->base,
                      .spec = r->strategies.spec[strategy],
                      .paths = (const char *const *)r->paths,
                      .round = round,
                      .heartbeat = heartbeat,
                      .label = label};
    int ret = prepare_images(r, err);
    json_t *all = ret < 0 ? NULL : trial_run(&t, &r->interrupted, err);

    drop_copies(r);
    if (!all)
        return ret < 0 ? ret : -ECHILD;
    for (unsigned i = 0; i < json_array_size(all); i++) {
        json_t *one = json_array_get(all, i);
        if (json_integer_value(json_object_get(one, "error"))) {
            ret = error_set(err, -EIO, "job %s, strategy %s: %s", r->jobs.job[i].name,
                            t.spec,
                            json_string_value(json_object_get(one, "error_text")));
            r->failed = true;
        }
        json_array_append(r->results, one);
    }
    json_decref(all);
    return ret;
}

/* Rounds of all strategies, the order in each drawn from the seed; then the
 * heartbeats. */
int run_trials(struct run *r, struct error *err)
{
    unsigned n = r->strategies.n, rounds = (unsigned)r->base.trials, count = 0;
    unsigned total = n * (rounds + r->base.stall), *order = calloc(n, sizeof(*order));
    struct rng rng = {r->base.seed};
    int ret = order ? 0 : -ENOMEM;

    for (unsigned round = 0; round < rounds + r->base.stall && !ret; round++) {
        bool heartbeat = round == rounds;
        for (unsigned i = 0; i < n; i++) { /* Fisher and Yates, inside out */
            unsigned k = (unsigned)rng_below(&rng, i + 1);
            order[i] = order[k];
            order[k] = i;
        }
        for (unsigned i = 0; i < n && !ret && !r->interrupted; i++) {
            char label[96];
            snprintf(label, sizeof(label), "%u/%u %s", ++count, total,
                     r->strategies.spec[order[i]]);
            ret = one_trial(r, order[i], heartbeat ? 0 : round, heartbeat, label, err);
        }
    }
    free(order);
    return ret;
}

/* After the same requests all strategies must show the same disk. What a run cut off by
 * time has written differs, and so may what several wrote at once. */
int run_compare(struct run *r, struct error *err)
{
    for (unsigned i = 0; i < json_array_size(r->results); i++) {
        const json_t *a = json_array_get(r->results, i), *ca, *cb;
        const struct job *j =
            &r->jobs.job[json_integer_value(json_object_get(a, "job"))];
        if (j->runtime_ns || j->norandommap ||
            !(ca = json_object_get(a, "content_crc32c")))
            continue;
        for (unsigned k = 0; k < i; k++) {
            const json_t *b = json_array_get(r->results, k);
            if (json_equal(json_object_get(a, "job"), json_object_get(b, "job")) &&
                json_equal(json_object_get(a, "seed"), json_object_get(b, "seed")) &&
                (cb = json_object_get(b, "content_crc32c")) && !json_equal(ca, cb))
                return error_set(
                    err, -EILSEQ,
                    "job %s: the contents differ: crc32c %s under %s, %s under "
                    "%s",
                    j->name, json_string_value(ca),
                    json_string_value(json_object_get(a, "strategy")),
                    json_string_value(cb),
                    json_string_value(json_object_get(b, "strategy")));
        }
    }
    return 0;
}
