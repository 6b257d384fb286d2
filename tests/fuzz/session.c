/* The simulated world around the image, and its choices: session.h. */
#include "tests/fuzz/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image/ready.h"

enum { TURNS_MAX = 200000, ASKED_MAX = 2000000 };

static const struct way {
    const char *strategy, *settings;
} ways[] = {
    {"coroutines", NULL},
    {"callbacks", NULL},
    {"freeze-thaw", NULL},
    {"threadpool", "workers=3"},
    {"coroutines", "lock=none"},
    {"coroutines", "lock=entry,hold=metadata"},
    {"coroutines", "lock=rwlock,fastpath=on"},
    {"coroutines", "lock=big"},
    {"callbacks", "metadata=sync"},
    {"freeze-thaw", "completions=deferred"},
    {"threadpool", "workers=2,wait=park,lock=rwlock"},
    {"threadpool", "workers=2,hold=metadata,mutex=fair"},
};
enum { WAYS = sizeof(ways) / sizeof(*ways) };

const char *const session_op_names[GUEST_OPS] = {"read",  "write",  "zero",  "discard",
                                                 "flush", "create", "apply", "delete"};

static void tell_slots(const struct session *s)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *t = &s->slot[i];
        if (t->busy)
            fprintf(stderr, "  in flight: %s %" PRIu64 "+%" PRIu64 "%s\n",
                    session_op_names[t->req.op], t->req.offset, t->req.len,
                    t->cancelled ? " cancelled" : "");
    }
}

void session_fail(const struct session *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n");
    tell_slots(s);
    abort();
}

/* ---- choices ---- */

static unsigned choose(void *opaque, unsigned n)
{
    struct session *s = opaque;

    if (++s->asked > ASKED_MAX)
        session_fail(s, "it comes to no end");
    if (!s->choices)
        return 0; /* the plainest */
    unsigned c = s->choice[s->choice_at];
    s->choice_at = (s->choice_at + 1) % sizeof(s->choice);
    s->choices--;
    return c % n;
}

static void stuck(void *opaque)
{
    session_fail(opaque, "deadlock: nothing can run and nothing is to come");
}

void session_offer(struct session *s, uint8_t c)
{
    if (s->choices < sizeof(s->choice))
        s->choice[(s->choice_at + s->choices++) % sizeof(s->choice)] = c;
}

void session_turn(struct session *s)
{
    if (++s->turns > TURNS_MAX)
        session_fail(s, "it hangs");
    loop_turn(s->loop, true);
}

void session_wait(struct session *s)
{
    while (s->in_flight)
        session_turn(s);
}

/* ---- open and closed ---- */

bool session_may_fail(const struct session *s)
{
    return !s->sound || fault_hits(blk_filter(s->file, "fault")) > s->hits;
}

int session_read_header(struct session *s, struct error *err)
{
    int ret = image_read_header(&s->node, err);

    if (ret < 0)
        return ret;
    s->node.size = s->node.header->size;
    s->node.backing =
        s->node.header->has_backing && s->backing_file ? &s->backing : NULL;
    return 0;
}

int session_make_ready(struct session *s, struct error *err)
{
    s->node.write = true;
    int ret = session_read_header(s, err);
    return ret < 0 ? ret : image_make_ready(&s->node, false, err);
}

int session_open(struct session *s, unsigned way)
{
    const uint8_t *head = s->input->head;
    struct strategy_options so = {
        .loop = s->loop,
        .engine = &s->engine,
        .top = &s->node,
        .settings = ways[way % WAYS].settings,
        .depth = head[HEAD_CACHE] & 4 ? 3 : SLOTS,
        .cache = head[HEAD_CACHE] & 1 ? 1 << 20 : 0,
        .grow = head[HEAD_CACHE] & 2 ? 64 << 10 : 0,
        .through = head[HEAD_FLAGS] & FLAG_THROUGH,
        .punch = !(head[HEAD_FLAGS] & FLAG_PUNCH),
    };
    struct error err = {""};

    sim_set_chooser(s->env, choose, s);
    sim_set_stuck(s->env, stuck, s);
    s->hits = fault_hits(blk_filter(s->file, "fault"));
    int ret = session_make_ready(s, &err);
    s->strategy = fuzz_strategy(ways[way % WAYS].strategy);
    if (ret == 0)
        ret = s->strategy->open(&s->image, &so, &err);
    if (ret < 0) {
        s->image = NULL;
        if (!err.msg[0])
            session_fail(s, "it is refused without a word");
        if (!session_may_fail(s))
            session_fail(s, "it cannot be opened: %s", err.msg);
    }
    return ret;
}

void session_close(struct session *s)
{
    struct fault_plan none = {.n = 0};

    if (!s->image)
        return;
    session_wait(s);
    if (s->sound)
        s->strategy->verify(s->image);
    int ret = s->strategy->close(s->image);
    s->image = NULL;
    s->choices = 0;
    if (ret < 0 && !session_may_fail(s))
        session_fail(s, "it cannot be closed: %s", strerror(-ret));
    fault_arm(blk_filter(s->file, "fault"), &none);
    if (!s->sound)
        return;
    if (ret == 0)
        model_flushed(&s->m, s->m.clock);
    model_crashed(&s->m);
}

void session_free(struct session *s)
{
    for (unsigned i = 0; i < KEPT; i++)
        kept_forget(&s->kept[i], ABSENT);
    free(s->node.header);
    free(s->node.header_cluster);
    if (s->m.s)
        model_free(&s->m);
}
