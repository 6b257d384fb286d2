/* Parsers of option values. 0 or -EINVAL; those with err say what would be right. */
#ifndef HARNESS_VALUES_H
#define HARNESS_VALUES_H
#include "harness/options.h"

int parse_count(const char *text, uint64_t *value); /* decimal, 0x..., 0... */
/* Bytes from "4k", "1.5g", "512", "4KiB". */
int parse_bytes(const char *text, uint64_t kb_base, uint64_t *bytes);
/* Nanoseconds from "10", "500ms", "2m"; a plain number is seconds. */
int parse_time_ns(const char *text, uint64_t *ns);
int parse_amount(const char *text, uint64_t kb_base, struct amount *); /* or "50%" */
int parse_rw(const char *text, uint64_t kb_base, struct rw_mode *, struct error *err);
int parse_percentiles(struct job *, const char *text, struct error *); /* "50:99.9" */

#endif
