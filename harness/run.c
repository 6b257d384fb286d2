/* asyncow run: options, what must hold before anything runs, report. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/choose.h"
#include "harness/cmd.h"
#include "harness/imageinfo.h"
#include "harness/iolog.h"
#include "harness/jobfile.h"
#include "harness/machine.h"
#include "harness/module.h"
#include "harness/report.h"
#include "harness/run.h"
#include "harness/session.h"
#include "harness/trial.h"
#include "harness/version.h"
#include "harness/workload.h"

enum { TRIALS_OF_SEVERAL = 5 };

static void help(void)
{
    printf(
        "Usage: asyncow run [OPTION...] [JOBFILE...]\n\n"
        "Runs each job (without a job file: the one that the options describe), one "
        "after\n"
        "the other, under one strategy or several, and reports throughput, latency, "
        "stall\n"
        "and cost. Job files are fio's: [sections], [global], name=value, `#` and `;`\n"
        "comments; any option below may stand in one, without its dashes. What is "
        "given on\n"
        "the command line overrides every job. Defaults are in parentheses.\n\n"
        "  asyncow run --image disk.qcow2 --rw=randread --bs=4k --iodepth=32 "
        "--runtime=5\n"
        "  asyncow run job.fio --image disk.qcow2 --strategy all --engine "
        "io_uring\n\n");
    job_options_help(stdout);
    printf("\n"
           "Writing. A workload that writes or trims needs --allow-write if the image "
           "holds\n"
           "data already (any allocated cluster of its own; a raw file that is not all "
           "hole);\n"
           "else the run ends at once. With several trials or strategies, or --copy, "
           "each trial\n"
           "works on a fresh temporary copy beside the image (FILE.asyncow-XXXXXX) and "
           "the image\n"
           "itself is never written to, with --allow-write or without; --copy says "
           "that this is\n"
           "meant, and needs no --allow-write. The engine sim is no exception: at the "
           "end it\n"
           "writes to the image what the simulation changed.\n"
           "Comparing. Trials of several strategies are interleaved in rounds, the "
           "order in each\n"
           "drawn from --seed, each trial in a process of its own. All strategies of a "
           "round see\n"
           "the same requests. Ratios come with 95 %% intervals.\n"
           "Exit status: 0 good, 1 failed, 2 used wrongly.\n");
}

/* ---- the command line ---- */

static int apply(struct run *r, const char *name, const char *value, struct error *err)
{
    int ret = job_set(&r->base, name, value, err);
    for (unsigned i = 0; i < r->jobs.n && !ret; i++)
        ret = job_set(&r->jobs.job[i], name, value, err);
    return ret;
}

/* Splits argv[*i] (and the next word) into name and value. NULL: no option. */
static const char *option_at(char **argv, int argc, int *i, char *name, size_t size,
                             bool *has_value)
{
    const char *word = argv[*i] + 2, *equals = strchr(word, '=');

    *has_value = equals != NULL;
    snprintf(name, size, "%.*s", equals ? (int)(equals - word) : (int)strlen(word),
             word);
    if (equals)
        return equals + 1;
    bool next = *i + 1 < argc;
    if (next && (job_option_wants_value(name) || !strcmp(argv[*i + 1], "0") ||
                 !strcmp(argv[*i + 1], "1"))) {
        *has_value = true;
        return argv[++*i];
    }
    return NULL;
}

/* What is replayed decides what sort of job it is: whether it writes, how long its
 * longest request is. */
