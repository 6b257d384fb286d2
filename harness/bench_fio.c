/* The same job under fio, for bench.h. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/bench.h"

const char *bench_fio_engine(const char *engine)
{
    static const struct {
        const char *ours, *fio;
    } names[] = {{"sync", "psync"},
                 {"posix-aio", "posixaio"},
                 {"linux-aio", "libaio"},
                 {"io_uring", "io_uring"}};
    size_t len = strcspn(engine, ":");

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i].ours) == len && !strncmp(names[i].ours, engine, len))
            return names[i].fio;
    return NULL;
}

bool bench_fio_there(void)
{
    FILE *f = popen("fio --version 2>/dev/null", "re");
    char line[64] = "";

    if (!f)
        return false;
    if (!fgets(line, sizeof(line), f))
        line[0] = '\0';
    return pclose(f) == 0 && !strncmp(line, "fio-", 4);
}

static void add(char *command, size_t size, const char *what)
{
    strncat(command, what, size - strlen(command) - 1);
}

/* Settings of ours that fio has too. */
static void add_settings(char *command, size_t size, const char *engine)
{
    static const struct {
        const char *ours, *fio;
    } same[] = {{"files=registered", " --registerfiles"},
                {"buffers=registered", " --fixedbufs"},
                {"sqpoll=", " --sqthread_poll"}};

    for (unsigned i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        if (strstr(engine, same[i].ours))
            add(command, size, same[i].fio);
}

/* It may say something before its report. */
static int read_iops(FILE *f, double *iops)
{
    static const char *const dirs[] = {"read", "write"};
    int c;

    do
        c = getc(f);
    while (c != '{' && c != EOF);
    ungetc(c, f);
    json_t *o = json_loadf(f, 0, NULL);
    const json_t *job = json_array_get(json_object_get(o, "jobs"), 0);

    *iops = 0;
    for (int i = 0; i < 2; i++)
        *iops +=
            json_number_value(json_object_get(json_object_get(job, dirs[i]), "iops"));
    json_decref(o);
    return *iops > 0 ? 0 : -EIO;
}

/* No clock read per request, no map of blocks, one job. */
static void begin_command(char *command, size_t size, const struct bench_cell *c)
{
    snprintf(command, size,
             "exec fio --name=asyncow --filename='%s' --ioengine=%s --rw=%s --bs=%llu "
             "--iodepth=%u --direct=%d --size=%llu --time_based --runtime=%lluus "
             "--norandommap --randrepeat=1 --gtod_reduce=1 "
             "--invalidate=0 --fallocate=none --thread --output-format=json",
             c->path, bench_fio_engine(c->loop.engine),
             c->write ? "randwrite" : "randread", (unsigned long long)c->bs,
             c->loop.depth, c->direct, (unsigned long long)c->size,
             (unsigned long long)c->time_ns / 1000);
}

static int run_fio(const char *command, double *ns, struct error *err)
{
    FILE *f = popen(command, "re");
    double iops;
    int ret;

    if (!f)
        return error_set(err, -errno, "fio: %s", strerror(errno));
    ret = read_iops(f, &iops);
    if (pclose(f) != 0 || ret < 0)
        return error_set(err, -EIO, "fio said nothing useful to: %s", command);
    *ns = 1e9 / iops;
    return 0;
}

int bench_fio(const struct bench_cell *c, enum bench_fio_how how, double *ns,
              struct error *err)
{
    char command[1200];

    begin_command(command, sizeof(command), c);
    if (how != FIO_AS_IT_COMES)
        snprintf(command + strlen(command), sizeof(command) - strlen(command),
                 " --iodepth_batch_submit=%u --iodepth_batch_complete_min=1 "
                 "--iodepth_batch_complete_max=%u",
                 c->loop.depth, c->loop.depth);
    if (how == FIO_REGISTERED)
        add(command, sizeof(command), " --registerfiles --fixedbufs");
    else
        add_settings(command, sizeof(command), c->loop.engine);
    add(command, sizeof(command), " 2>/dev/null");
    return run_fio(command, ns, err);
}

bool bench_fio_registers(const struct bench_cell *c)
{
    return !strcmp(bench_fio_engine(c->loop.engine), "io_uring") &&
           !strstr(c->loop.engine, "sqpoll=");
}
