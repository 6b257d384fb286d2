/* asyncow strategies, asyncow engines: what there is. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/block/engine.h"
#include "harness/cmd.h"
#include "harness/module.h"

struct list_args {
    bool json, direct, help;
    const char *word; /* a module, or a file */
};

/* 0, or CMD_USAGE after a message. */
static int parse(struct list_args *a, int argc, char **argv, bool with_direct)
{
    *a = (struct list_args){0};
    for (int i = 1; i < argc; i++) {
        const char *format = NULL;
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            a->help = true;
        } else if (!strncmp(argv[i], "--output-format=", 16)) {
            format = argv[i] + 16;
        } else if (!strcmp(argv[i], "--output-format") && i + 1 < argc) {
            format = argv[++i];
        } else if (with_direct && !strcmp(argv[i], "--direct")) {
            a->direct = true;
        } else if (argv[i][0] == '-' || a->word) {
            fprintf(stderr, "asyncow %s: unknown %s `%s`; see asyncow %s --help\n",
                    argv[0], argv[i][0] == '-' ? "option" : "argument", argv[i],
                    argv[0]);
            return CMD_USAGE;
        } else {
            a->word = argv[i];
        }
        if (format && strcmp(format, "json") && strcmp(format, "text") &&
            strcmp(format, "human")) {
            fprintf(stderr, "asyncow %s: output-format: `%s` is not one of text|json\n",
                    argv[0], format);
            return CMD_USAGE;
        }
        a->json |= format && !strcmp(format, "json");
    }
    return 0;
}

static void print_json(json_t *all)
{
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* ---- settings: name=values (default) help ---- */

static json_t *settings_json(const struct setting *s)
{
    json_t *settings = json_array();

    for (; s && s->name; s++) {
        json_t *one = json_object();
        json_object_set_new(one, "name", json_string(s->name));
        json_object_set_new(one, "values", json_string(s->values ? s->values : ""));
        json_object_set_new(one, "default",
                            json_string(s->value_default ? s->value_default : ""));
        json_object_set_new(one, "help", json_string(s->help ? s->help : ""));
        json_array_append_new(settings, one);
    }
    return settings;
}

static void print_settings(const struct setting *s)
{
    for (; s && s->name; s++)
        printf("    %s=%s  (%s)  %s\n", s->name, s->values ? s->values : "",
               s->value_default ? s->value_default : "", s->help ? s->help : "");
}

/* ---- strategies ---- */

static json_t *strategy_entry(const struct module *m)
{
    json_t *o = json_object();

    json_object_set_new(o, "name", json_string(m->table->name));
    json_object_set_new(o, "summary", json_string(m->table->summary));
    json_object_set_new(o, "path", json_string(m->path));
    json_object_set_new(o, "abi", json_integer(m->table->abi));
    json_object_set_new(o, "settings", settings_json(m->table->settings));
    return o;
}

static void print_strategy(const struct strategy *t)
{
    printf("%-12s %s\n", t->name, t->summary);
    print_settings(t->settings);
}

int cmd_strategies(int argc, char **argv)
{
    struct list_args a;
    struct module_list list;
    struct error err = {""};
    json_t *all = json_array();
    int ret = parse(&a, argc, argv, false);

    if (!ret && a.help) {
        printf(
            "Usage: asyncow strategies [--output-format=text|json] [NAME|./mine.so]\n\n"
            "Lists the strategy modules found in $ASYNCOW_STRATEGY_PATH, beside the\n"
            "program and where modules are installed, with their settings, each as\n"
            "name=values (default).\n");
    } else if (!ret && module_list_parse(&list, a.word ? a.word : "all", &err) < 0) {
        fprintf(stderr, "asyncow strategies: %s\n", err.msg);
        ret = CMD_FAILED;
    } else if (!ret) {
        for (unsigned i = 0; i < list.n; i++) {
            struct module m;
            err.msg[0] = '\0';
            if (module_open(&m, list.spec[i], &err) < 0) {
                fprintf(stderr, "asyncow strategies: %s\n", err.msg);
                ret = CMD_FAILED;
                continue;
            }
            if (a.json)
                json_array_append_new(all, strategy_entry(&m));
            else
                print_strategy(m.table);
            module_close(&m);
        }
        module_list_free(&list);
        if (a.json)
            print_json(all);
    }
    json_decref(all);
    return ret;
}

/* ---- engines ---- */

static void print_engine(const struct engine_ops *e, bool bad, const char *reason)
{
    printf("%-10s %-4s %s%s%s\n", e->name, bad ? "no" : "yes", e->summary,
           bad ? ": " : "", reason);
    print_settings(e->settings);
}

int cmd_engines(int argc, char **argv)
{
    struct list_args a;
    json_t *all = json_array();
    int ret = parse(&a, argc, argv, true);

    if (!ret && a.help) {
        printf(
            "Usage: asyncow engines [--output-format=text|json] [--direct] [FILE]\n\n"
            "Lists the I/O engines, and whether they can be used here (with FILE: on\n"
            "that file; --direct: with O_DIRECT), or why not, and their settings.\n");
    } else if (!ret) {
        for (const struct engine_ops *const *e = engine_list(); *e; e++) {
            struct error err = {""};
            int bad = (*e)->probe && !((*e)->simulated && a.word)
                          ? (*e)->probe(a.word, a.direct, &err)
                          : 0;
            if (bad && !err.msg[0])
                error_set(&err, bad, "%s", strerror(-bad));
            json_t *o = json_pack("{s:s, s:s, s:b, s:s}", "name", (*e)->name, "summary",
                                  (*e)->summary, "usable", bad == 0, "reason", err.msg);
            json_object_set_new(o, "settings", settings_json((*e)->settings));
            json_array_append_new(all, o);
            if (!a.json)
                print_engine(*e, bad, err.msg);
        }
        if (a.json)
            print_json(all);
    }
    json_decref(all);
    return ret;
}
