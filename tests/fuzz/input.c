/* Inputs read and written: input.h. */
#include "tests/fuzz/input.h"

#include <string.h>

void record_read(struct record *r, const uint8_t *p)
{
    *r = (struct record){.kind = p[0] % RECORD_KINDS,
                         .what = p[1],
                         .x = p[2],
                         .y = p[3],
                         .at = (uint16_t)(p[4] | p[5] << 8),
                         .len = (uint16_t)(p[6] | p[7] << 8)};
}

void record_write(const struct record *r, uint8_t *p)
{
    const uint8_t bytes[RECORD] = {r->kind,
                                   r->what,
                                   r->x,
                                   r->y,
                                   (uint8_t)r->at,
                                   (uint8_t)(r->at >> 8),
                                   (uint8_t)r->len,
                                   (uint8_t)(r->len >> 8)};
    memcpy(p, bytes, RECORD);
}

void input_read(struct input *in, const uint8_t *bytes, size_t size)
{
    size_t head = size < HEAD ? size : HEAD;

    memset(in, 0, sizeof(*in));
    memcpy(in->head, bytes, head);
    for (size_t at = HEAD; at + RECORD <= size && in->n < RECORDS_MAX; at += RECORD)
        record_read(&in->record[in->n++], bytes + at);
}

size_t input_write(const struct input *in, uint8_t *bytes, size_t max)
{
    size_t at = HEAD;

    if (max < HEAD)
        return 0;
    memcpy(bytes, in->head, HEAD);
    for (unsigned i = 0; i < in->n && at + RECORD <= max; i++, at += RECORD)
        record_write(&in->record[i], bytes + at);
    return at;
}
