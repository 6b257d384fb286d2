/*
 * asyncow microbench coroutine: what the coroutine runtime itself costs, per back end,
 * with the pool and without.
 *
 * A trial repeats one operation for a fixed time, short enough that most trials see no
 * other program run. Reported are the least and the median of the trials, with the
 * median's 95 % interval, in nanoseconds an operation. The least is what the code costs
 * when nothing disturbs it; the median what it cost here and now.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/coroutine/coroutine.h"
#include "core/env/env.h"
#include "harness/cmd.h"
#include "harness/machine.h"
#include "harness/options.h"
#include "harness/stats.h"
#include "harness/values.h"
#include "harness/version.h"

enum {
    TRIALS_MIN = 5,
    TRIALS_MAX = 1000,
    MEASURE_NS_MAX = 300000000, /* of all trials together */
    POOL = 1024,
    DEPTH_MAX = 20000
};
enum pool { POOL_ON, POOL_OFF, POOL_BOTH };

struct bench {
    const char *backend; /* "all" */
    uint64_t trials, trial_ns, depth, cpus;
    enum pool pool;
    bool json;
    struct env *env;
    json_t *results, *stacks;
};

/* --- what is measured: each does at least n operations, and says how many --------- */

static unsigned depth; /* of nesting */
static struct co_mutex mutex;
static struct co_rwlock rwlock;

static void nothing(void *arg) { __asm__ volatile("" : : "r"(arg)); }

static uint64_t calls(uint64_t n)
{
    void (*volatile fn)(void *) = nothing;

    for (uint64_t i = 0; i < n; i++)
        fn(NULL);
    return n;
}

static void yields(void *arg)
{
    for (uint64_t n = *(uint64_t *)arg; n--;)
        co_yield ();
}

static uint64_t switches(uint64_t n)
{
    struct co *co = co_create(yields, &n);

    if (!co)
        return 0;
    for (uint64_t i = 0; i <= n; i++)
        co_enter(co);
    return 2 * n + 2;
}

/* One after the other, each entered `entered` times. */
static uint64_t lives(uint64_t n, void (*fn)(void *), unsigned entered)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t once = 1;
        struct co *co = co_create(fn, &once);
        if (!co)
            return 0;
        for (unsigned k = 0; k < entered; k++)
            co_enter(co);
    }
    return n;
}

static uint64_t lifecycles(uint64_t n) { return lives(n, nothing, 1); }
static uint64_t costs(uint64_t n) { return lives(n, yields, 2); }

static void nests(void *arg)
{
    unsigned left = *(unsigned *)arg;
    struct co *co;

    if (left-- && (co = co_create(nests, &left)))
        co_enter(co);
}

static uint64_t nestings(uint64_t n)
{
    uint64_t done = 0;

    for (; done < n; done += depth) {
        unsigned left = depth;
        nests(&left);
    }
    return done;
}

static void locks_mutex(void *arg)
{
    for (uint64_t n = *(uint64_t *)arg; n--;) {
        co_mutex_lock(&mutex);
        co_mutex_unlock(&mutex);
    }
}

static void locks_shared(void *arg)
{
    for (uint64_t n = *(uint64_t *)arg; n--;) {
        co_rwlock_shared(&rwlock);
        co_rwlock_unlock(&rwlock);
    }
}

/* Keeps the lock over a yield, so that the other has to wait for it, every time. */
static void fights_for_mutex(void *arg)
{
    for (uint64_t n = *(uint64_t *)arg; n--;) {
        co_mutex_lock(&mutex);
        co_wake(co_self());
        co_yield ();
        co_mutex_unlock(&mutex);
    }
}

static void fights_for_rwlock(void *arg)
{
    for (uint64_t n = *(uint64_t *)arg; n--;) {
        co_rwlock_exclusive(&rwlock);
        co_wake(co_self());
        co_yield ();
        co_rwlock_unlock(&rwlock);
    }
}

