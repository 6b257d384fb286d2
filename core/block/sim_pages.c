/* A simulated file's bytes, in a table of pages; sim_file.h has the invariants. */
#include "core/block/sim_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE SIM_PAGE

static uint8_t zeros[PAGE]; /* never written */

/* --- the page table --------------------------------------------------------------- */

static struct page *slot_of(struct page *table, unsigned bits, uint64_t no)
{
    size_t mask = ((size_t)1 << bits) - 1;
    size_t i = (size_t)(no * 0x9e3779b97f4a7c15u >> (64 - bits));

    while (table[i].data && table[i].no != no)
        i = (i + 1) & mask;
    return &table[i];
}

static int table_grow(struct sim_file *f)
{
    unsigned bits = f->bits ? f->bits + 1 : 6;
    struct page *table = calloc((size_t)1 << bits, sizeof(*table));

    if (!table)
        return -ENOMEM;
    for (size_t i = 0; f->bits && i < (size_t)1 << f->bits; i++)
        if (f->table[i].data)
            *slot_of(table, bits, f->table[i].no) = f->table[i];
    free(f->table);
    f->table = table;
    f->bits = bits;
    return 0;
}

static struct page *page_find(struct sim_file *f, uint64_t no)
{
    struct page *p = f->bits ? slot_of(f->table, f->bits, no) : NULL;

    return p && p->data ? p : NULL;
}

void sim_file_prefetch(struct sim_file *f, uint64_t offset)
{
    uint64_t no = offset / PAGE;

    if (f->bits)
        __builtin_prefetch(&f->table[no * 0x9e3779b97f4a7c15u >> (64 - f->bits)]);
}

static int page_add(struct sim_file *f, uint64_t no, uint8_t *data, struct page **out)
{
    if (!f->bits || f->pages >= (size_t)1 << (f->bits - 1)) {
        int ret = table_grow(f);
        if (ret < 0)
            return ret;
    }
    struct page *p = slot_of(f->table, f->bits, no);
    *p = (struct page){.no = no, .data = data};
    f->pages++;
    *out = p;
    return 0;
}

static void page_drop(struct sim_file *f, struct page *p)
{
    if (p->data != zeros)
        sim_memory_give_back(&f->memory, p->data);
    p->data = zeros;
}

/* The page as the real file has it. */
static int page_load(struct sim_file *f, uint64_t no, struct page **out)
{
    uint8_t *data = zeros;
    uint64_t start = no * PAGE;

    if (start < f->base) {
        size_t want = f->base - start < PAGE ? (size_t)(f->base - start) : PAGE;
        ssize_t got;
        data = sim_memory_page(&f->memory);
        if (!data)
            return -ENOMEM;
        memset(data + want, 0, PAGE - want);
        do
            got = pread(f->fd, data, want, (off_t)start);
        while (got < 0 && errno == EINTR);
        if (got < 0) {
            int ret = -errno;
            sim_memory_give_back(&f->memory, data);
            return ret;
        }
        memset(data + got, 0, want - (size_t)got); /* it has been cut off meanwhile */
        if (!memcmp(data, zeros, PAGE)) {
            sim_memory_give_back(&f->memory, data);
            data = zeros;
        }
    }
    int ret = page_add(f, no, data, out);
    if (ret < 0 && data != zeros)
        sim_memory_give_back(&f->memory, data);
    return ret;
}

static int page_get(struct sim_file *f, uint64_t no, const uint8_t **data)
{
    struct page *p = page_find(f, no);

    if (!p) {
        if (no * PAGE >= f->base) {
            *data = zeros;
            return 0;
        }
        int ret = page_load(f, no, &p);
        if (ret < 0)
            return ret;
    }
    *data = p->data;
    return 0;
}

/* whole: all of it will be written. */
static int page_get_for_write(struct sim_file *f, uint64_t no, bool whole,
                              uint8_t **data)
{
    struct page *p = page_find(f, no);

    if (!p) {
        int ret = whole ? page_add(f, no, zeros, &p) : page_load(f, no, &p);
        if (ret < 0)
            return ret;
    }
    if (p->data == zeros) {
        uint8_t *own = sim_memory_page(&f->memory);
        if (!own)
            return -ENOMEM;
        if (!whole)
            memset(own, 0, PAGE);
        p->data = own;
    }
    p->dirty = true;
    *data = p->data;
    return 0;
}

/* --- reading, writing, zeroing ---------------------------------------------------- */

/* libc's memcpy(). Knowing that it is a page at most, gcc puts `rep movs` in its place, which
 * takes several times as long and was half of all the time of a simulated write. */
