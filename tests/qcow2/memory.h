/*
 * Allocations that fail. A program that includes this is linked with --wrap for the
 * allocator and compiled so that its own calls are the real ones (meson.build): while
 * memory.on, the core's are counted and fail as told. One source file in a program.
 */
#ifndef TEST_MEMORY_H
#define TEST_MEMORY_H
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static struct { /* of the core, while on */
    bool on, forever;
    uint64_t n, fail_at, failures;
} memory;

static bool no_memory(void)
{
    if (!memory.on)
        return false;
    uint64_t n = ++memory.n;
    if (!memory.fail_at ||
        !(n == memory.fail_at || (memory.forever && n > memory.fail_at)))
        return false;
    memory.failures++;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);
int __wrap_posix_memalign(void **, size_t, size_t);
int __real_posix_memalign(void **, size_t, size_t);

void *__wrap_malloc(size_t n) { return no_memory() ? NULL : malloc(n); }
void *__wrap_calloc(size_t n, size_t m) { return no_memory() ? NULL : calloc(n, m); }
void *__wrap_realloc(void *p, size_t n) { return no_memory() ? NULL : realloc(p, n); }
int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    return no_memory() ? ENOMEM : __real_posix_memalign(p, align, n);
}

#endif
