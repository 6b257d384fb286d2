/*
 * `asyncow img snapshot`: internal snapshots listed, made, applied and deleted. The
 * list is `img info`'s too.
 *
 * As in qemu-img, -a takes an id or a name and -d a name alone; -c makes a second one
 * of the same name. Not as in qemu-img: a name that is too long is refused, not cut.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/block/aio.h"
#include "core/image/chain.h"
#include "core/image/snapshots.h"
#include "core/image/writer.h"
#include "harness/img.h"

enum { NAME_MAX_BYTES = 255 };

/* --- the list --------------------------------------------------------------------- */

static void set(json_t *o, const char *key, json_t *value)
{
    json_object_set_new(o, key, value);
}

static json_t *number(uint64_t v) { return json_integer((json_int_t)v); }

json_t *img_json_text(const char *s)
{
    json_t *j = json_string(s);
    if (j)
        return j;
    size_t n = strlen(s);
    char *clean = strdup(s);
    for (size_t i = 0; clean && i < n; i++)
        if (clean[i] & 0x80)
            clean[i] = '?';
    j = json_string(clean ? clean : "");
    free(clean);
    return j;
}

int img_snapshot_list(const struct image_node *n, json_t *list, struct error *err)
{
    struct snapshot_reader s;
    int r;

    snapshots_start(&s, n->file, n->header);
    while ((r = snapshots_next(&s, err)) > 0) {
        json_t *e = json_object();
        if (s.icount != UINT64_MAX)
            set(e, "icount", number(s.icount));
        set(e, "vm-clock-nsec", number(s.vm_clock_nsec % 1000000000));
        set(e, "name", img_json_text(s.name));
        set(e, "date-sec", number(s.date_sec));
        set(e, "date-nsec", number(s.date_nsec));
        set(e, "vm-clock-sec", number(s.vm_clock_nsec / 1000000000));
        set(e, "id", img_json_text(s.id));
        set(e, "vm-state-size", number(s.vm_state_size));
        json_array_append_new(list, e);
    }
    snapshots_end(&s);
    return r;
}

static uint64_t value(const json_t *j, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(j, key));
}

void img_show_snapshots(const json_t *list)
{
    char size[32], date[32], clock[40], icount[24];
    size_t i;
    json_t *s;

    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE",
           "DATE", "VM CLOCK", "ICOUNT");
    json_array_foreach(list, i, s)
    {
        time_t t = (time_t)value(s, "date-sec");
        uint64_t sec = value(s, "vm-clock-sec");
        struct tm tm;
        localtime_r(&t, &tm);
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
        snprintf(clock, sizeof(clock),
                 "%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64, sec / 3600,
                 sec / 60 % 60, sec % 60, value(s, "vm-clock-nsec") / 1000000);
        icount[0] = '\0';
        if (json_object_get(s, "icount"))
            snprintf(icount, sizeof(icount), "%" PRIu64, value(s, "icount"));
        printf("%-9s %-16s %8s%20s%13s%11s\n",
               json_string_value(json_object_get(s, "id")),
               json_string_value(json_object_get(s, "name")),
               img_human_size(value(s, "vm-state-size"), size), date, clock, icount);
    }
}

static int list(const struct img_options *o, const struct image_node *n)
{
    struct error err = {""};
    json_t *all = json_array();
    int r = n->format == IMAGE_QCOW2 ? img_snapshot_list(n, all, &err) : 0;

    if (r < 0)
        img_fail(o, "%s: %s", blk_path(n->file), err.msg);
    else if (json_array_size(all))
        img_show_snapshots(all);
    json_decref(all);
    return r;
}

/* --- changes ---------------------------------------------------------------------- */

static const char *verb(enum qcow2_snapshot_op op)
{
    return op == QCOW2_SNAPSHOT_CREATE  ? "create"
           : op == QCOW2_SNAPSHOT_APPLY ? "apply"
                                        : "delete";
}

/* The id of the first snapshot with this very name, to be freed; -ENOENT. */
static int id_of(const struct image_node *n, const char *name, char **id,
                 struct error *err)
{
    struct snapshot_reader s;
    int r;

    snapshots_start(&s, n->file, n->header);
    while ((r = snapshots_next(&s, err)) > 0 && strcmp(s.name, name))
        ;
    if (!r)
        r = error_set(err, -ENOENT, "no such snapshot");
    *id = r > 0 ? strdup(s.id) : NULL;
    snapshots_end(&s);
    if (r > 0 && !*id)
        r = error_set(err, -ENOMEM, "%s", strerror(ENOMEM));
    return r < 0 ? r : 0;
}

static int change(struct img_options *o, struct image_node *n,
                  enum qcow2_snapshot_op op, const char *name, struct error *err)
{
    struct writer *w;
    char *id = NULL;
    int r = 0;

    if (n->format != IMAGE_QCOW2)
        return error_set(err, -ENOTSUP, "a raw image has no snapshots");
    if (op == QCOW2_SNAPSHOT_CREATE && strlen(name) > NAME_MAX_BYTES)
        return error_set(err, -ENAMETOOLONG,
                         "the name has %zu bytes: at most %d are allowed", strlen(name),
                         NAME_MAX_BYTES);
    if (op == QCOW2_SNAPSHOT_CREATE && !name[0])
        return error_set(err, -EINVAL, "the name is empty");
    if (op == QCOW2_SNAPSHOT_DELETE)
        r = id_of(n, name, &id, err);
    if (!r)
        r = writer_create(&w, n, err);
    if (!r) {
        r = writer_snapshot(w, op, id ? id : name, env_realtime_ns(o->env), err);
        int finished = writer_finish(w, r ? NULL : err);
        r = r ? r : finished;
    }
    free(id);
    return r;
}

/* --- the command ------------------------------------------------------------------ */

static int run(struct img_options *o, bool write, enum qcow2_snapshot_op op,
               const char *name)
{
    struct error err = {""};
    struct image_node *n;

    if (write && o->share)
        return img_fail(o, "-U is for reading: it goes with -l alone");
    if (img_open(o, &n, o->argv[0], NULL, (struct img_open){.write = write}) < 0)
        return 1;
    int r = write ? change(o, n, op, name, &err) : list(o, n);
    if (r < 0 && write)
        img_fail(o, "could not %s snapshot '%s': %s", verb(op), name, err.msg);
    int closed = chain_close(n);
    if (!r && closed < 0)
        img_fail(o, "%s: %s", o->argv[0], strerror(-closed));
    return r < 0 || closed < 0;
}

int img_snapshot(struct img_options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"force-share", no_argument, NULL, 'U'},
        {"quiet", no_argument, NULL, 'q'},
        {"image-opts", no_argument, NULL, IMG_OPT_REFUSED},
        {"object", no_argument, NULL, IMG_OPT_REFUSED},
        {NULL, 0, NULL, 0}};
    enum qcow2_snapshot_op op = QCOW2_SNAPSHOT_CREATE;
    const char *name = NULL;
    int opt, action = 0, status = 0;

    while ((opt = img_getopt(o, argc, argv, ":hla:c:d:qU", longs, &status)) > 0) {
        if (action)
            return img_fail(o, "cannot mix '-l', '-a', '-c', '-d'");
        action = opt;
        name = optarg;
        op = opt == 'a'   ? QCOW2_SNAPSHOT_APPLY
             : opt == 'd' ? QCOW2_SNAPSHOT_DELETE
                          : QCOW2_SNAPSHOT_CREATE;
    }
    if (!opt)
        return status;
    if (img_need_files(o, 1, 1, "one image file name"))
        return 1;
    return run(o, action && action != 'l', op, name);
}
