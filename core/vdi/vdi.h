/*
 * VirtualBox's disk images, version 1.1, dynamic or static: the second real format, as
 * a driver that blocks. The disk is blocks of 1 MiB; a map in the file says which block
 * of the file each one is. The map is read whole at open, and written, a sector at a
 * time with the header, when a block is allocated; nothing is ever freed.
 *
 * Not here: differencing images, other block sizes, extra data a block (QEMU refuses
 * the same); discard; repair.
 */
#ifndef ASYNCOW_VDI_H
#define ASYNCOW_VDI_H
#include "core/block/blocking.h"

enum { VDI_HEADER_BYTES = 512 };

struct vdi;

bool vdi_probe(const void *first_bytes); /* VDI_HEADER_BYTES of them */
/* Reads header and map, blocking. 0 or -errno with err "FIELD: ...". size: of the disk,
 * bytes. vdi_driver has what can be done with it. */
int vdi_open(struct vdi **, struct blk_file *, uint64_t *size, struct error *err);

extern const struct blocking_driver vdi_driver;

#endif
