/*
 * Two portable back ends. Both switch by sigsetjmp() without the signal mask and
 * siglongjmp(); they differ in how a new stack is entered the first time, which C has
 * no word for:
 *  - ucontext: makecontext() and swapcontext(), there and back. Slow, as they set the
 *    signal mask by a system call; so only once a stack.
 *  - sigaltstack: a signal's handler runs on the new stack, marks it by sigsetjmp() and
 *    returns (Engelschall, Portable Multithreading, 2000). POSIX without ucontext has
 *    nothing else.
 *
 * TSan looks a longjmp's target up in the fibre that jumps. So with it ucontext
 * switches the slow way, and sigaltstack, which has no slow way, is refused.
 */
#undef _FORTIFY_SOURCE /* its longjmp takes a switch of stacks for an error */
#include "core/coroutine/backend.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_DEFINED(addr, len) ((void)(addr), (void)(len))
#endif

static void jump_change(struct co_ctx *from, struct co_ctx *to)
{
    if (sigsetjmp(from->jump, 0) == 0)
        siglongjmp(to->jump, 1);
}

/* The stack that this thread is just making. Volatile, for the compiler knows of
 * pthread_kill() that it calls nothing in this file. */
static __thread struct {
    struct co_ctx *volatile ctx; /* NULL: none */
    void (*volatile fn)(void);
} birth;

/* --- ucontext --------------------------------------------------------------------- */

static void make_context(ucontext_t *u, char *bottom, char *top, void (*fn)(void))
{
    if (getcontext(u) < 0)
        abort(); /* only for a bad address */
    u->uc_link = NULL;
    u->uc_stack.ss_sp = bottom;
    u->uc_stack.ss_size = (size_t)(top - bottom);
    makecontext(u, fn, 0);
}

#ifdef CO_TSAN
static int ucontext_init(struct co_ctx *ctx, char *bottom, char *top, void (*fn)(void))
{
    make_context(&ctx->ucontext, bottom, top, fn);
    return 0;
}

static void ucontext_change(struct co_ctx *from, struct co_ctx *to)
{
    swapcontext(&from->ucontext, &to->ucontext);
}
#else
#define ucontext_change jump_change
static __thread ucontext_t parent, child;

__attribute__((no_sanitize_address)) static void ucontext_born(void)
{
    void (*fn)(void) = birth.fn;

    if (sigsetjmp(birth.ctx->jump, 0) == 0)
        setcontext(&parent);
    fn();
}

static int ucontext_init(struct co_ctx *ctx, char *bottom, char *top, void (*fn)(void))
{
    birth.ctx = ctx;
    birth.fn = fn;
    make_context(&child, bottom, top, ucontext_born);
    if (swapcontext(&parent, &child) < 0)
        abort();
    birth.ctx = NULL;
    return 0;
}
#endif

const struct co_backend co_backend_ucontext = {
    .name = "ucontext",
    .summary = "makecontext, then sigsetjmp and siglongjmp",
    .probe = co_backend_no_shadow_stack,
    .init = ucontext_init,
    .change = ucontext_change,
};

/* --- sigaltstack ------------------------------------------------------------------ */

/* Returns into the kernel, which leaves the stack; the frame stays as it is, for nobody
 * else uses this stack, until somebody jumps back into it. */
__attribute__((no_sanitize_address)) static void signal_born(int sig)
{
    (void)sig;
    if (!birth.ctx)
        return; /* somebody else's signal */
    void (*fn)(void) = birth.fn;
    if (sigsetjmp(birth.ctx->jump, 0) == 0)
        return;
    fn();
}

static void must(int ret)
{
    assert(ret == 0); /* these fail for wrong arguments only */
    (void)ret;
}

static int sigaltstack_init(struct co_ctx *ctx, char *bottom, char *top,
                            void (*fn)(void))
{
    static pthread_mutex_t lock =
        PTHREAD_MUTEX_INITIALIZER; /* handlers are the process's */
    struct sigaction action = {.sa_handler = signal_born, .sa_flags = SA_ONSTACK}, old;
    stack_t stack = {.ss_sp = bottom, .ss_size = (size_t)(top - bottom)}, old_stack;
    sigset_t usr2, old_mask;

    sigfillset(&action.sa_mask);
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    must(pthread_mutex_lock(&lock));
    birth.ctx = ctx;
    birth.fn = fn;
    must(sigaction(SIGUSR2, &action, &old));
    must(sigaltstack(&stack, &old_stack));
    must(pthread_sigmask(SIG_UNBLOCK, &usr2, &old_mask));
    must(pthread_kill(pthread_self(), SIGUSR2)); /* handled before it returns */
    must(pthread_sigmask(SIG_SETMASK, &old_mask, NULL));
    must(sigaltstack(&old_stack, NULL));
    must(sigaction(SIGUSR2, &old, NULL));
    birth.ctx = NULL;
    /* To valgrind the handler's frame has gone. */
    VALGRIND_MAKE_MEM_DEFINED(bottom, (size_t)(top - bottom));
    must(pthread_mutex_unlock(&lock));
    return 0;
}

static int sigaltstack_probe(struct error *err)
{
#ifdef CO_TSAN
    return error_set(err, -ENOTSUP,
                     "coroutine back end sigaltstack: ThreadSanitizer cannot follow a "
                     "jump out of a signal's stack; use ucontext or asm with it");
#else
    return co_backend_no_shadow_stack(err);
#endif
}

const struct co_backend co_backend_sigaltstack = {
    .name = "sigaltstack",
    .summary = "a signal's stack, then sigsetjmp and siglongjmp",
    .probe = sigaltstack_probe,
    .init = sigaltstack_init,
    .change = jump_change,
};
