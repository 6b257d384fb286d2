/* Records read, and put into the order asked for: iolog.h. */
#include "harness/iolog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct line {
    uint64_t seq, arrival, submitted_ns, done_ns, offset, len;
    char op[16], kind[16];
    bool arrived;
};

static bool parse_line(const char *text, struct line *l)
{
    char arrival[24], *end, rest[2];
    int result;

    if (sscanf(text,
               "%" SCNu64 " %23s %" SCNu64 " %" SCNu64 " %15s %15s %" SCNu64 " %" SCNu64
               " %d %1s",
               &l->seq, arrival, &l->submitted_ns, &l->done_ns, l->op, l->kind,
               &l->offset, &l->len, &result, rest) != 9)
        return false;
    l->arrived = strcmp(arrival, "-") != 0;
    l->arrival = l->arrived ? strtoull(arrival, &end, 10) : 0;
    return !l->arrived || !*end;
}

/* -1: not a request that a guest makes; -2: no such operation. */
static int direction(const struct line *l)
{
    static const struct {
        const char *op;
        int dir;
    } ops[] = {{"read", LOAD_READ},  {"write", LOAD_WRITE}, {"discard", LOAD_TRIM},
               {"flush", LOAD_SYNC}, {"zero", -1},          {"grow", -1}};

    for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
        if (!strcmp(l->op, ops[i].op))
            return strcmp(l->kind, "data") ? -1 : ops[i].dir;
    return -2;
}

static int add(struct iolog *log, const struct iolog_entry *e)
{
    if ((log->n & (log->n - 1)) == 0) { /* a power of two is full */
        uint64_t room = log->n ? 2 * log->n : 1;
        struct iolog_entry *more = realloc(log->entry, room * sizeof(*more));
        if (!more)
            return -ENOMEM;
        log->entry = more;
    }
    log->entry[log->n++] = *e;
    if (e->len > log->len_max)
        log->len_max = e->len;
    return 0;
}

static int take(struct iolog *log, const struct line *l, enum iolog_order order,
                uint64_t disk_size, struct error *err)
{
    int dir = direction(l);
    struct iolog_entry e = {.offset = l->offset,
                            .len = l->len,
                            .at_ns = l->submitted_ns,
                            .place = order == IOLOG_AS_ARRIVED ? l->arrival : l->seq};

    if (dir == -1) {
        log->left_out++;
        return 0;
    }
    if (dir < 0)
        return error_set(err, -EINVAL,
                         "no operation `%s`; there are read, write, flush, discard, "
                         "zero and grow",
                         l->op);
    e.dir = (enum load_dir)dir;
    if (e.dir == LOAD_SYNC)
        e.offset = e.len = 0;
    else if (!e.len || e.len > 64u << 20)
        return error_set(err, -EINVAL, "%" PRIu64 " bytes: 1 to 64 MiB would be right",
                         e.len);
    if (e.offset > disk_size || e.len > disk_size - e.offset)
        return error_set(err, -EINVAL,
                         "%" PRIu64 " bytes at %" PRIu64
                         ": behind the end of the disk of %" PRIu64 " bytes",
                         e.len, e.offset, disk_size);
    if (order == IOLOG_AS_ARRIVED && !l->arrived)
        return error_set(err, -EINVAL,
                         "has no arrival: it never reached the kernel; "
                         "replay_order=seq would do");
    return add(log, &e);
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = ((const struct iolog_entry *)a)->place,
             y = ((const struct iolog_entry *)b)->place;

    return x < y ? -1 : x > y;
}

/* In order, and counted from the first. A request that arrived before one that was
 * submitted earlier keeps its own time. */
static void arrange(struct iolog *log)
{
    uint64_t first_ns = UINT64_MAX;

    qsort(log->entry, log->n, sizeof(*log->entry), by_place);
    for (uint64_t i = 0; i < log->n; i++)
        if (log->entry[i].at_ns < first_ns)
            first_ns = log->entry[i].at_ns;
    for (uint64_t i = 0; i < log->n; i++)
        log->entry[i].at_ns -= first_ns;
}

/* Of one opening of one file: a second header begins another, with its own numbers. */
static int read_lines(struct iolog *log, FILE *f, const char *path,
                      enum iolog_order order, uint64_t disk_size, struct error *err)
{
    char text[256];
    unsigned number = 0, headers = 0;
    int ret = 0;

    while (ret == 0 && fgets(text, sizeof(text), f)) {
        struct line l;

        number++;
        if (text[0] == '#') {
            headers += !strncmp(text, "# asyncow record", 16);
            if (headers > 1 && log->n)
                ret = error_set(err, -EINVAL,
                                "%s:%u: another opening begins here; only one can be "
                                "replayed at a time",
                                path, number);
        } else if (!parse_line(text, &l)) {
            ret = error_set(err, -EINVAL,
                            "%s:%u: not a line of a record; \"0 1 1200 98000 write "
                            "data 65536 4096 0\" would be",
                            path, number);
        } else if ((ret = take(log, &l, order, disk_size, err)) < 0) {
            error_prefix(err, "%s:%u", path, number);
        }
    }
    return ret;
}

int iolog_read(struct iolog *log, const char *path, enum iolog_order order,
               uint64_t disk_size, struct error *err)
{
    FILE *f = fopen(path, "re");
    int ret;

    *log = (struct iolog){.n = 0};
    if (!f)
        return error_set(err, -errno, "read_iolog: %s: %s", path, strerror(errno));
    ret = read_lines(log, f, path, order, disk_size, err);
    fclose(f);
    if (ret == 0 && !log->n)
        ret = error_set(err, -EINVAL, "read_iolog: %s: no request in it", path);
    if (ret < 0) {
        iolog_free(log);
        return ret;
    }
    arrange(log);
    return 0;
}

void iolog_free(struct iolog *log)
{
    free(log->entry);
    *log = (struct iolog){.n = 0};
}
