/*
 * Host files and asynchronous I/O on them.
 *
 * An aio is embedded in the caller's own struct; nothing is allocated per I/O. It goes
 *
 *     aio_submit -> alignment (direct I/O) -> filters (delay, fault, ...) -> engine
 *
 * and comes back through done() from a turn of the loop. Transfers are whole: a short
 * write is continued or fails; a read past the end of the file reads zeros. result is 0
 * or -errno.
 *
 * Direct files: an aio that is not aligned to the file's block (offset, length or
 * memory) works; read-modify-write is serialised against everything else in flight that
 * touches the same block, from any loop or thread.
 */
#ifndef ASYNCOW_AIO_H
#define ASYNCOW_AIO_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/block/loop.h"
#include "core/env/error.h"

enum aio_op {
    AIO_READ,
    AIO_WRITE,
    AIO_FLUSH,   /* fdatasync */
    AIO_DISCARD, /* punch hole; not supported there: success, nothing done */
    AIO_ZERO,    /* reads zeros afterwards, allocated; fallocate or written zeros */
    AIO_GROW,    /* fallocate offset..offset+len ahead of use, extends the size */
    AIO_OPS
};
#define AIO_IOV_MAX 1024

struct blk_file;

struct aio {
    enum aio_op op;
    struct blk_file *file;
    uint64_t offset, len; /* bytes; len is the sum of iov for READ and WRITE */
    const struct iovec *iov;
    int iovcnt;
    bool metadata; /* of the format, not guest data: for filters, counters and traces */
    void (*done)(struct aio *);
    int result; /* 0 or -errno, valid in done() */

    /* private to core/block */
    uint8_t flags, state;
    struct loop *loop;
    struct aio *next;
    uint64_t moved;      /* bytes transferred so far */
    void *engine_data;   /* the engine's own while it holds the aio */
    uint64_t scratch[4]; /* likewise */
    uint64_t limit;      /* most bytes of the next piece (short and torn faults) */
    int verdict;         /* of a filter: the result to give at the end */
    void *align;         /* the alignment layer's tracking node or bounce */
    void *recorded;      /* the record filter's node */
    uint64_t arrival;    /* in which order at the file: blk_count_arrivals() */
    struct aio *track_next, *track_prev;
    struct loop_bh bh;
    struct loop_timer timer;
};

/* Queues it; goes down at the loop's next turn. done() is called once, from a turn. */
void aio_submit(struct loop *, struct aio *);
/* Submits and turns the loop until it is done: for threads that block. Returns result.
 * done must be NULL. */
int aio_run(struct loop *, struct aio *);
/* The same for a thread that has I/O in flight on another loop, which doesn't turn
 * meanwhile. -ECANCELED, and nothing done: on a direct file some of that could be in its
 * way. */
int aio_run_now(struct loop *, struct aio *);
/* Asks for an early end: not yet submitted: done with -ECANCELED; in the engine: if it
 * can. done() is called in every case, from a turn. */
void aio_cancel(struct aio *);

struct blk_options {
    bool write;
    bool direct;   /* O_DIRECT; an error that says so where the file can't */
    bool create;   /* O_CREAT | O_EXCL */
    bool truncate; /* with create: overwrite an existing file */
    bool no_lock;  /* skip the image lock (qemu's -U) */
    /* "delay:read=100us;fault:op=write,n=3,error=EIO", outermost first; NULL: none */
    const char *filters;
    struct env *env; /* required */
    bool sim;        /* the file lives in the simulator's memory: path names it there;
                       * loaded from the real file of that name if there is one */
};
/* Opens, takes the image locks as QEMU does (OFD locks on the same bytes): shared for
 * reading, exclusive against other writers for write. err: "PATH: ...". */
int blk_open(struct blk_file **, const char *path, const struct blk_options *,
             struct error *);
/* Memory that stands for a file, the caller's, of which `size` bytes are the file. Only
 * the blocking helpers work on it; nothing may be submitted. 0 or -ENOMEM. */
struct blk_memory {
    uint8_t *bytes;
    uint64_t size, cap;
};
int blk_open_memory(struct blk_file **, struct env *, struct blk_memory *);
int blk_close(struct blk_file *); /* 0 or the first error of closing */
const char *blk_path(const struct blk_file *);
uint64_t blk_size(const struct blk_file *);      /* bytes, now */
uint64_t blk_allocated(const struct blk_file *); /* bytes of them that take space */
bool blk_regular(const struct blk_file *);   /* regular file (grows, can be sparse) */
unsigned blk_align(const struct blk_file *); /* bytes; 1 when buffered */
/* Blocking helpers for open, close and whole-image work, on a private sync engine (or
 * the simulator), through the same alignment and filters. Not while the calling
 * thread's own loop has writes in flight on the file: a direct file may have to wait
 * for them, and nobody would turn it. 0 or -errno; beyond the end of the file reads
 * zeros. */
int blk_pread(struct blk_file *, uint64_t offset, void *, size_t);
int blk_pwrite(struct blk_file *, uint64_t offset, const void *, size_t);
int blk_flush(struct blk_file *);
int blk_truncate(struct blk_file *, uint64_t size);
/* SEEK_DATA/SEEK_HOLE: *len bytes from offset are all data (true) or all hole. */
bool blk_is_data(struct blk_file *, uint64_t offset, uint64_t *len);

/* From now on the I/Os of this file get numbers, from 1, in the order in which they are
 * handed to the kernel: aio.arrival, valid in done(). 0: it never got so far. */
void blk_count_arrivals(struct blk_file *);

struct blk_stats { /* since open; counted when submitted to the engine */
    uint64_t ios[AIO_OPS], bytes[AIO_OPS], metadata_ios;
};
void blk_get_stats(const struct blk_file *, struct blk_stats *);

/* Parts of an I/O vector: out gets the bytes [skip, skip+len) of in. Returns the count,
 * at most max entries (asserted). */
int iov_slice(struct iovec *out, int max, const struct iovec *in, int incnt,
              size_t skip, size_t len);
void iov_zero(const struct iovec *, int cnt, size_t skip, size_t len);
void iov_from_buf(const struct iovec *, int cnt, size_t skip, const void *, size_t len);
void iov_to_buf(const struct iovec *, int cnt, size_t skip, void *, size_t len);

#endif
