/*
 * See explore_search.h.
 *
 * Why a state met before needs no second look: its hash is that of its whole causal
 * history (core/env/history.h), so what can come is the same as at the first meeting; and
 * a depth-first search has been through all of that by then, unless the first meeting is
 * further up the present schedule (a turn of the loop that did nothing): then it branches.
 * With a bound, a state is met again only with as many pre-emptions left or fewer.
 */
#include "harness/explore_search.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/env/history.h"
#include "core/env/random.h"

struct state {
    uint64_t key; /* 0: free */
    double below; /* schedules from here on, once all are searched */
    uint32_t spent;
    bool on_path; /* first met on the way down here */
};
struct frame { /* a choice on the way down */
    uint64_t key;
    uint16_t options, taken;
    uint32_t spent; /* pre-emptions before it */
    bool costs;     /* all but option 0 */
    bool again;     /* the same state is further up: a step changed nothing */
    double below;
};
struct rank { /* PCT: whose priority */
    const void *event;
    uint64_t seq;
    uint64_t priority;
};

struct table { /* of hashes; a power of two of places */
    struct state *at;
    unsigned bits;
    uint64_t used;
};

struct explore_search {
    enum explore_mode mode;
    unsigned bound;
    uint64_t random;
    struct explore_path *path;
    struct explore_world *world;

    struct frame frame[EXPLORE_CHOICES];
    unsigned frames, fixed; /* fixed: how many of the path are repeated, or given */
    struct table states, outcomes;
    bool begun, met; /* met: the schedule has come to a state met before */
    double met_below;
    uint32_t spent;
    unsigned beyond; /* choices that are not in path */

    struct rank rank[EXPLORE_CHOICES];
    unsigned ranks, change[EXPLORE_PCT_MAX], changes;
    struct explore_count count;
};

/* --- states met ---------------------------------------------------------------------- */

static bool table_open(struct table *t)
{
    *t = (struct table){.bits = 10};
    t->at = calloc((size_t)1 << t->bits, sizeof(*t->at));
    return t->at;
}

static struct state *place_of(const struct table *t, uint64_t key)
{
    size_t mask = ((size_t)1 << t->bits) - 1, i = (size_t)key & mask;

    while (t->at[i].key && t->at[i].key != key)
        i = (i + 1) & mask;
    return &t->at[i];
}

static void grow(struct table *t)
{
    struct state *old = t->at;
    size_t n = (size_t)1 << t->bits;

    t->at = calloc(2 * n, sizeof(*old));
    if (!t->at)
        abort(); /* a search that forgets has no end */
    t->bits++;
    for (size_t i = 0; i < n; i++)
        if (old[i].key)
            *place_of(t, old[i].key) = old[i];
    free(old);
}

static struct state *add(struct table *t, uint64_t key)
{
    struct state *state = place_of(t, key);

    if (state->key)
        return state;
    if (2 * ++t->used > (uint64_t)1 << t->bits) {
        grow(t);
        state = place_of(t, key);
    }
    state->key = key;
    return state;
}

enum meeting { NEW, AGAIN, KNOWN };

/* KNOWN: met before, with as much left to spend, and left behind. */
static enum meeting meet(struct explore_search *s, uint64_t key)
{
    uint64_t known = s->states.used;
    struct state *state;

    if (s->mode == EXPLORE_EVERY)
        return AGAIN;
    state = add(&s->states, key);
    if (state->on_path)
        return AGAIN;
    if (s->states.used == known && state->spent <= s->spent) {
        s->met_below = state->below;
        return KNOWN;
    }
    state->spent = s->spent;
    state->on_path = true;
    return NEW;
}

static void leave(struct explore_search *s, uint64_t key, double below)
{
    struct state *state = place_of(&s->states, key);

    state->below = below;
    state->on_path = false;
}

/* --- depth first --------------------------------------------------------------------- */

/* The bound matters to what can come, and so does who could go on. */
static uint64_t key_of(struct explore_search *s, unsigned n)
{
    struct env *env = explore_world_env(s->world);
    const struct sim_choice *at = sim_choice(env);
    uint64_t key = history_mix(sim_state_hash(env), at->kind * 4096u + n);

    if (s->mode == EXPLORE_BOUNDED)
        key = history_mix(key, at->goes_on ? at->current + 1 : 0);
    return key ? key : 1;
}

static bool costs(struct explore_search *s)
{
    const struct sim_choice *at = sim_choice(explore_world_env(s->world));

    return s->mode == EXPLORE_BOUNDED && at->kind == SIM_NEXT &&
           (at->goes_on || !explore_world_threads(s->world));
}

static unsigned choose_deeper(struct explore_search *s, unsigned n)
{
    struct frame *f = &s->frame[s->frames];

    if (s->met)
        return 0;
    uint64_t key = key_of(s, n);
    enum meeting meeting = meet(s, key);
    if (meeting == KNOWN) {
        s->met = true;
        s->count.repeats++;
        return 0;
    }
    *f = (struct frame){.key = key,
                        .options = (uint16_t)n,
                        .spent = s->spent,
                        .again = meeting == AGAIN,
                        .costs = costs(s)};
    s->frames++;
    return 0;
}

static bool affordable(const struct explore_search *s, const struct frame *f)
{
    return !f->costs || f->spent < s->bound;
}

