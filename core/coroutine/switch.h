/*
 * The hand-written switch between two stacks, for x86-64 and AArch64: switch.c. Only
 * core/coroutine includes this.
 */
#ifndef ASYNCOW_SWITCH_H
#define ASYNCOW_SWITCH_H
#include <stdint.h>

/* What the switch finds on a suspended stack: this many words, among them where to
 * go. */
#if defined(__x86_64__)
/* Six registers, where to go, and under it the address that fn would return to: 0 ends
 * backtraces. The ABI wants that one's place aligned to 16 less 8. */
#define CO_HAVE_ASM 1
enum { CO_ASM_WORDS = 8, CO_ASM_FN = 6 };
#elif defined(__aarch64__)
/* Frame pointer (0 ends backtraces), where to go, ten registers, eight of the FPU's. */
#define CO_HAVE_ASM 1
enum { CO_ASM_WORDS = 20, CO_ASM_FN = 1 };
#endif

#ifdef CO_HAVE_ASM
/* Suspends into *from and resumes to. Returns when somebody resumes *from. */
void co_asm_switch(void **from, void *to) __attribute__((visibility("hidden")));

/* What to resume for fn() to run below top, from its start. */
static inline void *co_asm_init(char *top, void (*fn)(void))
{
    uintptr_t *sp = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15) - CO_ASM_WORDS;

    for (int i = 0; i < CO_ASM_WORDS; i++)
        sp[i] = 0;
    sp[CO_ASM_FN] = (uintptr_t)fn;
    return sp;
}
#endif

#endif
