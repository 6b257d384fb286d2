/*
 * libFuzzer: an image and a schedule together (input.h). The image is laid out from the
 * input, damaged if it says so, opened under the strategy that it names in simulated
 * time, and worked on: requests, cancels, snapshots, faults, reopening, checks; in which
 * order whatever could come in any order comes, the input says, too.
 *
 * An image that our check finds sound, damaged or not, is held against the model of
 * tests/differential: each byte read is what it has to be, before and after reopening, as
 * the strategy and as the reader of `img` see it; no error without a cause; closed, it is
 * sound again. Any other image may be refused and every request on it may fail, but there
 * is no crash, no hang, no unbounded memory, an error says why, the image has (with
 * FUZZ_STRICT in the environment) no more corruptions afterwards than before but for one
 * exception, see worse(), and when repair says that all is well it is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image/check.h"
#include "core/image/reader.h"
#include "core/image/writer.h"
#include "tests/fuzz/session.h"

#define IMAGE "mem:image"
#define BASE "mem:base"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state { /* of the image, by our check */
    int error;
    struct check_result res;
    uint64_t low;   /* clusters counted less often than they are used */
    uint64_t grave; /* errors that are not about counts */
    char line[200];
};

static void keep_line(void *opaque, const char *line)
{
    struct state *st = opaque;
    const char *counts = strstr(line, "refcount");

    st->low += !strncmp(line, "ERROR cluster", 13) && counts;
    st->grave += !strncmp(line, "ERROR", 5) && !counts;
    if (!st->line[0])
        snprintf(st->line, sizeof(st->line), "%s", line);
    if (getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "  check: %s\n", line);
}

static struct state check(struct session *s, unsigned repair)
{
    struct state st = {0};
    struct error err = {""};

    st.error = image_check(s->file, repair, &st.res, keep_line, &st, &err);
    if (st.error < 0 && !err.msg[0])
        session_fail(s, "check fails without a word");
    return st;
}

static uint64_t wrong(const struct state *st)
{
    return st->error < 0 ? UINT64_MAX : st->res.corruptions + st->res.check_errors;
}

/* Where a cluster in use counts as free it will be used again: QEMU can't know, nor can
 * we. Then all that must hold is that no table gets an entry that cannot be. */
static bool worse(const struct state *before, const struct state *after)
{
    if (before->low || before->error < 0)
        return after->grave > before->grave && before->error == 0;
    return wrong(after) > wrong(before);
}

/* ---- files ---- */

static struct blk_file *make_file(struct session *s, const char *name,
                                  const char *filters, const uint8_t *bytes,
                                  uint64_t len, uint64_t size)
{
    struct blk_options o = {
        .env = s->env, .sim = true, .write = true, .create = true, .filters = filters};
    struct error err = {""};
    struct blk_file *f;

    if (blk_open(&f, name, &o, &err) < 0 || blk_truncate(f, size) < 0 ||
        blk_pwrite(f, 0, bytes, len < size ? len : size) < 0)
        session_fail(s, "%s cannot be made: %s", name, err.msg);
    return f;
}

static void make_files(struct session *s, const struct layout *l)
{
    s->node = (struct image_node){.format = IMAGE_QCOW2, .size = l->size};
    s->file = s->node.file =
        make_file(s, IMAGE, "fault", l->file, l->len, l->file_size);
    if (!l->backing)
        return;
    s->backing_file =
        make_file(s, BASE, NULL, l->backing, l->backing_size, l->backing_size);
    s->backing = (struct image_node){
        .format = IMAGE_RAW, .size = l->backing_size, .file = s->backing_file};
    s->node.backing = &s->backing;
}

/* ---- the reader, a second opinion ---- */

/* The whole disk as the reader of `img` sees it; NULL: it cannot be read. */
static uint8_t *read_disk(struct session *s)
{
    struct error err = {""};
    struct reader *rd;
    uint8_t *disk = NULL;

    if (session_read_header(s, &err) < 0 || s->node.size > 4 << 20)
        return NULL;
    if (reader_create(&rd, &s->node) < 0)
        abort();
    disk = calloc(1, s->node.size + 1);
    for (uint64_t at = 0; disk && at < s->node.size; at += 4096) {
        uint64_t len = s->node.size - at < 4096 ? s->node.size - at : 4096;
        if (reader_read(rd, at, disk + at, len, &err) < 0) {
            free(disk);
            disk = NULL;
        }
    }
    reader_free(rd);
    return disk;
}

/* Closed, it is as good as the model says. */
static void judge_file(struct session *s)
{
    struct state st = check(s, 0);
    bool faults = fault_hits(blk_filter(s->file, "fault")) > 0;
    uint64_t bad;

    if (wrong(&st) && s->doubt)
        st = check(s, CHECK_REPAIR_ERRORS);
    s->doubt = false;
    if (wrong(&st) && s->sound)
        session_fail(s, "it was sound, and is not any more: %s", st.line);
    if (s->sound && !s->layout->full && !s->layout->damaged && !faults && st.res.leaks)
        session_fail(s, "it leaks %" PRIu64 " clusters: %s", st.res.leaks, st.line);
    if (!s->sound)
        return;
    uint8_t *disk = read_disk(s);
    if (!disk)
        session_fail(s, "the reader cannot read it");
    if (!model_check(&s->m, 0, s->m.size, disk, s->m.clock, &bad)) {
        model_tell(&s->m, bad, s->m.clock);
        session_fail(s, "byte %" PRIu64 " of the file is %02x", bad, disk[bad]);
    }
    free(disk);
}

