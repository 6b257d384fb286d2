/*
 * Stacks: mapped, coloured, guarded, pooled.
 *
 *     guard page | CO_STACK_BYTES | the coroutine itself, at a colour of its own
 *
 * Without colours the hot words of all stacks would be a power of two apart, in a few
 * sets of the cache.
 *
 * The pool (Bonwick's magazines and depot, Usenix 2001, for one thread). Idle stacks
 * are taken and put last in first out at the front, co_tls.pool, which holds a batch at
 * most. A full front is put aside as a whole, an empty one replaced by a batch put
 * aside: no step takes longer for there being many, and a program that goes deeper than
 * the pool's limit and comes back, again and again, maps nothing after the first time.
 *
 * What is idle beyond the limit is given back late and slowly: batches that nobody
 * needed for a whole period (counted in turns of the loop and in overflows) are
 * unmapped one stack a step, so that no turn of the loop pays for many.
 */
#include "core/coroutine/internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/coroutine/switch.h"

#ifdef CO_ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(bottom, top) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

enum {
    LIMIT_DEFAULT = 1024, /* idle stacks a thread keeps; enough for the usual depths */
    BATCH = 128,
    PERIOD = 1024,   /* ticks */
    COLOURS = 64,    /* lines in a page */
    COLOUR_STEP = 7, /* lines; odd, so that successive stacks visit all colours */
};

static _Atomic unsigned limit = LIMIT_DEFAULT;

/* --- mapping ---------------------------------------------------------------------- */

static void stack_unmap(struct co *co)
{
    if (co->backend->fini)
        co->backend->fini(&co->ctx);
    if (!co->backend->threads) {
        VALGRIND_STACK_DEREGISTER(co->valgrind_id);
#ifdef CO_TSAN
        __tsan_destroy_fiber(co->fibre);
#endif
    }
#ifdef CO_ASAN
    /* the next owner of these addresses must not inherit their poison */
    __asan_unpoison_memory_region(co->map, co->map_bytes);
#endif
    co_tls.mapped--;
    munmap(co->map, co->map_bytes);
}

/* Makes what stack_map() laid out something to switch to. */
static int stack_init(struct co *co)
{
#ifdef CO_HAVE_ASM
    if (co->backend == &co_backend_asm) {
        co->sp = co_asm_init((char *)co, co_main);
        return 0;
    }
#endif
    return co->backend->init(&co->ctx, co->map + (co->map_bytes - co->bytes),
                             (char *)co, co_main);
}

