/* CRC-32C (Castagnoli, RFC 3720), with the processor's instruction where there is
 * one. */
#ifndef HARNESS_CRC32C_H
#define HARNESS_CRC32C_H
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *, size_t len); /* crc: 0 to begin with */
uint32_t crc32c_table(uint32_t crc, const void *, size_t len); /* the portable one */

#endif
