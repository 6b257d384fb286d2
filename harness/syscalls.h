/*
 * Counting system calls: those of all threads of a child process while it runs a
 * function, by tracing it (ptrace). Exact whatever makes the calls, the C library's or
 * libuv's own threads too; what the kernel's threads do for us doesn't count. A traced
 * process is slow, so that it may find more completed at a time than it would
 * otherwise.
 */
#ifndef HARNESS_SYSCALLS_H
#define HARNESS_SYSCALLS_H
#include <stdint.h>

#include "core/env/error.h"

enum { SYSCALLS_MAX = 512 };
struct syscalls {
    uint64_t total, by_number[SYSCALLS_MAX];
};

/* fn runs in the child; what it does between the two calls below is counted. It returns
 * 0 or -errno. 0, or -errno with err: fn's, or tracing isn't permitted. Not with other
 * children or other threads around. */
int syscalls_count(struct syscalls *, int (*fn)(void *opaque), void *opaque,
                   struct error *);
void syscalls_begin(void);
void syscalls_end(void);

#endif
