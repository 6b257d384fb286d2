/*
 * Which back end a thread's coroutines use.
 *
 * One at a time: a flow of control is resumed the way it was suspended. So the choice
 * can change only while the thread has no coroutine; other threads take it over when
 * they first use coroutines.
 *
 * Shadow stacks (x86 CET, ARM GCS): the processor compares every return with a second
 * stack that a program cannot swap at will. On such a thread the first switch would die
 * of SIGSEGV, so all back ends but `thread` refuse. Linux turns them on for programs
 * marked as good for them only; meson.build takes care that this one isn't.
 */
#include "core/coroutine/internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/coroutine/switch.h"

#ifndef CO_BACKEND_DEFAULT
#ifdef CO_HAVE_ASM
#define CO_BACKEND_DEFAULT asm
#else
#define CO_BACKEND_DEFAULT ucontext
#endif
#endif
#define NAME_(x) co_backend_##x
#define NAME(x) NAME_(x)

#ifdef CO_HAVE_ASM
const struct co_backend co_backend_asm = {
    /* called directly, see coroutine.c */
    .name = "asm",
    .summary = "a hand-written switch",
    .probe = co_backend_no_shadow_stack,
};
#endif

static const struct co_backend *const backends[] = {
#ifdef CO_HAVE_ASM
    &co_backend_asm,
#endif
    &co_backend_ucontext,
    &co_backend_sigaltstack,
    &co_backend_thread,
};
enum { BACKENDS = sizeof(backends) / sizeof(backends[0]) };

static _Atomic(const struct co_backend *) chosen;

/* --- shadow stacks ---------------------------------------------------------------- */

/* Does the kernel keep one for this thread? (Names from Linux 6.6 and 6.13.) */
static bool shadow_stack_is_on(void)
{
    unsigned long features = 0;
    enum { ARCH_SHSTK_STATUS = 0x5005, GET_SHADOW_STACK_STATUS = 74 };

#if defined(__x86_64__)
    long ret = syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &features);
#else
    long ret = prctl(GET_SHADOW_STACK_STATUS, &features, 0, 0, 0);
#endif
    return ret == 0 && (features & 1);
}

int co_backend_no_shadow_stack(struct error *err)
{
    if (!shadow_stack_is_on())
        return 0;
    return error_set(
        err, -ENOTSUP,
        "coroutines: this thread has a shadow stack, under which no stack can be "
        "switched; start without it (unset GLIBC_TUNABLES) or use the back end "
        "`thread`");
}

/* --- choice ----------------------------------------------------------------------- */

const char *co_backend_name(unsigned i, const char **summary)
{
    if (i >= BACKENDS)
        return NULL;
    if (summary)
        *summary = backends[i]->summary;
    return backends[i]->name;
}

static const struct co_backend *find(const char *name, struct error *err)
{
    char known[128] = "auto";

    if (!name || !strcmp(name, "auto"))
        return &NAME(CO_BACKEND_DEFAULT);
    for (unsigned i = 0; i < BACKENDS; i++) {
        if (!strcmp(name, backends[i]->name))
            return backends[i];
        strcat(strcat(known, "|"), backends[i]->name);
    }
    error_set(err, -EINVAL, "coroutine back end `%s` is not one of %s", name, known);
    return NULL;
}

int co_set_backend(const char *name, struct error *err)
{
    const struct co_backend *b = find(name, err);

    if (!b)
        return -EINVAL;
    if (co_tls.world.leader && b != co_tls.backend && co_live())
        return error_set(err, -EBUSY,
                         "coroutine back end %s: this thread has %u coroutines on %s; "
                         "it can be chosen only before the first or after the last",
                         b->name, co_live(), co_tls.backend->name);
    int ret = b->probe ? b->probe(err) : 0;
    if (ret < 0)
        return ret;
    atomic_store(&chosen, b);
    if (co_tls.world.leader && b != co_tls.backend) {
        co_pool_drain();
        co_backend_use(b);
    }
    return 0;
}

const char *co_backend(void)
{
    return co_tls.world.leader ? co_tls.backend->name : co_backend_first()->name;
}

const struct co_backend *co_backend_first(void)
{
    const struct co_backend *b = atomic_load(&chosen);
    struct error err = {""};

    if (!b)
        b = &NAME(CO_BACKEND_DEFAULT);
    if (b->probe && b->probe(&err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return b;
}
