/* The program's commands. Each gets its own arguments, argv[0] being its name, and
 * returns the exit status: 0 good, 1 failed, 2 used wrongly. */
#ifndef HARNESS_CMD_H
#define HARNESS_CMD_H

enum { CMD_GOOD, CMD_FAILED, CMD_USAGE };

int cmd_run(int argc, char **argv);
int cmd_strategies(int argc, char **argv);
int cmd_engines(int argc, char **argv);
int cmd_explore(int argc, char **argv);
int cmd_microbench(int argc, char **argv);
int microbench_engine(int argc, char **argv); /* cmd_microbench's other half */
int cmd_img(int argc, char **argv) __attribute__((weak)); /* harness/img.c */

#endif
