/*
 * Linked into a strategy's module in place of the allocator (--wrap), for test_faults: which
 * allocation fails is the program's to say. A coroutine's stack counts as one.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/coroutine/coroutine.h"
#include "tests/faults/trial.h"

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
int __real_posix_memalign(void **, size_t, size_t);
void __real_free(void *);
struct co *__real_co_create(void (*)(void *), void *);

void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);
void *__wrap_aligned_alloc(size_t, size_t);
int __wrap_posix_memalign(void **, size_t, size_t);
void __wrap_free(void *);
struct co *__wrap_co_create(void (*)(void *), void *);

static void *took(void *p)
{
    trial_memory(p != NULL);
    return p;
}

void *__wrap_malloc(size_t n)
{
    return trial_denies_memory() ? NULL : took(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t m)
{
    return trial_denies_memory() ? NULL : took(__real_calloc(n, m));
}

void *__wrap_realloc(void *old, size_t n)
{
    void *p = trial_denies_memory() ? NULL : __real_realloc(old, n);

    if (!old)
        took(p);
    return p;
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return trial_denies_memory() ? NULL : took(__real_aligned_alloc(align, n));
}

int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    int ret = trial_denies_memory() ? ENOMEM : __real_posix_memalign(p, align, n);

    trial_memory(ret == 0);
    return ret;
}

void __wrap_free(void *p)
{
    trial_memory(-(p != NULL));
    __real_free(p);
}

/* Its stack goes back to the pool by itself. */
struct co *__wrap_co_create(void (*fn)(void *), void *arg)
{
    return trial_denies_memory() ? NULL : __real_co_create(fn, arg);
}
