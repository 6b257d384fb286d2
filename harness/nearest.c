/* Which known name was meant by one that is not known. */
#include <string.h>

#include "harness/options.h"

/* Levenshtein's distance; words longer than the row are never near. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[64], n = (unsigned)strlen(b);

    if (n >= 63 || strlen(a) >= 63)
        return 99;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < other ? change : other;
        }
    }
    return row[n];
}

const char *nearest_name(const char *word, const char *(*nth)(void *, unsigned),
                         void *opaque)
{
    const char *best = NULL, *name;
    unsigned len = (unsigned)strlen(word), limit = len < 4 ? 1 : len < 8 ? 2 : 3;

    for (unsigned i = 0; (name = nth(opaque, i)); i++) {
        unsigned d = edit_distance(word, name);
        if (d <= limit) {
            best = name;
            limit = d ? d - 1 : 0;
            if (!d)
                break;
        }
    }
    return best;
}
