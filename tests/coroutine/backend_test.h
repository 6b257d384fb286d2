/* The tests of core/coroutine run once for each back end: its name is their
 * argument. */
#ifndef ASYNCOW_BACKEND_TEST_H
#define ASYNCOW_BACKEND_TEST_H
#include "core/coroutine/coroutine.h"
#include "core/env/error.h"

#include <stdio.h>
#include <stdlib.h>

static inline void backend_from_args(int argc, char **argv)
{
    struct error err = {""};

    if (co_set_backend(argc > 1 ? argv[1] : "auto", &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

#endif
