/*
 * Strategy modules: shared objects with one exported table, found by name or path.
 *
 * A name is looked for in $ASYNCOW_STRATEGY_PATH (directories, colons between), then
 * beside the program (strategies/), then where modules are installed. In each
 * directory, as NAME.so and NAME/NAME.so. A word with a slash is a path.
 */
#ifndef HARNESS_MODULE_H
#define HARNESS_MODULE_H
#include "strategies/strategy.h"

struct module {
    char *spec;     /* as given, e.g. "coroutines:hold=none" */
    char *settings; /* "": defaults */
    char *path;
    void *handle;
    const struct strategy *table;
};
/* Opens "NAME[:settings]" or "PATH[:settings]". Settings are checked against the
 * module's list. 0; -ENOENT, -ENOEXEC, -EINVAL with err. */
int module_open(struct module *, const char *spec, struct error *);
void module_close(struct module *);

struct module_list {
    char **spec;
    unsigned n;
};
/* Splits "all" or "a,b:x=1,y=2,c": after a comma, what has `=` before any `:` is a
 * setting still. all: every module found, in order of name. err if there is none. */
int module_list_parse(struct module_list *, const char *text, struct error *);
void module_list_free(struct module_list *);

#endif
