/*
 * The locks of the debate, each a row of the table at the end.
 *
 * Two kinds. comutex is taken around a verb of the core (begin, end). The others come
 * from the block layer, which knows nothing of verbs: they are taken when a request
 * enters, given back when it leaves (take, give), and in between for what it waits for,
 * unless `keeps` says across which waits they are kept. What follows a wait is then a
 * new call, that queues for the lock like any other: a completion.
 *
 *              around       metadata   copies   data      completions
 *   serialize  a request    kept       kept     kept      go on
 *   big-held   a call       kept       kept     kept      are calls
 *   big        a call       kept       kept     -         are calls
 *   rwlock     a call       hold       kept     -         are calls; reads share
 *   entry      a call       hold       kept     changes   queue at what they change
 *   comutex    a verb       hold       -        -         -
 *   none
 *
 * No lock is kept across a sleep on a channel of the core: whom a request waits for
 * needs it to finish. So no lock can close a circle with the core, and the locks among
 * themselves can't either: entry, the only one in two parts, queues at the entry first
 * and gives back both.
 *
 * One lock for the whole chain, as the images below are opened for the top alone; but
 * comutex, which is a node's own.
 */
#include "strategies/coroutines/model.h"

static void count(struct co_request *r, bool waited)
{
    co_count(&r->home->counts.locks, 1);
    co_count(&r->home->counts.lock_waits, waited);
}

static struct co_guard *open_guard(struct strategy_image *image, struct co_guard *g)
{
    g->env = image->env;
    env_mutex_init(&g->mutex);
    return image->several ? g : NULL;
}

void co_open_locks(struct strategy_image *image)
{
    struct co_guard *g = open_guard(image, &image->lock_guard);
    image->mutex.guard = image->rwlock.guard = image->claims_guard = g;
    image->end_claims = &image->claims;
    for (unsigned i = 0; i < image->node_count; i++) {
        struct node_guard *guard = image->nodes[i].guard;
        guard->lock.guard = open_guard(image, &guard->lock_guard);
        env_mutex_init(&guard->verbs);
    }
}

void co_destroy_locks(struct strategy_image *image)
{
    env_mutex_destroy(&image->lock_guard.mutex);
    for (unsigned i = 0; i < image->node_count; i++) {
        env_mutex_destroy(&image->nodes[i].guard->lock_guard.mutex);
        env_mutex_destroy(&image->nodes[i].guard->verbs);
    }
}

/* --- comutex: around a verb ------------------------------------------------------- */

static void node_lock(struct co_request *r, struct node *node)
{
    count(r, co_mutex_lock(&node->guard->lock));
}

static void node_unlock(struct node *node) { co_mutex_unlock(&node->guard->lock); }

static bool node_is_free(struct co_request *r)
{
    return !r->image->nodes->guard->lock.owner;
}

/* --- serialize, big, big-held: one mutex ------------------------------------------ */

static void image_lock(struct co_request *r, enum co_wait why)
{
    (void)why;
    count(r, co_mutex_lock(&r->image->mutex));
}

static void image_unlock(struct co_request *r, enum co_wait why)
{
    (void)why;
    co_mutex_unlock(&r->image->mutex);
}

static bool image_is_free(struct co_request *r) { return !r->image->mutex.owner; }

/* --- rwlock: reads share ---------------------------------------------------------- */

static bool changes(const struct co_request *r) { return r->guest->op != GUEST_READ; }

static void share_begin(struct co_request *r, enum co_wait why)
{
    (void)why;
    count(r, changes(r) ? co_rwlock_exclusive(&r->image->rwlock)
                        : co_rwlock_shared(&r->image->rwlock));
}

static void share_end(struct co_request *r, enum co_wait why)
{
    (void)why;
    co_rwlock_unlock(&r->image->rwlock);
}

static bool sharing_is_free(struct co_request *r)
{
    const struct co_rwlock *lock = &r->image->rwlock;
    return !lock->owner && co_queue_empty(&lock->waiters) &&
           !(changes(r) && lock->shared);
}

/* --- entry: all share, and queue at the L2 entries they are about ----------------- */

static bool has_entries(const struct co_request *r)
{
    const struct guest_req *g = r->guest;
    const struct node *top = r->image->nodes;
    return r->home->guests.state == GUESTS_RUNNING && !guest_is_empty(g) &&
           g->op < GUEST_FLUSH && guest_check(g, top->end, true, false) == 0;
}