static int look_at_iolog(struct job *j, struct error *err)
{
    struct iolog log;
    int ret = iolog_read(&log, j->read_iolog, (enum iolog_order)j->replay_order,
                         UINT64_MAX, err);

    if (ret < 0)
        return ret;
    j->rw = (struct rw_mode){.text = "iolog"};
    j->bs = log.len_max ? log.len_max : 1;
    for (uint64_t i = 0; i < log.n; i++) {
        j->rw.read |= log.entry[i].dir == LOAD_READ;
        j->rw.write |= log.entry[i].dir == LOAD_WRITE;
        j->rw.trim |= log.entry[i].dir == LOAD_TRIM;
    }
    if (log.left_out)
        fprintf(stderr,
                "asyncow run: %s: left out %llu I/Os that no guest makes (metadata, "
                "zero, grow)\n",
                j->read_iolog, (unsigned long long)log.left_out);
    iolog_free(&log);
    return 0;
}

/* First the job files, then the options over them. */
static int parse(struct run *r, int argc, char **argv, struct error *err)
{
    char name[64];
    bool has_value;
    int ret = 0;

    for (int i = 1; i < argc && !ret; i++) {
        if (!strncmp(argv[i], "--", 2)) {
            const char *value =
                option_at(argv, argc, &i, name, sizeof(name), &has_value);
            ret = job_set(&r->base, name, has_value ? value : NULL, err);
        } else if (argv[i][0] == '-' && argv[i][1]) {
            ret = error_set(err, -EINVAL, "unknown option `%s`; options begin with --",
                            argv[i]);
        } else {
            ret = jobfile_read(&r->jobs, argv[i], &r->base, err);
        }
    }
    for (int i = 1; i < argc && !ret; i++) {
        if (strncmp(argv[i], "--", 2))
            continue;
        const char *value = option_at(argv, argc, &i, name, sizeof(name), &has_value);
        ret = apply(r, name, has_value ? value : NULL, err);
    }
    if (!ret && !r->jobs.n)
        ret = job_list_add(&r->jobs, &r->base);
    for (unsigned i = 0; i < r->jobs.n && !ret; i++) {
        struct job *j = &r->jobs.job[i];
        if (j->read_iolog)
            ret = look_at_iolog(j, err);
        if (!ret && !j->name)
            ret = job_set(j, "name", j->rw.text, err);
        if (!ret &&
            ((ret = job_check(j, err)) < 0 || (ret = session_check(j, err)) < 0))
            error_prefix(err, "%s", j->name);
    }
    return ret;
}

/* ---- what must hold before anything runs ---- */

/* No engine named, or auto: the job's engine becomes what is chosen for its image. */
static int pick_engine(struct run *r, struct job *j, struct error *err)
{
    const char *asked = j->engine ? j->engine : "auto";
    struct engine_choice choice = {.reason = "as asked"};
    json_t *o = json_pack("{s:s}", "asked", asked);
    int ret = 0;

    if (engine_is_choice(asked)) {
        struct env *env = env_real(0);
        ret = env ? engine_choose(&choice, asked, env, j->image, j->direct, err)
                  : -ENOMEM;
        env_destroy(env);
        if (ret == 0 && !r->base.quiet)
            fprintf(stderr, "asyncow run: %s: engine %s chooses %s: %s\n", j->name,
                    asked, choice.engine, choice.reason);
        if (ret == 0)
            ret = job_set(j, "engine", choice.engine, err);
    }
    if (ret == 0) {
        json_object_set_new(o, "engine", json_string(session_engine(j)));
        json_object_set_new(o, "reason", json_string(choice.reason));
    }
    json_array_append_new(r->choices, o);
    return ret;
}

static int look_at_image(struct run *r, struct job *j, struct error *err)
{
    struct workload w = {.stream_position = NULL};
    json_t *info;
    bool holds;
    int ret = image_look(j, !r->base.no_manifest_host, &info, &holds, err);

    if (ret < 0)
        return ret;
    json_array_append_new(r->images, info);
    uint64_t size = (uint64_t)json_integer_value(json_object_get(info, "virtual-size"));
    if (j->read_iolog) {
        struct iolog log;
        ret = iolog_read(&log, j->read_iolog, (enum iolog_order)j->replay_order, size,
                         err);
        iolog_free(&log);
    }
    if (ret == 0)
        ret = workload_init(&w, j, size, 0, err);
    workload_free(&w);
    if (ret < 0) {
        error_prefix(err, "%s: %s", j->name, j->image);
        return ret;
    }
    if (job_writes(j) && holds && !j->allow_write && !j->copy)
        return error_set(
            err, -EPERM,
            "%s: holds data, and job %s (rw=%s) would write to it. Nothing was "
            "touched. --allow-write lets it; --copy works on a temporary copy",
            j->image, j->name, j->rw.text);
    return pick_engine(r, j, err);
}