static void copy(void *to, const void *from, size_t n)
{
    __asm__("" : "+r"(n));
    memcpy(to, from, n);
}

static int copy_in(struct sim_file *f, uint64_t offset, const uint8_t *buf, size_t len)
{
    while (len) {
        size_t at = offset % PAGE, n = len < PAGE - at ? len : PAGE - at;
        uint8_t *data;
        int ret = page_get_for_write(f, offset / PAGE, n == PAGE, &data);
        if (ret < 0)
            return ret;
        copy(data + at, buf, n);
        buf += n;
        offset += n;
        len -= n;
    }
    return 0;
}

static int copy_out(struct sim_file *f, uint64_t offset, uint8_t *buf, size_t len)
{
    while (len) {
        size_t at = offset % PAGE, n = len < PAGE - at ? len : PAGE - at;
        const uint8_t *data;
        int ret = page_get(f, offset / PAGE, &data);
        if (ret < 0)
            return ret;
        copy(buf, data + at, n);
        buf += n;
        offset += n;
        len -= n;
    }
    return 0;
}

static int page_zero(struct sim_file *f, uint64_t no)
{
    struct page *p = page_find(f, no);

    if (!p) {
        if (no * PAGE >= f->base)
            return 0;
        int ret = page_add(f, no, zeros, &p);
        if (ret < 0)
            return ret;
    }
    page_drop(f, p);
    p->dirty = true;
    return 0;
}

/* Pages [first, end) read zero from now on. The work is bounded by the pages in memory
 * and the size of the real file, whatever the range. */
static int pages_zero(struct sim_file *f, uint64_t first, uint64_t end)
{
    uint64_t base_end = (f->base + PAGE - 1) / PAGE, no;

    for (no = first; no < end && no < base_end; no++) {
        int ret = page_zero(f, no);
        if (ret < 0)
            return ret;
    }
    if (end - no <= f->pages) {
        for (; no < end; no++)
            page_zero(f, no); /* cannot fail above base */
        return 0;
    }
    for (size_t i = 0; no < end && f->bits && i < (size_t)1 << f->bits; i++) {
        struct page *p = &f->table[i];
        if (p->data && p->no >= no && p->no < end) {
            page_drop(f, p);
            p->dirty = true;
        }
    }
    return 0;
}

/* Zeros inside one page. */
static int zero_part(struct sim_file *f, uint64_t offset, uint64_t len)
{
    const uint8_t *old;
    uint8_t *data;
    int ret = len ? page_get(f, offset / PAGE, &old) : 0;

    if (ret < 0 || !len || old == zeros) /* zeros on zeros need no page */
        return ret;
    ret = page_get_for_write(f, offset / PAGE, false, &data);
    if (ret == 0)
        memset(data + offset % PAGE, 0, (size_t)len);
    return ret;
}

static int zero_range(struct sim_file *f, uint64_t offset, uint64_t len)
{
    uint64_t end = offset + len, first = (offset + PAGE - 1) / PAGE, last = end / PAGE;

    if (first > last)
        return zero_part(f, offset, len);
    int ret = zero_part(f, offset, first * PAGE - offset);
    if (ret == 0 && first < last)
        ret = pages_zero(f, first, last);
    if (ret == 0)
        ret = zero_part(f, last * PAGE, end - last * PAGE);
    return ret;
}

static int64_t file_read(struct sim_file *f, uint64_t offset, const struct iovec *iov,
                         int cnt, size_t len)
{
    size_t moved = 0;

    if (offset >= f->size)
        return 0;
    if (len > f->size - offset)
        len = (size_t)(f->size - offset);
    for (int i = 0; i < cnt && moved < len; i++) {
        size_t n = iov[i].iov_len < len - moved ? iov[i].iov_len : len - moved;
        int ret = copy_out(f, offset + moved, iov[i].iov_base, n);
        if (ret < 0)
            return ret;
        moved += n;
    }
    return (int64_t)moved;
}

static int64_t file_write(struct sim_file *f, uint64_t offset, const struct iovec *iov,
                          int cnt, size_t len)
{
    size_t moved = 0;

    for (int i = 0; i < cnt && moved < len; i++) {
        size_t n = iov[i].iov_len < len - moved ? iov[i].iov_len : len - moved;
        int ret = copy_in(f, offset + moved, iov[i].iov_base, n);
        if (ret < 0)
            return ret;
        moved += n;
    }
    if (offset + moved > f->size)
        f->size = offset + moved;
    return (int64_t)moved;
}

