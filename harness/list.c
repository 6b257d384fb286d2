/* asyncow strategies, asyncow engines: what there is. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/block/choose.h"
#include "core/block/engine.h"
#include "core/block/filter.h"
#include "core/block/sim_model.h"
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

static json_t *ways_json(const struct strategy_way *w)
{
    json_t *ways = json_array();

    for (; w && w->name; w++)
        json_array_append_new(ways, json_pack("{s:s, s:s, s:s}", "name", w->name,
                                              "help", w->help, "claims", w->claims));
    return ways;
}

/* Why one event loop only, under these settings; NULL: several. */
static const char *one_loop(const struct strategy *t, const char *settings)
{
    return t->one_loop ? t->one_loop(settings)
                       : "it doesn't say that it serves several";
}

/* The i-th way, from 0, that has one where the module as it comes has several. */
static const struct strategy_way *way_with_one(const struct strategy *t, unsigned i)
{
    for (const struct strategy_way *w = t->ways; w && w->name; w++)
        if (!one_loop(t, "") && one_loop(t, w->name) && i-- == 0)
            return w;
    return NULL;
}

static json_t *loops_json(const struct strategy *t)
{
    const char *why = one_loop(t, "");
    const struct strategy_way *w;
    json_t *o = json_object(), *except = json_object();

    json_object_set_new(o, "several", json_boolean(!why));
    json_object_set_new(o, "why", json_string(why ? why : ""));
    for (unsigned i = 0; (w = way_with_one(t, i)); i++)
        json_object_set_new(except, w->name, json_string(one_loop(t, w->name)));
    json_object_set_new(o, "except", except);
    return o;
}

static void print_loops(const struct strategy *t)
{
    const char *why = one_loop(t, "");
    const struct strategy_way *w;

    if (why)
        printf("    event loops: one: %s\n", why);
    else
        printf("    event loops: several (--iothreads)\n");
    for (unsigned i = 0; (w = way_with_one(t, i)); i++)
        printf("    with %s one: %s\n", w->name, one_loop(t, w->name));
}

static json_t *strategy_entry(const struct module *m)
{
    json_t *o = json_object();

    json_object_set_new(o, "name", json_string(m->table->name));
    json_object_set_new(o, "summary", json_string(m->table->summary));
    json_object_set_new(o, "path", json_string(m->path));
    json_object_set_new(o, "abi", json_integer(m->table->abi));
    json_object_set_new(o, "settings", settings_json(m->table->settings));
    json_object_set_new(o, "ways", ways_json(m->table->ways));
    json_object_set_new(o, "iothreads", loops_json(m->table));
    return o;
}

/* The setting's own line, then one for each word it may be. */
static void print_setting(const struct setting *s, const struct strategy_way *w)
{
    size_t len = strlen(s->name);

    printf("  %s=%s (%s): %s\n", s->name, s->values, s->value_default, s->help);
    for (; w && w->name; w++)
        if (!strncmp(w->name, s->name, len) && w->name[len] == '=')
            printf("    %-22s %-14s %s\n", w->name, w->claims, w->help);
}

static void print_strategy(const struct strategy *t)
{
    const struct strategy_way *w = t->ways;

    printf("%s: %s\n", t->name, t->summary);
    for (; w && w->name; w++)
        if (!*w->name)
            printf("    %-22s %-14s %s\n", "as it comes", w->claims, w->help);
    print_loops(t);
    for (const struct setting *s = t->settings; s && s->name; s++)
        print_setting(s, t->ways);
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
            "name=values (default), and a line for each way to run them: its name,\n"
            "which claims of docs/claims.md it serves, and what it is; and whether\n"
            "several event loops can serve an image together, or why not.\n");
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

struct entry {
    const char *kind, *name, *summary;
    bool usable;
    const char *reason;
    const struct setting *settings;
    const struct engine_ops *engine; /* or NULL */
};

/* ---- what an engine does itself, and what of it the kernel has ---- */

static json_t *names_helped(const struct engine_ops *e)
{
    static const char *const ops[AIO_OPS] = {"read",    "write", "flush",
                                             "discard", "zero",  "grow"};
    json_t *names = json_array();

    for (unsigned op = 0; op < AIO_OPS; op++)
        if (!(e->native & 1u << op))
            json_array_append_new(names, json_string(ops[op]));
    return names;
}

