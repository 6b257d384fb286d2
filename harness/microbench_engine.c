/*
 * asyncow microbench engine: what an I/O costs on the raw path, for each engine, direct
 * and buffered, on a file that exists, grows, or was allocated ahead; beside fio.
 *
 * This is the command: which cells there are. bench_rows.c measures one, bench.c a
 * trial.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/block/engine.h"
#include "harness/bench_rows.h"
#include "harness/cmd.h"
#include "harness/machine.h"
#include "harness/options.h"
#include "harness/values.h"
#include "harness/version.h"

enum { LIST_MAX = 16, PATH_MAX_LEN = 512 };

struct list {
    char *word[LIST_MAX];
    unsigned n;
};

struct bench {
    struct list engines, depths, directs, states, rws;
    const char *dir;
    char existing[PATH_MAX_LEN], fresh[PATH_MAX_LEN]; /* files */
    uint64_t bs, size, time_ns, cpus;
    bool json;
    struct bench_rows rows;
    struct loop_options loop; /* but for engine and depth */
    json_t *results;
};

/* ---- the matrix ---- */

static bool makes_sense(const struct bench_cell *c)
{
    return c->write || c->state == BENCH_EXISTING;
}

static int one_cell(struct bench *b, const struct bench_cell *c, struct bench_row *r)
{
    struct error err = {""};
    int ret;

    *r = (struct bench_row){.cell = *c};
    r->has_fio =
        b->rows.fio && c->state == BENCH_EXISTING && bench_fio_engine(c->loop.engine);
    ret = bench_row_measure(&b->rows, r, &err);
    /* What this machine or file can't do is a row that says so; all else is an
     * error. */
    if (ret == -EOPNOTSUPP || ret == -EPERM || ret == -ENOSYS) {
        snprintf(r->error, sizeof(r->error), "%s", err.msg);
        ret = 0;
    }
    if (ret < 0) {
        fprintf(stderr, "asyncow microbench: %s\n", err.msg);
        return CMD_FAILED;
    }
    if (b->json)
        json_array_append_new(b->results, bench_row_json(&b->rows, r));
    else
        bench_row_print(&b->rows, r);
    fflush(stdout);
    return CMD_GOOD;
}

static unsigned index_of(const char *word, const char *const *names)
{
    unsigned i = 0;

    while (strcmp(word, names[i]))
        i++;
    return i;
}

/* The next combination, from the last list to the first, like an odometer. */
static bool advance(unsigned *at, const struct list *const *lists, unsigned n)
{
    while (n-- > 0) {
        if (++at[n] < lists[n]->n)
            return true;
        at[n] = 0;
    }
    return false;
}

static int all_cells(struct bench *b)
{
    const struct list *lists[] = {&b->states, &b->directs, &b->rws, &b->depths,
                                  &b->engines};
    struct bench_row *r = malloc(sizeof(*r));
    unsigned at[5] = {0};
    int ret = r ? CMD_GOOD : CMD_FAILED;

    if (r && !b->json)
        bench_row_head();
    while (ret == CMD_GOOD) {
        struct bench_cell c = {.bs = b->bs,
                               .size = b->size,
                               .time_ns = b->time_ns,
                               .sync = b->rows.sync,
                               .loop = b->loop};
        c.state = (enum bench_state)index_of(b->states.word[at[0]], bench_state_names);
        c.path = c.state == BENCH_EXISTING ? b->existing : b->fresh;
        c.direct = b->directs.word[at[1]][0] == '1';
        c.write = !strcmp(b->rws.word[at[2]], "write");
        c.loop.depth = (unsigned)atoi(b->depths.word[at[3]]);
        c.loop.engine = b->engines.word[at[4]];
        if (makes_sense(&c))
            ret = one_cell(b, &c, r);
        if (!advance(at, lists, 5))
            break;
    }
    free(r);
    return ret;
}

/* ---- the command line ---- */

