/*
 * Writing an image, blocking, one request at a time: for convert and tests. Raw files
 * directly, qcow2 through the core.
 */
#ifndef ASYNCOW_WRITER_H
#define ASYNCOW_WRITER_H
#include <stdint.h>

#include "core/env/error.h"
#include "core/image/node.h"
#include "core/qcow2/qcow2.h"

struct writer;

/* Borrows the node, opened for write. 0 or -errno with err. */
int writer_create(struct writer **, struct image_node *, struct error *);
/* Bytes of the disk inside its size. 0 or -errno with err. */
int writer_write(struct writer *, uint64_t guest, const void *buf, uint64_t len,
                 struct error *);
/* They read zeros afterwards. */
int writer_zero(struct writer *, uint64_t guest, uint64_t len, struct error *);
/* An internal snapshot of a qcow2 image is made, applied or deleted. now_ns: the date,
 * for create. On failure err says why alone: "no such snapshot". */
int writer_snapshot(struct writer *, enum qcow2_snapshot_op, const char *name,
                    uint64_t now_ns, struct error *);
/* Bytes whose clusters can be freed are; they need not read zeros. */
int writer_discard(struct writer *, uint64_t guest, uint64_t len, struct error *);
/* The disk gets another size, a multiple of 512; what it gains reads zeros, what it
 * loses is freed. */
int writer_resize(struct writer *, uint64_t size, struct error *);
/* Everything durable, the file cut to what is in use. Frees the writer in every
 * case. */
int writer_finish(struct writer *, struct error *);

#endif