static uint64_t crew(uint64_t n, void (*fn)(void *), unsigned of)
{
    uint64_t each = n / of + 1;

    for (unsigned i = 0; i < of; i++) {
        struct co *co = co_create(fn, &each);
        if (!co)
            return 0; /* those before are still ready: they run below */
        co_wake(co);
    }
    while (co_run_ready())
        ;
    return each * of;
}

static uint64_t mutexes(uint64_t n) { return crew(n, locks_mutex, 1); }
static uint64_t shares(uint64_t n) { return crew(n, locks_shared, 1); }
static uint64_t mutex_fights(uint64_t n) { return crew(n, fights_for_mutex, 2); }
static uint64_t rwlock_fights(uint64_t n) { return crew(n, fights_for_rwlock, 2); }

static const struct metric {
    const char *name, *help;
    uint64_t (*run)(uint64_t n);
    bool pool_matters;
} metrics[] = {
    {"call", "a call by pointer, for scale", calls, false},
    {"switch", "one way: half of enter and yield", switches, false},
    {"lifecycle", "create, enter, end", lifecycles, true},
    {"cost", "create, enter, yield, enter, end", costs, true},
    {"nesting", "each of --depth inside one another", nestings, true},
    {"mutex", "lock and unlock, free", mutexes, false},
    {"mutex-contended", "lock, keep over a yield, unlock; always waited for",
     mutex_fights, false},
    {"rwlock-shared", "lock shared and unlock, free", shares, false},
    {"rwlock-contended", "the same for the exclusive side", rwlock_fights, false},
};
enum { METRICS = sizeof(metrics) / sizeof(metrics[0]) };

/* --- trials ----------------------------------------------------------------------- */

/* ns an operation; 0: it failed. */
static double timed(const struct bench *b, const struct metric *m, uint64_t n,
                    uint64_t *took)
{
    uint64_t began = env_now_ns(b->env);
    uint64_t done = m->run(n);

    *took = env_now_ns(b->env) - began;
    return done ? (double)*took / (double)done : 0;
}

/* How many operations take about as long as a trial should. Warms up on the way. Taking
 * the better of two, it isn't misled by a moment in which another program ran. */
static uint64_t calibrate(const struct bench *b, const struct metric *m)
{
    uint64_t n = 1;

    for (; n < (uint64_t)1 << 40; n *= 2) {
        uint64_t took, again;
        double each = timed(b, m, n, &took), each_again;
        if (!(each > 0))
            return 0;
        if (took < b->trial_ns / 2)
            continue;
        each_again = timed(b, m, n, &again);
        if (again >= b->trial_ns / 2)
            return (uint64_t)((double)b->trial_ns /
                              (each < each_again ? each : each_again)) +
                   1;
    }
    return n;
}

/* Fills each; returns how many trials there were: fewer than asked for if they take
 * long. 0: it failed. */
static unsigned run_trials(const struct bench *b, const struct metric *m, double *each)
{
    uint64_t n = calibrate(b, m), took, total = 0;
    unsigned done = 0;

    while (n && done < b->trials && (done < TRIALS_MIN || total < MEASURE_NS_MAX)) {
        each[done] = timed(b, m, n, &took);
        if (!(each[done] > 0))
            return 0;
        done++;
        total += took;
    }
    return done;
}

static int measure(struct bench *b, const struct metric *m, bool pool)
{
    double each[TRIALS_MAX];
    unsigned n = run_trials(b, m, each);

    if (!n) {
        fprintf(stderr, "asyncow microbench: %s, %s: no memory for the coroutines\n",
                co_backend(), m->name);
        return CMD_FAILED;
    }
    double median = stats_median(each, n), least = each[0];
    struct interval in = stats_median_interval(each, n, 1);
    for (unsigned i = 1; i < n; i++)
        least = each[i] < least ? each[i] : least;
    if (b->json)
        json_array_append_new(b->results,
                              json_pack("{s:s, s:b, s:s, s:s, s:i, s:f, s:f, s:[f,f]}",
                                        "backend", co_backend(), "pool", pool, "what",
                                        m->name, "help", m->help, "trials", n, "ns_min",
                                        least, "ns_median", median,
                                        "ns_median_interval", in.low, in.high));
    else
        printf("%-12s %-4s %-17s %10.2f %10.2f  [%.2f, %.2f]\n", co_backend(),
               pool ? "on" : "off", m->name, least, median, in.low, in.high);
    fflush(stdout);
    return CMD_GOOD;
}

