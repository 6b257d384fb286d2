/*
 * The allocator that the threads of 2011 argued about, small enough to try every order.
 *
 * Liguori's example [001, 2011-01-26] is four steps: allocate (without raising the end
 * of what is in use) and enter the cluster in the L2 table, write that table, link and
 * write L1, commit (raise the end). A step ends where a coroutine may yield: at a lock
 * that is held, and in the middle of every write. Who goes on then is anybody's choice,
 * and each choice is tried: the states are few, so the search ends, whatever the number
 * of orders.
 *
 *   split      his locks, around each write alone: a cluster is handed out twice
 *   whole      one lock around it all: clean
 *   in-flight  his locks, and a list of what is allocated and not committed: who
 *              allocates passes over it, who wants the same guest cluster waits: clean
 *   half       [001, Hajnoczi, 2011-01-27] look-up and allocation are guarded, the
 *              metadata writes after the data are not: two requests make the same L2
 *              table
 *   both       that half guarded as well: clean
 *
 * One to three writes to every choice of four guest clusters under two L2 tables. No
 * arguments; prints how many states and orders there are, and of what fails the
 * shortest way there, as a timeline. Claims K9 and K20 (docs/claims.md).
 */
#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STATES = 1 << 18,
    REQUESTS = 3,
    TABLES = 2,
    ENTRIES = 2,
    CLUSTERS = 12,
    FIRST_FREE = 1
};
enum regime { SPLIT, WHOLE, IN_FLIGHT, HALF, BOTH, REGIMES };
static const char *const regimes[] = {"split", "whole", "in-flight", "half", "both"};

/* A place in the code; what is between two of them is done at a stroke. */
enum at {
    START,
    ALLOCATED, /* about to write L2 (of half and both: the data) */
    WRITING_L2,
    WROTE_L2,
    WRITING_L1,
    WROTE_L1,
    LINKING, /* of half and both: the data is written */
    WRITING_TABLE,
    ENDED
};
struct request {
    uint8_t at, guest, cluster, table; /* table: of half and both, the one it makes */
};
struct state { /* compared as bytes: no holes */
    struct request r[REQUESTS];
    uint8_t lock;                  /* 0: free; else 1 + the holder */
    uint8_t end;                   /* clusters from here on are free */
    uint8_t l1[TABLES];            /* in memory: 0, or which table */
    uint8_t l2[CLUSTERS][ENTRIES]; /* in memory, by the cluster it is in */
    uint8_t disk_l1[TABLES];
    uint8_t disk_l2[CLUSTERS][ENTRIES];
};
struct node { /* of the search: a state, and how it was reached first */
    struct state s;
    int parent;
    char who, what[60];
    int depth;
    double orders; /* to here */
};
struct search {
    enum regime regime;
    unsigned requests;
    struct node *node;
    int n, cap;
    int *slot; /* by hash of the state: 1 + the node */
    unsigned slots;
};

static unsigned table_of(const struct request *r) { return r->guest / ENTRIES; }
static unsigned entry_of(const struct request *r) { return r->guest % ENTRIES; }

static bool take_lock(struct state *s, unsigned i)
{
    if (s->lock && s->lock != i + 1)
        return false;
    s->lock = (uint8_t)(i + 1);
    return true;
}

/* ---- the steps ---- */

static bool in_flight(const struct state *s, unsigned cluster)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (s->r[i].at > START && s->r[i].at < ENDED && s->r[i].cluster == cluster)
            return true;
    return false;
}

static uint8_t allocate(struct state *s, enum regime regime)
{
    uint8_t c = s->end;

    while (regime == IN_FLIGHT && in_flight(s, c))
        c++;
    if (regime == HALF || regime == BOTH) /* raised at once */
        s->end++;
    assert(c < CLUSTERS);
    return c;
}

/* In memory a new L2 table needs no cluster of its own: here tables are named 1, 2. */
static void enter(struct state *s, const struct request *r)
{
    s->l2[1 + table_of(r)][entry_of(r)] = r->cluster;
}

/* find_l2() and alloc_cluster(). False: somebody else is at it, or holds the lock. */
static bool step_allocate(struct state *s, unsigned i, enum regime regime, char *what)
{
    struct request *r = &s->r[i];

    /* Same guest cluster: qcow2 had that list by 2011, for the data alone. */
    for (unsigned k = 0; regime >= IN_FLIGHT && k < REQUESTS; k++)
        if (k != i && s->r[k].at > START && s->r[k].at < ENDED &&
            s->r[k].guest == r->guest)
            return false;
    if (regime != SPLIT && regime != IN_FLIGHT && !take_lock(s, i))
        return false;
    unsigned table =
        regime == HALF || regime == BOTH ? s->l1[table_of(r)] : 1 + table_of(r);
    if (table && s->l2[table][entry_of(r)]) { /* a rewrite: nothing to allocate */
        r->cluster = s->l2[table][entry_of(r)];
        r->at = ENDED;
        s->lock = 0;
        sprintf(what, "finds cluster %u", r->cluster);
        return true;
    }
    r->cluster = allocate(s, regime);
    sprintf(what, "allocates cluster %u", r->cluster);
    r->at = ALLOCATED;
    if (regime == HALF || regime == BOTH)
        s->lock = 0; /* dropped for the data */
    else
        enter(s, r);
    return true;
}

