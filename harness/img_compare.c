/* `asyncow img compare`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image/chain.h"
#include "core/image/reader.h"
#include "harness/img.h"

enum {
    SAME = 0,
    DIFFER = 1,
    CANNOT_OPEN = 2,
    CANNOT_MAP = 3,
    CANNOT_READ = 4,
    CHUNK = 1 << 20
};

struct side {
    struct image_node *top;
    struct reader *r;
    uint8_t *buf;
};
struct comparison {
    const struct img_options *o;
    struct side side[2];
    bool strict;
};

static int differ(const struct comparison *c, const char *what, uint64_t at,
                  const char *end)
{
    if (!c->o->quiet)
        printf("%s%" PRIu64 "%s\n", what, at, end);
    return DIFFER;
}

/* Both are read, or one where the other is zero. */
static int compare_bytes(struct comparison *c, uint64_t at, uint64_t len, bool zero[2])
{
    struct error err = {""};

    for (uint64_t n; len; at += n, len -= n) {
        n = len < CHUNK ? len : CHUNK;
        for (int i = 0; i < 2; i++) {
            if (zero[i])
                memset(c->side[i].buf, 0, n);
            else if (reader_read(c->side[i].r, at, c->side[i].buf, n, &err) < 0) {
                img_fail(c->o, "%s", err.msg);
                return CANNOT_READ;
            }
        }
        if (!memcmp(c->side[0].buf, c->side[1].buf, n))
            continue;
        uint64_t i = 0;
        while (c->side[0].buf[i] == c->side[1].buf[i])
            i++;
        return differ(c, "Content mismatch at offset ", at + i, "!");
    }
    return SAME;
}

static int status_at(struct comparison *c, int i, uint64_t at, uint64_t len,
                     struct reader_status *s)
{
    uint64_t size = c->side[i].top->size;
    struct error err = {""};

    *s = (struct reader_status){.zero = true, .len = len};
    if (at >= size)
        return SAME;
    if (len > size - at)
        len = size - at;
    if (reader_status(c->side[i].r, at, len, 0, s, &err) < 0) {
        img_fail(c->o, "%s", err.msg);
        return CANNOT_MAP;
    }
    return SAME;
}

static int compare(struct comparison *c)
{
    uint64_t size[2] = {c->side[0].top->size, c->side[1].top->size};
    uint64_t both = size[0] < size[1] ? size[0] : size[1];
    uint64_t end = size[0] > size[1] ? size[0] : size[1];
    struct reader_status s[2];
    int r = SAME;

    if (size[0] != size[1] && c->strict) {
        if (!c->o->quiet)
            printf("Strict mode: Image size mismatch!\n");
        return DIFFER;
    }
    for (uint64_t at = 0, len; !r && at < end; at += len) {
        if (at == both && !c->o->quiet)
            printf("Warning: Image size mismatch!\n");
        len = at < both ? both - at : end - at;
        if ((r = status_at(c, 0, at, len, &s[0])) ||
            (r = status_at(c, 1, at, s[0].len, &s[1])))
            return r;
        len = s[0].len < s[1].len ? s[0].len : s[1].len;
        if (c->strict && (s[0].present != s[1].present || s[0].zero != s[1].zero))
            return differ(c, "Strict mode: Offset ", at, " block status mismatch!");
        bool zero[2] = {s[0].zero, s[1].zero};
        if (!zero[0] || !zero[1])
            r = compare_bytes(c, at, len, zero);
        img_progress(c->o, at + len, end);
    }
    if (!r && !c->o->quiet)
        printf("Images are identical.\n");
    return r;
}

static int open_side(struct comparison *c, int i, const char *format)
{
    struct side *s = &c->side[i];

    if (img_open(c->o, &s->top, c->o->argv[i], format,
                 (struct img_open){.backing = true}) < 0)
        return CANNOT_OPEN;
    s->buf = malloc(CHUNK);
    if (!s->buf || reader_create(&s->r, s->top) < 0) {
        img_fail(c->o, "out of memory");
        return CANNOT_OPEN;
    }
    return 0;
}

int img_compare(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"force-share", no_argument, NULL, 'U'},
        {"image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"object", no_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    struct comparison c = {.o = o};
    int opt, status = 0;

    while ((opt = img_getopt(o, argc, argv, ":hf:F:T:pqsU", longs, &status)) > 0) {
        if (opt == 'F')
            o->format2 = optarg;
        c.strict |= opt == 's';
    }
    if (!opt)
        return status ? CANNOT_OPEN : 0;
    if (img_need_files(o, 2, 2, "two image file names"))
        return CANNOT_OPEN;
    status = open_side(&c, 0, o->format);
    if (!status)
        status = open_side(&c, 1, o->format2);
    if (!status)
        status = compare(&c);
    for (int i = 0; i < 2; i++) {
        reader_free(c.side[i].r);
        free(c.side[i].buf);
        chain_close(c.side[i].top);
    }
    return status;
}
