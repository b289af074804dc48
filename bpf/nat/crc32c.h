/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SCTP's checksum (CRC-32C, RFC 9260 appendix A) after a change of the ports. A CRC is linear: what the change of a
 * word does to it depends on the change and on the length behind it, and on no other byte of the packet. So a wrong
 * checksum stays wrong.
 */
#ifndef CTD_NAT_CRC32C_H
#define CTD_NAT_CRC32C_H

#include "host/host.h"

#define CRC32C_POLY 0x82f63b78u /* bits reversed: bit 31 is x^0 */

/* Product of two polynomials modulo the CRC's. */
static __always_inline u32 crc32c_multiply(u32 a, u32 b)
{
	u32 product = 0;

	for (int i = 31; i >= 0; i--) {
		product ^= b & -(a >> i & 1);
		b = (b >> 1) ^ (CRC32C_POLY & -(b & 1));
	}
	return product;
}

/*
 * What the first word of `len` bytes contributes to their CRC: word * x^(8 * len), by squaring. As the CRC is stored
 * with its lowest byte first, word and answer are as in memory.
 */
CTD_GLOBAL u32 crc32c_shift(u32 word, u32 len)
{
	u32 power = 0x00800000u; /* x^8 */

	for (int i = 0; i < 16; i++) {
		u32 with = crc32c_multiply(word, power), mask = -(len >> i & 1);

		word = (with & mask) | (word & ~mask);
		power = crc32c_multiply(power, power);
	}
	return word;
}

#endif
