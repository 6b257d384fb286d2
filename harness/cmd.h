/* The program's commands. Each gets its own arguments, argv[0] being its name, and
 * returns the exit status: 0 good, 1 failed, 2 used wrongly. */
#ifndef HARNESS_CMD_H
#define HARNESS_CMD_H
#include <stdbool.h>

enum { CMD_GOOD, CMD_FAILED, CMD_USAGE };

int cmd_run(int argc, char **argv);
int cmd_strategies(int argc, char **argv);
int cmd_engines(int argc, char **argv);
int cmd_explore(int argc, char **argv);
int cmd_microbench(int argc, char **argv);
int microbench_engine(int argc, char **argv); /* cmd_microbench's other half */
int cmd_img(int argc, char **argv) __attribute__((weak)); /* harness/img.c */

struct cmd_options {
    const char *command;      /* as the user types it: "microbench engine" */
    const char *const *names; /* without the dashes; NULL ends */
    /* What would be right, or NULL: it is. value may be written to. */
    const char *(*set)(void *opaque, const char *name, char *value);
    void *opaque;
};
/* CMD_GOOD, or CMD_USAGE once standard error says why. `_` in a name is as `-`. */
int cmd_options_parse(const struct cmd_options *, int argc, char **argv);
bool cmd_wants_help(int argc, char **argv);

#endif
