/*
 * Settings of a strategy or an engine: "hold=none,workers=8" against the table that it
 * has. Unknown names and values are refused with the list of those known.
 *
 * A table entry's `values` is either the words it may be, "metadata|none", or a range
 * of whole numbers, "1..64". The default of a range may be a word ("depth"), which then
 * can be given too.
 */
#ifndef ASYNCOW_SETTINGS_H
#define ASYNCOW_SETTINGS_H
#include <stdbool.h>

#include "core/env/error.h"

struct setting { /* tables end with name NULL */
    const char *name, *values, *value_default, *help;
};

/* 0, or -EINVAL with err saying what is known. text: NULL or "" are fine. */
int settings_check(const struct setting *known, const char *text, struct error *err);
/* Both take a text that passed settings_check(). */
bool settings_is(const struct setting *known, const char *text, const char *name,
                 const char *value);
/* The number given, or `otherwise` where the setting is a word. */
unsigned settings_number(const struct setting *known, const char *text,
                         const char *name, unsigned otherwise);

#endif
