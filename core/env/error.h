/*
 * Error text for people: the errno travels as the return value, the sentence here.
 *
 * A message names the file, the field, the value found and what would be right. Layers
 * that know only part of that (core/qcow2 does not know the file's name) give the rest
 * and the caller puts its part in front with error_prefix().
 */
#ifndef ASYNCOW_ERROR_H
#define ASYNCOW_ERROR_H

struct error {
    char msg[512]; /* empty: nothing to say */
};

/* Sets the message unless err is NULL or one is set already. Returns code, so that
 * `return error_set(err, -EINVAL, ...)` reads as one thought. */
int error_set(struct error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "prefix: " in front of the message. */
void error_prefix(struct error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
