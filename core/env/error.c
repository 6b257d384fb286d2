/* Sentences, cut off rather than too long: error.h. */
#include "core/env/error.h"

#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *err, int code, const char *fmt, ...)
{
    if (err && !err->msg[0]) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
    }
    return code;
}

void error_prefix(struct error *err, const char *fmt, ...)
{
    char head[sizeof(err->msg)];
    struct error whole;
    va_list ap;

    if (!err)
        return;
    va_start(ap, fmt);
    vsnprintf(head, sizeof(head), fmt, ap);
    va_end(ap);
    int n = snprintf(whole.msg, sizeof(whole.msg), "%s: ", head);
    if (n > 0 && (size_t)n < sizeof(whole.msg))
        snprintf(whole.msg + n, sizeof(whole.msg) - (size_t)n, "%.*s",
                 (int)(sizeof(whole.msg) - (size_t)n - 1), err->msg); /* cut to fit */
    *err = whole;
}
