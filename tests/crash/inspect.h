/*
 * One qcow2 image in memory, looked at from outside: our own check, every byte, the
 * snapshots, and, of a sample, what `qemu-img check` says. For crashes and faults, by the
 * million; nothing is forked but for the sample.
 *
 * The image is bytes (blk_open_memory()): whoever changes it writes to inspect_bytes() and
 * says how long it is.
 */
#ifndef TEST_INSPECT_H
#define TEST_INSPECT_H
#include <stdbool.h>
#include <stdint.h>

#include "tests/differential/model.h"

struct inspect;
struct expect_snapshot {
    char name[16];
    uint8_t *bytes; /* as large as the disk */
    bool *known;    /* by sector; NULL: all */
    uint64_t began;
    bool must; /* be there; else it may be, and then holds this */
};
/* A snapshot is begun, and has been made: where nothing changed in between it holds just
 * that. */
void expect_begin(struct expect_snapshot *, const char *name, const struct model *);
void expect_made(struct expect_snapshot *, const struct model *);
void expect_free(struct expect_snapshot *);
struct expect {
    const struct model *model; /* NULL: whatever the disk holds */
    const struct expect_snapshot *snapshots;
    unsigned nsnapshots;
    /* A snapshot operation was under way: COPIED may be wrong, if repair mends it and
     * changes no byte of the disk or of any snapshot. */
    bool in_snapshot;
    bool no_leaks;
};

/* backing: what lies below, or NULL. */
struct inspect *inspect_new(const uint8_t *backing, uint64_t backing_size);
void inspect_free(struct inspect *);
uint8_t *inspect_bytes(struct inspect *); /* they move when it grows */
uint64_t inspect_size(const struct inspect *);
void inspect_resize(struct inspect *, uint64_t size); /* grown, it reads zeros */
void inspect_set(struct inspect *, const uint8_t *file, uint64_t size);

/* False: the image is not as expected; why is on standard error. */
bool inspect_look(struct inspect *, const struct expect *);
/* What the disk holds, size bytes of it; snapshot NULL: now. Aborts if it can't. */
void inspect_read(struct inspect *, const char *snapshot, uint8_t *buf, uint64_t size);
/* `qemu-img check` finds just what our check found when it looked last. */
bool inspect_ask_qemu(struct inspect *);
void inspect_save(struct inspect *, const char *path);
/* How many images needed COPIED to be mended. */
uint64_t inspect_mended(const struct inspect *);

#endif