/* Several loops, and a strategy that serves one? */
static int check_loops(struct run *r, const struct module *m, struct error *err)
{
    const char *why = "it doesn't say that it serves several";

    if (m->table->one_loop)
        why = m->table->one_loop(m->settings);
    for (unsigned i = 0; i < r->jobs.n && why; i++) {
        const struct job *j = &r->jobs.job[i];
        if (j->iothreads < 2)
            continue;
        return error_set(err, -ENOTSUP,
                         "%s: iothreads=%llu: strategy %s has one event loop only: %s. "
                         "`asyncow strategies` says which have several",
                         j->name, (unsigned long long)j->iothreads, m->spec, why);
    }
    return 0;
}

/* That they exist, their settings, and that they can have the jobs' loops. */
static int look_at_strategies(struct run *r, struct error *err)
{
    const char *wanted = r->base.strategy ? r->base.strategy : "coroutines";
    int ret = module_list_parse(&r->strategies, wanted, err);

    for (unsigned i = 0; i < r->strategies.n && !ret; i++) {
        struct module m;
        ret = module_open(&m, r->strategies.spec[i], err);
        if (ret)
            break;
        ret = check_loops(r, &m, err);
        module_close(&m);
    }
    return ret;
}

static int look_at_images(struct run *r, struct error *err)
{
    int ret = 0;

    for (unsigned i = 0; i < r->jobs.n && !ret; i++)
        ret = look_at_image(r, &r->jobs.job[i], err);
    if (!ret && r->strategies.n > 1 && !r->base.trials_set)
        r->base.trials = TRIALS_OF_SEVERAL;
    bool several = r->strategies.n > 1 || r->base.trials > 1 || r->base.stall;
    for (unsigned i = 0; i < r->jobs.n && !ret; i++) {
        struct job *j = &r->jobs.job[i];
        if (job_writes(j) && (several || j->copy))
            r->copies = true;
    }
    return ret;
}

/* ---- the report ---- */

static void add_option(void *opaque, const char *name, const char *value)
{
    json_object_set_new(opaque, name, json_string(value));
}

static json_t *manifest(const struct run *r)
{
    json_t *m = json_object(), *versions = json_object();

    json_object_set_new(versions, "asyncow", json_string(ASYNCOW_VERSION_LONG));
    json_object_set_new(m, "versions", versions);
    json_object_set_new(m, "seed", json_integer((json_int_t)r->base.seed));
    json_object_set_new(m, "trials", json_integer((json_int_t)r->base.trials));
    json_object_set_new(m, "cpus", json_integer((json_int_t)r->base.cpus));
    json_object_set_new(m, "strategy_abi", json_integer(STRATEGY_ABI));
    if (!r->base.no_manifest_host) {
        json_object_set_new(versions, "compiler", json_string(__VERSION__));
        json_object_set_new(versions, "jansson", json_string(JANSSON_VERSION));
        json_object_set_new(m, "machine", machine_manifest());
    }
    return m;
}

/* Every parameter of the simulated world, whatever file it came from. */
static json_t *sim_manifest(const struct job *j)
{
    struct sim_model m;
    json_t *o = json_object();

    if (sim_model_parse(&m, j->sim_model, NULL) == 0)
        sim_model_each(&m, add_option, o);
    return o;
}

