/* Compressed clusters: raw deflate and zstd. Pure computation, any thread. */
#ifndef ASYNCOW_DECOMPRESS_H
#define ASYNCOW_DECOMPRESS_H
#include <stddef.h>

#include "core/qcow2/format.h"

/* Expands the stream at in (it may end before in_len) to exactly out_len bytes.
 * 0, or -EIO when the stream is damaged or too short. */
int image_decompress(enum qcow2_compression, const void *in, size_t in_len, void *out,
                     size_t out_len);

#endif
