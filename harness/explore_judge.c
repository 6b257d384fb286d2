/* See explore_judge.h. Few accesses: all orders are tried. */
#include "harness/explore_judge.h"

#include <assert.h>

/* Nobody who is left had ended when a began. */
static bool may_come(const struct explore_access *a, unsigned n, unsigned left,
                     unsigned i)
{
    for (unsigned k = 0; k < n; k++)
        if (left & 1u << k && a[k].end < a[i].begin)
            return false;
    return true;
}

static bool possible(const struct explore_access *a, unsigned n, unsigned left,
                     unsigned value)
{
    if (!left)
        return true;
    for (unsigned i = 0; i < n; i++) {
        unsigned rest = left & ~(1u << i);
        if (!(left & 1u << i) || !may_come(a, n, left, i))
            continue;
        if (a[i].reads ? a[i].value == value && possible(a, n, rest, value)
                       : possible(a, n, rest, a[i].value))
            return true;
        if (a[i].perhaps && possible(a, n, rest, value))
            return true;
    }
    return false;
}

bool explore_possible(const struct explore_access *a, unsigned n, unsigned first)
{
    assert(n <= EXPLORE_ACCESSES_MAX);
    return possible(a, n, (1u << n) - 1, first);
}
