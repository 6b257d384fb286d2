/*
 * Inside the core: the image in memory.
 *
 * Metadata on disk is seen through slices: pieces of at most 4 KiB of a refcount block,
 * the refcount table, the header, the L1 table or an L2 table. Header, refcount table
 * and L1 are resident; slices of refcount blocks and L2 tables live in a cache of
 * slots.
 *
 *                    slice_get              io_done ok
 *          EMPTY ---------------> LOADING -------------> VALID <-> busy
 *            ^                       | io_done failed      |
 *            +-----------------------+---- evict ----------+
 *
 * A VALID slice is "busy" (not to be evicted, at most half of the slots) while a ticket
 * intends to change it, while it is dirty (changed, no sync has taken its image yet) or
 * closing (a sync owes the disk its image). Its image is the slice itself until
 * somebody changes it or the write is issued; then it is a shadow copy. For every busy
 * slice a shadow exists in the pool, so taking an image cannot fail.
 *
 * Numbered invariants, asserted by qcow2_verify():
 *   1. shadows held + shadows free >= busy slices.
 *   2. busy slots <= half of all slots.
 *   3. A cluster reserved by a ticket has refcount 0 in memory and no other ticket
 *      reserves it; no ticket's guest range overlaps another's.
 *   4. A cluster in limbo has refcount >= 1 in memory.
 *   5. Every L1 entry that is not 0 points at a cluster in the metadata set, so does
 *      every refcount table entry.
 *   6. What an L2 entry of the disk (not of a snapshot) points at has refcount >= 1 in
 *      memory, unless the image was wrong before.
 */
#ifndef QCOW2_INTERNAL_H
#define QCOW2_INTERNAL_H
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "core/qcow2/qcow2.h"

#define SLICE_MAX 4096u

enum slice_kind { SLICE_REFBLOCK, SLICE_REFTABLE, SLICE_HEADER, SLICE_L1, SLICE_L2 };
/* STALE: its cluster became something else while it was being loaded. */
enum slice_state { SLICE_EMPTY, SLICE_LOADING, SLICE_VALID, SLICE_STALE };
/* A sync writes in stages, a barrier after each (qcow2.h: Order). */
enum stage { STAGE_REFBLOCKS, STAGE_TABLES, STAGE_MAPS, STAGES };

struct qcow2_slice {
    uint64_t offset; /* in the file; the key */
    uint8_t *buf, *shadow;
    enum slice_kind kind;
    enum slice_state state;
    bool dirty, closing, writing, awaited, resident;
    uint8_t used; /* clock hand's credit */
    uint16_t pins, intents;
    struct qcow2_slice *hash_next;
    TAILQ_ENTRY(qcow2_slice) dirty_link, closing_link;
    /* L2: entries whose host cluster was seen to have refcount 1, so that a rewrite in
     * place need not look again */
    uint8_t verified[SLICE_MAX / 8 / 8];
};
TAILQ_HEAD(slice_list, qcow2_slice);

struct table { /* a resident table: big endian entries, and the slices over it */
    uint64_t *entry;
    uint64_t entries; /* valid ones */
    uint64_t offset;  /* in the file */
    struct qcow2_slice *slices;
    unsigned nslices;
};

struct limbo { /* freed clusters whose refcount is still to be lowered by one */
    uint64_t first, count; /* clusters */
    uint64_t epoch;        /* durable when this is */
    uint64_t generation;   /* readers of this and earlier generations may see them */
    bool data;             /* the guest's, not a table */
};

struct maker { /* a table being made: at most one of a sort at a time */
    struct qcow2_ticket *owner; /* NULL: nobody */
    bool orphan;                /* the owner died with its I/O in flight */
    bool issued, done, awaited;
    uint64_t offset;
    uint8_t *buf;              /* table growth, a long run: what is written */
    struct qcow2_ticket limbo; /* holds its promise of a limbo entry */
    uint64_t blocks, clusters, entries;
};

struct qcow2 {
    struct qcow2_header header;
    struct qcow2_options opt;
    unsigned cluster_bits, slice_bits, order;
    unsigned l2_bits;  /* log2 of entries in an L2 table */
    unsigned ref_bits; /* log2 of refcounts in a block */
    uint64_t cluster, slice_size;
    uint64_t size_on_disk; /* header.size, but while the disk grows (resize.c) */
    uint64_t cut;          /* from here on the disk is about to end; UINT64_MAX: not */
    bool poisoned, corrupt, backing;
    struct qcow2_complaint complaint;
    int load_step;

