/* `asyncow img check`. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/block/aio.h"
#include "core/image/check.h"
#include "core/qcow2/format.h"
#include "harness/img.h"

enum {
    STATUS_FAILED = 1,
    STATUS_CORRUPT = 2,
    STATUS_LEAKS = 3,
    STATUS_UNSUPPORTED = 63
};

static void log_line(void *opaque, const char *line)
{
    const struct img_options *o = opaque;

    if (!o->quiet)
        fprintf(stderr, "%s\n", line);
}

static void show_json(const struct img_options *o, const struct check_result *r)
{
    /* As in qemu-img: counts that are 0 are left out, but for the errors. */
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"image-end-offset", r->image_end_offset},
                  {"total-clusters", r->total_clusters},
                  {"allocated-clusters", r->allocated_clusters},
                  {"fragmented-clusters", r->fragmented_clusters},
                  {"compressed-clusters", r->compressed_clusters},
                  {"corruptions", r->corruptions},
                  {"leaks", r->leaks},
                  {"corruptions-fixed", r->corruptions_fixed},
                  {"leaks-fixed", r->leaks_fixed}};
    json_t *j = json_object();

    json_object_set_new(j, "filename", json_string(o->argv[0]));
    json_object_set_new(j, "format", json_string("qcow2"));
    json_object_set_new(j, "check-errors", json_integer((json_int_t)r->check_errors));
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        if (counts[i].value)
            json_object_set_new(j, counts[i].name,
                                json_integer((json_int_t)counts[i].value));
    json_dumpf(j, stdout, JSON_INDENT(4));
    putchar('\n');
    json_decref(j);
}

static double percent(uint64_t part, uint64_t all)
{
    return 100.0 * (double)part / (double)all;
}

static void show_human(const struct check_result *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors) {
        printf("No errors were found on the image.\n");
    } else {
        if (r->corruptions)
            printf("\n%" PRIu64 " errors were found on the image.\n"
                   "Data may be corrupted, or further writes to the image may corrupt "
                   "it.\n",
                   r->corruptions);
        if (r->leaks)
            printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
                   "This means waste of disk space, but no harm to data.\n",
                   r->leaks);
        if (r->check_errors)
            printf("\n%" PRIu64 " internal errors have occurred during the check.\n",
                   r->check_errors);
    }
    if (r->total_clusters && r->allocated_clusters)
        printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% fragmented, "
               "%0.2f%% compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               percent(r->allocated_clusters, r->total_clusters),
               percent(r->fragmented_clusters, r->allocated_clusters),
               percent(r->compressed_clusters, r->allocated_clusters));
    if (r->image_end_offset)
        printf("Image end offset: %" PRIu64 "\n", r->image_end_offset);
}

static int status_of(const struct check_result *r)
{
    return r->check_errors  ? STATUS_FAILED
           : r->corruptions ? STATUS_CORRUPT
           : r->leaks       ? STATUS_LEAKS
                            : 0;
}

static bool is_qcow2(const struct img_options *o, struct blk_file *f)
{
    uint8_t magic[512];

    if (o->format)
        return !strcmp(o->format, "qcow2");
    return blk_pread(f, 0, magic, sizeof(magic)) == 0 &&
           qcow2_be32(magic) == QCOW2_MAGIC;
}

/* After a repair, once more without: what is said is what is there now. */
static int run(const struct img_options *o, struct blk_file *f, unsigned repair,
               struct check_result *res, struct error *err)
{
    void *opaque = (void *)(uintptr_t)o;
    int r = image_check(f, repair, res, log_line, opaque, err);

    if (r < 0 || (!res->corruptions_fixed && !res->leaks_fixed))
        return r;
    uint64_t corruptions = res->corruptions_fixed, leaks = res->leaks_fixed;
    if (o->output == IMG_HUMAN && !o->quiet)
        printf("The following inconsistencies were found and repaired:\n\n"
               "    %" PRIu64 " leaked clusters\n    %" PRIu64 " corruptions\n\n"
               "Double checking the fixed image now...\n",
               leaks, corruptions);
    fflush(stdout);
    r = image_check(f, 0, res, log_line, opaque, err);
    res->corruptions_fixed = corruptions;
    res->leaks_fixed = leaks;
    return r;
}

static int check(struct img_options *o, unsigned repair)
{
    struct blk_options bo = {.env = o->env, .write = repair, .no_lock = o->share};
    const char *path = o->argv[0];
    struct check_result res;
    struct error err = {""};
    struct blk_file *f;

    if (o->format && strcmp(o->format, "raw") && strcmp(o->format, "qcow2"))
        return img_fail(o, "format '%s' is not supported (raw and qcow2 are)",
                        o->format);
    if (blk_open(&f, path, &bo, &err) < 0)
        return img_fail(o, "could not open '%s': %s", path, err.msg);
    if (!is_qcow2(o, f)) {
        blk_close(f);
        img_fail(o, "%s: this image format does not support checks", path);
        return STATUS_UNSUPPORTED;
    }
    int r = run(o, f, repair, &res, &err);
    int closed = blk_close(f);
    if (r < 0)
        return img_fail(o, "%s: check failed: %s", path,
                        err.msg[0] ? err.msg : strerror(-r));
    if (o->output == IMG_JSON)
        show_json(o, &res);
    else if (!o->quiet)
        show_human(&res);
    return closed < 0 ? img_fail(o, "%s: %s", path, strerror(-closed))
                      : status_of(&res);
}

int img_check(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"output", required_argument, NULL, IMG_OPT_OUTPUT},
        {"repair", required_argument, NULL, 'r'},
        {"force-share", no_argument, NULL, 'U'},
        {"image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"object", no_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    unsigned repair = 0;
    int opt, status = 0;

    while ((opt = img_getopt(o, argc, argv, ":hf:r:T:qU", longs, &status)) > 0) {
        if (opt != 'r') /* -T: the cache mode; the page cache is used */
            continue;
        if (!strcmp(optarg, "leaks"))
            repair = CHECK_REPAIR_LEAKS;
        else if (!strcmp(optarg, "all"))
            repair = CHECK_REPAIR_LEAKS | CHECK_REPAIR_ERRORS;
        else
            return img_fail(o, "-r %s: must be leaks or all", optarg);
    }
    if (!opt)
        return status;
    if (repair && o->share)
        return img_fail(o,
                        "-r and -U exclude each other: repair needs the image alone");
    return img_need_files(o, 1, 1, "one image file name") ? 1 : check(o, repair);
}