int64_t sim_file_io(struct aio *a)
{
    struct sim_file *f = blk_sim(a->file);
    const struct iovec *iov;
    uint64_t offset, end;
    int cnt;
    size_t len = engine_piece(a, &iov, &cnt, &offset);

    if (a->op != AIO_READ && a->op != AIO_FLUSH && !f->write)
        return -EBADF;
    if (__builtin_add_overflow(offset, len, &end) || end > INT64_MAX)
        return -EFBIG;
    switch (a->op) {
    case AIO_READ:
        return file_read(f, offset, iov, cnt, len);
    case AIO_WRITE:
        return file_write(f, offset, iov, cnt, len);
    case AIO_DISCARD: /* never makes it longer */
        if (offset >= f->size)
            return 0;
        return zero_range(f, offset, (end < f->size ? end : f->size) - offset);
    case AIO_ZERO:
    case AIO_GROW:
        if (end > f->size)
            f->size = end;
        return a->op == AIO_ZERO ? zero_range(f, offset, len) : 0;
    default:
        return 0;
    }
}

int sim_file_truncate(struct sim_file *f, uint64_t size)
{
    int ret = 0;

    if (!f->write)
        return -EBADF;
    if (size > INT64_MAX)
        return -EFBIG;
    if (size < f->size) {
        ret = zero_range(f, size, f->size - size);
        if (f->base > size)
            f->base = size;
    }
    f->size = size;
    return ret;
}

uint64_t sim_file_size(struct sim_file *f) { return f->size; }
unsigned sim_file_align(struct sim_file *f) { return f->direct ? 512 : 1; }

/* Is this page data, and up to which page (not beyond end) may that be said? */
static bool page_is_data(struct sim_file *f, uint64_t no, uint64_t end, uint64_t *until)
{
    struct page *p = page_find(f, no);

    *until = no + 1;
    if (p)
        return p->data != zeros;
    if (no * PAGE >= f->base)
        return false;
    off_t data = lseek(f->fd, (off_t)(no * PAGE), SEEK_DATA);
    if (data < 0 && errno != ENXIO) /* can't tell */
        return true;
    uint64_t next = data < 0 ? end : (uint64_t)data / PAGE;
    bool is = next <= no;
    if (is) {
        off_t hole = lseek(f->fd, data, SEEK_HOLE);
        next = hole < 0 ? no + 1 : (uint64_t)hole / PAGE;
    }
    /* all of that, but for what is in memory on top of it */
    while (*until < next && *until < end && !page_find(f, *until))
        ++*until;
    return is;
}

bool sim_file_is_data(struct sim_file *f, uint64_t offset, uint64_t *len)
{
    uint64_t no = offset / PAGE, end = (f->size + PAGE - 1) / PAGE, until;

    if (offset >= f->size) {
        *len = UINT64_MAX - offset;
        return false;
    }
    /* The answer may end early; some bound keeps a huge sparse file from taking
     * long. */
    if (end - no > 1u << 20)
        end = no + (1u << 20);
    bool data = page_is_data(f, no, end, &until);
    for (no = until; no < end && page_is_data(f, no, end, &until) == data; no = until)
        ;
    *len = (no * PAGE < f->size ? no * PAGE : f->size) - offset;
    return data;
}

/* --- the whole -------------------------------------------------------------------- */

int sim_pages_write_back(struct sim_file *f)
{
    struct stat st;

    if (f->fd < 0 || !f->write)
        return 0;
    if (fstat(f->fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size != f->size &&
        (ftruncate(f->fd, (off_t)f->base) < 0 || ftruncate(f->fd, (off_t)f->size) < 0))
        return -errno;
    for (size_t i = 0; f->bits && i < (size_t)1 << f->bits; i++) {
        struct page *p = &f->table[i];
        uint64_t start = p->no * PAGE;
        if (!p->data || !p->dirty || start >= f->size)
            continue;
        size_t n = f->size - start < PAGE ? (size_t)(f->size - start) : PAGE;
        if (p->data == zeros &&
            fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
                      (off_t)n) == 0)
            continue;
        for (size_t done = 0; done < n;) {
            ssize_t put =
                pwrite(f->fd, p->data + done, n - done, (off_t)(start + done));
            if (put < 0 && errno != EINTR)
                return -errno;
            if (put > 0)
                done += (size_t)put;
        }
    }
    return 0;
}

void sim_pages_free(struct sim_file *f)
{
    sim_memory_free(&f->memory);
    free(f->table);
}
