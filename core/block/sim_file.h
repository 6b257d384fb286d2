/*
 * A simulated file's inside: sim_file.c opens and closes it, sim_pages.c has its bytes.
 *
 * Invariants:
 *  1. A page in the table is the truth. A page that isn't there is what the real file
 *     has below `base` bytes, and zero above.
 *  2. A page in the table is the shared page of zeros or memory of its own. What is
 *     beyond the file's size is zero.
 */
#ifndef ASYNCOW_SIM_FILE_H
#define ASYNCOW_SIM_FILE_H
#include "core/block/engine.h"
#include "core/block/sim_memory.h"
#include "core/env/sim.h"

struct page {
    uint64_t no;   /* of the page; its bytes begin at no * PAGE */
    uint8_t *data; /* NULL: the table's slot is free */
    bool dirty;    /* differs from the real file */
};
struct sim_file {
    char *path;
    struct sim_file *next;
    struct sim_files *files;
    unsigned opens, number; /* number: in order of opening, in its world */
    int fd;                 /* the real file; -1: none */
    bool write, direct;
    uint64_t size, base;
    struct page *table; /* open addressing; a power of two of slots */
    unsigned bits;
    size_t pages;
    struct sim_memory memory; /* of those that aren't the page of zeros */
};
struct sim_files {
    struct sim_file *head;
    unsigned opened;
};

/* What changed goes to the real file behind, if there is one. 0 or -errno. */
int sim_pages_write_back(struct sim_file *);
void sim_pages_free(struct sim_file *);

#endif
