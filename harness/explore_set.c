/* See explore_set.h. */
#include "harness/explore_set.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const kinds[EXPLORE_KINDS] = {
    "alloc", "rewrite", "discard", "zero", "read", "flush", "snapshot", "cancel"};
static const char *const places[EXPLORE_PLACES] = {"same", "neighbour", "l2",
                                                   "refblock"};

const char *explore_kind_name(enum explore_kind k) { return kinds[k]; }

static int find(const char *const *words, int n, const char *word, size_t len)
{
    for (int i = 0; i < n; i++)
        if (strlen(words[i]) == len && !strncmp(words[i], word, len))
            return i;
    return -1;
}

/* Nothing to cancel, or no second operation whose place could differ. */
static bool makes_sense(const struct explore_set *s)
{
    unsigned located = 0, cancels = 0;

    for (unsigned i = 0; i < s->n; i++) {
        located += explore_located(s->op[i]);
        cancels += s->op[i] == EXPLORE_CANCEL;
    }
    return cancels < s->n && (s->place == EXPLORE_SAME || located > 1);
}

int explore_set_parse(struct explore_set *s, const char *text, struct error *err)
{
    const char *at = text;

    *s = (struct explore_set){.place = EXPLORE_SAME};
    for (;;) {
        size_t len = strcspn(at, ",@");
        int kind = find(kinds, EXPLORE_KINDS, at, len);
        if (kind < 0 || s->n == EXPLORE_OPS_MAX)
            return error_set(err, -EINVAL,
                             "`%s`: 1 to %d of alloc, rewrite, discard, zero, read, "
                             "flush, snapshot, cancel, with commas between, are needed",
                             text, EXPLORE_OPS_MAX);
        s->op[s->n++] = (enum explore_kind)kind;
        at += len;
        if (*at++ != ',')
            break;
    }
    if (at[-1] == '@') {
        int place = find(places, EXPLORE_PLACES, at, strlen(at));
        if (place < 0)
            return error_set(err, -EINVAL,
                             "`%s`: the place is same, neighbour, l2 or refblock",
                             text);
        s->place = (enum explore_place)place;
    }
    if (!makes_sense(s))
        return error_set(err, -EINVAL,
                         "`%s`: a cancel needs another operation, and a place other "
                         "than same two that have one",
                         text);
    return 0;
}

void explore_set_text(const struct explore_set *s, char text[EXPLORE_TEXT])
{
    size_t n = 0;

    for (unsigned i = 0; i < s->n; i++)
        n += (size_t)snprintf(text + n, EXPLORE_TEXT - n, "%s%s", i ? "," : "",
                              kinds[s->op[i]]);
    snprintf(text + n, EXPLORE_TEXT - n, "@%s", places[s->place]);
}

/* The next in order: as a number with s->n digits that never rise from right to left. */
static bool next_ops(struct explore_set *s)
{
    for (unsigned i = s->n; i-- > 0;) {
        if (s->op[i] + 1 == EXPLORE_KINDS)
            continue;
        enum explore_kind k = (enum explore_kind)(s->op[i] + 1);
        for (; i < s->n; i++)
            s->op[i] = k;
        return true;
    }
    return false;
}

bool explore_set_nth(unsigned most, unsigned i, struct explore_set *s)
{
    for (*s = (struct explore_set){.n = 1}; s->n <= most;) {
        for (int place = 0; place < EXPLORE_PLACES; place++) {
            s->place = (enum explore_place)place;
            if (makes_sense(s) && i-- == 0)
                return true;
        }
        if (!next_ops(s))
            *s = (struct explore_set){.n = s->n + 1};
    }
    return false;
}
