/*
 * Parsing of settings. Nothing is copied: a name or value is a pointer and a length
 * into the caller's text.
 */
#include "core/env/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word {
    const char *p;
    size_t len;
};

static bool word_is(struct word w, const char *s)
{
    return strlen(s) == w.len && !memcmp(w.p, s, w.len);
}

/* Takes "name=value" off the front of *text; false at the end. No '=': value.p NULL. */
static bool next_pair(const char **text, struct word *name, struct word *value)
{
    const char *p = *text;
    if (!p || !*p)
        return false;
    size_t len = strcspn(p, ",");
    size_t eq = strcspn(p, "=");
    *name = (struct word){p, eq < len ? eq : len};
    *value = (struct word){eq < len ? p + eq + 1 : NULL, eq < len ? len - eq - 1 : 0};
    *text = p + len + (p[len] == ',');
    return true;
}

static const struct setting *find(const struct setting *known, struct word name)
{
    for (; known->name; known++)
        if (word_is(name, known->name))
            return known;
    return NULL;
}

static bool is_range(const char *values, unsigned *min, unsigned *max)
{
    return sscanf(values, "%u..%u", min, max) == 2;
}

static bool parse_number(struct word w, unsigned *out)
{
    unsigned n = 0;
    if (!w.len || w.len > 9)
        return false;
    for (size_t i = 0; i < w.len; i++) {
        if (w.p[i] < '0' || w.p[i] > '9')
            return false;
        n = n * 10 + (unsigned)(w.p[i] - '0');
    }
    *out = n;
    return true;
}

static bool allowed(const struct setting *s, struct word value)
{
    unsigned min, max, n;
    if (word_is(value, s->value_default))
        return true;
    if (is_range(s->values, &min, &max))
        return parse_number(value, &n) && n >= min && n <= max;
    for (const char *p = s->values; *p;) {
        size_t len = strcspn(p, "|");
        if (len == value.len && !memcmp(p, value.p, len))
            return true;
        p += len + (p[len] == '|');
    }
    return false;
}

static int refuse_name(const struct setting *known, struct word name, struct error *err)
{
    char list[256] = "";
    for (; known->name; known++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof(list) - used, "%s%s=%s", used ? ", " : "",
                 known->name, known->values);
    }
    return error_set(err, -EINVAL, "unknown setting \"%.*s\"; known: %s", (int)name.len,
                     name.p, *list ? list : "none");
}

int settings_check(const struct setting *known, const char *text, struct error *err)
{
    struct word name, value;
    while (next_pair(&text, &name, &value)) {
        const struct setting *s = find(known, name);
        if (!s)
            return refuse_name(known, name, err);
        if (!value.p)
            return error_set(err, -EINVAL, "setting \"%s\" needs a value: %s=%s",
                             s->name, s->name, s->values);
        if (!allowed(s, value))
            return error_set(err, -EINVAL, "setting \"%s\": \"%.*s\" is not one of %s",
                             s->name, (int)value.len, value.p, s->values);
    }
    return 0;
}

/* What name is set to; the last one given counts. */
static struct word setting(const struct setting *known, const char *text,
                           const char *name)
{
    const struct setting *s = find(known, (struct word){name, strlen(name)});
    struct word found = {s->value_default, strlen(s->value_default)}, n, value;
    while (next_pair(&text, &n, &value))
        if (word_is(n, name))
            found = value;
    return found;
}

bool settings_is(const struct setting *known, const char *text, const char *name,
                 const char *value)
{
    return word_is(setting(known, text, name), value);
}

unsigned settings_number(const struct setting *known, const char *text,
                         const char *name, unsigned otherwise)
{
    unsigned n = otherwise;
    return parse_number(setting(known, text, name), &n) ? n : otherwise;
}
