/*
 * What the loop and an engine cost: random 4 KiB direct reads at a fixed depth.
 *
 *     bench_raw ENGINE FILE [DEPTH [SECONDS]]
 *
 * Prints IOPS and CPU per I/O. No harness, no histogram: compare with
 * fio --rw=randread --bs=4k --direct=1 --iodepth=32 --gtod_reduce=1 --norandommap.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/block/aio.h"
#include "core/block/loop.h"

#define BLOCK 4096

struct slot {
    struct aio aio;
    struct iovec iov;
};

static struct loop *bench_loop;
static uint64_t finished, state = 88172645463325252u, blocks;
static bool stop;
static unsigned in_flight;

static uint64_t next_offset(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint64_t)((unsigned __int128)state * blocks >> 64) * BLOCK;
}

static void start(struct slot *s)
{
    s->aio.offset = next_offset();
    in_flight++;
    aio_submit(bench_loop, &s->aio);
}

static void done(struct aio *aio)
{
    if (aio->result < 0) {
        fprintf(stderr, "read: %s\n", strerror(-aio->result));
        exit(1);
    }
    in_flight--;
    finished++;
    if (!stop)
        start((struct slot *)aio);
}

static double cpu_s(void)
{
    struct rusage ru;

    getrusage(RUSAGE_SELF, &ru);
    return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
           1e-6 * (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

static void measure(struct env *env, struct blk_file *file, unsigned depth,
                    double seconds)
{
    struct slot *slots = calloc(depth, sizeof(*slots));
    char *memory;
    uint64_t begin_ns;
    double took, cpu = cpu_s();

    if (!slots || posix_memalign((void **)&memory, BLOCK, (size_t)depth * BLOCK))
        exit(1);
    begin_ns = env_now_ns(env);
    for (unsigned i = 0; i < depth; i++) {
        slots[i].iov = (struct iovec){memory + (size_t)i * BLOCK, BLOCK};
        slots[i].aio = (struct aio){.op = AIO_READ,
                                    .file = file,
                                    .len = BLOCK,
                                    .iov = &slots[i].iov,
                                    .iovcnt = 1,
                                    .done = done};
        start(&slots[i]);
    }
    for (unsigned turn = 0; in_flight; turn++) {
        loop_turn(bench_loop, true);
        if (turn % 256 == 0 && (double)(env_now_ns(env) - begin_ns) > seconds * 1e9)
            stop = true;
    }
    took = 1e-9 * (double)(env_now_ns(env) - begin_ns);
    cpu = cpu_s() - cpu;
    printf("%-10s depth %u: %.0f IOPS, %.3f us CPU per I/O\n", loop_engine(bench_loop),
           depth, (double)finished / took, 1e6 * cpu / (double)finished);
    free(memory);
    free(slots);
}

int main(int argc, char **argv)
{
    struct loop_options lo = {.engine = argc > 1 ? argv[1] : "", .depth = 32};
    struct blk_options bo = {.direct = true, .env = env_real(1)};
    struct blk_file *file;
    struct error err = {""};

    if (argc < 3) {
        fprintf(stderr, "usage: bench_raw ENGINE FILE [DEPTH [SECONDS]]\n");
        return 2;
    }
    if (argc > 3)
        lo.depth = (unsigned)atoi(argv[3]);
    if (blk_open(&file, argv[2], &bo, &err) < 0 ||
        loop_create(&bench_loop, bo.env, &lo, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    blocks = blk_size(file) / BLOCK;
    measure(bo.env, file, lo.depth, argc > 4 ? atof(argv[4]) : 2);
    loop_destroy(bench_loop);
    blk_close(file);
    env_destroy(bo.env);
    return 0;
}