static void help(void)
{
    printf(
        "Usage: asyncow microbench engine [OPTION...]\n\n"
        "What an I/O costs on the raw path: the loop and an engine, without a "
        "strategy.\n\n"
        "  --engine=LIST       engines, separated by spaces (all real ones)\n"
        "  --depth=LIST        requests in flight, 1 to 4096 (1 4 32 256)\n"
        "  --direct=LIST       0, 1: buffered, O_DIRECT (0 1)\n"
        "  --file=LIST         existing, growing, fallocated (existing)\n"
        "  --rw=LIST           read, write (read); what grows is written only\n"
        "  --dir=DIR           where the files are made (.)\n"
        "  --bs=SIZE           bytes a request (4k)\n"
        "  --size=SIZE         of a file (64m)\n"
        "  --time=DURATION     of a trial (300ms)\n"
        "  --trials=N          of each cell (5)\n"
        "  --sync=0|1          one request at a time, waited for where it is made (0)\n"
        "  --loop, --poll-us, --completion, --waiter, --waiter-us: as of run\n"
        "  --fio=0|1           the same under fio beside it, if it is there (1)\n"
        "  --calls=0|1         count system calls, by tracing (1)\n"
        "  --cpus=N            pin to so many CPUs, 0: do not (0)\n"
        "  --output-format=text|json\n\n"
        "us/req: wall time a request with depth of them in flight; CPU us: of all "
        "threads.\n"
        "calls: system calls a request, counted in a run of its own that is traced.\n"
        "submit us, held: in batches of depth requests, how long submitting one keeps "
        "the\n"
        "loop, and that as a share of the time until the batch is done; 1 is "
        "synchronous.\n"
        "fio us, batched, registered: fio as it comes; submitting and reaping as many "
        "at a\n"
        "time as there are; and so with io_uring's files and memory registered. x fio: "
        "our\n"
        "throughput to that of the best. On tmpfs io_uring hands to a kernel thread "
        "what was\n"
        "not opened with O_NONBLOCK; we open it so, and fio can't be told to.\n");
}

/* Splits value at spaces and commas between words. A comma is a separator only where no
 * setting can follow, so engines' settings stay whole. */
static bool split(struct list *l, char *value, bool commas)
{
    char *save;

    l->n = 0;
    for (char *w = strtok_r(value, commas ? " ," : " ", &save); w;
         w = strtok_r(NULL, commas ? " ," : " ", &save)) {
        if (l->n == LIST_MAX)
            return false;
        l->word[l->n++] = w;
    }
    return l->n > 0;
}

static bool all_in(const struct list *l, const char *const *names, unsigned n)
{
    for (unsigned i = 0; i < l->n; i++) {
        bool found = false;
        for (unsigned k = 0; k < n; k++)
            found |= !strcmp(l->word[i], names[k]);
        if (!found)
            return false;
    }
    return true;
}

static bool in_range(const struct list *l, uint64_t low, uint64_t high)
{
    uint64_t v;

    for (unsigned i = 0; i < l->n; i++)
        if (parse_count(l->word[i], &v) < 0 || v < low || v > high)
            return false;
    return true;
}

static const char *set_list(struct bench *b, const char *name, char *value)
{
    static const char *const bits[] = {"0", "1"}, *const rws[] = {"read", "write"};

    if (!strcmp(name, "engine"))
        return split(&b->engines, value, false) ? NULL : "1 to 16 engines";
    if (!strcmp(name, "depth"))
        return split(&b->depths, value, true) && in_range(&b->depths, 1, 4096)
                   ? NULL
                   : "numbers from 1 to 4096";
    if (!strcmp(name, "direct"))
        return split(&b->directs, value, true) && all_in(&b->directs, bits, 2)
                   ? NULL
                   : "0, 1 or both";
    if (!strcmp(name, "rw"))
        return split(&b->rws, value, true) && all_in(&b->rws, rws, 2)
                   ? NULL
                   : "read, write or both";
    return split(&b->states, value, true) && all_in(&b->states, bench_state_names, 3)
               ? NULL
               : "existing, growing or fallocated";
}

static const char *set_switch(bool *to, const char *value)
{
    *to = !strcmp(value, "1");
    return *to || !strcmp(value, "0") ? NULL : "0 or 1";
}