/* Liguori's: split, whole, in-flight. */
static bool step_liguori(struct state *s, unsigned i, enum regime regime, char *what)
{
    struct request *r = &s->r[i];
    unsigned table = 1 + table_of(r);

    switch (r->at) {
    case ALLOCATED:
    case WROTE_L2:
        if (!take_lock(s, i))
            return false;
        if (r->at == WROTE_L2)
            s->l1[table_of(r)] = (uint8_t)table;
        sprintf(what, r->at == ALLOCATED ? "begins to write L2" : "begins to write L1");
        r->at = r->at == ALLOCATED ? WRITING_L2 : WRITING_L1;
        return true;
    case WRITING_L2:
        memcpy(s->disk_l2[table], s->l2[table], ENTRIES);
        sprintf(what, "has written L2");
        r->at = WROTE_L2;
        break;
    case WRITING_L1:
        memcpy(s->disk_l1, s->l1, TABLES);
        sprintf(what, "has written L1");
        r->at = WROTE_L1;
        break;
    default: /* commit_cluster() */
        if (s->end <= r->cluster)
            s->end = (uint8_t)(r->cluster + 1);
        sprintf(what, "commits cluster %u", r->cluster);
        r->at = ENDED;
        s->lock = s->lock == i + 1 ? 0 : s->lock;
        return true;
    }
    if (regime != WHOLE)
        s->lock = 0;
    return true;
}

/* The half after the data, as qcow2 did it: a missing L2 table is made, written,
 * linked; then the entry is made and written. */
static bool step_completion(struct state *s, unsigned i, enum regime regime, char *what)
{
    struct request *r = &s->r[i];
    uint8_t *l1 = &s->l1[table_of(r)];

    if (r->at == ALLOCATED) {
        sprintf(what, "has written its data");
        r->at = LINKING;
        return true;
    }
    if (regime == BOTH && !take_lock(s, i))
        return false;
    if (r->at == LINKING && !*l1) {
        r->table = allocate(s, regime);
        sprintf(what, "begins to write a new L2 table, in cluster %u", r->table);
        r->at = WRITING_TABLE;
        return true;
    }
    if (r->at == WRITING_TABLE) {
        memcpy(s->disk_l2[r->table], s->l2[r->table], ENTRIES);
        s->disk_l1[table_of(r)] = *l1 = r->table;
        sprintf(what, "has linked the table in cluster %u", r->table);
        r->at = LINKING;
        return true;
    }
    if (r->at == LINKING) {
        r->table = *l1;
        s->l2[*l1][entry_of(r)] = r->cluster;
        sprintf(what, "begins to write L2 in cluster %u", *l1);
        r->at = WRITING_L2;
        return true;
    }
    memcpy(s->disk_l2[r->table], s->l2[r->table], ENTRIES);
    sprintf(what, "has written L2");
    r->at = ENDED;
    s->lock = s->lock == i + 1 ? 0 : s->lock;
    return true;
}

static bool step(struct state *s, unsigned i, enum regime regime, char *what)
{
    if (s->r[i].at == ENDED)
        return false;
    if (s->r[i].at == START)
        return step_allocate(s, i, regime, what);
    return regime == HALF || regime == BOTH ? step_completion(s, i, regime, what)
                                            : step_liguori(s, i, regime, what);
}

/* ---- what must hold ---- */

/* Why the state is wrong; NULL: it is not. */
static const char *wrong(const struct search *x, const struct state *s)
{
    unsigned ended = 0;

    for (unsigned i = 0; i < x->requests; i++) {
        const struct request *r = &s->r[i];
        ended += r->at == ENDED;
        for (unsigned k = 0; k < i; k++)
            if (r->at > START && s->r[k].at > START && r->cluster == s->r[k].cluster &&
                r->guest != s->r[k].guest)
                return "one cluster for two guest clusters";
    }
    for (unsigned i = 0; i < x->requests && ended == x->requests; i++) {
        const struct request *r = &s->r[i];
        unsigned table = s->disk_l1[table_of(r)];
        if (!table || !s->disk_l2[table][entry_of(r)])
            return "a write that ended is not to be found on the disk";
    }
    return NULL;
}

/* ---- the search ---- */

