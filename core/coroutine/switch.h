/*
 * The bare switch between two stacks, in two versions. Only coroutine.c includes this.
 *
 *     struct co_ctx                      a suspended flow of control
 *     co_ctx_init(ctx, bottom, top, fn)  fn() will run on [bottom, top), from its start
 *     co_ctx_switch(from, to)            suspend into from, resume to; returns when
 *                                        somebody switches to from again
 *
 * -DCO_BACKEND_UCONTEXT takes the portable version; other machines than x86-64 have no
 * other.
 */
#ifndef ASYNCOW_SWITCH_H
#define ASYNCOW_SWITCH_H
#include <stdint.h>

#if defined(__x86_64__) && !defined(CO_BACKEND_UCONTEXT)
#define CO_BACKEND "asm"

struct co_ctx {
    void *sp; /* of a stack whose top is what the switch below pops */
};

/*
 * An ordinary function to its caller: it keeps the registers that a callee must keep, on
 * the stack that it leaves. The control words of the FPU (rounding, exception masks) are
 * not among them, as nothing in this program changes them.
 *
 * It returns by a jump, on purpose: the processor predicts a return from the calls it saw
 * last, and those were the other side's. A jump it predicts from where it went before, so
 * a switch costs 2 ns instead of 10. Hence co_enter() and co_yield() end in a tail call of
 * this function: a return of their own would be mispredicted just the same. Shadow stacks
 * forbid such tricks; Linux turns them on only for programs that ask.
 */
void co_ctx_switch(struct co_ctx *from, struct co_ctx *to)
    __attribute__((visibility("hidden")));
__asm__(".pushsection .text\n"
        ".hidden co_ctx_switch\n"
        ".globl co_ctx_switch\n"
        ".type co_ctx_switch, @function\n"
        ".p2align 5\n"
        "co_ctx_switch:\n\t"
        "pushq %rbp\n\t"
        "pushq %rbx\n\t"
        "pushq %r12\n\t"
        "pushq %r13\n\t"
        "pushq %r14\n\t"
        "pushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq (%rsi), %rsp\n\t"
        "popq %r15\n\t"
        "popq %r14\n\t"
        "popq %r13\n\t"
        "popq %r12\n\t"
        "popq %rbx\n\t"
        "popq %rbp\n\t"
        "popq %rcx\n\t"
        "jmpq *%rcx\n"
        ".size co_ctx_switch, . - co_ctx_switch\n"
        ".popsection\n");

static inline void co_ctx_init(struct co_ctx *ctx, char *bottom, char *top,
                               void (*fn)(void))
{
    /* What the switch pops: six registers and fn. Under it the address that fn would
     * return to: 0 ends backtraces. The ABI wants its place aligned to 16 less 8. */
    uintptr_t *sp = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15);

    (void)bottom;
    *--sp = 0;
    *--sp = (uintptr_t)fn;
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    ctx->sp = sp;
}

#else /* ucontext */
#define CO_BACKEND "ucontext"
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <ucontext.h>

/*
 * setcontext() enters a context for the first time; it is slow, as it sets the signal
 * mask by a system call. From then on sigsetjmp() without the mask and siglongjmp() do.
 * (glibc's fortified longjmp would refuse to jump "down" a stack: coroutine.c turns
 * fortification off for itself. TSan looks a longjmp's target up in the fibre that jumps,
 * so there the slow way is the only one.)
 */
struct co_ctx {
    bool started; /* jmp is valid */
    ucontext_t start;
    sigjmp_buf jmp;
};

static inline void co_ctx_init(struct co_ctx *ctx, char *bottom, char *top,
                               void (*fn)(void))
{
    ctx->started = false;
    if (getcontext(&ctx->start) < 0)
        abort(); /* only for a bad address */
    ctx->start.uc_link = NULL;
    ctx->start.uc_stack.ss_sp = bottom;
    ctx->start.uc_stack.ss_size = (size_t)(top - bottom);
    makecontext(&ctx->start, fn, 0);
}

static inline void co_ctx_switch(struct co_ctx *from, struct co_ctx *to)
{
#ifdef CO_TSAN
    swapcontext(&from->start, &to->start);
    return;
#endif
    if (sigsetjmp(from->jmp, 0))
        return;
    from->started = true;
    if (to->started)
        siglongjmp(to->jmp, 1);
    setcontext(&to->start);
    abort(); /* unreachable: setcontext only returns for a bad address */
}
#endif

#endif
