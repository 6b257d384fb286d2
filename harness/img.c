/*
 * `asyncow img`: picks the subcommand; options, sizes and messages that all share.
 */
#include "harness/img.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/block/aio.h"
#include "core/image/chain.h"
#include "harness/cmd.h"

static const struct command {
    const char *name;
    int (*run)(struct img_options *, int, char **);
    const char *usage;
} commands[] = {
    {"create", img_create,
     "create [-q] [-f FORMAT] [-b BACKING [-F FORMAT]] [-u] [-o OPTIONS] FILE [SIZE]\n"
     "\n"
     "Makes an empty image. FORMAT is qcow2 or raw (the default).\n"
     "  -b FILE    backing file; its name goes into the image as it is given\n"
     "  -F FORMAT  the backing file's format\n"
     "  -u         do not look at the backing file\n"
     "  -o LIST    comma-separated NAME=VALUE: size, cluster_size (512..2M),\n"
     "             refcount_bits (1..64), compat (0.10, 1.1), lazy_refcounts (on, "
     "off),\n"
     "             compression_type (zlib, zstd), preallocation (off, metadata, "
     "falloc,\n"
     "             full), backing_file, backing_fmt\n"
     "  SIZE       bytes; suffixes k, M, G, T, P, E. With -b, the backing file's "
     "size\n"},
    {"info", img_info,
     "info [-f FORMAT] [--output human|json] [--backing-chain] [-U] FILE\n"
     "\n"
     "Says what an image is.\n"},
    {"check", img_check,
     "check [-q] [-f FORMAT] [--output human|json] [-r leaks|all] [-U] FILE\n"
     "\n"
     "Looks for leaked clusters and corruption in a qcow2 image.\n"
     "  -r leaks   gives leaked clusters back\n"
     "  -r all     repairs all that can be\n"
     "Exit status: 0 clean, 1 the check failed, 2 corruptions, 3 leaks, 63 the format "
     "has\n"
     "no check.\n"},
    {"map", img_map,
     "map [-f FORMAT] [--start-offset N] [--max-length N] [--output human|json] [-U] "
     "FILE\n"
     "\n"
     "Says where in which file of the chain each range of the disk is.\n"},
    {"compare", img_compare,
     "compare [-f FORMAT] [-F FORMAT] [-p] [-q] [-s] [-U] FILE1 FILE2\n"
     "\n"
     "Compares what two images show.\n"
     "  -s         strict: sizes and allocation must be the same too\n"
     "Exit status: 0 the same, 1 different, more than 1: error.\n"},
    {"convert", img_convert,
     "convert [-p] [-q] [-n] [-U] [-f FORMAT] [-O FORMAT] [-o OPTIONS] [-S SIZE] [-m "
     "N] "
     "[-W] FILE TARGET\n"
     "\n"
     "Copies what an image shows into a new one, raw (the default) or qcow2.\n"
     "  -o LIST    as for create\n"
     "  -n         into an image that exists\n"
     "  -S SIZE    so many zero bytes in a row are left out (4k); 0: none are\n"},
    {"resize", img_resize,
     "resize [-q] [-f FORMAT] [--shrink] FILE [+|-]SIZE\n"
     "\n"
     "Gives the disk another size; what it gains reads zeros.\n"
     "  --shrink   lets it lose what lies past the new end\n"
     "  SIZE       bytes; suffixes k, M, G, T, P, E; + and -: so much more or less\n"},
    {"snapshot", img_snapshot,
     "snapshot [-q] [-U] [-l | -c NAME | -a NAME | -d NAME] FILE\n"
     "\n"
     "Works on the internal snapshots of a qcow2 image that nothing else has open.\n"
     "  -l         lists them; the only one that goes with -U\n"
     "  -c NAME    creates one; NAME has at most 255 bytes\n"
     "  -a NAME    makes the disk what the snapshot of this id or name holds\n"
     "  -d NAME    deletes the oldest of this name\n"},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

int img_fail(const struct img_options *o, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "asyncow img %s: ", o->command);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return 1;
}

static int parse_output(struct img_options *o, const char *value)
{
    if (!strcmp(value, "json"))
        o->output = IMG_JSON;
    else if (!strcmp(value, "human"))
        o->output = IMG_HUMAN;
    else
        return img_fail(o, "--output %s: must be human or json", value);
    return 0;
}

/* True: c is dealt with; *status set to what ends the command, or -1 to go on. */
static bool common_option(struct img_options *o, int c, char **argv, int *status)
{
    *status = -1;
    switch (c) {
    case 'h':
        printf("Usage: asyncow img %s", o->usage);
        *status = 0;
        return true;
    case 'f':
        o->format = optarg;
        return true;
    case 'q':
        o->quiet = true;
        return true;
    case 'p':
        o->progress = true;
        return true;
    case 'U':
        o->share = true;
        return true;
    case IMG_OPT_OUTPUT:
        if (parse_output(o, optarg))
            *status = 1;
        return true;
    case IMG_OPT_REFUSED:
        *status = img_fail(o, "option '%s' is not supported", argv[optind - 1]);
        return true;
    case ':':
        img_fail(o, "option '%s' requires an argument", argv[optind - 1]);
        break;
    case '?':
        if (optopt && optopt < 256)
            img_fail(o, "invalid option -- '%c'", optopt);
        else
            img_fail(o, "unrecognized option '%s'", argv[optind - 1]);
        break;
    default:
        return false;
    }
    fprintf(stderr, "Try 'asyncow img %s --help'\n", o->command);
    *status = 1;
    return true;
}

