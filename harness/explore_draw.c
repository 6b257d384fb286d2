/* See explore_draw.h. */
#include "harness/explore_draw.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/block/engine.h"

enum { WIDTH = 26 };

static struct {
    struct explore_world *world;
    unsigned columns, row;
} picture;

static void row(unsigned column, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void row(unsigned column, const char *fmt, ...)
{
    char text[80];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printf("%4u ", ++picture.row);
    for (unsigned i = 0; i < column; i++)
        printf("%-*s", WIDTH, "|");
    printf("%s\n", text);
    fflush(stdout);
}

static const char *io_text(const struct aio *aio, char text[64])
{
    static const char *const ops[AIO_OPS] = {"read",    "write", "flush",
                                             "discard", "zero",  "grow"};

    if (aio->op == AIO_FLUSH)
        return "flush";
    snprintf(text, 64, "%s %s 0x%" PRIx64 "+%" PRIu64, ops[aio->op],
             aio->metadata ? "meta" : "data", aio->offset, aio->len);
    return text;
}

static void news_of_io(const struct sim_news *news)
{
    const struct aio *aio = sim_event_aio(news->event);
    const struct explore_op *op = aio ? explore_world_owner(picture.world, aio) : NULL;
    char text[64];

    if (!op)
        return;
    if (news->what == SIM_SCHEDULED)
        row(op->index, "> %s", io_text(aio, text));
    else
        row(op->index, "= %s", io_text(aio, text));
}

static void news(void *opaque, const struct sim_news *news)
{
    (void)opaque;
    if (news->event)
        news_of_io(news);
    else if (news->what == SIM_WAITS && news->actor &&
             strcmp(news->waits_for, "loop_turn")) /* that is for its own I/O */
        row(picture.columns, "thread %u waits for %s", news->actor, news->waits_for);
}

static void submitted(void *opaque, const struct explore_op *op)
{
    (void)opaque;
    if (explore_located(op->kind))
        row(op->index, "%s %" PRIu64 "+%" PRIu64, explore_kind_name(op->kind),
            op->g.offset, op->g.len);
    else
        row(op->index, "%s", explore_kind_name(op->kind));
}

static void cancelled(void *opaque, const struct explore_op *target)
{
    (void)opaque;
    row(target->index, "cancel");
}

static void done(void *opaque, const struct explore_op *op)
{
    (void)opaque;
    row(op->index, "done%s%s", op->g.result ? ": " : "",
        op->g.result ? strerror(-op->g.result) : "");
}

void explore_draw_begin(struct explore_world *world, const struct explore_set *set)
{
    picture.world = world;
    picture.columns = set->n;
    printf("     ");
    for (unsigned i = 0; i < set->n; i++) {
        char head[WIDTH];
        snprintf(head, sizeof(head), "%u: %s", i + 1, explore_kind_name(set->op[i]));
        printf(i + 1 < set->n ? "%-26s" : "%s", head);
    }
    printf("\n");
    explore_world_watch(world, &(struct explore_watch){.news = news,
                                                       .submitted = submitted,
                                                       .cancelled = cancelled,
                                                       .done = done});
}