    /* cache.c */
    struct qcow2_slice *slots;
    unsigned nslots, hand, busy_slots;
    uint8_t *slot_mem;
    struct qcow2_slice **hash;
    unsigned hash_bits;
    unsigned busy, nshadows; /* nshadows: all that exist */
    uint8_t **shadow_free;
    unsigned nshadow_free, shadow_cap;
    struct table l1, reftable;
    struct qcow2_slice header_slice;
    uint8_t *header_buf;

    /* metaset.c: clusters that hold L2 tables and refcount blocks */
    uint64_t *metaset;
    uint64_t metaset_cap, metaset_count;

    /* alloc.c */
    uint64_t cursor; /* where to look for a free cluster */
    uint64_t virgin; /* bytes from here to the end were never submitted to by anyone */
    uint64_t end;    /* bytes in use */
    uint64_t grown;  /* file size, as far as we grew it */
    struct qcow2_ticket *grower;
    bool grow_orphan, grow_awaited, grow_off;
    struct maker mk_ref, mk_l2;
    struct qcow2_ticket *inflight_head, *inflight_tail;
    unsigned ninflight;

    /* limbo.c */
    struct limbo *limbo;
    unsigned limbo_head, limbo_len, limbo_cap, limbo_promised;
    uint64_t punch_first, punch_count; /* punched, not yet decremented (clusters) */
    bool punching;
    uint64_t generation;
    atomic_uint readers[2];
    atomic_bool grace_awaited;

    /* sync.c */
    struct slice_list dirty[STAGES], closing[STAGES];
    uint64_t epoch, closing_epoch, durable;
    struct qcow2_ticket *leader;
    int sync_stage;
    bool sync_active, sync_awaited, sync_io_awaited, barrier_issued, barrier_done;
    unsigned sync_inflight;

    /* snapshot.c */
    struct snapshot_entry *snapshots;
    unsigned nsnapshots;
    bool snapshots_loaded;
    uint8_t *snapshot_table; /* as read or as last written */
    uint64_t snapshot_table_len;
    struct qcow2_ticket *gate; /* the operation that keeps changes out */
    bool gate_awaited, quiet_awaited;
    unsigned admitted; /* tickets that passed the gate and have not ended */

    qcow2_chan *wake; /* ring */
    unsigned wake_head, wake_len, wake_cap;

    struct qcow2_stats stats;
};

