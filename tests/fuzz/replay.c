/*
 * The inputs kept in tests/fuzz/corpus, once more, without libFuzzer: in every build,
 * each must end well. Arguments: the strategies' modules, then inputs, or directories of
 * them.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char now[4096];
static unsigned replayed;

static const struct strategy *strategies[8];
static unsigned loaded;

const struct strategy *fuzz_strategy(const char *name)
{
    for (unsigned i = 0; i < loaded; i++)
        if (!strcmp(strategies[i]->name, name))
            return strategies[i];
    fprintf(stderr, "no module of %s is among the arguments\n", name);
    abort();
}

static void load(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!handle || loaded == 8) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    strategies[loaded++] = dlsym(handle, STRATEGY_SYMBOL);
}

static void tell(int sig)
{
    (void)sig;
    fprintf(stderr, "the input is %s\n", now);
}

static void replay(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *f = fopen(path, "rb");

    if (!f) {
        perror(path);
        exit(1);
    }
    snprintf(now, sizeof(now), "%s", path);
    size_t n = fread(bytes, 1, sizeof(bytes), f);
    fclose(f);
    uint8_t *exact = malloc(n + !n); /* so that what lies behind it is not touched */
    memcpy(exact, bytes, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    replayed++;
}

int main(int argc, char **argv)
{
    char path[4096];

    signal(SIGABRT, tell);
    for (int i = 1; i < argc; i++) {
        struct dirent **names;
        if (strstr(argv[i], ".so")) {
            load(argv[i]);
            continue;
        }
        int n = scandir(argv[i], &names, NULL, alphasort);
        if (n < 0)
            replay(argv[i]);
        for (int k = 0; k < n; k++) {
            snprintf(path, sizeof(path), "%s/%s", argv[i], names[k]->d_name);
            if (names[k]->d_name[0] != '.')
                replay(path);
            free(names[k]);
        }
        if (n >= 0)
            free(names);
    }
    printf("%u inputs\n", replayed);
    return replayed ? 0 : 1;
}
