/* Finding, opening and checking strategy modules: module.h. */
#include "harness/module.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/env/settings.h"
#include "harness/options.h"

#ifndef ASYNCOW_MODULE_DIR /* from the program's directory to the installed modules */
#define ASYNCOW_MODULE_DIR "../lib/asyncow"
#endif

/* ---- where modules are ---- */

/* Calls fn for each directory that may hold modules until it says true. */
static bool each_directory(bool (*fn)(void *, const char *dir), void *opaque)
{
    static const char *const beside[] = {"strategies", ASYNCOW_MODULE_DIR};
    const char *path = getenv("ASYNCOW_STRATEGY_PATH");
    char dir[PATH_MAX], exe[PATH_MAX];

    while (path && *path) {
        size_t n = strcspn(path, ":");
        if (n && n < sizeof(dir)) {
            snprintf(dir, sizeof(dir), "%.*s", (int)n, path);
            if (fn(opaque, dir))
                return true;
        }
        path += n + (path[n] == ':');
    }
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n <= 0)
        return false;
    exe[n] = '\0';
    *strrchr(exe, '/') = '\0';
    for (unsigned i = 0; i < 2; i++) {
        int len = snprintf(dir, sizeof(dir), "%s/%s", exe, beside[i]);
        if (len < (int)sizeof(dir) && fn(opaque, dir))
            return true;
    }
    return false;
}

struct lookup {
    const char *name;
    char *found;
};

static bool look_in(void *opaque, const char *dir)
{
    static const char *const form[] = {"%s/%s.so", "%s/%s/%s.so"};
    struct lookup *l = opaque;

    for (unsigned i = 0; i < 2; i++) {
        char *path;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
        if (asprintf(&path, form[i], dir, l->name, l->name) < 0)
            return false;
#pragma GCC diagnostic pop
        if (!access(path, F_OK)) {
            l->found = path;
            return true;
        }
        free(path);
    }
    return false;
}

static int list_add(struct module_list *l, const char *spec, size_t len)
{
    char **more = realloc(l->spec, (l->n + 1) * sizeof(*more));

    if (!more)
        return -ENOMEM;
    l->spec = more;
    l->spec[l->n] = strndup(spec, len);
    return l->spec[l->n] ? (l->n++, 0) : -ENOMEM;
}

/* A file NAME.so, or a directory that holds NAME/NAME.so: adds NAME once. */
static bool collect_from(void *opaque, const char *dir)
{
    struct module_list *l = opaque;
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        size_t n = strlen(e->d_name);
        struct lookup lookup = {e->d_name, NULL};
        if (e->d_name[0] == '.')
            continue;
        if (n > 3 && !strcmp(e->d_name + n - 3, ".so"))
            n -= 3;
        else if (!look_in(&lookup, dir))
            continue;
        free(lookup.found);
        bool known = false;
        for (unsigned i = 0; i < l->n; i++)
            known |= strlen(l->spec[i]) == n && !strncmp(l->spec[i], e->d_name, n);
        if (!known && list_add(l, e->d_name, n) < 0)
            break;
    }
    if (d)
        closedir(d);
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void collect(struct module_list *l)
{
    each_directory(collect_from, l);
    if (l->n)
        qsort(l->spec, l->n, sizeof(*l->spec), by_name);
}

/* ---- one module ---- */

static const char *nth_spec(void *opaque, unsigned i)
{
    struct module_list *l = opaque;
    return i < l->n ? l->spec[i] : NULL;
}