/* How deep the stacks were used; the pool still has them. */
static void report_stack(struct bench *b)
{
    struct co_usage u;

    co_usage(&u);
    if (b->json)
        json_array_append_new(b->stacks,
                              json_pack("{s:s, s:I, s:I}", "backend", co_backend(),
                                        "bytes", (json_int_t)u.stack_bytes, "used_max",
                                        (json_int_t)co_stack_used_max()));
    else
        printf("%-12s      deepest stack     %zu of %zu KiB\n", co_backend(),
               co_stack_used_max() >> 10, u.stack_bytes >> 10);
}

static int measure_backend(struct bench *b, const char *name)
{
    struct error err = {""};
    int ret = co_set_backend(name, &err);

    if (ret < 0) {
        fprintf(stderr, "asyncow microbench: %s\n", err.msg);
        return ret == -ENOTSUP && !strcmp(b->backend, "all") ? CMD_GOOD : CMD_FAILED;
    }
    for (int on = 1; on >= 0; on--) {
        if (b->pool == (on ? POOL_OFF : POOL_ON))
            continue;
        co_pool_limit(on ? POOL : 0);
        for (unsigned i = 0; i < METRICS; i++)
            if (on || metrics[i].pool_matters)
                ret |= measure(b, &metrics[i], on);
        if (on)
            report_stack(b);
    }
    co_pool_drain();
    return ret;
}

static int measure_all(struct bench *b)
{
    int ret = CMD_GOOD;
    const char *name;

    depth = (unsigned)b->depth;
    if (!b->json)
        printf("%-12s %-4s %-17s %10s %10s  %s\n", "back end", "pool", "what", "least",
               "median", "its 95 % interval, ns");
    if (strcmp(b->backend, "all"))
        return measure_backend(b, b->backend);
    for (unsigned i = 0; (name = co_backend_name(i, NULL)); i++)
        ret |= measure_backend(b, name);
    return ret;
}

/* --- the command ------------------------------------------------------------------ */

static void help(void)
{
    const char *name, *summary;

    printf(
        "Usage: asyncow microbench coroutine [OPTION...]\n\n"
        "What the coroutine runtime costs, in nanoseconds an operation.\n\n"
        "  --backend=NAME|all  which way to switch (all)\n"
        "  --pool=on|off|both  keep idle stacks, or map one for each coroutine (both)\n"
        "  --depth=N           of nesting (1000)\n"
        "  --trials=N          of each measurement, fewer if they take long (101)\n"
        "  --time=DURATION     of a trial (200us)\n"
        "  --cpus=N            pin to so many CPUs, 0: do not (1)\n"
        "  --output-format=text|json\n\nBack ends:\n");
    for (unsigned i = 0; (name = co_backend_name(i, &summary)); i++)
        printf("  %-12s %s\n", name, summary);
    printf("\nMeasurements:\n");
    for (unsigned i = 0; i < METRICS; i++)
        printf("  %-17s %s\n", metrics[i].name, metrics[i].help);
}

static void help_both(void)
{
    printf(
        "Usage: asyncow microbench coroutine|engine [OPTION...]\n\n"
        "  coroutine  what the coroutine runtime costs: switch, life, nesting, locks\n"
        "  engine     what an I/O costs on the raw path, for each engine\n\n"
        "`asyncow microbench coroutine --help` says more, and so for engine.\n");
}

static bool number(const char *text, uint64_t low, uint64_t high, uint64_t *n)
{
    char *end;

    errno = 0;
    unsigned long long got = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || got < low || got > high)
        return false;
    *n = got;
    return true;
}

static bool one_of(const char *text, const char *const *words, unsigned *which)
{
    for (unsigned i = 0; words[i]; i++)
        if (!strcmp(text, words[i])) {
            *which = i;
            return true;
        }
    return false;
}