/* Shared readers count too: a lost count does no harm, a torn one would. */
static inline void stat_add(const uint64_t *counter)
{
    uint64_t *c = (uint64_t *)counter;
    __atomic_store_n(c, __atomic_load_n(c, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}
static inline uint64_t round_up(uint64_t x, uint64_t align)
{
    return (x + align - 1) & ~(align - 1);
}
static inline uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* Tests build the core so that it asks them where it could go on: true: it needs all
 * the same (a wait that is over at once, a load, a sync). Everywhere else it is
 * false. */
#ifdef QCOW2_INJECT
bool qcow2_inject(void);
#else
static inline bool qcow2_inject(void) { return false; }
#endif

/* cache.c */
int cache_open(struct qcow2 *);
void cache_free(struct qcow2 *);
int table_init(struct qcow2 *, struct table *, enum slice_kind, uint64_t offset,
               uint64_t entries);
void table_free(struct table *);
struct qcow2_slice *cache_find(const struct qcow2 *, uint64_t offset);
/* The slice at offset, VALID; else NEED_IO (load it) or NEED_WAIT (being loaded). */
int slice_get(struct qcow2 *, enum slice_kind, uint64_t offset, struct qcow2_slice **,
              struct qcow2_need *) QCOW2_MUST;
void slice_forget(struct qcow2 *, struct qcow2_slice *); /* a load that failed */
/* A slice of a new table, all zeros, nothing read. NULL: no slot to be had now. */
struct qcow2_slice *slice_make(struct qcow2 *, enum slice_kind, uint64_t offset);
/* No slice there is pinned or about to be written: they can be dropped. */
bool slice_droppable(const struct qcow2 *, uint64_t offset, uint64_t len);
void slice_drop(struct qcow2 *, uint64_t offset, uint64_t len);
/* Announces a change; takes a shadow and a busy place. -EBUSY: the cache is as dirty as
 * it may be, a sync is owed. -ENOMEM. */
int slice_intend(struct qcow2 *, struct qcow2_slice *) QCOW2_MUST;
void slice_unintend(struct qcow2 *, struct qcow2_slice *);
/* Call before changing an intended slice. */
void slice_modify(struct qcow2 *, struct qcow2_slice *);
void slice_take_image(struct qcow2 *, struct qcow2_slice *);
void slice_written(struct qcow2 *, struct qcow2_slice *, bool failed);
struct qcow2_slice *table_slice(const struct qcow2 *, const struct table *, uint64_t i);
int ticket_pin(struct qcow2 *, struct qcow2_ticket *, unsigned i,
               struct qcow2_slice *) QCOW2_MUST;
void ticket_unpin(struct qcow2 *, struct qcow2_ticket *, unsigned i);

/* metaset.c */
/* Room for n more, so that adding them cannot fail half way. 0 or -ENOMEM. */
int metaset_room(struct qcow2 *, uint64_t n) QCOW2_MUST;
void metaset_add(struct qcow2 *, uint64_t offset); /* there is room */
void metaset_remove(struct qcow2 *, uint64_t offset);
bool metaset_has(const struct qcow2 *, uint64_t offset);
/* Any of the clusters is header, L1, refcount table or snapshot table. */
bool overlaps_fixed(const struct qcow2 *, uint64_t offset, uint64_t len);
/* Any of the clusters is header, L1, refcount table, snapshot table, L2 or refblock. */
bool overlaps_metadata(const struct qcow2 *, uint64_t offset, uint64_t len);

/* map.c */
#define ILLEGAL "reserved bits are set or the offset is no cluster's"
#define UNCOUNTED "it is in use and its refcount is 0"
enum entry_type { E_UNALLOCATED, E_ZERO, E_ZERO_ALLOC, E_NORMAL, E_COMPRESSED };
/* -EIO: the entry can't be right. */
int entry_decode(const struct qcow2 *, uint64_t entry, uint64_t *host);
uint64_t l2_index(const struct qcow2 *, uint64_t guest); /* inside its slice */
/* File offset of the slice that maps guest; 0: there is no L2 table. -EIO. */
int l2_slice_offset(const struct qcow2 *, uint64_t guest, uint64_t *offset);
/* Guest bytes from guest to the end of what its slice maps, at most len. */
uint64_t l2_slice_reach(const struct qcow2 *, uint64_t guest, uint64_t len);
static inline uint64_t l2_entry(const struct qcow2_slice *s, uint64_t i)
{
    return qcow2_be64(s->buf + 8 * i);
}
/* The metadata is not to be trusted: remember what (the first complaint is kept), mark
 * the header, stop all change. -EIO. "WHAT VALUE: PROBLEM". */
int corrupt(struct qcow2 *, const char *what, uint64_t value, const char *problem);

/* alloc.c */
/* Some refcount block counts it. A table elsewhere must not be written: the file would
 * reach wherever an image says. */
bool is_countable(const struct qcow2 *, uint64_t offset);
int refcount_slice_get(struct qcow2 *, uint64_t cluster, struct qcow2_slice **,
                       struct qcow2_need *) QCOW2_MUST;
uint64_t refcount_index(const struct qcow2 *, uint64_t cluster); /* inside its slice */
/* Reserves up to want clusters in t->host or t->table, their slice pinned as pin[1]. */
int alloc_clusters(struct qcow2 *, struct qcow2_ticket *, uint64_t want,
                   uint64_t *offset, uint64_t *len, struct qcow2_need *) QCOW2_MUST;
/* The file reaches end, or will by writing. */
int alloc_grow(struct qcow2 *, struct qcow2_ticket *, uint64_t end,
               struct qcow2_need *) QCOW2_MUST;
int alloc_io_done(struct qcow2 *, const struct qcow2_io *, int err);
void alloc_ticket_end(struct qcow2 *, struct qcow2_ticket *);
void ticket_end(struct qcow2 *, struct qcow2_ticket *); /* gives all back */
/* The reserved run, counted by pin[1], is used from now on: refcounts 1. */
void use_space(struct qcow2 *, struct qcow2_ticket *, uint64_t offset, uint64_t len);
bool take_virgin(struct qcow2 *, uint64_t offset, uint64_t len);
void inflight_add(struct qcow2 *, struct qcow2_ticket *);
void inflight_remove(struct qcow2 *, struct qcow2_ticket *);
/* NEED_WAIT on a ticket that will change entries of guest..guest+len; 0: none. */
int inflight_overlap(struct qcow2 *, const struct qcow2_ticket *, uint64_t guest,
                     uint64_t len, struct qcow2_need *);

/* One reference to a cluster that has none, in the intended slice that counts it. */
void count_up(struct qcow2 *, struct qcow2_slice *, uint64_t cluster);

/* tables.c */
/* A refcount block for cluster, or a larger refcount table. 0: look again. */
int refblock_make(struct qcow2 *, struct qcow2_ticket *, uint64_t cluster,
                  struct qcow2_need *) QCOW2_MUST;
int reftable_move(struct qcow2 *, struct qcow2_ticket *,
                  struct qcow2_need *) QCOW2_MUST;
/* The L2 slice of guest, of a table that is ours alone, pinned as pin[0] to change. */
int l2_get_for_write(struct qcow2 *, struct qcow2_ticket *, uint64_t guest,
                     struct qcow2_slice **, struct qcow2_need *) QCOW2_MUST;
/* One at a time makes such a table: 0: it is t, until it releases it or ends. */
int maker_take(struct maker *, struct qcow2_ticket *t, struct qcow2_need *) QCOW2_MUST;
void maker_release(struct qcow2 *, struct maker *);
int maker_io_done(struct qcow2 *, struct maker *, int err);
void maker_ticket_end(struct qcow2 *, struct maker *, struct qcow2_ticket *);

/* long_run.c: n adjoining clusters, counted, however many. -EFBIG. */
int alloc_long_run(struct qcow2 *, struct qcow2_ticket *, uint64_t n, uint64_t *offset,
                   struct qcow2_need *) QCOW2_MUST;

/* limbo.c */
int limbo_promise(struct qcow2 *, struct qcow2_ticket *, uint32_t n) QCOW2_MUST;
void limbo_push(struct qcow2 *, struct qcow2_ticket *, uint64_t first, uint64_t count);
void limbo_push_data(struct qcow2 *, struct qcow2_ticket *, uint64_t cluster);
/* What an L2 entry owned is to be freed. */
void limbo_push_entry(struct qcow2 *, struct qcow2_ticket *, uint64_t entry);
uint32_t limbo_cost(const struct qcow2 *, uint64_t entry);
void limbo_unpromise(struct qcow2 *, struct qcow2_ticket *);
int limbo_reclaim(struct qcow2 *, bool all, struct qcow2_need *) QCOW2_MUST;
void limbo_io_done(struct qcow2 *);
uint8_t grace_enter(const struct qcow2 *);
void grace_leave(const struct qcow2 *, uint8_t phase);

/* sync.c */
int sync_step(struct qcow2 *, struct qcow2_ticket *, bool all,
              struct qcow2_need *) QCOW2_MUST;
/* Waits until no sync is active, or leads it there if nobody does. */
int sync_end_active(struct qcow2 *, struct qcow2_ticket *,
                    struct qcow2_need *) QCOW2_MUST;
/* A verb found no room (dirty slots, limbo): it syncs as part of itself. 0: try
 * again. */
int owe_sync(struct qcow2 *, struct qcow2_ticket *, struct qcow2_need *) QCOW2_MUST;
void sync_ticket_end(struct qcow2 *, struct qcow2_ticket *);
int sync_io_done(struct qcow2 *, const struct qcow2_io *, int err);
void poison(struct qcow2 *);

/* snapshot.c */
struct snapshot_entry { /* one of the list, as bytes and as seen */
    uint8_t *raw;
    uint32_t raw_len;
    uint64_t l1_offset;
    uint32_t l1_size; /* entries */
    char *id, *name;
};
/* Lets a mutator in, once a ticket; NEED_WAIT while a snapshot operation is on. */
int gate_enter(struct qcow2 *, struct qcow2_ticket *, struct qcow2_need *) QCOW2_MUST;
void gate_leave(struct qcow2 *, struct qcow2_ticket *);
void snapshots_free(struct qcow2 *);

/* qcow2.c */
void wake_push(struct qcow2 *, qcow2_chan, bool *awaited);
int writable(const struct qcow2 *);

/* steps of a ticket */
enum { STEP_START, STEP_SYNC, STEP_RESERVED, STEP_PLANNED };

#endif
