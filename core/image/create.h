/*
 * Making an empty qcow2 file. Blocking; needs no core: what is in an empty image
 * follows from its size alone.
 */
#ifndef ASYNCOW_CREATE_H
#define ASYNCOW_CREATE_H
#include <stdbool.h>
#include <stdint.h>

#include "core/env/env.h"
#include "core/env/error.h"
#include "core/qcow2/format.h"

enum create_preallocation {
    CREATE_SPARSE,   /* nothing allocated */
    CREATE_METADATA, /* every cluster has a place; the data is a hole in the file */
    CREATE_FALLOC,   /* and the host has set the space aside */
    CREATE_FULL,     /* and zeros are written to it */
};

struct create_options {
    struct env *env;       /* required */
    uint64_t size;         /* of the guest's disk, bytes; rounded up to 512 */
    unsigned version;      /* 2 (compat=0.10) or 3 (compat=1.1) */
    uint64_t cluster_size; /* bytes */
    unsigned refcount_bits;
    bool lazy_refcounts;
    enum qcow2_compression compression;
    enum create_preallocation preallocation;
    const char *backing, *backing_format; /* as they go into the file; NULL: none */
    bool sim, direct;
};
/* What qemu-img create does without options, for a disk of size bytes. */
struct create_options create_defaults(struct env *, uint64_t size);
/* 0, or -EINVAL with what is wrong with which option. Touches nothing. */
int create_check(const struct create_options *, struct error *);
/* Makes the file, over one that may be there (never over one that is in use). The
 * header is written last and makes it valid; on error a regular file is removed. 0 or
 * -errno with err, which begins with the path for all but bad options. */
int image_create(const char *path, const struct create_options *, struct error *);
/* Sets space aside in a file as preallocation falloc or full says. */
struct blk_file;
int create_fill(struct blk_file *, const struct create_options *, uint64_t offset,
                uint64_t len, struct error *);

#endif
