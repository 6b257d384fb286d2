/* A command's own options, --name=value or --name value, told from what it does not know. */
#include <stdio.h>
#include <string.h>

#include "harness/cmd.h"
#include "harness/options.h"

static const char *nth_name(void *names, unsigned i)
{
    return ((const char *const *)names)[i];
}

static bool known(const struct cmd_options *o, const char *name)
{
    for (unsigned i = 0; o->names[i]; i++)
        if (!strcmp(name, o->names[i]))
            return true;
    return false;
}

static int unknown(const struct cmd_options *o, const char *word)
{
    const char *near = !strncmp(word, "--", 2)
                           ? nearest_name(word + 2, nth_name, (void *)o->names)
                           : NULL;

    fprintf(stderr, "asyncow %s: unknown %s `%s`%s%s%s; see asyncow %s --help\n",
            o->command, word[0] == '-' ? "option" : "argument", word,
            near ? "; the nearest is `--" : "", near ? near : "", near ? "`" : "",
            o->command);
    return CMD_USAGE;
}

int cmd_options_parse(const struct cmd_options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *word = argv[i], *value = strchr(word, '=');

        if (value)
            *value++ = '\0';
        for (char *p = strchr(word, '_'); p; p = strchr(p, '_'))
            *p = '-';
        if (strncmp(word, "--", 2) || !known(o, word + 2))
            return unknown(o, word);
        if (!value && i + 1 < argc)
            value = argv[++i];
        const char *right = value ? o->set(o->opaque, word + 2, value) : "a value";
        if (right) {
            fprintf(stderr, "asyncow %s: %s: `%s` is not right: %s\n", o->command,
                    word + 2, value ? value : "", right);
            return CMD_USAGE;
        }
    }
    return CMD_GOOD;
}

bool cmd_wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}
