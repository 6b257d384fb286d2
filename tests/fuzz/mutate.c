/*
 * Inputs of input.h changed and crossed, for libFuzzer. It knows records, not what is in
 * them but for one thing: a record drawn anew is more often a step than a layout, and
 * more often a layout than damage.
 */
#include "tests/fuzz/input.h"

#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t an, const uint8_t *b,
                                 size_t bn, uint8_t *out, size_t max, unsigned seed);

static uint64_t state;

static unsigned draw(unsigned below)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (unsigned)((z ^ (z >> 31)) % below);
}

static uint16_t small(void) { return (uint16_t)(draw(3) ? draw(16) : draw(1024)); }

static void new_record(struct record *r)
{
    static const uint8_t kinds[] = {
        R_LAYOUT,   R_LAYOUT,   R_LAYOUT,  R_LAYOUT,  R_DAMAGE,  R_DAMAGE, R_WRITE,
        R_WRITE,    R_WRITE,    R_WRITE,   R_WRITE,   R_WRITE,   R_READ,   R_READ,
        R_ZERO,     R_ZERO,     R_DISCARD, R_DISCARD, R_DISCARD, R_FLUSH,  R_FLUSH,
        R_SNAPSHOT, R_SNAPSHOT, R_CANCEL,  R_TURN,    R_TURN,    R_TURN,   R_TURN,
        R_WAIT,     R_REOPEN,   R_CHECK,   R_FAULT,   R_DRAIN,   R_RESIZE};

    *r = (struct record){.kind = kinds[draw(sizeof(kinds))],
                         .what = (uint8_t)draw(256),
                         .x = (uint8_t)draw(256),
                         .y = (uint8_t)draw(256),
                         .at = small(),
                         .len = small()};
    if (r->kind == R_TURN && draw(2)) /* choices that differ little from the plainest */
        r->x = r->y = 0;
}

static void change_record(struct record *r)
{
    uint8_t bytes[RECORD];

    switch (draw(8)) {
    case 0:
        r->what = (uint8_t)draw(256);
        break;
    case 1:
        r->x = (uint8_t)draw(256);
        break;
    case 2:
        r->y = (uint8_t)draw(256);
        break;
    case 3:
        r->at = small();
        break;
    case 4:
        r->len = small();
        break;
    case 5:
        r->at = (uint16_t)(r->at + draw(17) - 8);
        break;
    case 6: /* with what libFuzzer has seen compared */
        record_write(r, bytes);
        LLVMFuzzerMutate(bytes, RECORD, RECORD);
        record_read(r, bytes);
        break;
    default:
        new_record(r);
    }
}

/* n records of src from `from` are put in at `at`, as far as there is room. */
static void put_in(struct input *in, unsigned at, const struct record *src, unsigned n)
{
    struct record copy[RECORDS_MAX];

    if (n > RECORDS_MAX - in->n)
        n = RECORDS_MAX - in->n;
    memcpy(copy, src, n * sizeof(*copy));
    memmove(&in->record[at + n], &in->record[at], (in->n - at) * sizeof(*copy));
    memcpy(&in->record[at], copy, n * sizeof(*copy));
    in->n += n;
}

static void take_out(struct input *in, unsigned at, unsigned n)
{
    memmove(&in->record[at], &in->record[at + n],
            (in->n - at - n) * sizeof(in->record[0]));
    in->n -= n;
}

static void mutate_once(struct input *in)
{
    struct record r;
    unsigned at = draw(in->n + 1), from, n;

    switch (in->n ? draw(10) : 0) {
    case 0:
    case 1:
    case 2:
        new_record(&r);
        put_in(in, at, &r, 1);
        break;
    case 3:
        at = draw(in->n);
        take_out(in, at, 1 + draw(in->n - at < 4 ? in->n - at : 4));
        break;
    case 4: /* once more, elsewhere: with what surrounds it or alone */
        from = draw(in->n);
        n = 1 + draw(in->n - from < 6 ? in->n - from : 6);
        put_in(in, at, &in->record[from], n);
        break;
    case 5:
        in->head[draw(HEAD_TAG + 1)] = (uint8_t)draw(256);
        break;
    case 6:
        in->head[HEAD_FLAGS] ^= (uint8_t)(1 << draw(8));
        break;
    default:
        change_record(&in->record[draw(in->n)]);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static struct input in;

    state = seed;
    input_read(&in, data, size);
    for (unsigned i = 1 + draw(4); i; i--)
        mutate_once(&in);
    return input_write(&in, data, max);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t an, const uint8_t *b,
                                 size_t bn, uint8_t *out, size_t max, unsigned seed)
{
    static struct input in, other;

    state = seed;
    input_read(&in, a, an);
    input_read(&other, b, bn);
    if (other.n) {
        unsigned from = draw(other.n), at = draw(in.n + 1);
        if (draw(2)) /* its end instead of ours */
            take_out(&in, at, in.n - at);
        put_in(&in, at, &other.record[from], 1 + draw(other.n - from));
    }
    return input_write(&in, out, max);
}
