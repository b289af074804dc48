/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors: the packet they quote. RFC 5508, section 4: the quoted header is translated like the packets of the
 * connection, the outer one too, and every checksum in between stays right.
 */
#ifndef CTD_NAT_QUOTED_H
#define CTD_NAT_QUOTED_H

#include "nat/rewrite.h"

#define QUOTED_L4 8u /* what an error quotes at least: RFC 792 */

/* Reads the quoted packet of an ICMP error into s->quoted. quoted_l4 stays 0 if it cannot be understood. */
static __always_inline void parse_quoted(CTX *ctx, struct scratch *s)
{
	u32 off = s->pkt.l4_off + sizeof(struct icmp_header), l4;
	struct ctd_tuple *t = &s->quoted;
	u8 head[QUOTED_L4];

	s->quoted_l4 = 0;
	__builtin_memset(t, 0, sizeof(*t));
	t->family = s->pkt.tuple.family;
	if (t->family == CTD_IPV4) {
		struct iphdr ip;

		if (ctx_load(ctx, off, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
		    ip.frag_off & host_htons(0x1fff))
			return;
		t->src.v4 = ip.saddr;
		t->dst.v4 = ip.daddr;
		t->proto = ip.protocol;
		l4 = off + ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (ctx_load(ctx, off, &ip, sizeof(ip)) || ip.version != 6)
			return;
		__builtin_memcpy(&t->src, &ip.saddr, 16);
		__builtin_memcpy(&t->dst, &ip.daddr, 16);
		t->proto = ip.nexthdr;
		l4 = off + sizeof(ip);
	}
	if (t->proto == IPPROTO_TCP || t->proto == IPPROTO_UDP) {
		if (ctx_load(ctx, l4, head, sizeof(head)))
			return;
		__builtin_memcpy(&t->sport, head, 2);
		__builtin_memcpy(&t->dport, head + 2, 2);
	} else if (proto_is_icmp(t->proto)) {
		if (ctx_load(ctx, l4, head, sizeof(head)) || icmp_answer(t->proto, head[0]) < 0)
			return; /* an error never answers an error */
		t->dport = host_htons((u16)(head[0] << 8 | head[1]));
		__builtin_memcpy(&t->sport, head + 4, 2);
	}
	/* Not what a lying length leaves outside: the checksum does not cover it. */
	if (l4 + QUOTED_L4 <= s->pkt.l3_off + s->pkt.l3_len)
		s->quoted_l4 = l4;
}

/* Stores `len` bytes at `off` and adds to `diff` what that changes in a checksum over them. len: a multiple of four. */
static __always_inline int store_diff(CTX *ctx, u32 off, void *old, void *new, u32 len, u32 *diff)
{
	*diff = (u32)csum_diff(old, len, new, len, *diff);
	return (int)ctx_store(ctx, off, new, len);
}

/* The quoted IP header: addresses, and for IPv4 its checksum. */
static __always_inline int rewrite_quoted_l3(CTX *ctx, struct scratch *s, const struct ctd_tuple *to, u32 *diff)
{
	u32 off = s->pkt.l4_off + sizeof(struct icmp_header);

	if (to->family == CTD_IPV4) {
		struct iphdr old, new;

		if (ctx_load(ctx, off, &old, sizeof(old)))
			return -1;
		new = old;
		new.saddr = to->src.v4;
		new.daddr = to->dst.v4;
		new.check = csum_apply(new.check, addr_diff(&s->quoted, to));
		return store_diff(ctx, off, &old, &new, sizeof(new), diff);
	}
	return store_diff(ctx, off + offsetof(struct ipv6hdr, saddr), &s->quoted.src, (void *)&to->src, 32, diff);
}

/* TCP's checksum stands behind the first eight bytes; most errors quote it all the same. */
static __always_inline int rewrite_quoted_tcp(CTX *ctx, struct scratch *s, u32 both, u32 *diff)
{
	u32 off = s->quoted_l4 + offsetof(struct tcp_header, check);
	be16 old[2], new[2];

	if (off + sizeof(old) > s->pkt.l3_off + s->pkt.l3_len)
		return 0;
	if (ctx_load(ctx, off, old, sizeof(old)))
		return -1;
	new[0] = csum_apply(old[0], both);
	new[1] = old[1];
	return store_diff(ctx, off, old, new, sizeof(new), diff);
}

/* The quoted layer 4 header: ports or identifier, and the checksum as far as it is quoted. */
static __always_inline int rewrite_quoted_l4(CTX *ctx, struct scratch *s, const struct ctd_tuple *to, u32 *diff)
{
	u32 both = csum_fold(port_diff(&s->quoted, to)) +
		   csum_fold(to->proto == IPPROTO_ICMP ? 0 : addr_diff(&s->quoted, to));
	be16 old[4], new[4];

	if (!has_ports(to->proto))
		return 0;
	if (ctx_load(ctx, s->quoted_l4, old, sizeof(old)))
		return -1;
	__builtin_memcpy(new, old, sizeof(new));
	if (proto_is_icmp(to->proto)) {
		new[1] = csum_apply(old[1], both);
		new[2] = to->sport;
	} else {
		new[0] = to->sport;
		new[1] = to->dport;
		if (to->proto == IPPROTO_UDP && old[3])
			new[3] = csum_apply(old[3], both);
	}
	if (store_diff(ctx, s->quoted_l4, old, new, sizeof(new), diff))
		return -1;
	return to->proto == IPPROTO_TCP ? rewrite_quoted_tcp(ctx, s, both, diff) : 0;
}

/* Translates the quoted packet to `to`. The outer header is rewrite()'s. 0 or negative. */
static __always_inline int rewrite_quoted(CTX *ctx, struct scratch *s, const struct ctd_tuple *to)
{
	u32 diff = 0, check = s->pkt.l4_off + offsetof(struct icmp_header, check);

	if (rewrite_quoted_l3(ctx, s, to, &diff) || rewrite_quoted_l4(ctx, s, to, &diff))
		return -1;
	s->quoted.src = to->src;
	s->quoted.dst = to->dst;
	s->quoted.sport = to->sport;
	s->quoted.dport = to->dport;
	return diff ? (int)ctx_l4_csum(ctx, check, 0, diff, 0) : 0;
}

#endif
