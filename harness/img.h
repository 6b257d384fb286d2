/*
 * `asyncow img`: what its subcommands share. Option names, JSON shapes and exit codes
 * are qemu-img's for what is covered; what is not is refused by name.
 */
#ifndef ASYNCOW_IMG_H
#define ASYNCOW_IMG_H
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/env/env.h"
#include "core/env/error.h"
#include "core/image/node.h"

enum img_output { IMG_HUMAN, IMG_JSON };
enum {
    IMG_OPT_OUTPUT = 256,
    IMG_OPT_CHAIN,
    IMG_OPT_START,
    IMG_OPT_LENGTH,
    IMG_OPT_PREALLOC,
    IMG_OPT_SHRINK,
    IMG_OPT_REFUSED
};

/* What a subcommand was told; each uses what it knows of. */
struct img_options {
    const char *command; /* "check" */
    const char *usage;   /* for --help */
    struct env *env;
    const char *format, *format2; /* -f, and -F or -O */
    enum img_output output;
    bool quiet, progress, share;
    int argc; /* what is left after the options */
    char **argv;
};

/* The next option's character, those all commands share being dealt with; -1: no more;
 * 0: stop, *status is the exit status (after --help or a bad option). */
int img_getopt(struct img_options *, int argc, char **argv, const char *letters,
               const struct option *, int *status);
/* Says what is wrong, as "asyncow img COMMAND: ...". Returns 1. */
int img_fail(const struct img_options *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Says it lacks or has too many file names; 0: there are min..max. */
int img_need_files(const struct img_options *, int min, int max, const char *what);

struct img_open {
    bool write, backing; /* backing: with its chain */
    bool no_repair;
};
int img_open(const struct img_options *, struct image_node **, const char *path,
             const char *format, struct img_open how);
/* Makes *name a file to be written anew ("file:" goes). Not 0, having said so: it is no
 * file's name, or names a file of the chain that it is made from. */
int img_target(const struct img_options *, const char **name,
               const struct image_node *chain);
/* "10M", "1.5G", "0x1000". False: not a size. */
bool img_parse_size(const char *, uint64_t *);
/* "1.5 GiB" */
const char *img_human_size(uint64_t, char buf[32]);
void img_progress(const struct img_options *, uint64_t done, uint64_t all);

int img_check(struct img_options *, int argc, char **argv);
int img_compare(struct img_options *, int argc, char **argv);
int img_convert(struct img_options *, int argc, char **argv);
int img_create(struct img_options *, int argc, char **argv);
int img_info(struct img_options *, int argc, char **argv);
int img_map(struct img_options *, int argc, char **argv);
int img_resize(struct img_options *, int argc, char **argv);
int img_snapshot(struct img_options *, int argc, char **argv);

/* JSON of any text: what is not UTF-8 gets question marks. */
struct json_t;
struct json_t *img_json_text(const char *);
/* Appends an object for each internal snapshot to an array. */
int img_snapshot_list(const struct image_node *, struct json_t *list, struct error *);
void img_show_snapshots(const struct json_t *list);

/* The rest of create, for convert: what -o says. */
struct create_options;
int img_create_option(const struct img_options *, struct create_options *, char *list,
                      uint64_t *size, bool *size_given);

#endif
