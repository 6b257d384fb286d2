/*
 * The qcow2 core decides what may happen; it never waits for it to happen.
 * Nothing here blocks, locks, does I/O or calls back.
 *
 * Verdicts   0: done.  -errno: failed; the ticket holds nothing any more.
 *            QCOW2_NEED_IO: the caller owes need->io: does it, reports qcow2_io_done(),
 *            repeats the call.  QCOW2_NEED_WAIT: sleeps on need->chan until
 *            qcow2_wake() names it, repeats the call.  A verb that needs has changed no
 *            mapping: it settles one step of preparation at a time.
 *            A ticket that is not repeated after a NEED is given up: qcow2_cancel(),
 *            a write's with qcow2_abort().
 * Locking    const struct qcow2 * may be shared, struct qcow2 * is exclusive. The core
 *            asks for no lock across I/O. A setting may keep its own across NEED_IO
 *            (hold=metadata); NEED_WAIT drops it in one step with going to sleep, or
 *            the one awaited could never finish.
 * Waking     Every exclusive section ends by draining qcow2_wake(), errors included.
 *            Who sleeps is on the list of sleepers before that: qcow2_unmap() needs no
 *            lock, so the drain itself can bring what the sleeper waits for.
 * Ownership  io.buf is the core's, valid until qcow2_io_done(), which is owed even if
 *            the request dies. Tickets are the caller's: zeroed before use, unmoved
 *            until ended. Guest data never enters.
 * Order      Per pointer, the target is durable first:
 *              data, refcount blocks, whole new tables
 *              < refcount table entries, header's refcount table pointer
 *              < L2 entries, L1 entries
 *            A freed cluster keeps its refcount in memory ("limbo") until the removal
 *            of its pointer is durable and every request that saw the pointer has
 *            ended; then it is punched, then decremented, then free. So a decrement
 *            never reaches the disk early and a punch never meets a reuse.
 * Epochs     A sync closes an epoch: the slices dirty then are what it writes, as they
 *            are then (a later change first copies the old image aside). Commits that
 *            come later belong to the next. A flush that arrives before the close
 *            joins.
 */
#ifndef QCOW2_H
#define QCOW2_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/qcow2/format.h"

#define QCOW2_MUST __attribute__((warn_unused_result))
#define QCOW2_PINS 3 /* slices a ticket can hold */

enum { QCOW2_NEED_IO = 1, QCOW2_NEED_WAIT = 2 };

/* What the caller may owe, always on the image's own file. */
enum qcow2_op {
    QCOW2_READ,  /* offset, len -> buf */
    QCOW2_WRITE, /* buf -> offset, len */
    QCOW2_FLUSH,
    QCOW2_ZERO,  /* offset, len read zeros afterwards */
    QCOW2_COPY,  /* len bytes from -> offset: a shared table gets its own copy */
    QCOW2_GROW,  /* offset, len: extend the file ahead of need */
    QCOW2_PUNCH, /* offset, len: clusters that left limbo */
};
enum qcow2_type { QCOW2_DATA, QCOW2_HOLE, QCOW2_BACKING, QCOW2_COMPRESSED };

typedef const void *qcow2_chan; /* compared, never dereferenced */
struct qcow2;
struct qcow2_slice;

struct qcow2_io {
    enum qcow2_op op;
    uint64_t offset, from, len; /* bytes */
    void *buf;
    struct qcow2_slice *slice; /* the core's */
};
struct qcow2_need {
    struct qcow2_io io;
    qcow2_chan chan;
};

/* What one operation holds in the core: pinned slices, reserved clusters, its place. */
struct qcow2_ticket {
    struct qcow2_slice *pin[QCOW2_PINS];
    struct qcow2_ticket *next, *prev; /* among those in flight */
    uint64_t guest, guest_len;        /* whole clusters whose L2 entries will change */
    uint64_t host, host_len;          /* reserved for data */
    uint64_t table, table_len;        /* reserved for a table being made */
    uint64_t epoch;                   /* sync: the one that must be durable */
    uint32_t limbo;                   /* limbo entries promised to its commit */
    uint32_t dirty;                   /* dirty slots promised to its commit */
    uint8_t kind, step, pinned, phase;
    bool awaited, reads_zeros, in_place, admitted;
};