/* Opens it with that setting, as a run would: "" or what it does without and why. */
static void try_feature(const struct engine_ops *e, const char *setting, char *text,
                        size_t size)
{
    static char memory[4096] __attribute__((aligned(4096)));
    struct env *env = env_real(0);
    struct error err = {"out of memory"};
    char spec[100];
    struct loop_options o = {.engine = spec, .depth = 8};
    struct loop *loop;

    snprintf(spec, sizeof(spec), "%s:%s", e->name, setting);
    if (!env || loop_create(&loop, env, &o, &err) < 0) {
        snprintf(text, size, "%s", err.msg);
    } else {
        loop_use_memory(loop, memory, sizeof(memory));
        snprintf(text, size, "%s", loop_notes(loop));
        loop_forget_memory(loop);
        loop_destroy(loop);
    }
    if (env)
        env_destroy(env);
}

static json_t *features_json(const struct engine_ops *e)
{
    json_t *all = json_array();
    char text[600];

    for (const char *const *f = e->features; f && *f; f++) {
        try_feature(e, *f, text, sizeof(text));
        json_array_append_new(all, json_pack("{s:s, s:b, s:s}", "setting", *f, "usable",
                                             !*text, "reason", text));
    }
    return all;
}

static void print_abilities(const struct engine_ops *e, bool usable)
{
    json_t *helped = names_helped(e);
    char text[600];

    for (size_t i = 0; i < json_array_size(helped); i++)
        printf("%s%s", i ? ", " : "    by helper threads: ",
               json_string_value(json_array_get(helped, i)));
    if (json_array_size(helped))
        putchar('\n');
    if (!e->cancel)
        printf("    cancels what it hasn't been given yet, and no more\n");
    for (const char *const *f = e->features; usable && f && *f; f++) {
        try_feature(e, *f, text, sizeof(text));
        printf("    tried %s: %s\n", *f, *text ? text : "works");
    }
    json_decref(helped);
}

static void add_entry(const struct list_args *a, json_t *all, const struct entry *e)
{
    if (a->json) {
        json_t *o =
            json_pack("{s:s, s:s, s:s, s:b, s:s}", "kind", e->kind, "name", e->name,
                      "summary", e->summary, "usable", e->usable, "reason", e->reason);
        json_object_set_new(o, "settings", settings_json(e->settings));
        if (e->engine) {
            json_object_set_new(o, "helped", names_helped(e->engine));
            json_object_set_new(o, "cancels", json_boolean(e->engine->cancel != NULL));
        }
        if (e->engine && e->usable)
            json_object_set_new(o, "features", features_json(e->engine));
        json_array_append_new(all, o);
        return;
    }
    printf("%-11s %-4s %s%s%s\n", e->name, e->usable ? "yes" : "no", e->summary,
           *e->reason ? ": " : "", e->reason);
    print_settings(e->settings);
    if (e->engine)
        print_abilities(e->engine, e->usable);
}

static void list_engines(const struct list_args *a, json_t *all)
{
    struct env *env = env_real(0);

    for (const struct engine_ops *const *e = engine_list(); *e; e++) {
        struct error err = {""};
        struct engine_choice tried = {.engine = NULL};
        char text[600];
        int bad = (*e)->probe(&err);

        if (!bad && env && a->word && !(*e)->simulated)
            bad = engine_try(&tried, (*e)->name, env, a->word, a->direct, &err);
        if (bad && !err.msg[0])
            error_set(&err, bad, "%s", strerror(-bad));
        snprintf(text, sizeof(text), "%s%s", *tried.reason && !bad ? "for auto, " : "",
                 bad ? err.msg : tried.reason);
        add_entry(a, all,
                  &(struct entry){"engine", (*e)->name, (*e)->summary, bad == 0, text,
                                  (*e)->settings, *e});
    }
    env_destroy(env);
}

