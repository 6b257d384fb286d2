/* The measurements of one cell: a stream, batches, a few traced calls. bench.h. */
#include "harness/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/block/aio.h"
#include "harness/machine.h"
#include "harness/rng.h"
#include "harness/syscalls.h"

enum { TRACED_MAX = 512, PIECE = 1 << 20 };

struct slot {
    struct aio aio; /* first: done() gets it back */
    struct iovec iov;
    struct run *run;
};

/* One measurement; in the process that measures. */
struct run {
    const struct bench_cell *cell;
    struct env *env;
    struct loop *loop;
    struct blk_file *file;
    struct slot *slot;
    char *memory;
    struct rng rng;
    uint64_t next, limit; /* requests begun; at most */
    uint64_t finished, end_ns;
    unsigned in_flight;
    bool again; /* a request that ends begins the next one */
    int error;
};

/* What a child tells its parent; shared memory. */
struct outcome {
    struct bench_cost cost;
    struct error err;
};

/* ---- one request ---- */

static uint64_t next_offset(struct run *r)
{
    uint64_t blocks = r->cell->size / r->cell->bs, block = r->next++;

    if (r->cell->state == BENCH_EXISTING)
        block = rng_below(&r->rng, blocks);
    return block * r->cell->bs;
}

static void start(struct run *r, struct slot *s)
{
    s->aio.offset = next_offset(r);
    r->in_flight++;
    aio_submit(r->loop, &s->aio);
}

static void done(struct aio *aio)
{
    struct slot *s = (struct slot *)aio;
    struct run *r = s->run;

    r->in_flight--;
    r->finished++;
    if (aio->result < 0 && !r->error)
        r->error = aio->result;
    if (r->again && r->next < r->limit && !r->error)
        start(r, s);
}

/* ---- set up ---- */

static int set_up_slots(struct run *r)
{
    const struct bench_cell *c = r->cell;
    size_t size = c->loop.depth * c->bs;

    r->slot = calloc(c->loop.depth, sizeof(*r->slot));
    if (!r->slot || posix_memalign((void **)&r->memory, 4096, size))
        return -ENOMEM;
    memset(r->memory, 'a', size);
    loop_use_memory(r->loop, r->memory, size);
    for (unsigned i = 0; i < c->loop.depth; i++) {
        struct slot *s = &r->slot[i];
        s->run = r;
        s->iov = (struct iovec){r->memory + i * c->bs, c->bs};
        s->aio = (struct aio){.op = c->write ? AIO_WRITE : AIO_READ,
                              .file = r->file,
                              .len = c->bs,
                              .iov = &s->iov,
                              .iovcnt = 1,
                              .done = done};
    }
    return 0;
}

static int set_up(struct run *r, const struct bench_cell *c, struct error *err)
{
    struct blk_options bo = {.write = true, .direct = c->direct};
    int ret;

    *r = (struct run){.cell = c, .rng = {1}, .limit = UINT64_MAX};
    if (c->state != BENCH_EXISTING)
        r->limit = c->size / c->bs;
    bo.env = r->env = env_real(1);
    if (!r->env)
        return -ENOMEM;
    if ((ret = blk_open(&r->file, c->path, &bo, err)) < 0 ||
        (ret = loop_create(&r->loop, r->env, &c->loop, err)) < 0 ||
        (ret = set_up_slots(r)) < 0)
        return ret;
    return 0;
}

static void tear_down(struct run *r)
{
    if (r->memory)
        loop_forget_memory(r->loop);
    loop_destroy(r->loop);
    blk_close(r->file);
    free(r->memory);
    free(r->slot);
    env_destroy(r->env);
}

/* ---- the three measurements ---- */

static double cpu_ns(void)
{
    struct usage u;

    usage_now(&u);
    return (double)(u.user_ns + u.system_ns);
}

/* Each request waited for where it is made. */
static void one_by_one(struct run *r, uint64_t time_ns)
{
    uint64_t end_ns = env_now_ns(r->env) + time_ns;
    struct aio *aio = &r->slot[0].aio;

    aio->done = NULL;
    while (r->next < r->limit && !r->error && env_now_ns(r->env) < end_ns) {
        aio->offset = next_offset(r);
        r->error = aio_run(r->loop, aio);
        r->finished++;
    }
}

/* Until the time is over or the file is full. */
static void stream(struct run *r, uint64_t time_ns)
{
    if (r->cell->sync) {
        one_by_one(r, time_ns);
        return;
    }
    r->end_ns = env_now_ns(r->env) + time_ns;
    r->again = true;
    for (unsigned i = 0; i < r->cell->loop.depth && r->next < r->limit; i++)
        start(r, &r->slot[i]);
    while (r->in_flight) {
        loop_turn(r->loop, true);
        if (env_now_ns(r->env) >= r->end_ns)
            r->again = false;
    }
}

static int measure_stream(struct run *r, struct bench_cost *cost)
{
    uint64_t begin_ns;
    double cpu;

    if (r->cell->state == BENCH_EXISTING) {
        stream(r, r->cell->time_ns / 10); /* warms up */
        r->finished = 0;
    }
    cpu = cpu_ns();
    begin_ns = env_now_ns(r->env);
    stream(r, r->cell->time_ns);
    cost->ns = (double)(env_now_ns(r->env) - begin_ns) / (double)r->finished;
    cost->cpu_ns = (cpu_ns() - cpu) / (double)r->finished;
    return r->error;
}

