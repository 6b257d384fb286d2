/* asyncow: picks the command. */
#include <stdio.h>
#include <string.h>

#include "harness/cmd.h"
#include "harness/options.h"
#include "harness/version.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", cmd_run, "measure a workload on an image under one strategy or all"},
    {"img", cmd_img, "make, inspect, check, convert, resize, snapshot images"},
    {"strategies", cmd_strategies, "list the strategies and their settings"},
    {"engines", cmd_engines, "list the I/O engines and whether they work here"},
    {"explore", cmd_explore, "try every schedule of a few operations, in virtual time"},
    {"microbench", cmd_microbench, "measure what a coroutine or an I/O costs"},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void usage(FILE *f)
{
    fprintf(f,
            "Usage: asyncow COMMAND [OPTION...]\n\n"
            "One qcow2 core under four concurrency models, and a harness that measures "
            "them.\n\nCommands:\n");
    for (unsigned i = 0; i < COMMANDS; i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(f,
            "\n`asyncow COMMAND --help` says more; `asyncow --version` which this is.\n"
            "Exit status: 0 good, 1 failed, 2 used wrongly.\n");
}

static const char *nth_command(void *opaque, unsigned i)
{
    (void)opaque;
    return i < COMMANDS ? commands[i].name : NULL;
}

static const struct command *find(const char *name)
{
    for (unsigned i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (!strcmp(name, "--version")) {
        printf("asyncow %s\n", ASYNCOW_VERSION_LONG);
        return CMD_GOOD;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h") ||
        (!strcmp(name, "help") && argc == 2)) {
        usage(stdout);
        return CMD_GOOD;
    }
    if (!strcmp(name, "help")) { /* help run: as run --help */
        const struct command *c = find(argv[2]);
        char *help[] = {argv[2], (char[]){"--help"}, NULL};
        if (c)
            return c->run(2, help);
        name = argv[2];
    }
    const struct command *c = find(name);
    if (c)
        return c->run(argc - 1, argv + 1);
    if (!*name) {
        usage(stderr);
        return CMD_USAGE;
    }
    const char *near = nearest_name(name, nth_command, NULL);
    fprintf(stderr, "asyncow: unknown command `%s`%s%s%s; see asyncow --help\n", name,
            near ? "; the nearest is `" : "", near ? near : "", near ? "`" : "");
    return CMD_USAGE;
}
