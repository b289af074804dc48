/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tuples: inversion, keys, and the tag (a hash under the instance's seed). */
#ifndef CTD_CORE_HASH_H
#define CTD_CORE_HASH_H

#include <ctd/abi/flow.h>

#include "core/config.h"
#include "core/scratch.h"

#define ICMP_ECHO_REPLY 0
#define ICMP_REDIRECT 5
#define ICMP_ECHO_REQUEST 8
#define ICMP6_ECHO_REQUEST 128
#define ICMP6_ECHO_REPLY 129
#define ICMP6_NI_QUERY 139
#define ICMP6_NI_REPLY 140

/*
 * Says in a value which key it belongs to. It need not be hard to guess, only unlikely to be equal by chance: a
 * collision does harm only if the element is given from one key to the other while it is read. Independent
 * multiplications, for the fast path waits for it.
 */
static __always_inline u32 tuple_tag(const struct ctd_tuple *t)
{
	const u64 *w = (const u64 *)t;
	u64 h = (w[0] ^ ctd_config.seed) * 0x9e3779b97f4a7c15ull;

	h ^= w[2] * 0xbf58476d1ce4e5b9ull;
	h ^= w[4] * 0x94d049bb133111ebull;
	if (t->family == CTD_IPV6) {
		h += w[1] * 0xd6e8feb86659fd93ull;
		h ^= w[3] * 0xa0761d6478bd642full;
	}
	return (u32)(h ^ h >> 32);
}

static __always_inline int addr_equal(const struct ctd_addr *a, const struct ctd_addr *b)
{
	return a->q[0] == b->q[0] && a->q[1] == b->q[1];
}

static __always_inline int addr_is_zero(const struct ctd_addr *a)
{
	return (a->q[0] | a->q[1]) == 0;
}

static __always_inline int tuple_equal(const struct ctd_tuple *a, const struct ctd_tuple *b)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

/* A total order of tuples, the same on every CPU; its meaning does not matter. */
static __always_inline int tuple_before(const struct ctd_tuple *a, const struct ctd_tuple *b)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

#pragma unroll
	for (int i = 0; i < 5; i++)
		if (x[i] != y[i])
			return x[i] < y[i];
	return 0;
}

static __always_inline int proto_is_icmp(u8 proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* Protocols whose header begins with a source and a destination port. */
static __always_inline int proto_has_ports(u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE || proto == IPPROTO_SCTP ||
	       proto == IPPROTO_DCCP;
}

/* Has the tuple ports (or an identifier) that NAT may change? A node information query has none, only a query type. */
static __always_inline int has_ports(const struct ctd_tuple *t)
{
	if (t->proto == IPPROTO_ICMPV6)
		return (u8)t->dport != ICMP6_NI_QUERY && (u8)t->dport != ICMP6_NI_REPLY;
	return t->proto == IPPROTO_ICMP || proto_has_ports(t->proto);
}

/*
 * ICMP queries: the type that answers `type` (or is answered by it); -1 if it is no query. RFC 792, RFC 950, RFC 4443,
 * RFC 4620.
 */
static __always_inline int icmp_answer(u8 proto, u8 type)
{
	if (proto == IPPROTO_ICMPV6) {
		if (type == ICMP6_ECHO_REQUEST || type == ICMP6_ECHO_REPLY)
			return ICMP6_ECHO_REQUEST + ICMP6_ECHO_REPLY - type;
		if (type == ICMP6_NI_QUERY || type == ICMP6_NI_REPLY)
			return ICMP6_NI_QUERY + ICMP6_NI_REPLY - type;
		return -1;
	}
	switch (type) {
		case ICMP_ECHO_REQUEST:
			return ICMP_ECHO_REPLY;
		case ICMP_ECHO_REPLY:
			return ICMP_ECHO_REQUEST;
		case 13: /* timestamp */
			return 14;
		case 14:
			return 13;
		case 15: /* information */
			return 16;
		case 16:
			return 15;
		case 17: /* address mask */
			return 18;
		case 18:
			return 17;
	}
	return -1;
}

/* Does an ICMP query of this type open a connection? Its answers do not. */
static __always_inline int icmp_is_request(u8 proto, u8 type)
{
	if (proto == IPPROTO_ICMPV6)
		return type == ICMP6_ECHO_REQUEST || type == ICMP6_NI_QUERY;
	return type == ICMP_ECHO_REQUEST || type == 13 || type == 15 || type == 17;
}

/* Neighbour discovery (RFC 4861) and MLD (RFC 2710, RFC 3810): links' own business, never a connection. */
static __always_inline int icmp6_is_link(u8 type)
{
	return (type >= 130 && type <= 137) || type == 143;
}

/* The tuple of the packets that answer `t`. */
static __always_inline void tuple_invert(struct ctd_tuple *to, const struct ctd_tuple *t)
{
	struct ctd_addr src = t->src;
	be16 sport = t->sport;

	to->src = t->dst;
	to->dst = src;
	to->zone = t->zone;
	to->proto = t->proto;
	to->family = t->family;
	if (proto_is_icmp(t->proto)) {
		u16 kind = host_ntohs(t->dport); /* the code stays, as in the kernel */

		to->sport = sport;
		to->dport = host_htons((u16)((u8)icmp_answer(t->proto, (u8)(kind >> 8)) << 8 | (kind & 0xff)));
	} else {
		to->sport = t->dport;
		to->dport = sport;
	}
}

/* The counter of a tuple's source address: IPv4 whole, IPv6 by its /64, apart by zone. 1..CTD_SOURCES. */
static __always_inline u32 source_of(const struct ctd_tuple *t)
{
	u64 h = ctd_hash_step(ctd_hash_step(ctd_config.seed, t->src.q[0]), t->zone);

	return (u32)ctd_hash_end(h) % CTD_SOURCES + 1;
}

static __always_inline void tuple4_of(struct ctd_tuple4 *to, const struct ctd_tuple *t)
{
	to->src = t->src.v4;
	to->dst = t->dst.v4;
	to->sport = t->sport;
	to->dport = t->dport;
	to->zone = t->zone;
	to->proto = t->proto;
	to->pad = 0;
}

#endif