int img_getopt(struct img_options *o, int argc, char **argv, const char *letters,
               const struct option *longs, int *status)
{
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (!common_option(o, c, argv, status))
            return c;
        if (*status >= 0)
            return 0;
    }
    *status = 0;
    o->argc = argc - optind;
    o->argv = argv + optind;
    return -1;
}

int img_need_files(const struct img_options *o, int min, int max, const char *what)
{
    if (o->argc < min)
        img_fail(o, "expecting %s", what);
    else if (o->argc > max)
        img_fail(o, "unexpected argument '%s'", o->argv[max]);
    else
        return 0;
    fprintf(stderr, "Try 'asyncow img %s --help'\n", o->command);
    return 1;
}

int img_open(const struct img_options *o, struct image_node **n, const char *path,
             const char *format, struct img_open how)
{
    struct chain_options co = {.env = o->env,
                               .write = how.write,
                               .no_lock = o->share,
                               .allow_backing = how.backing,
                               .no_backing = !how.backing,
                               .no_repair = how.no_repair,
                               .format = format};
    struct error err = {""};
    int r = chain_open(n, path, &co, &err);

    if (r < 0)
        img_fail(o, "could not open '%s': %s", path,
                 err.msg[0] ? err.msg : strerror(-r));
    return r;
}

int img_target(const struct img_options *o, const char **name,
               const struct image_node *chain)
{
    const char *file = chain_file_name(*name);
    struct stat target, source;

    if (!file)
        return img_fail(o, "%s: only file names are supported", *name);
    *name = file;
    for (; chain && stat(file, &target) == 0; chain = chain->backing)
        if (stat(blk_path(chain->file), &source) == 0 &&
            target.st_dev == source.st_dev && target.st_ino == source.st_ino)
            return img_fail(o, "%s: it would overwrite what it is made from", file);
    return 0;
}

bool img_parse_size(const char *s, uint64_t *out)
{
    static const char suffixes[] = "kmgtpe";
    char *end;

    *out = 0;
    if (*s < '0' || *s > '9')
        return false;
    errno = 0;
    uint64_t whole = strtoull(s, &end, s[0] == '0' && (s[1] | 32) == 'x' ? 16 : 10);
    double fraction = *end == '.' ? strtod(end, &end) : 0;
    unsigned shift = 0;
    if (errno)
        return false;
    if (*end && *end != 'b' && *end != 'B') {
        const char *at = strchr(suffixes, *end | 32);
        if (!at)
            return false;
        shift = (unsigned)(at - suffixes + 1) * 10;
    }
    if (*end && end[1])
        return false;
    if (fraction > 0 && !shift)
        return false;
    if (whole > (uint64_t)INT64_MAX >> shift)
        return false;
    *out = (whole << shift) + (uint64_t)(fraction * (double)(1ull << shift));
    return true;
}

const char *img_human_size(uint64_t v, char buf[32])
{
    static const char *const unit[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    double d = (double)v;
    unsigned i = 0;

    while (d >= 1000 && i < 6) { /* three digits, as qemu-img shows them */
        d /= 1024;
        i++;
    }
    snprintf(buf, 32, "%0.3g %sB", d, unit[i]);
    return buf;
}

void img_progress(const struct img_options *o, uint64_t done, uint64_t all)
{
    if (!o->progress || o->quiet)
        return;
    printf("    (%3.2f/100%%)\r", all ? 100.0 * (double)done / (double)all : 100.0);
    if (done >= all)
        putchar('\n');
    fflush(stdout);
}

static void usage(FILE *f)
{
    fprintf(
        f,
        "Usage: asyncow img COMMAND [OPTIONS] FILE...\n"
        "\n"
        "Works on disk images as qemu-img does, with its option names, JSON and exit "
        "codes.\n\n");
    for (int i = 0; i < COMMANDS; i++) {
        const char *text = strstr(commands[i].usage, "\n\n") + 2;
        fprintf(f, "  %-9s %.*s\n", commands[i].name, (int)strcspn(text, "."), text);
    }
    fprintf(f, "\n'asyncow img COMMAND --help' tells more. Formats: qcow2, raw.\n");
}

int cmd_img(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (name &&
        (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))) {
        usage(stdout);
        return 0;
    }
    for (int i = 0; name && i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name))
            continue;
        struct img_options o = {
            .command = name, .usage = commands[i].usage, .env = env_real(0)};
        optind = 1;
        int status = commands[i].run(&o, argc - 1, argv + 1);
        env_destroy(o.env);
        return status;
    }
    if (name)
        fprintf(stderr, "asyncow img: no command '%s'\n", name);
    usage(stderr);
    return 1;
}
