/*
 * The strategies linked into the fuzz target, under names of their own: so they share one
 * copy of core/qcow2, and what libFuzzer knows of its branches.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/session.h"

extern const struct strategy fuzz_callbacks, fuzz_coroutines, fuzz_threadpool,
    fuzz_freeze_thaw;

const struct strategy *fuzz_strategy(const char *name)
{
    static const struct strategy *const all[] = {&fuzz_callbacks, &fuzz_coroutines,
                                                 &fuzz_threadpool, &fuzz_freeze_thaw};

    for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    abort();
}
