/*
 * A fresh copy of an image beside it, for a trial to write to: laid out like the
 * original (holes stay holes), shared blocks where the file system can (reflink).
 */
#ifndef HARNESS_COPY_H
#define HARNESS_COPY_H
#include "core/env/error.h"

/* *copy is PATH.asyncow-XXXXXX, to be freed; unlink it when done. Durable on return, so
 * that its writeback does not run into the trial. 0 or -errno with err. */
int image_copy(const char *path, char **copy, struct error *err);

#endif