/* What auto and its rival would choose for the file. */
static void list_choices(const struct list_args *a, json_t *all)
{
    static const char *const names[] = {"auto", "auto=recipe"};
    static const char *const summaries[] = {"chooses by trying",
                                            "chooses by the list of 2008"};
    struct env *env = env_real(0);

    for (int i = 0; i < 2 && env; i++) {
        struct engine_choice c = {.engine = NULL};
        struct error err = {""};
        char text[600] = "";
        int bad =
            a->word ? engine_choose(&c, names[i], env, a->word, a->direct, &err) : 0;

        if (bad)
            snprintf(text, sizeof(text), "%s", err.msg);
        else if (a->word)
            snprintf(text, sizeof(text), "%s: %s", c.engine, c.reason);
        add_entry(
            a, all,
            &(struct entry){"choice", names[i], summaries[i], !bad, text, NULL, NULL});
    }
    env_destroy(env);
}

static void list_filters(const struct list_args *a, json_t *all)
{
    for (const struct filter_ops *const *f = filter_list(); *f; f++)
        add_entry(
            a, all,
            &(struct entry){"filter", (*f)->name, (*f)->summary, true, "", NULL, NULL});
}

/* ---- models of the engine sim ---- */

static json_t *model_json(unsigned kind)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:s}", "kind", "model", "name",
                          sim_kind_names[kind], "summary", sim_kind_summaries[kind],
                          "usable", 1, "reason", "");
    json_t *settings = json_array();

    for (const struct sim_param *p = sim_params; p->name; p++) {
        char values[100], initial[64];
        if (!(p->models & 1u << kind))
            continue;
        sim_param_values(p, values, sizeof(values));
        sim_param_text(p, p->initial, initial, sizeof(initial));
        json_array_append_new(settings, json_pack("{s:s, s:s, s:s, s:s}", "name",
                                                  p->name, "values", values, "default",
                                                  initial, "help", p->help));
    }
    json_object_set_new(o, "settings", settings);
    return o;
}

/* What all models have is told once. */
static void print_model_params(unsigned models)
{
    for (const struct sim_param *p = sim_params; p->name; p++) {
        char values[100], initial[64];
        unsigned all = (1u << 4) - 1;
        if (models == all ? p->models != all
                          : p->models == all || !(p->models & models))
            continue;
        sim_param_values(p, values, sizeof(values));
        sim_param_text(p, p->initial, initial, sizeof(initial));
        printf("    %s=%s  (%s)  %s\n", p->name, values, initial, p->help);
    }
}

static void list_models(const struct list_args *a, json_t *all)
{
    if (!a->json)
        printf("# models of the engine sim (--sim-model), or a file with such lines\n");
    for (unsigned kind = 0; kind < 4; kind++) {
        if (a->json) {
            json_array_append_new(all, model_json(kind));
            continue;
        }
        printf("%-11s      %s\n", sim_kind_names[kind], sim_kind_summaries[kind]);
        print_model_params(1u << kind);
    }
    if (!a->json) {
        printf(
            "all of them      have the guest's elevator and what steps cost the CPU\n");
        print_model_params((1u << 4) - 1);
    }
}

int cmd_engines(int argc, char **argv)
{
    struct list_args a;
    json_t *all = json_array();
    int ret = parse(&a, argc, argv, true);
    char host[200];

    if (!ret && a.help) {
        printf(
            "Usage: asyncow engines [--output-format=text|json] [--direct] [FILE]\n\n"
            "Lists the I/O engines with their settings, and whether they can be used\n"
            "here, or why not: with FILE it is read through each, with --direct by\n"
            "O_DIRECT. Of each engine, what helper threads do for it, and which of\n"
            "the settings that a kernel may lack were tried and work. Then what auto\n"
            "and auto=recipe choose for the file, and why; the filters; and the "
            "models\n"
            "of the engine sim.\n");
    } else if (!ret && a.word && access(a.word, F_OK)) {
        fprintf(stderr, "asyncow engines: %s: %s\n", a.word, strerror(errno));
        ret = CMD_FAILED;
    } else if (!ret) {
        engine_host(a.word, host, sizeof(host));
        if (!a.json)
            printf("# %s\n", host);
        list_engines(&a, all);
        list_choices(&a, all);
        if (!a.json)
            printf("# filters\n");
        list_filters(&a, all);
        list_models(&a, all);
        if (a.json)
            print_json(all);
    }
    json_decref(all);
    return ret;
}