__attribute__((cold, noinline)) static struct co *stack_map(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t top_bytes = COLOURS * CO_LINE + sizeof(struct co);
    size_t bytes = page + CO_STACK_BYTES + (top_bytes + page - 1) / page * page;
    char *map = mmap(NULL, bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (map == MAP_FAILED)
        return NULL;
    size_t colour = co_tls.colour++ * COLOUR_STEP % COLOURS * CO_LINE;
    struct co *co = (struct co *)(void *)(map + bytes - colour - sizeof(*co));
    if (mprotect(map + page, bytes - page, PROT_READ | PROT_WRITE) < 0)
        goto fail;
    co->backend = co_tls.backend;
    co->map = map;
    co->map_bytes = bytes;
    co->bottom = map + page;
    co->bytes = (size_t)((char *)co - (map + page));
    if (stack_init(co) < 0)
        goto fail;
    if (!co->backend->threads) {
        co->valgrind_id = VALGRIND_STACK_REGISTER(map + page, co);
#ifdef CO_TSAN
        co->fibre = __tsan_create_fiber(0);
#endif
    }
    if (++co_tls.mapped > co_tls.mapped_max)
        co_tls.mapped_max = co_tls.mapped;
    return co;
fail:
    munmap(map, bytes);
    return NULL;
}

/* --- batches ---------------------------------------------------------------------- */

static void batch_push(struct co *first, unsigned n)
{
    first->batch_next = co_tls.batches;
    first->batch_n = n;
    co_tls.batches = first;
    co_tls.batches_n++;
}

static struct co *batch_pop(void)
{
    struct co *first = co_tls.batches;

    co_tls.batches = first->batch_next;
    if (--co_tls.batches_n < co_tls.batches_least)
        co_tls.batches_least = co_tls.batches_n;
    return first;
}

static void dead_unmap(void)
{
    if (co_tls.dead)
        stack_unmap(co_tls.dead);
    co_tls.dead = NULL;
}

__attribute__((cold)) struct co *co_pool_refill(void)
{
    dead_unmap();
    if (!co_tls.batches)
        return stack_map();
    struct co *co = batch_pop();
    co_tls.pool = co->next;
    co_tls.pool_n = co->batch_n - 1;
    return co;
}

__attribute__((cold)) void co_pool_overflow(struct co *co)
{
    if (!co_tls.batch_max) { /* off. This one's own stack can't go yet */
        dead_unmap();
        co_tls.dead = co;
        return;
    }
    batch_push(co_tls.pool, co_tls.pool_n);
    co->next = NULL;
    co_tls.pool = co;
    co_tls.pool_n = 1;
    co_pool_tick();
}

static void surplus_unmap_one(void)
{
    struct co *co = batch_pop();
    unsigned left = co->batch_n - 1;

    if (left) {
        co->next->batch_next = co_tls.batches;
        co->next->batch_n = left;
        co_tls.batches = co->next;
        co_tls.batches_n++;
    }
    stack_unmap(co);
    co_tls.surplus--;
}

void co_pool_tick(void)
{
    if (co_tls.batches_n <= co_tls.batches_keep) {
        co_tls.surplus = co_tls.ticks = 0;
        co_tls.batches_least = co_tls.batches_n;
    } else if (co_tls.surplus) {
        surplus_unmap_one();
    } else if (++co_tls.ticks >= PERIOD) {
        unsigned over = co_tls.batches_n - co_tls.batches_keep;
        unsigned unused = co_tls.batches_least;
        co_tls.surplus = (over < unused ? over : unused) * co_tls.batch_max;
        co_tls.ticks = 0;
        co_tls.batches_least = co_tls.batches_n;
    }
}

void co_pool_drain(void)
{
    dead_unmap();
    for (;;) {
        while (co_tls.pool) {
            struct co *co = co_tls.pool;
            co_tls.pool = co->next;
            stack_unmap(co);
        }
        if (!co_tls.batches)
            break;
        co_tls.pool = batch_pop();
    }
    co_tls.pool_n = co_tls.surplus = co_tls.ticks = 0;
}

void co_pool_use_limit(void)
{
    unsigned n = limit;

    co_tls.batch_max = n < BATCH ? n : BATCH;
    co_tls.batches_keep = n ? n / co_tls.batch_max - 1 : 0;
}

void co_pool_limit(unsigned stacks)
{
    limit = stacks;
    co_pool_drain();
    co_pool_use_limit();
}

/* --- what there is ---------------------------------------------------------------- */

static unsigned idle_count(void)
{
    unsigned n = co_tls.pool_n + (co_tls.dead != NULL);

    for (struct co *co = co_tls.batches; co; co = co->batch_next)
        n += co->batch_n;
    return n;
}

unsigned co_live(void) { return co_tls.mapped - idle_count(); }

size_t co_stack_used(const struct co *co)
{
    enum { PAGES = CO_STACK_BYTES / 4096 + 4 };
    unsigned char in_core[PAGES];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = co->map_bytes / page, i = 1;

    assert(pages <= PAGES);
    if (mincore(co->map + page, co->map_bytes - page, in_core + 1) < 0)
        return 0;
    while (i < pages && !(in_core[i] & 1))
        i++;
    return (pages - i) * page;
}

void co_usage(struct co_usage *u)
{
    *u = (struct co_usage){
        .stacks = co_tls.mapped,
        .stacks_max = co_tls.mapped_max,
        .stacks_idle = idle_count(),
        .stack_bytes = CO_STACK_BYTES,
        .pool_limit = limit,
    };
}

static size_t used_max(const struct co *co, size_t max)
{
    for (; co; co = co->next) {
        size_t used = co_stack_used(co);
        max = used > max ? used : max;
    }
    return max;
}

size_t co_stack_used_max(void)
{
    size_t max = used_max(co_tls.pool, 0);

    for (struct co *co = co_tls.batches; co; co = co->batch_next)
        max = used_max(co, max);
    return max;
}