/* What would be right, or NULL: it is. */
static const char *set_option(void *opaque, const char *name, char *value)
{
    struct bench *b = opaque;
    static const char *const pools[] = {"on", "off", "both", NULL}, *const formats[] = {
                                                                        "text", "json",
                                                                        NULL};
    unsigned which;

    if (!strcmp(name, "backend")) {
        b->backend = value;
        return NULL; /* co_set_backend() knows them */
    }
    if (!strcmp(name, "pool")) {
        if (!one_of(value, pools, &which))
            return "on, off or both";
        b->pool = (enum pool)which;
        return NULL;
    }
    if (!strcmp(name, "output-format")) {
        if (!one_of(value, formats, &which))
            return "text or json";
        b->json = which == 1;
        return NULL;
    }
    if (!strcmp(name, "time"))
        return parse_time_ns(value, &b->trial_ns) == 0 && b->trial_ns >= 1000 &&
                       b->trial_ns <= 60000000000u
                   ? NULL
                   : "a time from 1us to 60s";
    if (!strcmp(name, "depth"))
        return number(value, 1, DEPTH_MAX, &b->depth) ? NULL : "1 to 20000";
    if (!strcmp(name, "trials"))
        return number(value, 1, TRIALS_MAX, &b->trials) ? NULL : "1 to 1000";
    return number(value, 0, 1024, &b->cpus) ? NULL : "0 to 1024";
}

static const char *const option_names[] = {"backend", "pool", "depth",         "trials",
                                           "time",    "cpus", "output-format", NULL};

static void print_json(struct bench *b)
{
    json_t *o =
        json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "microbench",
                  "coroutine", "version", ASYNCOW_VERSION_LONG, "machine",
                  machine_manifest(), "trials", (json_int_t)b->trials, "trial_ns",
                  (json_int_t)b->trial_ns, "depth", (json_int_t)b->depth, "cpus",
                  (json_int_t)b->cpus, "results", b->results, "stacks", b->stacks);

    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static int microbench_coroutine(int argc, char **argv)
{
    struct bench b = {.backend = "all",
                      .trials = 101,
                      .trial_ns = 200000,
                      .depth = 1000,
                      .cpus = 1,
                      .pool = POOL_BOTH};
    const struct cmd_options words = {"microbench coroutine", option_names, set_option,
                                      &b};
    struct error err = {""};

    if (cmd_wants_help(argc, argv)) {
        help();
        return CMD_GOOD;
    }
    int ret = cmd_options_parse(&words, argc, argv);
    if (ret)
        return ret;
    if (strcmp(b.backend, "all") && co_set_backend(b.backend, &err) == -EINVAL) {
        fprintf(stderr, "asyncow microbench: %s|all\n", err.msg);
        return CMD_USAGE;
    }
    if (machine_pin((unsigned)b.cpus, &err) < 0) {
        fprintf(stderr, "asyncow microbench: %s\n", err.msg);
        return CMD_FAILED;
    }
    b.env = env_real(1);
    b.results = json_array();
    b.stacks = json_array();
    ret = measure_all(&b);
    if (b.json)
        print_json(&b);
    else
        json_decref(b.results), json_decref(b.stacks);
    env_destroy(b.env);
    return ret;
}

int cmd_microbench(int argc, char **argv)
{
    const char *which = argc > 1 ? argv[1] : "";

    if (!strcmp(which, "coroutine"))
        return microbench_coroutine(argc - 1, argv + 1);
    if (!strcmp(which, "engine"))
        return microbench_engine(argc - 1, argv + 1);
    if (!strcmp(which, "--help") || !strcmp(which, "-h")) {
        help_both();
        return CMD_GOOD;
    }
    if (*which)
        fprintf(stderr, "asyncow microbench: unknown benchmark `%s`; ", which);
    else
        fprintf(stderr, "asyncow microbench: which one? ");
    fprintf(stderr, "there are `coroutine` and `engine`\n");
    return CMD_USAGE;
}
