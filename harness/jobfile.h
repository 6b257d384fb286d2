/*
 * fio's job files: sections of name=value lines, [global] for all that follow.
 *
 * Lines are comments from `#` or `;` at their start. Jobs run one after the other, as
 * if each said stonewall. What the command line says overrides what any job says.
 */
#ifndef HARNESS_JOBFILE_H
#define HARNESS_JOBFILE_H
#include "harness/options.h"

struct job_list {
    struct job *job;
    unsigned n;
};
/* Appends the jobs of path ("-": standard input), each starting from base. base gets
 * the options of [global] too. err: "FILE:LINE: ...". */
int jobfile_read(struct job_list *, const char *path, struct job *base, struct error *);
int job_list_add(struct job_list *, const struct job *); /* a copy of it */
void job_list_free(struct job_list *);

#endif
