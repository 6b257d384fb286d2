/* Parsing of filter chains, and what all filters need for their parameters. */
#include "core/block/filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/file.h"

static const struct filter_ops *const filters[] = {&filter_delay, &filter_throttle,
                                                   &filter_record, &filter_fault, NULL};

const struct filter_ops *const *filter_list(void) { return filters; }

void filter_submit(struct filter *f, struct aio *aio)
{
    if (f)
        f->ops->submit(f, aio);
    else
        aio_to_engine(aio->loop, aio);
}

static const struct filter_ops *find(const char *name, size_t len)
{
    for (int i = 0; filters[i]; i++)
        if (strlen(filters[i]->name) == len && memcmp(filters[i]->name, name, len) == 0)
            return filters[i];
    return NULL;
}

/* One "name:params". */
static int open_one(struct filter **out, struct env *env, const char *text, size_t len,
                    struct error *err)
{
    char params[512] = "";
    const char *colon = memchr(text, ':', len);
    size_t name_len = colon ? (size_t)(colon - text) : len;
    const struct filter_ops *ops = find(text, name_len);
    int ret;

    if (!ops)
        return error_set(err, -EINVAL,
                         "filter \"%.*s\": no such filter; there are delay, "
                         "throttle, record and fault",
                         (int)name_len, text);
    if (colon) {
        size_t rest = len - name_len - 1;
        if (rest >= sizeof(params))
            return error_set(err, -EINVAL,
                             "filter %s: parameters longer than %zu bytes", ops->name,
                             sizeof(params) - 1);
        memcpy(params, colon + 1, rest);
        params[rest] = '\0';
    }
    ret = ops->open(out, env, params, err);
    if (ret < 0)
        error_prefix(err, "filter %s", ops->name);
    else
        (*out)->ops = ops;
    return ret;
}

int filter_parse(struct filter **chain, struct env *env, const char *spec,
                 struct error *err)
{
    struct filter **end = chain;

    *chain = NULL;
    while (spec && *spec) {
        size_t len = strcspn(spec, ";");
        int ret = open_one(end, env, spec, len, err);

        if (ret < 0) {
            *end = NULL;
            filter_close(*chain);
            *chain = NULL;
            return ret;
        }
        end = &(*end)->next;
        *end = NULL;
        spec += len + (spec[len] == ';');
    }
    return 0;
}

int filter_check(const char *spec, struct error *err)
{
    struct filter *chain;
    int ret = filter_parse(&chain, NULL, spec, err);

    if (ret == 0)
        filter_close(chain);
    return ret;
}

void filter_close(struct filter *f)
{
    struct filter *next;

    for (; f; f = next) {
        next = f->next;
        f->ops->close(f);
    }
}

bool filter_param(const char **params, char key[32], char value[96])
{
    const char *p = *params, *equals = NULL;
    size_t len = 0, key_len, depth = 0;

    if (!*p)
        return false;
    for (; p[len] && (depth || p[len] != ','); len++) {
        if (p[len] == '=' && !equals)
            equals = p + len;
        depth += p[len] == '(';
        depth -= p[len] == ')' && depth;
    }
    *params = p + len + (p[len] == ',');
    key_len = equals ? (size_t)(equals - p) : len;
    len -= key_len + (equals != NULL);
    /* Too long is as good as unknown: the caller says which key. */
    snprintf(key, 32, "%.*s", (int)key_len, p);
    snprintf(value, 96, "%.*s", (int)len, equals ? equals + 1 : "");
    return true;
}

int filter_kind(const char *name, unsigned *bits, unsigned *precision)
{
    static const char *const ops[AIO_OPS] = {"read",    "write", "flush",
                                             "discard", "zero",  "grow"};
    unsigned all = (1u << AIO_OPS) - 1, half = all | all << KIND_METADATA_SHIFT;

    *precision = 0;
    if (strncmp(name, "metadata", 8) == 0) {
        half = all << KIND_METADATA_SHIFT;
        name += 8;
        *precision = 1;
    } else if (strncmp(name, "data", 4) == 0) {
        half = all;
        name += 4;
        *precision = 1;
    } else if (strcmp(name, "any") == 0) {
        *bits = half;
        return 0;
    }
    *bits = half;
    if (*precision && !*name)
        return 0;
    if (*precision && *name++ != '-')
        return -EINVAL;
    for (unsigned op = 0; op < AIO_OPS; op++) {
        if (strcmp(name, ops[op]) == 0) {
            *bits = half & (1u << op | 1u << (op + KIND_METADATA_SHIFT));
            *precision += 1;
            return 0;
        }
    }
    return -EINVAL;
}

int filter_time(const char *text, uint64_t *ns)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {
        {"ns", 1},
        {"us", 1e3},
        {"ms", 1e6},
        {"s", 1e9},
    };
    char *end;
    double value = strtod(text, &end);

    if (end == text || !(value >= 0) || value > 1e12)
        return -EINVAL;
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) == 0) {
            *ns = (uint64_t)(value * units[i].factor);
            return 0;
        }
    }
    return -EINVAL;
}

int filter_amount(const char *text, double *value)
{
    static const char units[] = "kmgt";
    char *end;
    const char *unit;

    *value = strtod(text, &end);
    if (end == text || !(*value >= 0 && *value <= 1e15))
        return -EINVAL;
    if (*end && (unit = strchr(units, *end | 0x20))) {
        for (long i = unit - units; i >= 0; i--)
            *value *= 1024;
        end++;
    }
    return *end ? -EINVAL : 0;
}

int filter_range_set(struct filter_range *r, const char *key, const char *value,
                     struct error *err)
{
    bool from = strcmp(key, "from") == 0;
    double bytes;

    if (!from && strcmp(key, "to") != 0)
        return 0;
    if (filter_amount(value, &bytes) < 0 || bytes >= 9e18)
        return error_set(err, -EINVAL, "%s=%s: not an offset; 4096, 64k or 1m would be",
                         key, value);
    *(from ? &r->from : &r->to) = (uint64_t)bytes;
    if (r->to && r->to <= r->from)
        return error_set(err, -EINVAL,
                         "%s=%s: `to` is the first byte after the range, "
                         "and lies behind `from`",
                         key, value);
    return 1;
}

struct filter *filter_find(struct filter *f, const char *name)
{
    while (f && strcmp(f->ops->name, name) != 0)
        f = f->next;
    return f;
}

struct filter *blk_filter(const struct blk_file *file, const char *name)
{
    return filter_find(file->filters, name);
}
