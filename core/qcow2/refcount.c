/*
 * Reference counts inside a refcount block, for every width from 1 to 64 bits.
 * Pure; the caller bounds i by the block's size. Format: "Host cluster management".
 */
#include <assert.h>

#include "core/qcow2/format.h"

/* Widths below a byte share it, least significant bits first. */
static uint64_t get_sub_byte(const uint8_t *p, uint64_t i, unsigned order)
{
    unsigned width = 1u << order, per_byte = 8u / width;
    unsigned shift = (unsigned)(i % per_byte) * width;
    return (p[i / per_byte] >> shift) & ((1u << width) - 1);
}

static void set_sub_byte(uint8_t *p, uint64_t i, unsigned order, uint64_t value)
{
    unsigned width = 1u << order, per_byte = 8u / width;
    unsigned shift = (unsigned)(i % per_byte) * width;
    unsigned mask = ((1u << width) - 1) << shift;
    uint8_t *byte = &p[i / per_byte];

    assert(value >> width == 0);
    *byte = (uint8_t)((*byte & ~mask) | ((unsigned)value << shift));
}

uint64_t qcow2_refcount_get(const void *block, uint64_t i, unsigned order)
{
    const uint8_t *p = block;
    uint16_t v16;

    switch (order) {
    case 0:
    case 1:
    case 2:
        return get_sub_byte(p, i, order);
    case 3:
        return p[i];
    case 4:
        memcpy(&v16, p + 2 * i, sizeof(v16));
        return be16toh(v16);
    case 5:
        return qcow2_be32(p + 4 * i);
    default:
        assert(order == 6);
        return qcow2_be64(p + 8 * i);
    }
}

void qcow2_refcount_set(void *block, uint64_t i, unsigned order, uint64_t value)
{
    uint8_t *p = block;
    uint16_t v16;

    switch (order) {
    case 0:
    case 1:
    case 2:
        set_sub_byte(p, i, order, value);
        break;
    case 3:
        assert(value <= UINT8_MAX);
        p[i] = (uint8_t)value;
        break;
    case 4:
        assert(value <= UINT16_MAX);
        v16 = htobe16((uint16_t)value);
        memcpy(p + 2 * i, &v16, sizeof(v16));
        break;
    case 5:
        assert(value <= UINT32_MAX);
        qcow2_put_be32(p + 4 * i, (uint32_t)value);
        break;
    default:
        assert(order == 6);
        qcow2_put_be64(p + 8 * i, value);
    }
}