static int not_found(const char *name, struct error *err)
{
    struct module_list all = {0};
    char known[256] = "";
    size_t used = 0;

    collect(&all);
    const char *near = nearest_name(name, nth_spec, &all);
    for (unsigned i = 0; i < all.n && used < sizeof(known) - 1; i++) {
        int n = snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
                         all.spec[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (near)
        error_set(err, -ENOENT, "strategy `%s` is not known; the nearest is `%s`", name,
                  near);
    else
        error_set(err, -ENOENT,
                  "strategy `%s` is not known; there are: %s. A module of your own is "
                  "named by its path: ./%s.so",
                  name, all.n ? known : "none", name);
    module_list_free(&all);
    return -ENOENT;
}

static int check_table(const struct module *m, struct error *err)
{
    const struct strategy *t = m->table;

    if (t->abi != STRATEGY_ABI)
        return error_set(
            err, -ENOEXEC,
            "%s: built for strategy interface %u, this program has %u: build "
            "it again",
            m->path, t->abi, STRATEGY_ABI);
    if (!t->name || !t->summary || !t->open || !t->submit || !t->cancel ||
        !t->drain_begin || !t->drain_end || !t->stats || !t->close)
        return error_set(err, -ENOEXEC,
                         "%s: its table `" STRATEGY_SYMBOL "` leaves out a function",
                         m->path);
    return 0;
}

static int check_settings(const struct module *m, struct error *err)
{
    static const struct setting none = {0};
    const struct setting *known = m->table->settings;
    int ret = settings_check(known ? known : &none, m->settings, err);

    if (ret < 0)
        error_prefix(err, "strategy %s", m->table->name);
    return ret;
}

static int load(struct module *m, struct error *err)
{
    dlerror();
    m->handle = dlopen(m->path, RTLD_NOW | RTLD_LOCAL);
    if (!m->handle)
        return error_set(err, access(m->path, F_OK) ? -ENOENT : -ENOEXEC,
                         "strategy module cannot be loaded: %s", dlerror());
    m->table = dlsym(m->handle, STRATEGY_SYMBOL);
    if (!m->table)
        return error_set(
            err, -ENOEXEC,
            "%s: is no strategy module: it exports no `" STRATEGY_SYMBOL "`", m->path);
    int ret = check_table(m, err);
    return ret < 0 ? ret : check_settings(m, err);
}

int module_open(struct module *m, const char *spec, struct error *err)
{
    const char *slash = strrchr(spec, '/');
    const char *colon = strchr(slash ? slash : spec, ':');
    size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
    int ret = 0;

    *m = (struct module){.spec = strdup(spec),
                         .settings = strdup(colon ? colon + 1 : "")};
    char *name = strndup(spec, len);
    struct lookup lookup = {name, NULL};
    if (!name || !m->spec || !m->settings)
        ret = error_set(err, -ENOMEM, "out of memory");
    else if (slash)
        m->path = name;
    else if (each_directory(look_in, &lookup))
        m->path = lookup.found;
    else
        ret = not_found(name, err);
    if (m->path != name)
        free(name);
    if (!ret)
        ret = load(m, err);
    if (ret < 0)
        module_close(m);
    return ret;
}

void module_close(struct module *m)
{
    if (m->handle)
        dlclose(m->handle);
    free(m->spec);
    free(m->settings);
    free(m->path);
    *m = (struct module){0};
}

/* ---- lists ---- */

static int list_split(struct module_list *l, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, ",");
        /* What follows as `name=value` belongs to this module still. */
        while (text[n] == ',') {
            const char *next = text + n + 1;
            size_t mark = strcspn(next, "=:,");
            if (next[mark] != '=')
                break;
            n += 1 + strcspn(next, ",");
        }
        int ret = n ? list_add(l, text, n) : 0;
        if (ret < 0)
            return ret;
        text += n + (text[n] == ',');
    }
    return 0;
}

int module_list_parse(struct module_list *l, const char *text, struct error *err)
{
    *l = (struct module_list){0};
    if (!strcmp(text, "all"))
        collect(l);
    else if (list_split(l, text) < 0)
        return error_set(err, -ENOMEM, "out of memory");
    if (l->n)
        return 0;
    return error_set(err, -ENOENT,
                     "no strategy modules found beside the program or in "
                     "$ASYNCOW_STRATEGY_PATH");
}

void module_list_free(struct module_list *l)
{
    while (l->n)
        free(l->spec[--l->n]);
    free(l->spec);
    l->spec = NULL;
}
