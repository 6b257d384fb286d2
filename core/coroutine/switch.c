/*
 * The hand-written switch: see switch.h.
 *
 * An ordinary function to its caller: it keeps the registers that a callee must keep,
 * on the stack that it leaves. The control words of the FPU (rounding, exception masks)
 * are not among them though the ABI counts them in: they stay the thread's. Saving them
 * costs as much as the rest of the switch, and nothing in this program changes them. A
 * coroutine that does must set them back before it yields (test_coroutine_fpu shows
 * it).
 *
 * It returns by a jump, on purpose: the processor predicts a return from the calls it
 * saw last, and those were the other side's. A jump it predicts from where it went
 * before, so a switch costs 3 ns instead of 10. Hence co_enter() and co_yield() end in
 * a tail call of this function: a return of their own would be mispredicted just the
 * same. Shadow stacks forbid such tricks, so the program isn't marked as good for them
 * and backend.c refuses to start where they are on.
 */
#include "core/coroutine/switch.h"

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
        ".hidden co_asm_switch\n"
        ".globl co_asm_switch\n"
        ".type co_asm_switch, @function\n"
        ".p2align 5\n"
        "co_asm_switch:\n\t"
        "pushq %rbp\n\t"
        "pushq %rbx\n\t"
        "pushq %r12\n\t"
        "pushq %r13\n\t"
        "pushq %r14\n\t"
        "pushq %r15\n\t"
        "movq %rsp, (%rdi)\n\t"
        "movq %rsi, %rsp\n\t"
        "popq %r15\n\t"
        "popq %r14\n\t"
        "popq %r13\n\t"
        "popq %r12\n\t"
        "popq %rbx\n\t"
        "popq %rbp\n\t"
        "popq %rcx\n\t"
        "jmpq *%rcx\n"
        ".size co_asm_switch, . - co_asm_switch\n"
        ".popsection\n");

#elif defined(__aarch64__)
__asm__(".pushsection .text\n"
        ".hidden co_asm_switch\n"
        ".globl co_asm_switch\n"
        ".type co_asm_switch, %function\n"
        ".p2align 5\n"
        "co_asm_switch:\n\t"
        "stp x29, x30, [sp, #-160]!\n\t"
        "stp x19, x20, [sp, #16]\n\t"
        "stp x21, x22, [sp, #32]\n\t"
        "stp x23, x24, [sp, #48]\n\t"
        "stp x25, x26, [sp, #64]\n\t"
        "stp x27, x28, [sp, #80]\n\t"
        "stp d8, d9, [sp, #96]\n\t"
        "stp d10, d11, [sp, #112]\n\t"
        "stp d12, d13, [sp, #128]\n\t"
        "stp d14, d15, [sp, #144]\n\t"
        "mov x9, sp\n\t"
        "str x9, [x0]\n\t"
        "mov sp, x1\n\t"
        "ldp x19, x20, [sp, #16]\n\t"
        "ldp x21, x22, [sp, #32]\n\t"
        "ldp x23, x24, [sp, #48]\n\t"
        "ldp x25, x26, [sp, #64]\n\t"
        "ldp x27, x28, [sp, #80]\n\t"
        "ldp d8, d9, [sp, #96]\n\t"
        "ldp d10, d11, [sp, #112]\n\t"
        "ldp d12, d13, [sp, #128]\n\t"
        "ldp d14, d15, [sp, #144]\n\t"
        "ldp x29, x30, [sp], #160\n\t"
#ifdef __ARM_FEATURE_BTI_DEFAULT
        "ret\n" /* a jump to where no `bti` stands would fault */
#else
        "br x30\n"
#endif
        ".size co_asm_switch, . - co_asm_switch\n"
        ".popsection\n");
#endif
