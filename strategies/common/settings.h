/*
 * A strategy's settings: "hold=none,workers=8" against the table that the module
 * exports. Unknown names and values are refused with the list of those known.
 *
 * A table entry's `values` is either the words it may be, "metadata|none", or a range of
 * whole numbers, "1..64". The default of a range may be a word ("depth"), which then can
 * be given too.
 */
#ifndef STRATEGIES_SETTINGS_H
#define STRATEGIES_SETTINGS_H
#include <stdbool.h>

#include "strategies/strategy.h"

/* 0, or -EINVAL with err saying what is known. text: NULL or "" are fine. */
int settings_check(const struct strategy_setting *known, const char *text,
                   struct error *err);
/* Both take a text that passed settings_check(). */
bool settings_is(const struct strategy_setting *known, const char *text,
                 const char *name, const char *value);
/* The number given, or `otherwise` where the setting is a word. */
unsigned settings_number(const struct strategy_setting *known, const char *text,
                         const char *name, unsigned otherwise);

#endif
