/* Options as text: their values for the report's manifest, and the help. options.h. */
#include <stdio.h>
#include <string.h>

#include "harness/options_int.h"

static const char *value_form(const struct option_def *d)
{
    switch (d->kind) {
    case COUNT:
        return "=N";
    case BYTES:
        return "=SIZE";
    case TIME:
        return "=TIME";
    case AMOUNT:
        return "=SIZE|N%";
    case RW:
        return "=MODE";
    case TEXT:
        return "=TEXT";
    case PERCENTILES:
        return "=LIST";
    case EVERY:
        return "=TIME|N";
    case CHOICE:
        return "=";
    default:
        return "";
    }
}

static void amount_text(const struct amount *a, char *out, size_t n)
{
    if (a->is_percent)
        snprintf(out, n, "%g%%", a->percent);
    else
        snprintf(out, n, "%llu", (unsigned long long)a->bytes);
}

static bool value_text(const struct job *j, const struct option_def *d, char *out,
                       size_t n)
{
    switch (d->kind) {
    case FLAG:
        snprintf(out, n, "%d", *(bool *)option_field(j, d));
        return true;
    case COUNT:
    case BYTES:
        snprintf(out, n, "%llu", (unsigned long long)*(uint64_t *)option_field(j, d));
        return d->at != AT(randseed) || j->randseed_set;
    case TIME:
        snprintf(out, n, "%gs", (double)*(uint64_t *)option_field(j, d) / 1e9);
        return true;
    case EVERY:
        if (j->snapshot_every.ns)
            snprintf(out, n, "%gs", (double)j->snapshot_every.ns / 1e9);
        else
            snprintf(out, n, "%llu", (unsigned long long)j->snapshot_every.requests);
        return j->snapshot_every.ns || j->snapshot_every.requests;
    case AMOUNT:
        amount_text(option_field(j, d), out, n);
        return ((struct amount *)option_field(j, d))->set;
    case RW:
        snprintf(out, n, "%s", j->rw.text);
        return true;
    case CHOICE: {
        if (d->at == AT(format))
            return snprintf(out, n, "%s", j->format ? j->format : "") > 0;
        uint64_t index =
            d->of_bool ? *(bool *)option_field(j, d) : *(uint64_t *)option_field(j, d);
        const char *p = d->choices;
        while (index--)
            p += strcspn(p, "|") + 1;
        snprintf(out, n, "%.*s", (int)strcspn(p, "|"), p);
        return true;
    }
    default:
        return false;
    }
}

void job_each(const struct job *j, void (*fn)(void *, const char *, const char *),
              void *opaque)
{
    for (const struct option_def *d = option_defs; d->name; d++) {
        char text[64];
        if (d->kind == TEXT) {
            const char *s = *(char **)option_field(j, d);
            if (s)
                fn(opaque, d->name, s);
        } else if (value_text(j, d, text, sizeof(text))) {
            fn(opaque, d->name, text);
        }
    }
}

/* ---- help ---- */

enum { HELP_LEFT = 28, HELP_WIDTH = 88 };

/* "16m"; a size that is no round one stays in bytes. */
static void round_size(uint64_t v, char *out, size_t n)
{
    const char *unit = "\0kmgt";

    for (; v && v % 1024 == 0 && unit[1]; unit++)
        v /= 1024;
    snprintf(out, n, "%llu%.1s", (unsigned long long)v, unit);
}

/* What an option is if it isn't given. false: nothing, or its help says it. */
static bool default_text(const struct job *j, const struct option_def *d, char *out,
                         size_t n)
{
    if (d->kind == FLAG)
        return *(bool *)option_field(j, d) && snprintf(out, n, "on") > 0;
    if (d->kind == CHOICE || d->kind == RW)
        return value_text(j, d, out, n);
    if (d->kind != COUNT && d->kind != BYTES && d->kind != TIME)
        return false;
    uint64_t v = *(uint64_t *)option_field(j, d);
    if (d->kind == BYTES)
        round_size(v, out, n);
    else if (d->kind == TIME)
        snprintf(out, n, "%lluus", (unsigned long long)v / 1000);
    else
        snprintf(out, n, "%llu", (unsigned long long)v);
    return v && d->at != AT(trials) && d->at != AT(numjobs);
}

/* A word of the right column, on the next line if it doesn't fit. Returns the column. */
static int put_word(FILE *f, const char *word, int len, int column)
{
    if (column + 1 + len > HELP_WIDTH)
        column = fprintf(f, "\n%*s", HELP_LEFT + 2, "") - 1;
    return column + fprintf(f, " %.*s", len, word);
}

void job_options_help(FILE *f)
{
    struct job j;

    job_init(&j);
    for (const struct option_def *d = option_defs; d->name; d++) {
        char left[64], right[300], now[64];
        if (d->group)
            fprintf(f, "%s%s:\n", d == option_defs ? "" : "\n", d->group);
        snprintf(left, sizeof(left), "--%s%s%s", d->name, value_form(d),
                 d->kind == CHOICE ? d->choices : "");
        bool given = default_text(&j, d, now, sizeof(now));
        snprintf(right, sizeof(right), "%s%s%s%s%s%s", d->help,
                 d->alias ? "; also " : "", d->alias ? d->alias : "", given ? " (" : "",
                 given ? now : "", given ? ")" : "");
        int column = fprintf(f, "  %-*s", HELP_LEFT, left);
        if (column > HELP_LEFT + 2)
            column = HELP_WIDTH;
        for (const char *word = right; *word; word += strspn(word, " ")) {
            int len = (int)strcspn(word, " ");
            column = put_word(f, word, len, column);
            word += len;
        }
        fputc('\n', f);
    }
}
