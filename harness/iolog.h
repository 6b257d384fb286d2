/*
 * A list of I/Os to be made again: what the filter `record` wrote (core/block/
 * filter_record.c), or one by hand in its form.
 */
#ifndef HARNESS_IOLOG_H
#define HARNESS_IOLOG_H
#include "harness/options.h"

enum iolog_order { IOLOG_AS_SUBMITTED, IOLOG_AS_ARRIVED };

struct iolog_entry {
    enum load_dir dir;
    uint64_t offset, len;
    uint64_t at_ns; /* since the first */
    uint64_t place; /* in the order asked for */
};
struct iolog {
    struct iolog_entry *entry; /* in that order */
    uint64_t n, len_max;
    uint64_t left_out; /* lines that are no guest's requests: grow, zero, metadata */
};
/* 0; or -errno with err: the file, the line, what would be right. Requests behind the
 * end of the disk are an error, too. */
int iolog_read(struct iolog *, const char *path, enum iolog_order, uint64_t disk_size,
               struct error *);
void iolog_free(struct iolog *);

#endif
