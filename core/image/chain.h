/*
 * Opening an image and what lies below it: the part of opening that is not about
 * waiting and so is shared by all strategies. Blocking; nothing is in flight yet.
 */
#ifndef ASYNCOW_CHAIN_H
#define ASYNCOW_CHAIN_H
#include <stdbool.h>

#include "core/block/aio.h"
#include "core/image/node.h"
#include "core/qcow2/format.h"

enum { IMAGE_CHAIN_MAX = 200 }; /* files in a chain, at most (a loop ends there) */

struct chain_options {
    struct env *env; /* required */
    bool write;      /* the top; what is below is opened to read */
    bool direct, no_lock, sim;
    bool allow_backing; /* else an image that names a backing file is an error that
                              says how to allow it */
    bool
        no_backing; /* open the top alone, unallocated reads as zeros (img map, check) */
    bool no_repair;      /* opened for write, a dirty image or one with stale features
                              is an error instead of being put right first */
    bool drivers;        /* the top may be of a format whose driver blocks: vdi */
    const char *format;  /* of the top: "raw", "qcow2"; NULL: probe by magic */
    const char *filters; /* for the top file (aio.h) */
};
/* Opens path and its backing chain (relative names are relative to the file that names
 * them; "json:" and protocols are refused by name). A top opened for write is made
 * ready: a dirty image gets its refcounts repaired, unknown autoclear bits are durably
 * cleared, bitmaps dropped and their clusters freed. 0 or -errno with err "FILE: FIELD
 * ...". */
int chain_open(struct image_node **, const char *path, const struct chain_options *,
               struct error *);
/* A name as people give it, without "file:"; NULL: it is no file's ("nbd:..."). */
const char *chain_file_name(const char *name);
/* The path of the file that image `of` names as its backing file; to be freed. -ENOTSUP
 * for names that are not file names. */
int chain_backing_path(char **out, const char *of, const char *name, struct error *);
/* Closes all files. 0 or the first error. */
int chain_close(struct image_node *);

#endif
