/*
 * Compressed clusters: raw deflate (RFC 1951) and zstd (RFC 8878). Pure computation,
 * any thread. The input is from an image: it may be damaged, and goes on after the
 * stream's end with bytes that are not ours.
 */
#include "core/image/decompress.h"

#include <errno.h>
#include <limits.h>
#include <zlib.h>
#include <zstd.h>

static int inflate_raw(const void *in, size_t in_len, void *out, size_t out_len)
{
    z_stream z = {.next_in = (void *)(uintptr_t)in,
                  .avail_in = (uInt)in_len,
                  .next_out = out,
                  .avail_out = (uInt)out_len};

    /* QEMU writes 12 window bits; 15 reads those and any other. */
    if (in_len > UINT_MAX || out_len > UINT_MAX || inflateInit2(&z, -15) != Z_OK)
        return -ENOMEM;
    int r = inflate(&z, Z_FINISH);
    uInt left = z.avail_out;
    inflateEnd(&z);
    /* BUF_ERROR with the output full: the end-of-block code is all that is missing. */
    return left == 0 && (r == Z_STREAM_END || r == Z_BUF_ERROR) ? 0 : -EIO;
}

/* Frame by frame into the output itself, so that no window is allocated, whatever size
 * a frame claims. */
static int unzstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    int r = ctx ? 0 : -ENOMEM;

    while (!r && out_len) {
        size_t frame = ZSTD_findFrameCompressedSize(in, in_len);
        if (ZSTD_isError(frame)) {
            r = -EIO;
            break;
        }
        size_t made = ZSTD_decompressDCtx(ctx, out, out_len, in, frame);
        if (ZSTD_isError(made)) {
            r = -EIO;
            break;
        }
        in += frame;
        in_len -= frame;
        out += made;
        out_len -= made;
    }
    ZSTD_freeDCtx(ctx);
    return r;
}

int image_decompress(enum qcow2_compression type, const void *in, size_t in_len,
                     void *out, size_t out_len)
{
    return type == QCOW2_ZSTD ? unzstd(in, in_len, out, out_len)
                              : inflate_raw(in, in_len, out, out_len);
}