static bool is_of_loop(const char *name)
{
    static const char *const names[] = {"loop", "poll-us", "completion", "waiter",
                                        "waiter-us"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

/* They mean what they mean to `run`, so its table reads them. */
static const char *set_loop(struct bench *b, const char *name, const char *value)
{
    static struct error err;
    struct job j;
    int ret;

    job_init(&j);
    err.msg[0] = '\0';
    ret = job_set(&j, name, value, &err);
    if (ret == 0 && !strcmp(name, "loop"))
        b->loop.libuv = j.loop;
    else if (ret == 0 && !strcmp(name, "poll-us"))
        b->loop.poll_ns = j.poll_us * 1000;
    else if (ret == 0 && !strcmp(name, "completion"))
        b->loop.inline_completion = j.completion;
    else if (ret == 0 && !strcmp(name, "waiter"))
        b->loop.waiter = (enum loop_waiter)j.waiter;
    else if (ret == 0)
        b->loop.waiter_ns = j.waiter_us * 1000;
    job_free(&j);
    return ret < 0 ? err.msg : NULL;
}

/* What would be right, or NULL: it is. */
static const char *set_option(void *opaque, const char *name, char *value)
{
    struct bench *b = opaque;

    if (!strcmp(name, "dir")) {
        b->dir = value;
        return NULL;
    }
    if (!strcmp(name, "bs"))
        return parse_bytes(value, 1024, &b->bs) == 0 && b->bs && b->bs <= 16u << 20
                   ? NULL
                   : "a size up to 16m";
    if (!strcmp(name, "size"))
        return parse_bytes(value, 1024, &b->size) == 0 ? NULL : "a size";
    if (!strcmp(name, "time"))
        return parse_time_ns(value, &b->time_ns) == 0 && b->time_ns >= 1000000 &&
                       b->time_ns <= 60000000000u
                   ? NULL
                   : "a time from 1ms to 60s";
    if (!strcmp(name, "trials"))
        return parse_count(value, &b->rows.trials) == 0 && b->rows.trials &&
                       b->rows.trials <= BENCH_TRIALS_MAX
                   ? NULL
                   : "1 to 200";
    if (!strcmp(name, "cpus"))
        return parse_count(value, &b->cpus) == 0 && b->cpus <= 1024 ? NULL
                                                                    : "0 to 1024";
    if (!strcmp(name, "fio"))
        return set_switch(&b->rows.fio, value);
    if (!strcmp(name, "sync"))
        return set_switch(&b->rows.sync, value);
    if (!strcmp(name, "calls"))
        return set_switch(&b->rows.calls, value);
    if (!strcmp(name, "output-format")) {
        b->json = !strcmp(value, "json");
        return b->json || !strcmp(value, "text") ? NULL : "text or json";
    }
    return is_of_loop(name) ? set_loop(b, name, value) : set_list(b, name, value);
}

static const char *const option_names[] = {
    "engine", "depth", "direct",  "file",       "rw",     "dir",       "bs",
    "size",   "time",  "trials",  "fio",        "calls",  "cpus",      "output-format",
    "sync",   "loop",  "poll-us", "completion", "waiter", "waiter-us", NULL};

static int check(const struct bench *b)
{
    struct error err = {""};

    if (b->size / b->bs < 2) {
        fprintf(stderr, "asyncow microbench engine: size: less than two of bs\n");
        return CMD_USAGE;
    }
    for (unsigned i = 0; i < b->engines.n; i++) {
        struct loop_options o = {.engine = b->engines.word[i]};
        if (engine_check(&o, &err) < 0) {
            fprintf(stderr, "asyncow microbench engine: %s\n", err.msg);
            return CMD_USAGE;
        }
        if (engine_find(o.engine)->simulated) {
            fprintf(stderr,
                    "asyncow microbench engine: engine %s: virtual time costs "
                    "nothing; a real engine is needed\n",
                    o.engine);
            return CMD_USAGE;
        }
    }
    return CMD_GOOD;
}

static void print_json(struct bench *b)
{
    json_t *o = json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "microbench",
                          "engine", "version", ASYNCOW_VERSION_LONG, "machine",
                          machine_manifest(), "trials", (json_int_t)b->rows.trials,
                          "trial_ns", (json_int_t)b->time_ns, "bs", (json_int_t)b->bs,
                          "size", (json_int_t)b->size, "cpus", (json_int_t)b->cpus,
                          "results", b->results);

    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static bool make_file(const struct bench *b, char *path)
{
    int fd;

    snprintf(path, PATH_MAX_LEN, "%s/asyncow-bench-XXXXXX", b->dir);
    fd = mkstemp(path);
    if (fd < 0)
        fprintf(stderr, "asyncow microbench engine: %s: %s\n", path, strerror(errno));
    else
        close(fd);
    return fd >= 0;
}

static int run(struct bench *b)
{
    int ret = CMD_FAILED;

    if (!make_file(b, b->existing))
        return CMD_FAILED;
    if (make_file(b, b->fresh)) {
        b->results = json_array();
        b->rows.fio = b->rows.fio && bench_fio_there();
        ret = all_cells(b);
        if (b->json)
            print_json(b);
        else
            json_decref(b->results);
        unlink(b->fresh);
    }
    unlink(b->existing);
    return ret;
}

int microbench_engine(int argc, char **argv)
{
    struct bench b = {
        .engines = {{"sync", "threads", "posix-aio", "linux-aio", "io_uring", "libuv"},
                    6},
        .depths = {{"1", "4", "32", "256"}, 4},
        .directs = {{"0", "1"}, 2},
        .states = {{"existing"}, 1},
        .rws = {{"read"}, 1},
        .dir = ".",
        .bs = 4096,
        .size = 64 << 20,
        .time_ns = 300000000,
        .rows = {.trials = 5, .fio = true, .calls = true}};
    const struct cmd_options words = {"microbench engine", option_names, set_option,
                                      &b};
    struct error err = {""};
    char one[] = "1";
    int ret;

    if (cmd_wants_help(argc, argv)) {
        help();
        return CMD_GOOD;
    }
    ret = cmd_options_parse(&words, argc, argv);
    if (ret == CMD_GOOD)
        ret = check(&b);
    if (ret != CMD_GOOD)
        return ret;
    if (machine_pin((unsigned)b.cpus, &err) < 0) {
        fprintf(stderr, "asyncow microbench engine: %s\n", err.msg);
        return CMD_FAILED;
    }
    if (b.rows.sync)
        split(&b.depths, one, false);
    return run(&b);
}
