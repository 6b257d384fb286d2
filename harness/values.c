/* The values that options take: counts, sizes, times, shares, rw, lists. */
#include "harness/values.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int parse_count(const char *text, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return *end || errno ? -EINVAL : 0;
}

int parse_bytes(const char *text, uint64_t kb_base, uint64_t *bytes)
{
    static const char units[] = "kmgtp";
    char *end;
    double factor = 1;

    if (!isdigit((unsigned char)*text) && *text != '.')
        return -EINVAL;
    errno = 0;
    uint64_t whole = strtoull(text, &end, 0);
    double value = (double)whole;
    bool fraction = *end == '.' || *text == '.';
    if (fraction)
        value = strtod(text, &end);
    const char *unit = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
    if (unit && *unit) {
        bool binary = tolower((unsigned char)end[1]) == 'i';
        factor = pow(binary ? 1024 : (double)kb_base, (double)(unit - units + 1));
        end += binary ? 2 : 1;
    }
    if (tolower((unsigned char)*end) == 'b')
        end++;
    if (*end || errno || value * factor >= 0x1p63)
        return -EINVAL;
    *bytes = fraction ? (uint64_t)(value * factor) : whole * (uint64_t)factor;
    return 0;
}

int parse_time_ns(const char *text, uint64_t *ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"", 1e9},     {"s", 1e9},    {"ns", 1},     {"us", 1e3},
                 {"usec", 1e3}, {"ms", 1e6},   {"msec", 1e6}, {"m", 60e9},
                 {"h", 3600e9}, {"d", 86400e9}};
    char *end;

    if (!isdigit((unsigned char)*text) && *text != '.')
        return -EINVAL;
    double value = strtod(text, &end);
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (!strcasecmp(end, units[i].unit) && value * units[i].ns < 0x1p62) {
            *ns = (uint64_t)(value * units[i].ns + 0.5);
            return 0;
        }
    }
    return -EINVAL;
}

int parse_amount(const char *text, uint64_t kb_base, struct amount *a)
{
    char *end;
    double percent = strtod(text, &end);

    *a = (struct amount){.set = true};
    if (end != text && !strcmp(end, "%")) {
        a->is_percent = true;
        a->percent = percent;
        return percent >= 0 && percent <= 100 ? 0 : -EINVAL;
    }
    return parse_bytes(text, kb_base, &a->bytes);
}

uint64_t amount_of(const struct amount *a, uint64_t whole)
{
    return a->is_percent ? (uint64_t)((double)whole * a->percent / 100) : a->bytes;
}

static const struct {
    const char *name;
    bool read, write, trim, random, trim_first;
} rw_names[] = {
    {"read", 1, 0, 0, 0, 0},
    {"write", 0, 1, 0, 0, 0},
    {"trim", 0, 0, 1, 0, 0},
    {"randread", 1, 0, 0, 1, 0},
    {"randwrite", 0, 1, 0, 1, 0},
    {"randtrim", 0, 0, 1, 1, 0},
    {"rw", 1, 1, 0, 0, 0},
    {"readwrite", 1, 1, 0, 0, 0},
    {"randrw", 1, 1, 0, 1, 0},
    {"trimwrite", 0, 1, 1, 0, 1},
    {"randtrimwrite", 0, 1, 1, 1, 1},
};

static const char *nth_rw(void *opaque, unsigned i)
{
    (void)opaque;
    return i < sizeof(rw_names) / sizeof(rw_names[0]) ? rw_names[i].name : NULL;
}

int parse_rw(const char *text, uint64_t kb_base, struct rw_mode *rw, struct error *err)
{
    char name[16];
    const char *colon = strchrnul(text, ':');
    size_t len = (size_t)(colon - text);

    snprintf(name, sizeof(name), "%.*s", len < 16 ? (int)len : 15, text);
    for (unsigned i = 0; nth_rw(NULL, i); i++) {
        if (strlen(rw_names[i].name) != len || strcmp(name, rw_names[i].name))
            continue;
        *rw = (struct rw_mode){rw_names[i].read,
                               rw_names[i].write,
                               rw_names[i].trim,
                               rw_names[i].random,
                               rw_names[i].trim_first,
                               0,
                               ""};
        snprintf(rw->text, sizeof(rw->text), "%s", text);
        if (!*colon)
            return 0;
        if (parse_bytes(colon + 1, kb_base, &rw->skip) < 0 || strlen(text) >= 40)
            return error_set(err, -EINVAL,
                             "rw: `%s` after the colon is no number of %s", colon + 1,
                             rw->random ? "requests" : "bytes to skip");
        return 0;
    }
    const char *near = nearest_name(name, nth_rw, NULL);
    return error_set(
        err, -EINVAL,
        "rw: `%s` is not known%s%s%s; one of read, write, rw, trim, trimwrite "
        "or the same with `rand` in front",
        text, near ? ", the nearest is `" : "", near ? near : "", near ? "`" : "");
}

int parse_percentiles(struct job *j, const char *text, struct error *err)
{
    const char *p = text;

    j->percentiles = 0;
    while (*p) {
        char *end;
        double v = strtod(p, &end);
        if (end == p || (*end && *end != ':') || !(v >= 0 && v <= 100))
            return error_set(err, -EINVAL,
                             "percentile_list: `%s` is not a list like 50:90:99.9",
                             text);
        if (j->percentiles == OPTION_PERCENTILES_MAX)
            return error_set(err, -EINVAL, "percentile_list: more than %d",
                             OPTION_PERCENTILES_MAX);
        j->percentile[j->percentiles++] = v;
        p = *end ? end + 1 : end;
    }
    return 0;
}
