/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors: the packet they quote. RFC 5508, section 4: the quoted header is translated like the packets of the
 * connection, the outer one too, and every checksum in between stays right.
 */
#ifndef CTD_NAT_QUOTED_H
#define CTD_NAT_QUOTED_H

#include "nat/rewrite.h"

#define QUOTED_L4 8u /* what an error quotes at least: RFC 792 */

/* Where the quoted layer 4 header is, as the quoted IP header says. */
struct quoted_ip {
	u32 l4;  /* offset in the packet; 0: not understood */
	u32 end; /* of the quoted packet, had it been quoted whole */
	u8 frag; /* enum ctd_frag */
};

static __always_inline void parse_quoted4(CTX *ctx, u32 off, struct ctd_tuple *t, struct quoted_ip *q)
{
	struct iphdr ip;

	if (ctx_load(ctx, off, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return;
	t->src.v4 = ip.saddr;
	t->dst.v4 = ip.daddr;
	t->proto = ip.protocol;
	q->l4 = off + ip.ihl * 4;
	q->end = off + host_ntohs(ip.tot_len);
	if (ip.frag_off & host_htons(0x1fff))
		q->frag = CTD_FRAG_LATER;
	else if (ip.frag_off & host_htons(0x2000))
		q->frag = CTD_FRAG_FIRST;
}

static __always_inline void parse_quoted6(CTX *ctx, u32 off, struct ctd_tuple *t, struct quoted_ip *q)
{
	struct ipv6hdr ip;
	u8 ext[4];

	if (ctx_load(ctx, off, &ip, sizeof(ip)) || ip.version != 6)
		return;
	__builtin_memcpy(&t->src, &ip.saddr, 16);
	__builtin_memcpy(&t->dst, &ip.daddr, 16);
	t->proto = ip.nexthdr;
	off += sizeof(ip);
	q->end = off + host_ntohs(ip.payload_len);
	for (int i = 0; i < IP6_MAX_EXTENSIONS && ipv6_is_extension(t->proto); i++) {
		if (q->frag == CTD_FRAG_LATER || ctx_load(ctx, off, ext, sizeof(ext)))
			return;
		if (t->proto == IPPROTO_FRAGMENT) {
			u16 frag = (u16)(ext[2] << 8 | ext[3]);

			q->frag = frag & 0xfff8 ? CTD_FRAG_LATER : frag & 1 ? CTD_FRAG_FIRST : CTD_FRAG_NO;
		}
		off += ipv6_extension_len(t->proto, ext[1]);
		t->proto = ext[0];
	}
	q->l4 = off;
}

/* The quoted ports, or what is in their place. RFC 792: eight bytes are quoted at least. 0: not understood. */
static __always_inline int parse_quoted_l4(CTX *ctx, struct ctd_tuple *t, const struct quoted_ip *q)
{
	be16 head[QUOTED_L4 / 2];

	if (!proto_has_ports(t->proto) && !proto_is_icmp(t->proto) && t->proto != IPPROTO_GRE)
		return !ipv6_is_extension(t->proto);
	if (q->frag == CTD_FRAG_LATER || ctx_load(ctx, q->l4, head, sizeof(head)))
		return 0;
	if (proto_is_icmp(t->proto)) {
		t->sport = head[2];
		t->dport = head[0];
		return icmp_answer(t->proto, (u8)head[0]) >= 0; /* an error never answers an error */
	}
	if (t->proto == IPPROTO_GRE) {
		t->dport = (head[0] & host_htons(GRE_VERSION)) == host_htons(1) ? head[3] : 0;
		return 1;
	}
	t->sport = head[0];
	t->dport = head[1];
	return 1;
}

/*
 * Reads the quoted packet of an ICMP error into s->quoted. quoted_l4 stays 0 if it cannot be understood: a later
 * fragment has no ports, and is only known where none are needed.
 */
static __always_inline void parse_quoted(CTX *ctx, struct scratch *s)
{
	u32 off = s->pkt.l4_off + sizeof(struct icmp_header);
	struct ctd_tuple *t = &s->quoted;
	struct quoted_ip q = {};

	s->quoted_l4 = 0;
	s->quoted_len = 0;
	__builtin_memset(t, 0, sizeof(*t));
	t->family = s->pkt.tuple.family;
	if (t->family == CTD_IPV4)
		parse_quoted4(ctx, off, t, &q);
	else
		parse_quoted6(ctx, off, t, &q);
	/* Not what a lying length leaves outside: the checksum does not cover it. */
	if (!q.l4 || q.l4 + QUOTED_L4 > s->pkt.l3_off + s->pkt.l3_len || !parse_quoted_l4(ctx, t, &q))
		return;
	s->quoted_l4 = q.l4;
	if (q.frag == CTD_FRAG_NO && q.end > q.l4)
		s->quoted_len = q.end - q.l4;
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

/* A checksum that may stand behind the quote's end (TCP's does): changed as far as it is quoted. */
static __always_inline int rewrite_quoted_sum(CTX *ctx, struct scratch *s, const struct ctd_tuple *to, u32 both,
					      u32 *diff)
{
	int sctp = to->proto == IPPROTO_SCTP;
	u32 off = s->quoted_l4 + (sctp ? offsetof(struct sctp_header, check) : offsetof(struct tcp_header, check));
	u32 old, new;

	if (off + sizeof(old) > s->pkt.l3_off + s->pkt.l3_len)
		return 0;
	if (ctx_load(ctx, off, &old, sizeof(old)))
		return -1;
	if (sctp)
		new = s->quoted_len ? old ^ sctp_check_diff(&s->quoted, to, s->quoted_len) : old;
	else
		new = (old & 0xffff0000) | csum_apply((be16)old, both);
	return store_diff(ctx, off, &old, &new, sizeof(new), diff);
}

/* The quoted layer 4 header: ports or identifier, and the checksum as far as it is quoted. */
static __always_inline int rewrite_quoted_l4(CTX *ctx, struct scratch *s, const struct ctd_tuple *to, u32 *diff)
{
	u32 both = csum_fold(port_diff(&s->quoted, to)) +
		   csum_fold(to->proto == IPPROTO_ICMP ? 0 : addr_diff(&s->quoted, to));
	u8 proto = to->proto;
	be16 old[4], new[4];

	/* ICMPv6 has a checksum over addresses, whether or not there is an identifier. */
	if (!proto_has_ports(proto) && !proto_is_icmp(proto))
		return 0;
	if (ctx_load(ctx, s->quoted_l4, old, sizeof(old)))
		return -1;
	__builtin_memcpy(new, old, sizeof(new));
	if (proto_is_icmp(proto)) {
		new[1] = csum_apply(old[1], both);
		new[2] = to->sport;
	} else {
		new[0] = to->sport;
		new[1] = to->dport;
		if (proto == IPPROTO_UDPLITE || proto == IPPROTO_DCCP || (proto == IPPROTO_UDP && old[3]))
			new[3] = csum_apply(old[3], both);
		if (proto == IPPROTO_UDP && old[3] && !new[3])
			new[3] = 0xffff; /* zero says "none" */
	}
	if (store_diff(ctx, s->quoted_l4, old, new, sizeof(new), diff))
		return -1;
	if (proto == IPPROTO_TCP || proto == IPPROTO_SCTP)
		return rewrite_quoted_sum(ctx, s, to, both, diff);
	return 0;
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