/* Whether it is sound before anything is done to it; then the model begins with it. */
static struct state begin(struct session *s, const struct layout *l)
{
    struct state st = check(s, 0);
    uint8_t *disk = read_disk(s);

    if (!l->damaged) {
        if (wrong(&st) || (st.res.leaks && !l->full))
            session_fail(s, "the image laid out is not sound: %s", st.line);
        if (!disk || memcmp(disk, l->layer[l->layers - 1].disk, l->size))
            session_fail(s, "the reader reads something else than was laid out");
    }
    s->sound = disk && !wrong(&st) && s->node.size && s->node.size % SECTOR == 0 &&
               !(s->node.header->incompat & QCOW2_INCOMPAT_CORRUPT);
    if (!s->sound) {
        free(disk);
        disk = NULL;
    } else {
        model_init(&s->m, disk, s->node.size, true);
    }
    for (unsigned i = 0; i + 1 < l->layers; i++)
        session_keep(s, i, s->sound && !l->damaged ? l->layer[i].disk : NULL);
    return st;
}

/* ---- between two openings ---- */

/* Some sectors more or less; what is gained reads zeros, or what lies below. */
static void resize(struct session *s, const struct record *r)
{
    struct error err = {""};
    struct writer *w;
    uint64_t size = (1 + r->at % DISK_SECTORS) * SECTOR;

    int ret = session_make_ready(s, &err);
    if (ret == 0)
        ret = writer_create(&w, &s->node, &err);
    if (ret == 0) {
        ret = writer_resize(w, size, &err);
        int end = writer_finish(w, &err);
        ret = ret ? ret : end;
    }
    if (ret < 0 && !err.msg[0])
        session_fail(s, "resize fails without a word");
    if (!s->sound)
        return;
    if (ret < 0 && ret != -ENOTSUP && ret != -EFBIG)
        session_fail(s, "resize fails: %s", err.msg);
    if (ret < 0)
        return;
    uint8_t *disk = read_disk(s);
    if (!disk || s->node.size != size)
        session_fail(s, "resized, it cannot be read");
    /* What there was has not changed: judged by the model, as long as it has that. */
    uint64_t bad, keeps = size < s->m.size ? size : s->m.size;
    if (!model_check(&s->m, 0, keeps, disk, s->m.clock, &bad))
        session_fail(s, "resized, byte %" PRIu64 " is %02x", bad, disk[bad]);
    for (uint64_t at = keeps; at < size; at++)
        if (disk[at])
            session_fail(s, "what a disk gains does not read zeros: byte %" PRIu64, at);
    model_free(&s->m);
    model_init(&s->m, disk, size, true);
}

static unsigned way_of(const struct session *s, const struct record *r)
{
    return s->input->head[HEAD_WAY] + (r ? r->what : 0u);
}

static void between(struct session *s, const struct record *r)
{
    session_close(s);
    if (s->sound || r->kind == R_CHECK)
        judge_file(s);
    if (r->kind == R_RESIZE)
        resize(s, r);
    (void)session_open(s, way_of(s, r->kind == R_REOPEN ? r : NULL));
}

/* ---- all of it ---- */

static void play(struct session *s)
{
    (void)session_open(s, way_of(s, NULL));
    for (unsigned i = 0; i < s->input->n; i++) {
        const struct record *r = &s->input->record[i];
        if (getenv("FUZZ_VERBOSE"))
            fprintf(stderr, "%u: kind %u what %u x %u y %u at %u len %u\n", i, r->kind,
                    r->what, r->x, r->y, r->at, r->len);
        if (r->kind == R_REOPEN || r->kind == R_CHECK || r->kind == R_RESIZE)
            between(s, r);
        else
            session_step(s, r);
    }
    session_read_all(s);
    session_close(s);
}

static void end(struct session *s, const struct state *before)
{
    bool faults = fault_hits(blk_filter(s->file, "fault")) > 0;

    if (s->sound) {
        judge_file(s);
        return;
    }
    struct state after = check(s, 0);
    bool strict = getenv("FUZZ_STRICT") != NULL;
    if (strict && !faults && !s->m.s && worse(before, &after))
        session_fail(s, "damaged, it had %" PRIu64 " corruptions, now %" PRIu64 ": %s",
                     wrong(before), wrong(&after), after.line);
    struct state repaired = check(s, CHECK_REPAIR_LEAKS | CHECK_REPAIR_ERRORS);
    if (wrong(&repaired))
        return;
    struct state again = check(s, 0);
    if (wrong(&again) || again.res.leaks)
        session_fail(s, "repair says that all is well: %s", again.line);
}

static void run(const struct input *in, const struct layout *l)
{
    static struct session s;
    static uint8_t *bufs[SLOTS];
    struct error err = {""};

    memset(&s, 0, sizeof(s));
    s.layout = l;
    s.input = in;
    s.env = env_sim(1);
    s.engine = (struct loop_options){.engine = "sim", .depth = 64, .sim_model = "zero"};
    for (unsigned i = 0; i < SLOTS; i++) {
        if (!bufs[i])
            bufs[i] = malloc(REQUEST_MAX);
        s.slot[i].buf = bufs[i];
    }
    if (loop_create(&s.loop, s.env, &s.engine, &err) < 0)
        abort();
    make_files(&s, l);
    struct state before = begin(&s, l);
    play(&s);
    end(&s, &before);
    session_free(&s);
    blk_close(s.file);
    if (s.backing_file)
        blk_close(s.backing_file);
    loop_destroy(s.loop);
    env_destroy(s.env);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input in;
    static struct layout l;

    input_read(&in, data, size);
    if (layout_make(&l, &in)) {
        layout_damage(&l, &in);
        run(&in, &l);
    }
    layout_free(&l);
    return 0;
}
