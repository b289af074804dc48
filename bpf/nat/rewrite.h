/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Header rewriting with checksums that follow. Layer 4 checksums go through the helper that knows CHECKSUM_PARTIAL: of
 * a partial one only the pseudo header's part is there, so addresses and ports are two differences.
 */
#ifndef CTD_NAT_REWRITE_H
#define CTD_NAT_REWRITE_H

#include "core/parse.h"
#include "nat/crc32c.h"

/* Where the internet checksum stands in a layer 4 header; 0: none that covers what we change. */
static __always_inline u32 l4_csum_offset(u8 proto)
{
	switch (proto) {
		case IPPROTO_TCP:
			return offsetof(struct tcp_header, check);
		case IPPROTO_UDP:
		case IPPROTO_UDPLITE:
		case IPPROTO_DCCP:
			return offsetof(struct udp_header, check);
		case IPPROTO_ICMP:
		case IPPROTO_ICMPV6:
			return offsetof(struct icmp_header, check);
	}
	return 0;
}

static __always_inline u16 csum_fold(u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}

/* RFC 1624: the checksum after a change whose csum_diff() is `diff`. */
static __always_inline be16 csum_apply(be16 check, u32 diff)
{
	return (be16)~csum_fold((u32)(u16)~check + csum_fold(diff));
}

/* What csum_diff() answers for one 32-bit word; inline, for the fast path does it for every packet. */
static __always_inline u64 word_diff(be32 from, be32 to)
{
	return (u64)(u32)~from + to;
}

static __always_inline u32 diff_fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (u32)((sum & 0xffffffff) + (sum >> 32));
}

/* 0 if nothing changes. */
static __always_inline u32 addr_diff(const struct ctd_tuple *from, const struct ctd_tuple *to)
{
	u64 sum;

	if (addr_equal(&from->src, &to->src) && addr_equal(&from->dst, &to->dst))
		return 0;
	sum = word_diff(from->src.w[0], to->src.w[0]) + word_diff(from->dst.w[0], to->dst.w[0]);

	if (from->family == CTD_IPV6) {
#pragma unroll
		for (int i = 1; i < 4; i++)
			sum += word_diff(from->src.w[i], to->src.w[i]) + word_diff(from->dst.w[i], to->dst.w[i]);
	}
	return diff_fold(sum);
}

static __always_inline u32 port_diff(const struct ctd_tuple *from, const struct ctd_tuple *to)
{
	be32 a = (be32)from->sport | (be32)from->dport << 16;
	be32 b = (be32)to->sport | (be32)to->dport << 16;

	return a == b ? 0 : diff_fold(word_diff(a, b));
}

/* What a change of ports changes in the checksum field of an SCTP packet of `len` bytes; addresses do not count. */
static __always_inline u32 sctp_check_diff(const struct ctd_tuple *from, const struct ctd_tuple *to, u32 len)
{
	u32 changed = (u32)(from->sport ^ to->sport) | (u32)(from->dport ^ to->dport) << 16;

	return changed ? crc32c_shift(changed, len) : 0;
}

/* SCTP's checksum is the device's to make if it is partial: then the field is zero and stays so. */
static __always_inline int rewrite_sctp_check(CTX *ctx, const struct packet *pkt, const struct ctd_tuple *to)
{
	u32 diff = sctp_check_diff(&pkt->tuple, to, pkt->l3_off + pkt->l3_len - pkt->l4_off);
	struct sctp_header *sctp;

	if (!diff || ctx_csum_partial(ctx))
		return 0;
	sctp = ctx_at(ctx, pkt->l4_off, sizeof(*sctp));
	if (!sctp)
		return -1;
	sctp->check ^= diff;
	return 0;
}

/* Writes addresses and ports where they are; checksums of layer 4 are done. */
static __always_inline int write_tuple(CTX *ctx, const struct packet *pkt, const struct ctd_tuple *to, u32 diff)
{
	if (to->family == CTD_IPV4) {
		struct iphdr *ip = ctx_at(ctx, pkt->l3_off, sizeof(*ip));

		if (!ip)
			return -1;
		ip->saddr = to->src.v4;
		ip->daddr = to->dst.v4;
		ip->check = csum_apply(ip->check, diff);
	} else {
		struct ipv6hdr *ip = ctx_at(ctx, pkt->l3_off, sizeof(*ip));

		if (!ip)
			return -1;
		__builtin_memcpy(&ip->saddr, &to->src, 16);
		__builtin_memcpy(&ip->daddr, &to->dst, 16);
	}
	if (!(pkt->flags & PACKET_L4) || pkt->flags & PACKET_ICMP_ERROR)
		return 0;
	if (proto_is_icmp(to->proto)) {
		struct icmp_header *icmp = ctx_at(ctx, pkt->l4_off, sizeof(*icmp));

		if (!icmp)
			return -1;
		icmp->id = to->sport;
	} else {
		struct udp_header *ports = ctx_at(ctx, pkt->l4_off, sizeof(*ports));

		if (!ports)
			return -1;
		ports->sport = to->sport;
		ports->dport = to->dport;
	}
	return 0;
}

/* Makes the packet's header that of `to` and says so in `pkt`. 0, or negative: the packet must be dropped. */
static __always_inline int rewrite(CTX *ctx, struct packet *pkt, const struct ctd_tuple *to)
{
	u32 addrs = addr_diff(&pkt->tuple, to), ports = port_diff(&pkt->tuple, to);
	u32 check = l4_csum_offset(to->proto);
	/* Their checksum is never zero: that says "none". */
	u64 mangled = to->proto == IPPROTO_UDP || to->proto == IPPROTO_UDPLITE ? BPF_F_MARK_MANGLED_0 : 0;

	if (check) {
		check += pkt->l4_off;
		/* ICMP alone has no pseudo header. */
		if (addrs && to->proto != IPPROTO_ICMP && ctx_l4_csum(ctx, check, 0, addrs, BPF_F_PSEUDO_HDR | mangled))
			return -1;
		if (ports && pkt->flags & PACKET_L4 && ctx_l4_csum(ctx, check, 0, ports, mangled))
			return -1;
	}
	if (to->proto == IPPROTO_SCTP && pkt->flags & PACKET_L4 && rewrite_sctp_check(ctx, pkt, to))
		return -1;
	if (write_tuple(ctx, pkt, to, addrs))
		return -1;
	pkt->tuple.src = to->src;
	pkt->tuple.dst = to->dst;
	pkt->tuple.sport = to->sport;
	pkt->tuple.dport = to->dport;
	return 0;
}

/* RFC 1812 5.3.1. The caller has seen that ttl > 1. */
static __always_inline int decrement_ttl(CTX *ctx, struct packet *pkt)
{
	if (pkt->tuple.family == CTD_IPV4) {
		struct iphdr *ip = ctx_at(ctx, pkt->l3_off, sizeof(*ip));
		u32 check;

		if (!ip)
			return -1;
		check = (u32)ip->check + host_htons(0x0100);
		ip->check = (be16)(check + (check >= 0xffff));
		ip->ttl--;
	} else {
		struct ipv6hdr *ip = ctx_at(ctx, pkt->l3_off, sizeof(*ip));

		if (!ip)
			return -1;
		ip->hop_limit--;
	}
	pkt->ttl--;
	return 0;
}

#endif