/* The oldest claim, older than r's own, that is on one of the same entries. */
static struct co_request *claimed_before(const struct co_request *r)
{
    uint64_t cluster = qcow2_cluster_size(r->image->nodes->core);
    uint64_t first = r->guest->offset / cluster;
    uint64_t last = (r->guest->offset + r->guest->len - 1) / cluster;
    for (struct co_request *c = r->image->claims; c && c != r; c = c->claim_next) {
        const struct guest_req *g = c->guest;
        if (g->offset / cluster <= last && (g->offset + g->len - 1) / cluster >= first)
            return c;
    }
    return NULL;
}

/* A claim stands in the list from the moment it is made: nobody who comes later gets
 * past it, waiting or not. */
static void claim(struct co_request *r)
{
    struct strategy_image *image = r->image;
    struct co_request *other;
    co_guard_lock(image->claims_guard);
    r->claims = true;
    r->claim_next = NULL;
    *image->end_claims = r;
    image->end_claims = &r->claim_next;
    count(r, claimed_before(r) != NULL);
    while ((other = claimed_before(r)))
        co_queue_wait_guarded(&other->claim_waiters, image->claims_guard);
    co_guard_unlock(image->claims_guard);
}

static void unclaim(struct co_request *r)
{
    struct strategy_image *image = r->image;
    struct co_request **at = &image->claims;
    co_guard_lock(image->claims_guard);
    while (*at != r)
        at = &(*at)->claim_next;
    *at = r->claim_next;
    if (!*at)
        image->end_claims = at;
    r->claims = false;
    co_queue_wake_all(&r->claim_waiters);
    co_guard_unlock(image->claims_guard);
}

static void claim_and_share(struct co_request *r, enum co_wait why)
{
    (void)why;
    if (has_entries(r) && !r->claims)
        claim(r);
    count(r, guest_snapshots(r->guest) ? co_rwlock_exclusive(&r->image->rwlock)
                                       : co_rwlock_shared(&r->image->rwlock));
}

/* An entry that is to change stays claimed until it has changed. As everything that
 * gives a lock back, this waits for nobody: r may be on a list of sleepers already. */
static void unclaim_and_unshare(struct co_request *r, enum co_wait why)
{
    co_rwlock_unlock(&r->image->rwlock);
    if (r->claims && !(why == CO_WAIT_DATA && changes(r)))
        unclaim(r);
}

static bool entries_are_free(struct co_request *r)
{
    const struct co_rwlock *lock = &r->image->rwlock;
    return !lock->owner && co_queue_empty(&lock->waiters) && !claimed_before(r);
}

/* --- the table -------------------------------------------------------------------- */

enum { BLOCKING = CO_WAIT_METADATA | CO_WAIT_COPY | CO_WAIT_TABLE };

static const struct co_lock locks[] = {
    {.name = "comutex",
     .keeps = CO_WAIT_METADATA,
     .optional = true,
     .begin = node_lock,
     .end = node_unlock,
     .is_free = node_is_free},
    {.name = "serialize",
     .keeps = BLOCKING | CO_WAIT_DATA,
     .take = image_lock,
     .give = image_unlock},
    {.name = "big",
     .keeps = BLOCKING,
     .take = image_lock,
     .give = image_unlock,
     .is_free = image_is_free},
    {.name = "big-held",
     .keeps = BLOCKING | CO_WAIT_DATA,
     .calls = true,
     .take = image_lock,
     .give = image_unlock},
    {.name = "rwlock",
     .keeps = BLOCKING,
     .optional = true,
     .take = share_begin,
     .give = share_end,
     .is_free = sharing_is_free},
    {.name = "entry",
     .keeps = BLOCKING,
     .optional = true,
     .take = claim_and_share,
     .give = unclaim_and_unshare,
     .is_free = entries_are_free},
};

static bool nothing_to_take(struct co_request *r)
{
    (void)r;
    return true;
}

const struct co_lock co_no_lock = {.name = "none", .is_free = nothing_to_take};

const struct co_lock *co_find_lock(const char *settings)
{
    for (unsigned i = 0; i < sizeof(locks) / sizeof(*locks); i++)
        if (settings_is(co_settings, settings, "lock", locks[i].name))
            return &locks[i];
    return &co_no_lock;
}
