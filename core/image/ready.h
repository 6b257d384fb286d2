/*
 * Making a qcow2 file fit to be written: what the format asks of a writer before its
 * first change. Blocking; nothing else has the file open for write.
 */
#ifndef ASYNCOW_READY_H
#define ASYNCOW_READY_H
#include <stdbool.h>

#include "core/env/error.h"
#include "core/image/node.h"

/* Reads the header again, from the file. */
int image_read_header(struct image_node *, struct error *);
/* Dirty: repairs refcounts (no_repair: -EROFS). Corrupt: -EROFS. Autoclear bits:
 * durably cleared, bitmaps dropped and their clusters freed. The node's header is as in
 * the file afterwards. err begins with the file's name. */
int image_make_ready(struct image_node *, bool no_repair, struct error *);

#endif
