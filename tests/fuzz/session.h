/*
 * An image in the simulated world, a strategy on it, requests in flight, and the model of
 * what they may see. Everything that could come in any order comes as the choices say.
 *
 * What must not be ends the process (session_fail), so that libFuzzer keeps the input.
 */
#ifndef FUZZ_SESSION_H
#define FUZZ_SESSION_H
#include "core/block/filter.h"
#include "core/env/sim.h"
#include "core/image/node.h"
#include "strategies/strategy.h"
#include "tests/differential/model.h"
#include "tests/fuzz/layout.h"

enum { SLOTS = 8, REQUEST_MAX = 64 << 10, KEPT = 4 };

struct session;
struct slot {
    struct guest_req req;
    struct session *s;
    struct iovec iov[2];
    uint8_t *buf;
    uint64_t began, claim_at, claim_len, write_at, write_len, writer;
    bool busy, cancelled;
    struct kept *kept; /* SNAPSHOT_* */
};
struct kept { /* a snapshot, by name */
    enum { ABSENT, PRESENT, UNKNOWN } is;
    bool busy;     /* an operation on it is under way */
    uint8_t *disk; /* what it holds; NULL: nobody knows */
    uint64_t size; /* of the disk then */
    uint8_t *sure; /* by sector: 1: that is known */
};
struct session {
    struct env *env;
    struct loop *loop;
    struct loop_options engine;
    struct blk_file *file, *backing_file;
    struct image_node node, backing;
    const struct layout *layout;
    const struct input *input;
    const struct strategy *strategy;
    struct strategy_image *image; /* NULL: closed */
    struct model m;
    /* The image was sound: what is read is judged, and errors need a cause. Else anything
     * goes but a crash, a hang, or a worse image. */
    bool sound;
    bool doubt;    /* a snapshot operation failed on the way: COPIED may be wrong */
    uint64_t hits; /* faults met before it was opened */
    struct slot slot[SLOTS];
    struct kept kept[KEPT];
    unsigned in_flight, turns;
    uint64_t writes;
    uint8_t choice[64]; /* ring */
    unsigned choice_at, choices, asked;
};

_Noreturn void session_fail(const struct session *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The program's: linked in (linked.c) or loaded (replay.c). */
const struct strategy *fuzz_strategy(const char *name);

/* ---- session.c: the world around it ---- */

/* The header as it is in the file now; and made fit to be written. 0 or -errno. */
int session_read_header(struct session *, struct error *);
int session_make_ready(struct session *, struct error *);
/* Opens it under a strategy. -errno: it is not to be opened. */
int session_open(struct session *, unsigned way);
/* Waits for all, closes. */
void session_close(struct session *);
void session_free(struct session *);
/* Some fault was met since it was opened, or the image was not sound before. */
bool session_may_fail(const struct session *);
void session_offer(struct session *, uint8_t choice);
void session_turn(struct session *);
void session_wait(struct session *);
extern const char *const session_op_names[GUEST_OPS];

/* ---- steps.c: requests ---- */

/* One record of the schedule that is a request or has to do with those in flight. */
void session_step(struct session *, const struct record *);
struct slot *session_slot(struct session *); /* an idle one; NULL */
void session_submit(struct session *, struct slot *);
void session_done(struct guest_req *);

/* ---- kept.c: snapshots ---- */

void kept_step(struct session *, const struct record *);
void kept_ended(struct session *, struct slot *, int result);
/* There was no room in the counts or the file, or it came too late: nothing happened. */
bool kept_refused(int result);
void kept_forget(struct kept *, int is);
/* There is a snapshot already, which holds that. NULL: nobody knows what. */
void session_keep(struct session *, unsigned i, const uint8_t *disk);
/* Every sector, judged; by the strategy. */
void session_read_all(struct session *);

#endif
