/*
 * Engine io_uring's inside: what engine_io_uring.c (I/O) and uring_setup.c (what the
 * kernel has, and what was asked for) share.
 */
#ifndef ASYNCOW_URING_H
#define ASYNCOW_URING_H
#include <liburing.h>

#include "core/block/file.h"

enum {
    URING_FILES = 16,  /* slots of registered files */
    URING_BUFFERS = 8, /* of registered memory */
};

struct uring {
    struct engine base;
    struct io_uring ring;
    bool enabled;  /* by the thread it belongs to */
    bool polling;  /* the poll of wake_fd is in the ring */
    bool deferred; /* completions need a system call to come out */
    int wake_fd;
    int done_fd;    /* signalled with each completion; -1: nobody sleeps outside */
    bool signalled; /* it may be */

    /* Registered files, by blk_file.id; 0: free. A slot keeps its file open until
     * another file needs it or the ring goes. */
    bool register_files;
    unsigned next_file;
    uint64_t file_id[URING_FILES];

    bool register_memory;
    unsigned buffers;
    struct iovec buffer[URING_BUFFERS];
};

extern const struct setting uring_settings[];
extern const char *const uring_features[]; /* of them, what a kernel may lack */

/* The ring as the settings want it, or the next best thing with a note. 0 or -errno. */
int uring_set_up(struct uring *, unsigned entries, const char *settings,
                 struct error *);
/* Usable here, with no settings at all? */
int uring_probe(struct error *);
void uring_memory(struct engine *, void *base, size_t len); /* engine_ops.memory */

/* Makes a slot f's. Its number, or -1: it goes without. */
int uring_add_file(struct uring *, const struct blk_file *f);

static inline int uring_file(struct uring *u, const struct blk_file *f)
{
    for (int i = 0; i < URING_FILES; i++)
        if (u->file_id[i] == f->id)
            return i;
    return uring_add_file(u, f);
}

/* The number of the registered memory that all of it lies in, or -1. */
static inline int uring_buffer(const struct uring *u, const void *p, size_t len)
{
    for (unsigned i = 0; i < u->buffers; i++) {
        size_t at = (size_t)((const char *)p - (const char *)u->buffer[i].iov_base);
        if (at < u->buffer[i].iov_len && len <= u->buffer[i].iov_len - at)
            return (int)i;
    }
    return -1;
}

#endif