struct qcow2_extent { /* where guest bytes are */
    enum qcow2_type type;
    uint64_t guest, len; /* bytes; len shortened to what is alike and adjoining */
    uint64_t host;       /* DATA: of guest. COMPRESSED: of the compressed cluster */
    uint64_t host_len; /* COMPRESSED: bytes to read there; guest, len then are the part
                            wanted, and cluster_skip tells where it begins inside */
    uint64_t cluster_skip;
    uint8_t phase; /* the grace period it pins */
    bool pinned;
};
struct qcow2_write { /* where guest bytes will be */
    struct qcow2_ticket t;
    uint64_t guest, len; /* len may be shortened */
    uint64_t host;       /* of guest */
    bool allocates;      /* commit will change metadata: with metadata-writes=through,
                            qcow2_sync it before the request completes */
    /* What must be written around it, in the same go: cow[0].len bytes just before
     * host, cow[1].len bytes just after host + len, read from where the extent says.
     * len 0: nothing (space that reads zeros already is left out). */
    struct qcow2_extent cow[2];
};

struct qcow2_options {
    unsigned inflight;  /* tickets alive at once, at most */
    size_t cache;       /* bytes of L2 and refcount slices together */
    uint64_t grow;      /* bytes the file grows by, ahead of need; 0: off */
    uint64_t file_size; /* bytes, now */
    bool regular;       /* a regular file: it can grow and space past its end reads 0 */
    bool write;
    bool punch;      /* give freed clusters back to the host */
    bool no_backing; /* nothing is opened below: unallocated reads zeros */
};

/* clang-format off */
#define QCOW2_STATS(X)                                                                \
    X(l2_hits) X(l2_misses) X(refcount_misses) X(evictions) X(overlap_waits)          \
    X(slice_waits) X(cow_data) X(cow_zero) X(cow_backing) X(cow_compressed)           \
    X(cow_shared) X(zero_skipped) X(new_l2) X(l2_copies) X(new_refblocks)             \
    X(table_moves) X(grows) X(grow_waits) X(commits) X(aborts) X(discards)            \
    X(discard_under_io) X(limbo_entries) X(limbo_reuse) X(limbo_full) X(punches)      \
    X(grace_waits) X(snapshots) X(gate_waits) X(syncs) X(sync_joins) X(barriers)      \
    X(dirty_evictions) X(shadow_copies) X(poisoned) X(corruptions)
/* clang-format on */
struct qcow2_stats { /* how often each rare path was taken; the names go to reports */
#define X(name) uint64_t name;
    QCOW2_STATS(X)
#undef X
};

/* The caller reads the header cluster (or the whole file if shorter) and parses it with
 * qcow2_header_parse(); the rest arrives through qcow2_load(): repeat it until 0.
 * -EINVAL and the like: err says field, value, what would be right.
 * Opened for write, the header must not say dirty or corrupt: -EROFS. */
int qcow2_open(struct qcow2 **, const struct qcow2_header *, const void *header_cluster,
               const struct qcow2_options *, struct error *) QCOW2_MUST;
int qcow2_load(struct qcow2 *, struct qcow2_ticket *, struct qcow2_need *,
               struct error *) QCOW2_MUST;
/* Frees it. Clean and idle unless poisoned or read only (asserted): sync with
 * qcow2_close_sync() first. */
void qcow2_free(struct qcow2 *);

