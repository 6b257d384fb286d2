/*
 * Memory for the pages of one simulated file, by the chunk: a page costs no call, and large
 * files have large pages of the machine under them, which spares most of the faults and
 * misses that they would cost. Pages come as they are, not zeroed.
 */
#ifndef ASYNCOW_SIM_MEMORY_H
#define ASYNCOW_SIM_MEMORY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_PAGE 4096u

struct sim_memory { /* zero-initialised is empty */
    struct sim_chunk *chunks;
    uint8_t *next, *end; /* of the last chunk, not yet given out */
    uint8_t *given_back; /* linked through their first bytes */
    size_t bytes;        /* of the last chunk */
};
uint8_t *sim_memory_page(struct sim_memory *); /* NULL: none left */
void sim_memory_give_back(struct sim_memory *, uint8_t *page);
void sim_memory_free(struct sim_memory *);

#endif
