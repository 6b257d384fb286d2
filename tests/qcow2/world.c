/* The file, the requests and their scheduler: world.h. */
#include "tests/qcow2/world.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/image/decompress.h"

uint64_t world_random(struct world *w, uint64_t below)
{
    uint64_t z = (w->rng += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

void world_reach(struct world *w, uint64_t end)
{
    if (end > w->cap) {
        uint64_t cap = end * 2;
        w->file = realloc(w->file, cap);
        assert(w->file);
        memset(w->file + w->cap, 0, cap - w->cap);
        w->cap = cap;
    }
    if (end > w->size)
        w->size = end;
}

void world_load(struct world *w, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        abort();
    }
    fseek(f, 0, SEEK_END);
    world_reach(w, (uint64_t)ftell(f));
    rewind(f);
    size_t got = fread(w->file, 1, w->size, f);
    assert(got == w->size);
    fclose(f);
}

void world_save(const struct world *w, const char *path)
{
    FILE *f = fopen(path, "wb");
    assert(f);
    size_t put = fwrite(w->file, 1, w->size, f);
    assert(put == w->size);
    fclose(f);
}

static void task_main(void *arg)
{
    struct task *t = arg;
    t->fn(t);
    t->live = false;
}

/* Tasks, then carriers. */
static struct task *nth(struct world *w, unsigned i)
{
    return i < w->ntasks ? &w->tasks[i] : &w->carrier[i - w->ntasks];
}

bool world_run(struct world *w, struct task *tasks, unsigned n)
{
    w->tasks = tasks;
    w->ntasks = n;
    for (unsigned i = 0; i < n; i++) {
        tasks[i].w = w;
        tasks[i].live = true;
        tasks[i].asleep = NULL;
        tasks[i].co = co_create(task_main, &tasks[i]);
    }
    for (;;) {
        unsigned runnable = 0, live = 0;
        for (unsigned i = 0; i < n + CARRIERS; i++) {
            live += nth(w, i)->live;
            runnable += nth(w, i)->live && !nth(w, i)->asleep;
        }
        if (!live)
            break;
        if (w->stop_at && w->ios >= w->stop_at)
            return false;
        if (!runnable) {
            fprintf(stderr, "deadlock: %u tasks asleep\n", live);
            abort();
        }
        uint64_t pick = world_random(w, runnable);
        for (unsigned i = 0; i < n + CARRIERS; i++) {
            struct task *t = nth(w, i);
            if (t->live && !t->asleep && pick-- == 0) {
                co_enter(t->co);
                break;
            }
        }
        if (w->verify && w->q && !w->delayed && ++w->steps == 6) {
            qcow2_verify(w->q);
            w->steps = 0;
        }
        w->delayed = false;
        if (w->after_step)
            w->after_step(w);
    }
    w->ntasks = 0;
    return true;
}

void world_pause(struct task *t)
{
    if (world_random(t->w, 4))
        co_yield ();
}

void world_wake(struct world *w)
{
    qcow2_chan c;
    while ((c = qcow2_wake(w->q))) {
        for (unsigned i = 0; i < w->ntasks; i++) {
            if (w->tasks[i].asleep == c)
                w->tasks[i].asleep = NULL;
        }
    }
}

/* What has happened to the file goes to whoever tries crashes: whole sectors of it. */
static unsigned began(struct world *w, enum crash_op op, uint64_t offset, uint64_t len)
{
    uint64_t start = offset & ~511ull, end = (offset + len + 511) & ~511ull;

    if (!w->crash)
        return 0;
    if (op == CRASH_GROW)
        return crash_begin(w->crash, op, offset, len, NULL);
    assert(op != CRASH_WRITE || end <= w->cap);
    return crash_begin(w->crash, op, start, end - start, w->file + start);
}

static void completed(struct world *w, unsigned id)
{
    if (w->crash)
        crash_done(w->crash, id);
}

static int outcome(struct world *w)
{
    uint64_t n = ++w->ios;
    if (!w->fail_at || !(n == w->fail_at || (w->also_at && n == w->also_at) ||
                         (w->fail_forever && n > w->fail_at)))
        return 0;
    w->failures++;
    return w->also_at && n == w->also_at ? w->also_err : w->fail_err;
}

/* Some I/Os take as long as many others. */
static void delay(struct task *t)
{
    world_pause(t);
    if (!t->w->even && world_random(t->w, 48) == 0)
        for (uint64_t n = world_random(t->w, 400); n; n--) {
            t->w->delayed = true;
            co_yield ();
        }
}

int world_read(struct task *t, uint64_t offset, void *buf, uint64_t len)
{
    struct world *w = t->w;
    delay(t);
    int err = outcome(w);
    memset(buf, 0, len);
    if (!err && offset < w->size)
        memcpy(buf, w->file + offset, len < w->size - offset ? len : w->size - offset);
    world_pause(t);
    return err;
}

int world_write(struct task *t, uint64_t offset, const void *buf, uint64_t len)
{
    struct world *w = t->w;
    delay(t);
    int err = outcome(w);
    if (!err) {
        world_reach(w, offset + len);
        memcpy(w->file + offset, buf, len);
        unsigned entry = began(w, CRASH_WRITE, offset, len);
        world_pause(t);
        completed(w, entry);
    } else if (w->fail_torn) {
        uint64_t half = len / 2 & ~511ull;
        world_reach(w, offset + half);
        memcpy(w->file + offset, buf, half);
    }
    return err;
}

static int zero_file(struct task *t, uint64_t offset, uint64_t len, bool extend)
{
    struct world *w = t->w;
    world_pause(t);
    int err = outcome(w);
    if (!err) {
        if (extend)
            world_reach(w, offset + len);
        if (offset < w->size)
            memset(w->file + offset, 0,
                   len < w->size - offset ? len : w->size - offset);
        unsigned entry = began(w, extend ? CRASH_ZERO : CRASH_PUNCH, offset, len);
        world_pause(t);
        completed(w, entry);
    }
    return err;
}

/* A flush covers what was completed when it was submitted. */
static int flush_file(struct task *t)
{
    struct world *w = t->w;
    struct crash_flush *f = w->crash ? crash_flush(w->crash) : NULL;
    world_pause(t);
    int err = outcome(w);
    world_pause(t);
    if (f)
        crash_flushed(w->crash, f, !err);
    return err;
}

int world_settle(struct task *t, const struct qcow2_need *need)
{
    const struct qcow2_io *io = &need->io;
    int err = 0;

    switch (io->op) {
    case QCOW2_READ:
        err = world_read(t, io->offset, io->buf, io->len);
        break;
    case QCOW2_WRITE:
        err = world_write(t, io->offset, io->buf, io->len);
        break;
    case QCOW2_FLUSH:
        err = flush_file(t);
        break;
    case QCOW2_ZERO:
        err = zero_file(t, io->offset, io->len, true);
        break;
    case QCOW2_PUNCH:
        err = zero_file(t, io->offset, io->len, false);
        t->w->silent += err != 0;
        break;
    case QCOW2_COPY: {
        void *buf = malloc(io->len);
        err = world_read(t, io->from, buf, io->len);
        if (!err)
            err = world_write(t, io->offset, buf, io->len);
        free(buf);
        break;
    }
    case QCOW2_GROW:
        world_pause(t);
        err = outcome(t->w);
        t->w->silent += err != 0;
        if (!err) {
            world_reach(t->w, io->offset + io->len);
            unsigned entry = began(t->w, CRASH_GROW, io->offset, io->len);
            world_pause(t);
            completed(t->w, entry);
        }
        break;
    }
    int ret = qcow2_io_done(t->w->q, io, err);
    world_wake(t->w);
    return ret;
}

static void carry(struct task *t)
{
    int ret = world_settle(t, t->arg);
    (void)ret; /* whom it concerned is dead */
}

/* The request is to die; the I/O that it owes is somebody else's now. */
static bool dies(struct task *t, const struct qcow2_need *need)
{
    struct world *w = t->w;
    unsigned i = 0;

    if (!w->deaths || world_random(w, w->deaths))
        return false;
    while (i < CARRIERS && w->carrier[i].live)
        i++;
    if (i == CARRIERS)
        return false;
    struct task *c = &w->carrier[i];
    w->carried[i] = *need;
    *c = (struct task){.w = w, .live = true, .fn = carry, .arg = &w->carried[i]};
    c->co = co_create(task_main, c);
    w->died++;
    return true;
}

/* A call of the core, seen from before and after. */
#define VERB(t, call) (verb_begins(t), verb_ended(t, call))

static void verb_begins(struct task *t)
{
    if (t->w->verb)
        t->w->verb(t->w, 0);
}

static int verb_ended(struct task *t, int verdict)
{
    if (t->w->verb && verdict > 0)
        t->w->verb(t->w, verdict);
    return verdict;
}

/* After a verdict above 0: settle it. 0: repeat; negative: give up. */
static int owed(struct task *t, int verdict, const struct qcow2_need *need)
{
    if (verdict == QCOW2_NEED_WAIT) /* among the sleepers before the news is told */
        t->asleep = need->chan;
    world_wake(t->w);
    if (verdict == QCOW2_NEED_IO)
        return world_settle(t, need);
    while (t->asleep)
        co_yield ();
    return 0;
}

/* The same for a request that may be given up with its I/O in flight. */
static int owed_or_dead(struct task *t, int verdict, const struct qcow2_need *need)
{
    if (verdict == QCOW2_NEED_IO && dies(t, need)) {
        world_wake(t->w);
        return -ECANCELED;
    }
    return owed(t, verdict, need);
}

int world_open(struct world *w, struct task *t, unsigned inflight, size_t cache,
               uint64_t grow)
{
    struct qcow2_header h;
    struct qcow2_need need;
    struct qcow2_ticket ticket = {0};
    struct error *err = &w->err;
    int ret = qcow2_header_parse(&h, w->file, w->size, w->size, err);
    if (!ret) {
        struct qcow2_options opt = {.inflight = inflight,
                                    .cache = cache,
                                    .grow = grow,
                                    .file_size = w->size,
                                    .regular = true,
                                    .write = true,
                                    .punch = true,
                                    .no_backing = !w->backing};
        ret = qcow2_open(&w->q, &h, w->file, &opt, err);
    }
    while (!ret && (ret = qcow2_load(w->q, &ticket, &need, err)) > 0)
        ret = owed(t, ret, &need);
    if (ret) {
        qcow2_free(w->q);
        w->q = NULL;
    }
    return ret;
}

/* The file ends there: what growth ahead of need left over goes. */
static void cut(struct world *w, uint64_t end)
{
    if (end < w->size)
        memset(w->file + end, 0, w->size - end);
    else
        world_reach(w, end);
    w->size = end;
    if (w->crash)
        completed(w, crash_begin(w->crash, CRASH_CUT, end, 0, NULL));
}

int world_close(struct world *w, struct task *t)
{
    struct qcow2_ticket ticket = {0};
    struct qcow2_need need;
    int ret;
    while ((ret = VERB(t, qcow2_close_sync(w->q, &ticket, &need))) > 0) {
        ret = owed(t, ret, &need);
        if (ret) {
            qcow2_cancel(w->q, &ticket);
            break;
        }
    }
    if (!ret)
        cut(w, qcow2_file_end(w->q));
    qcow2_free(w->q);
    w->q = NULL;
    return ret;
}

static int read_extent(struct task *t, const struct qcow2_extent *e, uint8_t *buf)
{
    struct world *w = t->w;
    int ret = 0;
    switch (e->type) {
    case QCOW2_DATA:
        return world_read(t, e->host, buf, e->len);
    case QCOW2_COMPRESSED: {
        uint8_t *in = malloc(e->host_len), *out = malloc(qcow2_cluster_size(w->q));
        ret = world_read(t, e->host, in, e->host_len);
        if (!ret)
            ret = image_decompress(qcow2_compression(w->q), in, e->host_len, out,
                                   qcow2_cluster_size(w->q));
        if (!ret)
            memcpy(buf, out + e->cluster_skip, e->len);
        free(in);
        free(out);
        return ret;
    }
    case QCOW2_BACKING: {
        uint64_t end =
            qcow2_size(w->q) < w->backing_size ? qcow2_size(w->q) : w->backing_size;
        memset(buf, 0, e->len);
        if (e->guest < end)
            memcpy(buf, w->backing + e->guest,
                   e->len < end - e->guest ? e->len : end - e->guest);
        return 0;
    }
    default:
        memset(buf, 0, e->len);
        return 0;
    }
}

int guest_read(struct task *t, uint64_t offset, uint8_t *buf, uint64_t len)
{
    struct qcow2 *q = t->w->q;
    while (len) {
        struct qcow2_ticket ticket = {0};
        struct qcow2_extent e;
        struct qcow2_need need;
        int ret = qcow2_peek(q, offset, len, &e);
        for (bool map = ret == -EAGAIN; map;) {
            ret = VERB(t, qcow2_map(q, &ticket, offset, len, &e, &need));
            map = ret > 0;
            if (map && (ret = owed_or_dead(t, ret, &need)) != 0) {
                qcow2_cancel(q, &ticket);
                world_wake(t->w);
                map = false;
            }
        }
        if (ret)
            return ret;
        ret = read_extent(t, &e, buf);
        (void)qcow2_unmap(q, &e);
        world_wake(t->w);
        if (ret)
            return ret;
        offset += e.len;
        buf += e.len;
        len -= e.len;
    }
    return 0;
}

int guest_write(struct task *t, uint64_t offset, const uint8_t *buf, uint64_t len)
{
    struct qcow2 *q = t->w->q;
    while (len) {
        struct qcow2_write w = {0};
        struct qcow2_need need;
        int ret;
        while ((ret = VERB(t, qcow2_plan(q, offset, len, &w, &need))) > 0) {
            ret = owed_or_dead(t, ret, &need);
            if (ret) {
                qcow2_abort(q, &w);
                world_wake(t->w);
                return ret;
            }
        }
        world_wake(t->w);
        if (ret)
            return ret;
        uint64_t head = w.cow[0].len, tail = w.cow[1].len, total = head + w.len + tail;
        uint8_t *all = malloc(total);
        if (head)
            ret = read_extent(t, &w.cow[0], all);
        if (tail && !ret)
            ret = read_extent(t, &w.cow[1], all + head + w.len);
        memcpy(all + head, buf, w.len);
        if (!ret)
            ret = world_write(t, w.host - head, all, total);
        free(all);
        uint64_t done = w.len;
        if (ret)
            qcow2_abort(q, &w);
        else
            qcow2_commit(q, &w);
        world_wake(t->w);
        if (ret)
            return ret;
        offset += done;
        buf += done;
        len -= done;
    }
    return 0;
}

int guest_zero(struct task *t, uint64_t offset, uint64_t len)
{
    struct qcow2 *q = t->w->q;
    while (len) {
        struct qcow2_ticket ticket = {0};
        struct qcow2_need need;
        enum qcow2_part part;
        uint64_t done;
        int ret;
        while ((ret = VERB(
                    t, qcow2_zero(q, &ticket, offset, len, &done, &part, &need))) > 0) {
            ret = owed_or_dead(t, ret, &need);
            if (ret) {
                qcow2_cancel(q, &ticket);
                break;
            }
        }
        world_wake(t->w);
        if (ret)
            return ret;
        if (part == QCOW2_PART_WRITE) {
            uint8_t *zeros = calloc(1, done);
            ret = guest_write(t, offset, zeros, done);
            free(zeros);
            if (ret)
                return ret;
        }
        offset += done;
        len -= done;
    }
    return 0;
}

int guest_discard(struct task *t, uint64_t offset, uint64_t len)
{
    struct qcow2 *q = t->w->q;
    while (len) {
        struct qcow2_ticket ticket = {0};
        struct qcow2_need need;
        uint64_t done;
        int ret;
        while ((ret = VERB(t, qcow2_discard(q, &ticket, offset, len, &done, &need))) >
               0) {
            ret = owed_or_dead(t, ret, &need);
            if (ret) {
                qcow2_cancel(q, &ticket);
                break;
            }
        }
        world_wake(t->w);
        if (ret)
            return ret;
        offset += done;
        len -= done;
    }
    return 0;
}

int guest_flush(struct task *t)
{
    struct qcow2_ticket ticket = {0};
    struct qcow2_need need;
    int ret;
    while ((ret = VERB(t, qcow2_sync(t->w->q, &ticket, &need))) > 0) {
        ret = owed_or_dead(t, ret, &need);
        if (ret) {
            qcow2_cancel(t->w->q, &ticket);
            break;
        }
    }
    world_wake(t->w);
    return ret;
}

static int operate(struct task *t, struct qcow2_snapshot *s)
{
    struct qcow2_need need;
    int ret;
    do {
        ret = VERB(t, qcow2_snapshot_step(t->w->q, s, &need));
        if (ret > 0) {
            ret = owed(t, ret, &need);
            if (ret)
                qcow2_snapshot_failed(t->w->q, s, ret);
            ret = 0;
            s->tables_left = 1;
        }
        world_wake(t->w);
        world_pause(t);
    } while (!ret && s->tables_left);
    return ret;
}

int guest_snapshot(struct task *t, enum qcow2_snapshot_op op, const char *name)
{
    struct qcow2_snapshot s = {.op = op, .name = name, .date_sec = 1};
    return operate(t, &s);
}

int guest_resize(struct task *t, uint64_t size)
{
    struct qcow2_snapshot s = {.op = QCOW2_RESIZE, .size = size};
    return operate(t, &s);
}

int guest_list(struct task *t)
{
    struct qcow2_need need;
    int ret;
    while ((ret = VERB(t, qcow2_snapshot_load(t->w->q, &need))) > 0) {
        ret = owed(t, ret, &need);
        if (ret)
            break;
    }
    return ret;
}