uint64_t qcow2_size(const struct qcow2 *);         /* of the guest's disk, bytes */
uint64_t qcow2_cluster_size(const struct qcow2 *); /* bytes */
enum qcow2_compression qcow2_compression(const struct qcow2 *);
const struct qcow2_stats *qcow2_stats(const struct qcow2 *);
bool qcow2_poisoned(const struct qcow2 *);
/* The first damage met in the metadata; what is NULL: none. */
struct qcow2_complaint {
    const char *what, *problem;
    uint64_t value; /* of what: "L1 entry of guest offset" 65536 */
};
struct qcow2_complaint qcow2_complaint(const struct qcow2 *);
/* Bytes the file should have after a clean close: the end of the last cluster in
 * use. */
uint64_t qcow2_file_end(const struct qcow2 *);

/* Maps guest..guest+len, inside the disk. Until qcow2_unmap() the host clusters are
 * neither punched nor reused, whatever is discarded meanwhile. peek knows only cached
 * slices: -EAGAIN means use map. */
int qcow2_peek(const struct qcow2 *, uint64_t guest, uint64_t len,
               struct qcow2_extent *) QCOW2_MUST;
int qcow2_map(struct qcow2 *, struct qcow2_ticket *, uint64_t guest, uint64_t len,
              struct qcow2_extent *, struct qcow2_need *) QCOW2_MUST;
/* true: somebody waits for just this; take the exclusive side and drain
 * qcow2_wake(). */
bool qcow2_unmap(const struct qcow2 *, struct qcow2_extent *);

/* Plans a write: settles metadata, reserves, in memory, all or nothing. Waits for any
 * write whose commit would change the same L2 entries, so whoever sleeps here holds no
 * other write. After 0: read cow[], write head, data and tail in one go, then commit or
 * abort, which need nothing and cannot fail. abort ends a write in any state. */
int qcow2_plan(struct qcow2 *, uint64_t guest, uint64_t len, struct qcow2_write *,
               struct qcow2_need *) QCOW2_MUST;
void qcow2_commit(struct qcow2 *, struct qcow2_write *);
void qcow2_abort(struct qcow2 *, struct qcow2_write *);
/* Gives up any other ticket after a NEED. */
void qcow2_cancel(struct qcow2 *, struct qcow2_ticket *);

/* Makes guest bytes read as zeros by metadata alone. Works on the first part of the
 * range that one slice covers; *done bytes of it are dealt with. *part tells the
 * caller what is left to it for those bytes: QCOW2_PART_DONE: nothing;
 * QCOW2_PART_WRITE: not whole clusters (or version 2 over a backing file): zeros must
 * be written as data. Discard leaves such parts as they are. */
enum qcow2_part { QCOW2_PART_DONE, QCOW2_PART_WRITE };
int qcow2_zero(struct qcow2 *, struct qcow2_ticket *, uint64_t guest, uint64_t len,
               uint64_t *done, enum qcow2_part *part, struct qcow2_need *) QCOW2_MUST;
int qcow2_discard(struct qcow2 *, struct qcow2_ticket *, uint64_t guest, uint64_t len,
                  uint64_t *done, struct qcow2_need *) QCOW2_MUST;

/* Internal snapshots. Create keeps the disk as it is now under a name; apply makes the
 * disk what a snapshot holds; delete drops one. */