static json_t *job_manifest(struct run *r, unsigned i)
{
    json_t *o = json_object(), *options = json_object();

    json_object_set_new(o, "jobname", json_string(r->jobs.job[i].name));
    job_each(&r->jobs.job[i], add_option, options);
    json_object_set_new(o, "options", options);
    json_object_set(o, "image", json_array_get(r->images, i));
    json_object_set(o, "engine_choice", json_array_get(r->choices, i));
    if (session_simulated(&r->jobs.job[i]))
        json_object_set_new(o, "sim_model", sim_manifest(&r->jobs.job[i]));
    return o;
}

static void build_report(struct run *r, const struct error *err)
{
    json_t *jobs = json_array(), *m = manifest(r);

    for (unsigned i = 0; i < r->jobs.n; i++)
        json_array_append_new(jobs, job_manifest(r, i));
    json_object_set_new(m, "jobs", jobs);
    r->report = json_object();
    json_object_set_new(r->report, "asyncow version", json_string(ASYNCOW_VERSION));
    json_object_set_new(r->report, "manifest", m);
    if (err->msg[0])
        json_object_set_new(r->report, "error", json_string(err->msg));
    if (r->interrupted)
        json_object_set_new(r->report, "interrupted", json_true());
    json_object_set(r->report, "jobs", r->results);
    report_summarise(r->report, &r->jobs, &r->strategies, r->base.seed);
}

static int write_report(struct run *r, struct error *err)
{
    FILE *f = r->base.output ? fopen(r->base.output, "we") : stdout;

    if (!f)
        return error_set(err, -errno, "%s: %s", r->base.output, strerror(errno));
    if (r->base.output_format == OUTPUT_TEXT) {
        report_text(f, r->report, &r->jobs, &r->strategies);
    } else {
        json_dumpf(r->report, f, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        fputc('\n', f);
    }
    int bad = ferror(f) | (f == stdout ? fflush(f) : fclose(f));
    return bad ? error_set(err, -EIO, "the report could not be written") : 0;
}

static void tear_down(struct run *r)
{
    free(r->paths);
    json_decref(r->report);
    json_decref(r->results);
    json_decref(r->images);
    json_decref(r->choices);
    module_list_free(&r->strategies);
    job_list_free(&r->jobs);
    job_free(&r->base);
}

int cmd_run(int argc, char **argv)
{
    struct run r = {
        .images = json_array(), .choices = json_array(), .results = json_array()};
    struct error err = {""}, late = {""};
    int status = CMD_FAILED;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            help();
            tear_down(&r);
            return CMD_GOOD;
        }
    }
    job_init(&r.base);
    if (parse(&r, argc, argv, &err) < 0) {
        status = CMD_USAGE;
        goto out;
    }
    int ret = look_at_strategies(&r, &err);
    /* no such strategy, no such setting, not so many loops */
    if (ret == -ENOENT || ret == -EINVAL || ret == -ENOTSUP)
        status = CMD_USAGE;
    if (ret < 0)
        goto out;
    if (machine_pin((unsigned)r.base.cpus, &err) < 0 || look_at_images(&r, &err) < 0)
        goto out;
    if (!(r.paths = calloc(r.jobs.n, sizeof(*r.paths)))) {
        error_set(&err, -ENOMEM, "out of memory");
        goto out;
    }
    trial_catch_signals();
    ret = run_trials(&r, &err);
    if (!ret)
        ret = run_compare(&r, &err);
    build_report(&r, &err);
    if (write_report(&r, &late) < 0)
        fprintf(stderr, "asyncow run: %s\n", late.msg);
    else if (!ret && !r.interrupted && !r.failed)
        status = CMD_GOOD;
    if (r.interrupted)
        fprintf(stderr,
                "asyncow run: interrupted; the report holds what was measured\n");
out:
    if (err.msg[0])
        fprintf(stderr, "asyncow run: %s\n", err.msg);
    tear_down(&r);
    return status;
}
