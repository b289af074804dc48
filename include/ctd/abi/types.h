/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Basic types of the ctd ABI, shared by BPF programs (C) and control planes (C++).
 *
 * Fields in network byte order have a `be` type; everything else is in host order, which is little-endian
 * (the datapath does not build for big-endian machines).
 */
#ifndef CTD_ABI_TYPES_H
#define CTD_ABI_TYPES_H

#include <linux/types.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ctd supports little-endian machines only"
#endif

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef __u16 be16;
typedef __u32 be32;
typedef __u64 be64;

#ifdef __cplusplus
#include <cstddef>
#define CTD_ASSERT(cond) static_assert(cond, #cond)
#else
#include <stddef.h>
#define CTD_ASSERT(cond) _Static_assert(cond, #cond)
#endif
#define CTD_ASSERT_SIZE(type, size) CTD_ASSERT(sizeof(type) == (size))
#define CTD_ASSERT_OFFSET(type, field, off) CTD_ASSERT(offsetof(type, field) == (off))

/* An IPv4 or IPv6 address. IPv4 stands in the first word and the other three are zero. */
struct ctd_addr {
	union {
		be32 v4;
		be32 w[4];
		u64 q[2];
		u8 b[16];
	};
};
CTD_ASSERT_SIZE(struct ctd_addr, 16);

enum ctd_family {
	CTD_IPV4 = 4,
	CTD_IPV6 = 6,
};

/* Port numbers of the datapath. 1..CTD_MAX_PORTS-1 are devices. */
#define CTD_PORT_NONE 0u
#define CTD_PORT_LOCAL 65534u /* the host itself, as in OpenFlow */
#define CTD_MAX_PORTS 256u

#endif