static int add(struct search *x, const struct state *s, int parent, unsigned who,
               const char *what, double orders)
{
    uint64_t h = 1469598103934665603ull;

    for (size_t i = 0; i < sizeof(*s); i++)
        h = (h ^ ((const uint8_t *)s)[i]) * 1099511628211ull;
    unsigned at = (unsigned)(h ^ h >> 32) & (x->slots - 1);
    while (x->slot[at] && memcmp(&x->node[x->slot[at] - 1].s, s, sizeof(*s)))
        at = (at + 1) & (x->slots - 1);
    if (x->slot[at]) { /* whatever the order, it took as many steps to come here */
        assert(x->node[x->slot[at] - 1].depth == x->node[parent].depth + 1);
        x->node[x->slot[at] - 1].orders += orders;
        return x->slot[at] - 1;
    }
    assert(x->n < x->cap);
    struct node *n = &x->node[x->n++];
    *n = (struct node){.s = *s,
                       .parent = parent,
                       .who = (char)('A' + who),
                       .depth = parent < 0 ? 0 : x->node[parent].depth + 1,
                       .orders = orders};
    snprintf(n->what, sizeof(n->what), "%s", what);
    x->slot[at] = x->n;
    return x->n - 1;
}

static void timeline(const struct search *x, int last, const char *why)
{
    int path[64], n = 0;

    for (int i = last; x->node[i].parent >= 0; i = x->node[i].parent)
        path[n++] = i;
    for (unsigned i = 0; i < x->requests; i++)
        printf("    %c writes guest cluster %u\n", 'A' + i, x->node[0].s.r[i].guest);
    for (int i = n - 1, t = 1; i >= 0; i--, t++) {
        const struct node *k = &x->node[path[i]];
        printf("    %2d %*s%c %s\n", t, 34 * (k->who - 'A'), "", k->who, k->what);
    }
    printf("    => %s\n", why);
}

struct result {
    uint64_t states, stuck, bad;
    double orders;
};

static struct result search(enum regime regime, unsigned requests, const uint8_t *guest,
                            bool tell)
{
    static struct node nodes[STATES];
    static int slot[4 * STATES];
    struct search x = {.regime = regime,
                       .requests = requests,
                       .node = nodes,
                       .cap = STATES,
                       .slot = slot,
                       .slots = 4 * STATES};
    struct result result = {0};
    struct state s;

    memset(slot, 0, sizeof(slot));
    memset(&s, 0, sizeof(s));
    s.end = FIRST_FREE + (regime == HALF || regime == BOTH ? 0 : TABLES);
    for (unsigned i = 0; i < REQUESTS; i++)
        s.r[i] = (struct request){.at = i < requests ? START : ENDED,
                                  .guest = i < requests ? guest[i] : 0};
    add(&x, &s, -1, 0, "", 1);
    for (int i = 0; i < x.n;
         i++) { /* breadth first: a bad one is found the short way */
        const char *why = wrong(&x, &x.node[i].s);
        bool moved = false;
        if (why && !result.bad++ && tell)
            timeline(&x, i, why);
        for (unsigned k = 0; !why && k < requests; k++) {
            char what[60] = "";
            s = x.node[i].s;
            if (!step(&s, k, regime, what))
                continue;
            moved = true;
            add(&x, &s, i, k, what, x.node[i].orders);
        }
        bool all = true;
        for (unsigned k = 0; k < requests; k++)
            all &= x.node[i].s.r[k].at == ENDED;
        result.stuck += !why && !moved && !all;
        if (why || !moved)
            result.orders += x.node[i].orders;
    }
    result.states = (uint64_t)x.n;
    return result;
}

int main(void)
{
    static const bool fails[REGIMES] = {[SPLIT] = true, [HALF] = true};
    int failed = 0;

    for (int regime = 0; regime < REGIMES; regime++) {
        struct result sum = {0};
        uint64_t sets = 0;
        for (unsigned requests = 1; requests <= REQUESTS; requests++) {
            unsigned all = 1;
            for (unsigned i = 0; i < requests; i++)
                all *= TABLES * ENTRIES;
            for (unsigned set = 0; set < all; set++, sets++) {
                uint8_t guest[REQUESTS] = {set & 3, set >> 2 & 3, (uint8_t)(set >> 4)};
                struct result r =
                    search((enum regime)regime, requests, guest, !sum.bad);
                sum.states += r.states;
                sum.stuck += r.stuck;
                sum.bad += r.bad;
                sum.orders += r.orders;
            }
        }
        printf("%-9s %" PRIu64 " sets of writes, %" PRIu64
               " states, %.0f orders: %" PRIu64 " bad states, %" PRIu64 " deadlocks\n",
               regimes[regime], sets, sum.states, sum.orders, sum.bad, sum.stuck);
        failed += sum.stuck || (sum.bad != 0) != fails[regime];
    }
    return failed ? 1 : 0;
}
