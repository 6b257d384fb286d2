/*
 * The image of an input: laid out byte by byte, by nobody's code but this, so that what
 * reads it is not what wrote it. Layers (the snapshots, and last the active one) share
 * tables that are alike; a cluster is counted once for each layer that leads to it.
 */
#ifndef FUZZ_LAYOUT_H
#define FUZZ_LAYOUT_H
#include "tests/fuzz/input.h"

enum { LAYERS = 4, LAYOUT_TABLES = 16, LAYOUT_CLUSTERS = 512, DISK_SECTORS = 512 };
#define LAYOUT_BACKING "base.raw"

enum place_type { NOTHING, DATA, ZEROED, ZEROED_DATA, PACKED };
struct place { /* of a guest's cluster */
    enum place_type type;
    uint64_t host, len; /* bytes; len: PACKED */
    uint8_t tag;        /* its contents, with its number */
};
struct layer {
    struct place at[LAYOUT_CLUSTERS];
    uint64_t l1, l2[LAYOUT_TABLES];
    uint8_t *disk; /* what it shows */
};
struct layout {
    unsigned version, bits, order, layers;
    bool zstd, full;
    uint64_t cluster, size; /* of the disk, bytes */
    uint64_t backing_size;
    uint8_t *backing; /* NULL: none */

    uint8_t *file;
    uint64_t len, file_size;   /* len bytes are in memory, zeros up to file_size */
    uint64_t end;              /* clusters */
    uint64_t clusters, tables; /* of a layer */
    uint64_t reftable, blocks_at, blocks, snapshots, snapshot_len[LAYERS];
    struct layer layer[LAYERS]; /* layer[layers - 1] is the active one */
    bool damaged;               /* on purpose: some byte differs */
};

/* false: it is too large to be of use. */
bool layout_make(struct layout *, const struct input *);
/* Damages what the input says, field by field. */
void layout_damage(struct layout *, const struct input *);
void layout_free(struct layout *);
const char *layout_snapshot_name(unsigned i);

#endif