static int measure_batches(struct run *r, struct bench_cost *cost)
{
    uint64_t end_ns = env_now_ns(r->env) + r->cell->time_ns, now_ns;
    double held = 0, all = 0;

    do {
        uint64_t begin_ns = env_now_ns(r->env), back_ns;

        for (unsigned i = 0; i < r->cell->loop.depth && r->next < r->limit; i++)
            start(r, &r->slot[i]);
        loop_turn(r->loop, false);
        back_ns = env_now_ns(r->env);
        while (r->in_flight)
            loop_turn(r->loop, true);
        now_ns = env_now_ns(r->env);
        held += (double)(back_ns - begin_ns);
        all += (double)(now_ns - begin_ns);
    } while (now_ns < end_ns && r->next < r->limit && !r->error);
    cost->submit_ns = held / (double)r->finished;
    cost->submit_share = all > 0 ? held / all : 0;
    return r->error;
}

/* ---- in a child ---- */

static int alone(const struct bench_cell *c, struct outcome *o,
                 int (*measure)(struct run *, struct bench_cost *))
{
    struct run r;
    int ret = set_up(&r, c, &o->err);

    if (ret == 0) {
        ret = measure(&r, &o->cost);
        tear_down(&r);
    }
    if (ret < 0 && !o->err.msg[0])
        error_set(&o->err, ret, "%s: %s: %s", c->path, c->write ? "write" : "read",
                  strerror(-ret));
    return ret;
}

static int in_child(const struct bench_cell *c, struct bench_cost *cost,
                    int (*measure)(struct run *, struct bench_cost *),
                    struct error *err)
{
    struct outcome *o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0, ret = 0;
    pid_t pid;

    if (o == MAP_FAILED)
        return error_set(err, -errno, "mmap: %s", strerror(errno));
    fflush(NULL);
    o->cost = *cost;
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(-alone(c, o, measure));
    }
    if (pid < 0)
        ret = error_set(err, -errno, "fork: %s", strerror(errno));
    else if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        ret = error_set(err, -ECHILD, "engine %s: the process that measured it died",
                        c->loop.engine);
    else if (WEXITSTATUS(status))
        ret = error_set(err, -WEXITSTATUS(status), "%s", o->err.msg);
    *cost = o->cost;
    munmap(o, sizeof(*o));
    return ret;
}

int bench_stream(const struct bench_cell *c, struct bench_cost *cost, struct error *err)
{
    return in_child(c, cost, measure_stream, err);
}

int bench_batches(const struct bench_cell *c, struct bench_cost *cost,
                  struct error *err)
{
    return in_child(c, cost, measure_batches, err);
}

/* ---- traced ---- */

struct traced {
    const struct bench_cell *cell;
    struct outcome *out;
};

static int measure_traced(struct run *r, struct bench_cost *cost)
{
    uint64_t limit = r->limit;

    /* The first requests start threads and register things. */
    r->limit =
        2 * r->cell->loop.depth < limit / 2 ? 2 * r->cell->loop.depth : limit / 2;
    stream(r, UINT64_MAX / 2);
    r->limit = r->next + TRACED_MAX < limit ? r->next + TRACED_MAX : limit;
    r->finished = 0;
    syscalls_begin();
    stream(r, UINT64_MAX / 2);
    syscalls_end();
    cost->calls = (double)r->finished;
    return r->error;
}

static int traced(void *opaque)
{
    struct traced *t = opaque;

    return alone(t->cell, t->out, measure_traced);
}

int bench_calls(const struct bench_cell *c, struct bench_cost *cost, struct error *err)
{
    struct traced t = {.cell = c};
    struct syscalls calls;
    int ret;

    t.out = mmap(NULL, sizeof(*t.out), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t.out == MAP_FAILED)
        return error_set(err, -errno, "mmap: %s", strerror(errno));
    fflush(NULL);
    ret = syscalls_count(&calls, traced, &t, err);
    if (ret < 0 && t.out->err.msg[0])
        error_set(err, ret, "%s", t.out->err.msg);
    if (ret == 0)
        cost->calls = (double)(calls.total - calls.by_number[SYS_clock_gettime]) /
                      t.out->cost.calls; /* most kernels answer that without a call */
    munmap(t.out, sizeof(*t.out));
    return ret;
}

/* ---- the file ---- */

static int fill(int fd, uint64_t size)
{
    char *piece = malloc(PIECE);
    int ret = piece ? 0 : -ENOMEM;

    if (piece)
        memset(piece, 'z', PIECE);
    for (uint64_t at = 0; at < size && ret == 0;) {
        size_t len = size - at < PIECE ? (size_t)(size - at) : PIECE;
        ssize_t n = pwrite(fd, piece, len, (off_t)at);
        if (n <= 0)
            ret = n < 0 ? -errno : -ENOSPC;
        else
            at += (uint64_t)n;
    }
    free(piece);
    return ret ? ret : fsync(fd) < 0 ? -errno : 0;
}

int bench_prepare(const struct bench_cell *c, struct error *err)
{
    int fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), ret = 0;
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);

    if (fd < 0)
        return error_set(err, -errno, "%s: %s", c->path, strerror(errno));
    if (c->state != BENCH_EXISTING) /* what another cell wrote is there no more */
        ret = ftruncate(fd, 0) < 0 ? -errno : 0;
    else if ((uint64_t)size != c->size)
        ret = ftruncate(fd, 0) < 0 ? -errno : fill(fd, c->size);
    if (ret == 0 && c->state == BENCH_FALLOCATED &&
        fallocate(fd, 0, 0, (off_t)c->size) < 0)
        ret = -errno;
    close(fd);
    return ret < 0 ? error_set(err, ret, "%s: %s", c->path, strerror(-ret)) : 0;
}
