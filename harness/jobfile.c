/* Job files as fio writes them, line by line into a list of jobs: jobfile.h. */
#include "harness/jobfile.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int job_list_add(struct job_list *l, const struct job *job)
{
    struct job *more = realloc(l->job, (l->n + 1) * sizeof(*more));

    if (!more)
        return -ENOMEM;
    l->job = more;
    return job_copy(&l->job[l->n++], job);
}

void job_list_free(struct job_list *l)
{
    while (l->n)
        job_free(&l->job[--l->n]);
    free(l->job);
    l->job = NULL;
}

static char *trimmed(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* [name]: global goes on filling base, any other starts a job. */
static int section(struct job_list *l, char *line, struct job *base, struct job **now,
                   struct error *err)
{
    char *close = strchr(line, ']');

    if (!close || close[1])
        return error_set(err, -EINVAL, "section `%s` does not end with ]", line);
    *close = '\0';
    char *name = trimmed(line + 1);
    if (!*name)
        return error_set(err, -EINVAL, "section without a name");
    if (!strcasecmp(name, "global")) {
        *now = base;
        return 0;
    }
    int ret = job_list_add(l, base);
    if (ret < 0)
        return error_set(err, ret, "out of memory");
    *now = &l->job[l->n - 1];
    return job_set(*now, "name", name, err);
}

static int line_read(struct job_list *l, char *line, struct job *base, struct job **now,
                     struct error *err)
{
    if (!*line || *line == '#' || *line == ';')
        return 0;
    if (*line == '[')
        return section(l, line, base, now, err);
    if (!*now)
        return error_set(err, -EINVAL, "`%s` stands before any [section]", line);
    char *value = strchr(line, '=');
    if (value)
        *value++ = '\0';
    char *name = trimmed(line);
    if (*now != base && job_option_global(name))
        return error_set(err, -EINVAL,
                         "%s: is of the whole run; it belongs in [global] or on the "
                         "command line",
                         name);
    return job_set(*now, name, value ? trimmed(value) : NULL, err);
}

int jobfile_read(struct job_list *l, const char *path, struct job *base,
                 struct error *err)
{
    bool in = !strcmp(path, "-");
    FILE *f = in ? stdin : fopen(path, "re");
    struct job *now = NULL;
    char *line = NULL;
    size_t size = 0;
    unsigned number = 0, before = l->n;
    int ret = 0;

    if (!f)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    ssize_t len;
    while (!ret && (len = getline(&line, &size, f)) >= 0) {
        number++;
        if (strlen(line) == (size_t)len)
            ret = line_read(l, trimmed(line), base, &now, err);
        else
            ret = error_set(err, -EINVAL,
                            "not text, so not a job file; an image is named by "
                            "--image");
    }
    if (ret < 0)
        error_prefix(err, "%s:%u", path, number);
    else if (ferror(f))
        ret = error_set(err, -EIO, "%s: cannot be read (is it a directory?)", path);
    else if (l->n == before)
        ret = error_set(err, -EINVAL, "%s: has no job: no [section] but global", path);
    free(line);
    if (!in)
        fclose(f);
    return ret;
}
