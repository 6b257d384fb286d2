/*
 * Choosing an engine for a file, and saying why. Reads of the file only, never a write.
 *
 * auto: io_uring where it works; linux-aio where it is direct I/O and io_submit was
 * seen not to block; else threads; sync where no thread can be had. Each is tried by
 * reading the file through it, so what is chosen works.
 *
 * auto=recipe: the list of Jamie Lokier, qemu-devel, 18 April 2008, as he gave it, its
 * white lists filled in with what was known by then and its successors' names. Linux
 * AIO if all six steps agree; POSIX AIO otherwise.
 */
#ifndef ASYNCOW_CHOOSE_H
#define ASYNCOW_CHOOSE_H
#include <stdbool.h>

#include "core/env/env.h"
#include "core/env/error.h"

struct engine_choice {
    const char *engine;
    char reason[400];
};

/* "auto" or "auto=recipe". */
bool engine_is_choice(const char *name);
/* 0, or -errno with err: the file can't be opened or read, or how is neither. */
int engine_choose(struct engine_choice *, const char *how, struct env *,
                  const char *path, bool direct, struct error *err);
/* Only tries the engine of that name (not sim) on the file, by reading its first block
 * through it; reason: what auto would think of it. 0, or -errno with err. */
int engine_try(struct engine_choice *, const char *name, struct env *, const char *path,
               bool direct, struct error *err);
/* "Linux 6.1.0, ext4 on vda", for people. */
void engine_host(const char *path, char *text, unsigned size);

#endif
