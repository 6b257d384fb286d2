/*
 * What has happened so far, as a hash that doesn't depend on the order of independent
 * steps.
 *
 * Every flow of control (an actor, an event that fires) has a past: a hash of all that
 * it did and of all that it may have learnt. When it touches something that is shared,
 * the two pasts meet: the toucher's becomes a hash of its own and the object's, and the
 * object keeps it. So a past is the Merkle hash of its causal history (Lamport's
 * happens-before), and two runs with equal pasts everywhere differ at most in the order
 * of steps that touch nothing in common: they are in the same state. (Musuvathi and
 * Qadeer, "Partial-order reduction for context-bounded state exploration", 2007.)
 *
 * Objects have no names that are the same in all runs, and need none: an object is what
 * its pasts say. Two different histories have the same hash with a chance of 2^-64.
 *
 * Queues (of a loop: completions, posts) are first in first out with one reader. Adding
 * to one doesn't touch what its reader takes out; what is in them, in order, is part of
 * the state.
 */
#ifndef ASYNCOW_HISTORY_H
#define ASYNCOW_HISTORY_H
#include <stdbool.h>
#include <stdint.h>

struct history_entry {
    const void *object;
    uint64_t part;
    uint64_t wrote, read; /* of a queue: its contents, and the weight of a newer one */
    uint32_t round;       /* of history_clear(); another: the place is free */
};
struct history {
    struct history_entry *table; /* open addressing; a power of two of entries */
    unsigned bits;
    uint32_t used, round;
    uint64_t queues; /* of all queues' contents */
};

int history_open(struct history *); /* 0 or -ENOMEM */
void history_close(struct history *);
void history_clear(struct history *); /* nothing has happened */
/* The one whose past this is touches a part of an object. Reads of one thing
 * commute. */
void history_touch(struct history *, uint64_t *past, const void *object, uint64_t part,
                   bool write);
/* Something that didn't exist before: what it was before, at the same place in memory,
 * is forgotten. And what it is. */
void history_name(struct history *, uint64_t *past, const void *item);
void history_rename(struct history *, const void *item, const void *to);
uint64_t history_of(struct history *, const void *item);
/* Learns all that the other knew. */
void history_join(uint64_t *past, uint64_t other);
/* item (new) is added at the queue's tail; is taken from its head. */
void history_push(struct history *, uint64_t *past, const void *queue,
                  const void *item);
void history_pop(struct history *, uint64_t *past, const void *queue, const void *item);

static inline uint64_t history_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a + 0x9e3779b97f4a7c15u + b * 0xd1342543de82ef95u;

    z = (z ^ (z >> 32)) * 0xbea225f9eb34556du;
    z = (z ^ (z >> 29)) * 0xbea225f9eb34556du;
    return z ^ (z >> 32);
}

#endif
