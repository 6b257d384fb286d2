/*
 * A host file, as core/block sees it.
 *
 * Everything but the counters and `track` is set by blk_open() and constant afterwards,
 * so any loop and thread may use the file at once.
 */
#ifndef ASYNCOW_FILE_H
#define ASYNCOW_FILE_H
#include "core/block/loop_int.h"

/* Counters of the loops in one slot. Only the shared last slot needs atomic
 * additions. */
struct blk_shard {
    _Atomic uint64_t ios[AIO_OPS], bytes[AIO_OPS], metadata_ios;
    atomic_uint writers; /* in flight that align.c counts but does not track */
} __attribute__((aligned(128)));

/* What align.c knows of a direct file: see there. */
struct blk_track {
    struct env_mutex lock;
    atomic_bool on;
    bool draining;
    unsigned since_rmw;
    struct aio *active, *waiting_head, *waiting_tail; /* through track_next/prev */
};

struct helper_loop { /* for the blocking helpers; reused */
    struct loop *loop;
    struct helper_loop *next;
};

struct blk_file {
    uint64_t id;            /* of this opening; no other in the process has it */
    unsigned align;         /* of offset and length; 1: anything goes */
    unsigned mem_align;     /* of memory */
    struct filter *filters; /* outermost; NULL: none */
    int fd;
    bool regular, direct;
    atomic_bool counts_arrivals;
    _Atomic uint64_t arrivals;
    atomic_bool no_zero_range; /* the file system said so once */
    struct sim_file *sim;
    struct blk_memory *memory;
    struct env *env;
    char *path;
    struct blk_shard *shards; /* LOOP_SLOTS */
    struct blk_track track;
    struct env_mutex helper_lock;
    struct helper_loop *helpers;
};

static inline void file_count(_Atomic uint64_t *counter, uint64_t n, bool shared)
{
    if (unlikely(shared))
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
    else
        atomic_store_explicit(counter,
                              atomic_load_explicit(counter, memory_order_relaxed) + n,
                              memory_order_relaxed);
}

static inline void file_count_io(struct blk_file *f, unsigned slot,
                                 const struct aio *aio)
{
    struct blk_shard *s = &f->shards[slot];
    bool shared = slot == LOOP_SLOTS - 1;

    file_count(&s->ios[aio->op], 1, shared);
    file_count(&s->bytes[aio->op], aio->len, shared);
    if (aio->metadata)
        file_count(&s->metadata_ios, 1, shared);
}

/* memory.c: what the blocking helpers do to memory. */
int memory_io(struct blk_memory *, enum aio_op, uint64_t offset, void *, size_t len);
int memory_truncate(struct blk_memory *, uint64_t size);

/* Engines call it right before they hand the aio to the kernel. */
static inline bool file_counts_arrivals(const struct blk_file *f)
{
    return unlikely(atomic_load_explicit(&f->counts_arrivals, memory_order_relaxed));
}
static inline void file_arrives(struct aio *aio)
{
    struct blk_file *f = aio->file;

    if (file_counts_arrivals(f) && !aio->arrival)
        aio->arrival =
            atomic_fetch_add_explicit(&f->arrivals, 1, memory_order_relaxed) + 1;
}

/* filelock.c: the image locks, as QEMU's file-posix takes them. 0, or -errno with
 * err. */
int filelock_take(int fd, bool write, const char *path, struct error *err);
/* Before close(2): an io_uring that is being torn down in the background may keep the
 * open file, and so its locks, a while longer. */
void filelock_release(int fd);

bool filealign_is_tmpfs(int fd);
/* filealign.c: what a direct file wants. 0, or -errno with err. */
int filealign_probe(int fd, const char *path, unsigned *align, unsigned *mem_align,
                    struct error *err);

#endif
