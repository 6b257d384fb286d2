/* Between options.c, which has the table and sets, and options_text.c, which tells. */
#ifndef HARNESS_OPTIONS_INT_H
#define HARNESS_OPTIONS_INT_H
#include "harness/options.h"

/* How the value reads. NOOP: fio has it, here it changes nothing. */
enum option_kind {
    FLAG,
    COUNT,
    BYTES,
    TIME,
    TEXT,
    AMOUNT,
    CHOICE,
    RW,
    PERCENTILES,
    EVERY,
    NOOP
};

struct option_def {
    const char *name, *alias; /* alias: fio's other name */
    enum option_kind kind;
    size_t at;            /* in struct job */
    uint64_t min, max;    /* of a number; max 0: any */
    const char *choices;  /* CHOICE: "a|b"; the index is stored */
    bool of_bool, global; /* of_bool: the index as a bool. global: of the whole run */
    const char *group;    /* that it begins, in the help */
    const char *help;
};

#define AT(field) offsetof(struct job, field)
/* In the order of the help; name NULL ends it. */
extern const struct option_def option_defs[];

/* Where in the job it is. */
static inline void *option_field(const struct job *j, const struct option_def *d)
{
    return (char *)(uintptr_t)j + d->at;
}

#endif