struct qcow2_snapshot_info {
    const char *id, *name; /* the core's, until the next snapshot operation */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_ns, vm_state_size, disk_size; /* disk_size 0: not recorded */
    uint64_t icount;                                /* UINT64_MAX: not recorded */
};
enum qcow2_snapshot_op {
    QCOW2_SNAPSHOT_CREATE,
    QCOW2_SNAPSHOT_APPLY,
    QCOW2_SNAPSHOT_DELETE,
    /* The disk gets another size, under the same gate. */
    QCOW2_RESIZE_BEGIN,
    QCOW2_RESIZE,
};
struct qcow2_snapshot { /* one operation; zeroed before use but for the first part */
    enum qcow2_snapshot_op op;
    const char *name;             /* of the new one; or id or name of one there is */
    uint32_t date_sec, date_nsec; /* create: now (the core reads no clock) */
    uint64_t size;                /* resize: bytes, a multiple of 512 */
    uint64_t tables_left;         /* how far it is: 0 when done */
    struct qcow2_ticket t;        /* from here on the core's */
    int phase;
    uint64_t i, k, e, l1_entries, l1_offset, old_offset, old_clusters, new_offset,
        new_clusters;
    uint8_t *buf;
    uint64_t buf_len;
    unsigned index;
    bool walk_again;
    int failed; /* why it is taken back; 0: it is not */
    int late;   /* what failed when it had been done already */
    bool linked, again, over, reads;
    struct {
        uint64_t i, k, e;
    } raised; /* what is before this place in the tree has a reference more */
    struct {
        uint64_t offset, clusters;
    } run[2]; /* allocated, and nothing leads there yet */
    unsigned runs;
};
/* Loads the list; repeat until 0. Then count and info are valid. */
int qcow2_snapshot_load(struct qcow2 *, struct qcow2_need *) QCOW2_MUST;
unsigned qcow2_snapshot_count(const struct qcow2 *);
void qcow2_snapshot_at(const struct qcow2 *, unsigned i, struct qcow2_snapshot_info *);
/* Deals with one table a call: repeat while tables_left is not 0, even after 0. The
 * first call shuts the gate: plan, zero and discard sleep until the end; it waits until
 * those already begun have ended. -ENOENT: no such snapshot; -ERANGE: a refcount would
 * not fit its width; -ENOTSUP: the disk had another size then (apply), or version 2,
 * which does not record it, has snapshots (resize); -EFBIG.
 * What it had changed when it fails it takes back, or, where it comes to nothing but
 * freeing what is not used any more, it tries once more, and fails all the same, for
 * somebody should hear of it: no cluster is leaked then, but by a crash, or where
 * metadata can't be read again.
 * A resize has two parts, with changes to what the disk gains or loses in between, so
 * that whenever it is cut off nothing shows that should not. BEGIN: a disk that grows
 * may be written to up to its new end, which nobody else sees yet (write zeros: what
 * was there before, or is in a backing file, shows again); one that shrinks may be
 * discarded from its new end on, over a backing file in version 2 too, and what is
 * there is anybody's guess until the end. RESIZE: syncs, then sets the size. */
int qcow2_snapshot_step(struct qcow2 *, struct qcow2_snapshot *,
                        struct qcow2_need *) QCOW2_MUST;
/* A NEED could not be met: err. Go on calling step, which takes back what it can and
 * ends with err. */
void qcow2_snapshot_failed(struct qcow2 *, struct qcow2_snapshot *, int err);
/* Gives it up after a NEED (with no I/O of it in flight), here and now. The image stays
 * right, though clusters may be leaked, and some that are not shared any more may not
 * say so. */
void qcow2_snapshot_cancel(struct qcow2 *, struct qcow2_snapshot *);

/* Makes durable all that was committed before the ticket's first call. */
int qcow2_sync(struct qcow2 *, struct qcow2_ticket *, struct qcow2_need *) QCOW2_MUST;
/* Before close: syncs until nothing is dirty or in limbo. Nothing else in flight. */
int qcow2_close_sync(struct qcow2 *, struct qcow2_ticket *,
                     struct qcow2_need *) QCOW2_MUST;

/* The outcome of an I/O that was owed. 0: repeat the verb. Negative: the request must
 * fail with it (end the ticket with abort or cancel). A failed READ is forgotten and
 * sleepers retry; a failed metadata WRITE, ZERO, COPY or FLUSH poisons what must not be
 * trusted: mutators then return -EIO while lookups go on. */
int qcow2_io_done(struct qcow2 *, const struct qcow2_io *, int err) QCOW2_MUST;
/* The next channel whose sleepers are to be woken; NULL: none left. */
qcow2_chan qcow2_wake(struct qcow2 *);

/* Asserts every invariant; slow, for tests. */
void qcow2_verify(const struct qcow2 *);

#endif
