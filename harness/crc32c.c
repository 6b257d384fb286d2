/* The table, and the instruction where there is one: crc32c.h. */
#include "harness/crc32c.h"

#include <stdbool.h>
#include <string.h>

uint32_t crc32c_table(uint32_t crc, const void *data, size_t len)
{
    static uint32_t table[256];
    const uint8_t *p = data;

    if (!table[1]) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; bit++)
                c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
            table[i] = c;
        }
    }
    crc = ~crc;
    while (len--)
        crc = table[(crc ^ *p++) & 255] ^ crc >> 8;
    return ~crc;
}

#ifdef __x86_64__
#include <nmmintrin.h>
__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t c = ~crc, word;

    for (; len >= 8; len -= 8, p += 8) {
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    while (len--)
        c = _mm_crc32_u8((uint32_t)c, *p++);
    return ~(uint32_t)c;
}
static bool crc32c_has_sse42(void) { return __builtin_cpu_supports("sse4.2"); }
#else
static bool crc32c_has_sse42(void) { return false; }
#define crc32c_sse42 crc32c_table
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return crc32c_has_sse42() ? crc32c_sse42(crc, data, len)
                              : crc32c_table(crc, data, len);
}