/* The next branch that has not been taken, from the bottom up. */
static bool next_branch(struct explore_search *s)
{
    double below = s->met ? s->met_below : 1;

    while (s->frames) {
        struct frame *f = &s->frame[s->frames - 1];
        f->below += below;
        if (f->taken + 1 < f->options && affordable(s, f)) {
            f->taken++;
            return true;
        }
        below = f->below;
        if (!f->again)
            leave(s, f->key, below);
        s->frames--;
    }
    if (s->mode != EXPLORE_BOUNDED)
        s->count.stands_for = below;
    return false;
}

/* --- draws --------------------------------------------------------------------------- */

static unsigned draw(struct explore_search *s, unsigned n)
{
    return (unsigned)(((unsigned __int128)splitmix_next(&s->random) * n) >> 64);
}

static struct rank *rank_of(struct explore_search *s, unsigned i)
{
    const struct sim_event *event;
    uint64_t seq = sim_option(explore_world_env(s->world), i, &event);

    if (event)
        seq = event->seq;
    for (unsigned k = 0; k < s->ranks; k++)
        if (s->rank[k].event == event && s->rank[k].seq == seq)
            return &s->rank[k];
    if (s->ranks == EXPLORE_CHOICES)
        s->ranks = 0; /* they draw anew */
    s->rank[s->ranks] =
        (struct rank){event, seq, splitmix_next(&s->random) | 1ull << 63};
    return &s->rank[s->ranks++];
}

static unsigned choose_by_rank(struct explore_search *s, unsigned n)
{
    unsigned best = 0;

    if (sim_choice(explore_world_env(s->world))->kind != SIM_NEXT)
        return draw(s, n);
    for (unsigned round = 0; round < 2; round++) {
        best = 0;
        for (unsigned i = 1; i < n; i++)
            if (rank_of(s, i)->priority > rank_of(s, best)->priority)
                best = i;
        unsigned c = 0;
        while (c < s->changes && s->change[c] != s->path->n)
            c++;
        if (c == s->changes)
            break;
        s->change[c] = UINT32_MAX;
        rank_of(s, best)->priority = c; /* below all that were drawn */
    }
    return best;
}

static void draw_changes(struct explore_search *s)
{
    s->ranks = 0;
    s->changes = s->mode == EXPLORE_PCT ? s->bound - 1 : 0;
    for (unsigned c = 0; c < s->changes; c++)
        s->change[c] = draw(s, s->count.longest ? s->count.longest : 1);
}

/* --- the search ---------------------------------------------------------------------- */

int explore_search_create(struct explore_search **out, enum explore_mode mode,
                          unsigned bound, uint64_t seed, struct explore_path *path)
{
    struct explore_search *s = calloc(1, sizeof(*s));

    *out = s;
    if (!s)
        return -ENOMEM;
    s->mode = mode;
    s->bound = bound;
    s->random = seed;
    s->path = path;
    if (table_open(&s->states) && table_open(&s->outcomes))
        return 0;
    explore_search_free(s);
    return -ENOMEM;
}

void explore_search_free(struct explore_search *s)
{
    free(s->states.at);
    free(s->outcomes.at);
    free(s);
}

bool explore_search_next(struct explore_search *s, struct explore_world *world)
{
    bool deeper = s->mode <= EXPLORE_BOUNDED;

    s->world = world;
    if (s->begun) {
        s->count.schedules++;
        add(&s->outcomes, explore_world_outcome(world) | 1);
        if (s->path->n > s->count.longest)
            s->count.longest = s->path->n;
        if (s->mode == EXPLORE_REPLAY || (deeper && !next_branch(s)))
            return false;
    }
    if (s->mode == EXPLORE_REPLAY)
        s->fixed = s->path->n;
    else if (deeper)
        s->fixed = s->frames;
    else
        draw_changes(s);
    s->begun = true;
    s->met = false;
    s->spent = 0;
    s->beyond = 0;
    s->path->n = 0;
    return true;
}

static unsigned choose_one(struct explore_search *s, unsigned n)
{
    unsigned at = s->path->n, i;

    switch (s->mode) {
    case EXPLORE_REPLAY: /* what was shortened need not fit any more */
        i = at < s->fixed ? s->path->choice[at] : 0;
        return i < n ? i : 0;
    case EXPLORE_UNIFORM:
        return draw(s, n);
    case EXPLORE_PCT:
        return choose_by_rank(s, n);
    default:
        break;
    }
    if (at >= s->fixed)
        return choose_deeper(s, n);
    /* The same choices lead to the same place, or nothing here means anything. */
    assert(s->frame[at].options == n);
    return s->frame[at].taken;
}

unsigned explore_search_choose(void *opaque, unsigned n)
{
    struct explore_search *s = opaque;

    if (s->path->n == EXPLORE_CHOICES) {
        /* Nobody searches that deep; the plainest schedule should come to an end. */
        if (++s->beyond == 256 * EXPLORE_CHOICES) {
            fprintf(stderr, "endless: the schedule has over a million choices\n");
            abort();
        }
        return 0;
    }
    unsigned i = choose_one(s, n);
    if (i && costs(s))
        s->spent++;
    s->path->choice[s->path->n++] = (uint16_t)i;
    return i;
}

void explore_search_count(const struct explore_search *s, struct explore_count *count)
{
    *count = s->count;
    count->states = s->states.used;
    count->outcomes = s->outcomes.used;
}
