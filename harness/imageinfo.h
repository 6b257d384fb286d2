/* What an image is, for the manifest, and whether a write could hurt anything in it. */
#ifndef HARNESS_IMAGEINFO_H
#define HARNESS_IMAGEINFO_H
#include <jansson.h>
#include <stdbool.h>

#include "core/image/node.h"
#include "harness/options.h"

/* Opens the image read only and looks; touches nothing. *holds: a cluster of its own is
 * allocated (or it has snapshots), or a raw file is not all hole, or it is a device.
 * host: false leaves out what differs between machines. */
int image_look(const struct job *, bool host, json_t **info, bool *holds,
               struct error *);

#endif
