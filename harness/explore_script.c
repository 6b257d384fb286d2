/* See explore_script.h. */
#include "harness/explore_script.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SHRINK_SCHEDULES = 20000, SHRINK_TRIES = 400 };

/* --- shorter ------------------------------------------------------------------------- */

static bool fails(const struct explore_job *job, struct explore_outcome *o)
{
    explore_child(job, o);
    return o->end == EXPLORE_FAILED;
}

/* Does the set fail without operation i, too? Not within a small budget: no. */
static bool drop_op(struct explore_job *job, struct explore_outcome *outcome,
                    unsigned i)
{
    struct explore_outcome *o = calloc(1, sizeof(*o));
    struct explore_job fewer = *job;
    bool better = false;

    memmove(&fewer.set.op[i], &fewer.set.op[i + 1],
            (--fewer.set.n - i) * sizeof(fewer.set.op[0]));
    fewer.schedules = SHRINK_SCHEDULES;
    fewer.mode = EXPLORE_ALL;
    if (o && fewer.set.n && fewer.set.op[0] != EXPLORE_CANCEL)
        better = fails(&fewer, o);
    if (better) {
        job->set = fewer.set;
        *outcome = *o;
    }
    free(o);
    return better;
}

static void trim(struct explore_path *path)
{
    while (path->n && !path->choice[path->n - 1])
        path->n--;
}

/* The same with choices [from, to) the plainest: does it fail still? */
static bool plainer(const struct explore_job *job, struct explore_outcome *outcome,
                    unsigned from, unsigned to)
{
    struct explore_outcome *o = calloc(1, sizeof(*o));
    bool any = false, better = false;

    if (!o)
        return false;
    o->path = outcome->path;
    for (unsigned i = from; i < to; i++) {
        any |= o->path.choice[i];
        o->path.choice[i] = 0;
    }
    trim(&o->path);
    struct explore_path asked = o->path;
    if (any && fails(job, o)) {
        better = true;
        *outcome = *o;
        outcome->path = asked;
    }
    free(o);
    return better;
}

/* Halves, quarters, ... each made the plainest if it still fails (Zeller's ddmin). */
static void shorten(const struct explore_job *job, struct explore_outcome *outcome)
{
    unsigned tries = 0;

    for (unsigned step = outcome->path.n; step; step /= 2)
        for (unsigned at = 0; at < outcome->path.n && tries < SHRINK_TRIES;
             at += step) {
            unsigned to = at + step < outcome->path.n ? at + step : outcome->path.n;
            tries++;
            plainer(job, outcome, at, to);
        }
}

void explore_shrink(struct explore_job *job, struct explore_outcome *outcome)
{
    for (unsigned i = 0; job->set.n > 1 && i < job->set.n;)
        i = drop_op(job, outcome, i) ? 0 : i + 1;
    struct explore_job replay = *job;
    replay.mode = EXPLORE_REPLAY;
    replay.schedules = 0;
    trim(&outcome->path);
    shorten(&replay, outcome);
}

/* --- written ------------------------------------------------------------------------- */

int explore_script_write(FILE *f, const char *strategy, const struct explore_job *job,
                         const struct explore_outcome *o)
{
    char set[EXPLORE_TEXT];

    explore_set_text(&job->set, set);
    fprintf(f, "# asyncow explore script 1\n# ");
    for (const char *p = o->failure; *p; p++)
        fprintf(f, *p == '\n' ? "\n# " : "%c", *p);
    fprintf(f,
            "\nstrategy %s\ncluster-size %" PRIu64 "\nmetadata-writes %s\ncache %s\n"
            "image %s\noperations %s\nchoices",
            strategy, job->config.cluster, job->config.through ? "through" : "back",
            job->config.warm ? "warm" : "cold", explore_image_text(&job->config), set);
    for (unsigned i = 0; i < o->path.n; i++)
        fprintf(f, " %u", o->path.choice[i]);
    fprintf(f, "\n");
    return ferror(f) ? -EIO : 0;
}

/* --- read ---------------------------------------------------------------------------- */

static int read_choices(struct explore_path *path, char *text, struct error *err)
{
    char *save;

    path->n = 0;
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        char *end;
        unsigned long n = strtoul(w, &end, 10);
        if (*end || end == w || *w == '-' || n > UINT16_MAX ||
            path->n == EXPLORE_CHOICES)
            return error_set(err, -EINVAL,
                             "choice `%s`: up to %d numbers are needed, each below %d",
                             w, EXPLORE_CHOICES, UINT16_MAX + 1);
        path->choice[path->n++] = (uint16_t)n;
    }
    return 0;
}

static int read_cluster_size(uint64_t *cluster, const char *text, struct error *err)
{
    char *end;

    *cluster = strtoull(text, &end, 10);
    if (*end || *cluster < 512 || *cluster > 65536 || *cluster & (*cluster - 1))
        return error_set(
            err, -EINVAL,
            "cluster-size `%s`: a power of two from 512 to 65536 is needed", text);
    return 0;
}

static int read_line(char *line, char **strategy, struct explore_job *job,
                     struct explore_path *path, struct error *err)
{
    char *value = strchr(line, ' ');

    if (value)
        *value++ = '\0';
    else
        value = line + strlen(line);
    if (!strcmp(line, "choices"))
        return read_choices(path, value, err);
    if (!strcmp(line, "operations"))
        return explore_set_parse(&job->set, value, err);
    if (!strcmp(line, "cluster-size"))
        return read_cluster_size(&job->config.cluster, value, err);
    if (!strcmp(line, "strategy")) {
        free(*strategy);
        *strategy = strdup(value);
        return *strategy ? 0 : -ENOMEM;
    }
    if (!strcmp(line, "metadata-writes") &&
        (!strcmp(value, "back") || !strcmp(value, "through"))) {
        job->config.through = *value == 't';
        return 0;
    }
    if (!strcmp(line, "cache") && (!strcmp(value, "cold") || !strcmp(value, "warm"))) {
        job->config.warm = *value == 'w';
        return 0;
    }
    if (!strcmp(line, "image") && explore_image_parse(&job->config, value))
        return 0;
    return error_set(err, -EINVAL,
                     "`%s %s`: strategy, cluster-size, metadata-writes back|through, "
                     "cache cold|warm, image v3|v2|v3-overlay|v2-overlay, operations "
                     "and choices are known",
                     line, value);
}

int explore_script_read(const char *file, char **strategy, struct explore_job *job,
                        struct explore_path *path, struct error *err)
{
    FILE *f = fopen(file, "re");
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int ret = 0;

    *strategy = NULL;
    path->n = 0;
    if (!f)
        return error_set(err, -errno, "%s: %s", file, strerror(errno));
    for (unsigned n = 1; ret == 0 && (len = getline(&line, &cap, f)) >= 0; n++) {
        line[strcspn(line, "\n")] = '\0';
        if (*line && *line != '#')
            ret = read_line(line, strategy, job, path, err);
        if (ret < 0)
            error_prefix(err, "%s:%u", file, n);
    }
    if (ret == 0 && ferror(f))
        ret = error_set(err, -EIO, "%s: cannot be read", file);
    if (ret == 0 && (!*strategy || !job->set.n || !job->config.cluster))
        ret = error_set(err, -EINVAL,
                        "%s: strategy, cluster-size and operations are needed", file);
    fclose(f);
    free(line);
    return ret;
}
