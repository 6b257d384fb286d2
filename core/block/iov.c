/* Parts of an I/O vector. */
#include <assert.h>
#include <string.h>

#include "core/block/aio.h"

/* Goes to the entry that byte *skip is in and leaves the offset there. */
static int seek(const struct iovec *iov, int cnt, size_t *skip)
{
    int i = 0;

    while (i < cnt && *skip >= iov[i].iov_len)
        *skip -= iov[i++].iov_len;
    return i;
}

int iov_slice(struct iovec *out, int max, const struct iovec *in, int incnt,
              size_t skip, size_t len)
{
    int n = 0;

    for (int i = seek(in, incnt, &skip); len > 0; i++, skip = 0) {
        size_t part;

        assert(i < incnt && n < max);
        part = in[i].iov_len - skip;
        if (part > len)
            part = len;
        if (part == 0)
            continue;
        out[n++] = (struct iovec){(char *)in[i].iov_base + skip, part};
        len -= part;
    }
    return n;
}

enum direction { ZERO, TO_IOV, FROM_IOV };

static void copy(const struct iovec *iov, int cnt, size_t skip, char *buf, size_t len,
                 enum direction direction)
{
    for (int i = seek(iov, cnt, &skip); len > 0; i++, skip = 0) {
        char *base;
        size_t part;

        assert(i < cnt);
        base = (char *)iov[i].iov_base + skip;
        part = iov[i].iov_len - skip;
        if (part > len)
            part = len;
        if (part == 0)
            continue;
        if (direction == ZERO)
            memset(base, 0, part);
        else if (direction == TO_IOV)
            memcpy(base, buf, part);
        else
            memcpy(buf, base, part);
        buf = buf ? buf + part : NULL;
        len -= part;
    }
}

void iov_zero(const struct iovec *iov, int cnt, size_t skip, size_t len)
{
    copy(iov, cnt, skip, NULL, len, ZERO);
}

void iov_from_buf(const struct iovec *iov, int cnt, size_t skip, const void *buf,
                  size_t len)
{
    copy(iov, cnt, skip, (char *)(uintptr_t)buf, len, TO_IOV);
}

void iov_to_buf(const struct iovec *iov, int cnt, size_t skip, void *buf, size_t len)
{
    copy(iov, cnt, skip, buf, len, FROM_IOV);
}
