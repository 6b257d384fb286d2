/* Chunks that double in size, from the smallest files' to the machine's large pages:
 * sim_memory.h. */
#include "core/block/sim_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FIRST (16 * SIM_PAGE)
#define LARGEST ((size_t)8 << 20)
#define LARGE_PAGE ((size_t)2 << 20)

struct sim_chunk {
    uint8_t *bytes;
    struct sim_chunk *next;
};

static bool more(struct sim_memory *m)
{
    size_t bytes = !m->bytes ? FIRST : m->bytes < LARGEST ? 2 * m->bytes : LARGEST;
    struct sim_chunk *c = malloc(sizeof(*c));
    void *at = NULL;

    if (!c || posix_memalign(&at, bytes < LARGE_PAGE ? SIM_PAGE : LARGE_PAGE, bytes)) {
        free(c);
        return false;
    }
    if (bytes >= LARGE_PAGE)
        madvise(at, bytes, MADV_HUGEPAGE); /* or not: it is only slower then */
    *c = (struct sim_chunk){.bytes = at, .next = m->chunks};
    m->chunks = c;
    m->bytes = bytes;
    m->next = at;
    m->end = m->next + bytes;
    return true;
}

uint8_t *sim_memory_page(struct sim_memory *m)
{
    uint8_t *page = m->given_back;

    if (page) {
        memcpy(&m->given_back, page, sizeof(m->given_back));
        return page;
    }
    if (m->next == m->end && !more(m))
        return NULL;
    page = m->next;
    m->next += SIM_PAGE;
    return page;
}

void sim_memory_give_back(struct sim_memory *m, uint8_t *page)
{
    memcpy(page, &m->given_back, sizeof(m->given_back));
    m->given_back = page;
}

void sim_memory_free(struct sim_memory *m)
{
    struct sim_chunk *next;

    for (struct sim_chunk *c = m->chunks; c; c = next) {
        next = c->next;
        free(c->bytes);
        free(c);
    }
    *m = (struct sim_memory){.chunks = NULL};
}
