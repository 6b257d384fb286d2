/*
 * What the parts of snapshots share: snapshot.c (the operations), snapshot_list.c (the
 * table of snapshots), snapshot_tree.c (what hangs under an L1 table), snapshot_undo.c
 * (taking back what failed),
 * snapshot_tables.c (writing them), resize.c (one more operation of the kind). All
 * under the exclusive side; verdicts as in qcow2.h, -EBUSY: a sync is owed, then once
 * more.
 */
#ifndef QCOW2_SNAPSHOT_H
#define QCOW2_SNAPSHOT_H
#include "core/qcow2/internal.h"

/* snapshot_list.c. Parses the table in buf, which the list keeps pointing into.
 * -EAGAIN: it ends in the middle of an entry. */
int snapshot_list_parse(struct qcow2 *, uint8_t *buf, uint64_t len) QCOW2_MUST;
/* By id, else by name. -ENOENT. */
int snapshot_list_find(const struct qcow2 *, const char *name, unsigned *index);
/* Writes the entry of the snapshot being made to p, unless that is NULL; its length. */
uint64_t snapshot_list_entry(const struct qcow2 *, const struct qcow2_snapshot *,
                             uint8_t *p);
/* s->buf: the table with one entry more (create) or less (delete). */
int snapshot_list_build(struct qcow2 *, struct qcow2_snapshot *) QCOW2_MUST;

/* snapshot_tree.c. What is done to each cluster. */
typedef int snapshot_visit(struct qcow2 *, struct qcow2_snapshot *, uint64_t cluster,
                           bool compressed, struct qcow2_need *);
snapshot_visit snapshot_visit_room;  /* -ERANGE: one more reference does not fit */
snapshot_visit snapshot_visit_raise; /* one more reference */
snapshot_visit snapshot_visit_free;  /* one less, through limbo */
/* One table of s->buf a call; share: COPIED is cleared with it. */
int snapshot_walk(struct qcow2 *, struct qcow2_snapshot *, snapshot_visit *, bool share,
                  struct qcow2_need *) QCOW2_MUST;
/* Sets COPIED in the active tree wherever a refcount is 1. */
int snapshot_set_copied(struct qcow2 *, struct qcow2_snapshot *,
                        struct qcow2_need *) QCOW2_MUST;

/* snapshot_tables.c */
/* L1 entries that a disk of so many bytes needs. */
uint64_t snapshot_entries_for(const struct qcow2 *, uint64_t size);
/* Writes s->buf to new clusters. */
int snapshot_write_new(struct qcow2 *, struct qcow2_snapshot *,
                       struct qcow2_need *) QCOW2_MUST;
/* s->buf is an L1 table: to new clusters, where s->l1_offset says. */
int snapshot_write_l1(struct qcow2 *, struct qcow2_snapshot *,
                      struct qcow2_need *) QCOW2_MUST;
/* q->header as it is now, into its slice. */
int snapshot_header_change(struct qcow2 *) QCOW2_MUST;

/* snapshot_undo.c. Takes back: the references that were raised (s->buf: the L1 that they
 * were raised under); the clusters allocated. */
bool snapshot_has_raised(const struct qcow2_snapshot *);
int snapshot_undo_raised(struct qcow2 *, struct qcow2_snapshot *,
                         struct qcow2_need *) QCOW2_MUST;
int snapshot_undo_runs(struct qcow2 *, struct qcow2_snapshot *,
                       struct qcow2_need *) QCOW2_MUST;
/* The header, as it is now, leads to what was made: nothing is to be taken back. */
void snapshot_linked(struct qcow2_snapshot *);

/* resize.c. A larger L1, where the disk needs one; written; and what leads to it. */
int resize_larger_l1(struct qcow2 *, struct qcow2_snapshot *,
                     struct qcow2_need *) QCOW2_MUST;
int resize_write_l1(struct qcow2 *, struct qcow2_snapshot *,
                    struct qcow2_need *) QCOW2_MUST;
int resize_header(struct qcow2 *, struct qcow2_snapshot *,
                  struct qcow2_need *) QCOW2_MUST;
/* From here on the disk may be used as BEGIN says. */
int resize_open(struct qcow2 *, struct qcow2_snapshot *,
                struct qcow2_need *) QCOW2_MUST;

#endif
