/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The parser: Ethernet, VLAN, IPv4, IPv6, TCP, UDP, ICMP, ICMPv6 into struct packet; core/parse_l4.h has the others.
 *
 * parse() answers CTD_DROP_NONE or the reason to drop. What is sound up to layer 3 but has a missing, short or lying
 * layer 4 header is PACKET_UNTRACKABLE: ct() finds it invalid. Never reads past the packet.
 */
#ifndef CTD_CORE_PARSE_H
#define CTD_CORE_PARSE_H

#include <ctd/abi/drop.h>

#include "core/hash.h"
#include "core/parse_l4.h"
#include "core/scratch.h"

#define PARSE_LINEAR 128u /* bytes wanted linear: all usual headers */
#define IP6_MAX_EXTENSIONS 6

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20

struct tcp_header {
	be16 sport;
	be16 dport;
	be32 seq;
	be32 ack;
	u8 doff; /* upper four bits: header length in words */
	u8 flags;
	be16 window;
	be16 check;
	be16 urgent;
};
CTD_ASSERT_SIZE(struct tcp_header, 20);

struct udp_header {
	be16 sport;
	be16 dport;
	be16 len;
	be16 check;
};

struct icmp_header {
	u8 type;
	u8 code;
	be16 check;
	be16 id;  /* queries */
	be16 seq; /* or the MTU of errors */
};

struct vlan_header {
	be16 tci;
	be16 type; /* of what follows */
};

/* Is this ICMP type an error that quotes a packet? RFC 792, RFC 4443 (types below 128). */
static __always_inline int icmp_is_error(u8 proto, u8 type)
{
	if (proto == IPPROTO_ICMPV6)
		return type >= 1 && type <= 4;
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

/* Layer 4. `room` is what the IP header leaves for it; headers that do not fit are untrackable, not dropped. */
static __always_inline void parse_l4(CTX *ctx, struct packet *pkt, u32 room)
{
	struct ctd_tuple *t = &pkt->tuple;

	if (t->proto == IPPROTO_TCP) {
		struct tcp_header *tcp = ctx_at(ctx, pkt->l4_off, sizeof(*tcp));
		u32 header;

		if (!tcp)
			goto untrackable;
		header = (u32)(tcp->doff >> 4) * 4;
		if (header < sizeof(*tcp) || header > room)
			goto untrackable;
		t->sport = tcp->sport;
		t->dport = tcp->dport;
		pkt->tcp_flags = tcp->flags;
		pkt->tcp_seq = host_ntohl(tcp->seq);
		pkt->tcp_ack = host_ntohl(tcp->ack);
		pkt->tcp_end = pkt->tcp_seq + (room - header) + !!(tcp->flags & TCP_SYN) + !!(tcp->flags & TCP_FIN);
		pkt->tcp_window = host_ntohs(tcp->window);
		pkt->tcp_options = (u8)(header - sizeof(*tcp));
	} else if (t->proto == IPPROTO_UDP) {
		struct udp_header *udp = ctx_at(ctx, pkt->l4_off, sizeof(*udp));
		u32 len;

		if (!udp || room < sizeof(*udp))
			goto untrackable;
		len = host_ntohs(udp->len);
		if (len < sizeof(*udp) || (len > room && !ctx_gso_size(ctx)))
			goto untrackable;
		t->sport = udp->sport;
		t->dport = udp->dport;
	} else if (t->proto == (t->family == CTD_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		struct icmp_header *icmp = ctx_at(ctx, pkt->l4_off, sizeof(*icmp));

		if (!icmp || room < sizeof(*icmp))
			goto untrackable;
		pkt->icmp_type = icmp->type;
		pkt->icmp_code = icmp->code;
		t->dport = host_htons((u16)(icmp->type << 8 | icmp->code));
		if (icmp_is_error(t->proto, icmp->type))
			pkt->flags |= PACKET_ICMP_ERROR;
		else if (icmp_answer(t->proto, icmp->type) >= 0)
			t->sport = icmp->id;
		else
			goto untrackable;
	} else if (t->proto == IPPROTO_UDPLITE) {
		if (!parse_udplite(ctx, pkt, room))
			goto untrackable;
	} else if (t->proto == IPPROTO_SCTP) {
		if (!parse_sctp(ctx, pkt, room))
			goto untrackable;
	} else if (t->proto == IPPROTO_DCCP) {
		if (!parse_dccp(ctx, pkt, room))
			goto untrackable;
	} else if (t->proto == IPPROTO_GRE) {
		if (!parse_gre(ctx, pkt, room))
			goto untrackable;
		return; /* no ports that could be matched or translated */
	} else if (proto_is_icmp(t->proto)) {
		goto untrackable; /* the other family's */
	} else {
		return; /* tracked by its addresses */
	}
	pkt->flags |= PACKET_L4;
	return;
untrackable:
	pkt->flags |= PACKET_UNTRACKABLE;
}

static __always_inline int parse_ipv4(CTX *ctx, struct packet *pkt)
{
	struct iphdr *ip = ctx_at(ctx, pkt->l3_off, sizeof(*ip));
	u32 have = pkt->len - pkt->l3_off, header, total;
	u16 off;

	if (!ip)
		return CTD_DROP_TRUNCATED;
	header = ip->ihl * 4;
	total = host_ntohs(ip->tot_len);
	if (total == 0 && ctx_gso_size(ctx))
		total = have; /* larger than the field can say */
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return CTD_DROP_BAD_HEADER;
	if (total > have)
		return CTD_DROP_TRUNCATED;

	pkt->flags |= PACKET_IP;
	if (header > sizeof(*ip))
		pkt->flags |= PACKET_OPTIONS;
	pkt->l3_len = total;
	pkt->l4_off = pkt->l3_off + header;
	pkt->tos = ip->tos;
	pkt->ttl = ip->ttl;
	pkt->tuple.family = CTD_IPV4;
	pkt->tuple.proto = ip->protocol;
	pkt->tuple.src.v4 = ip->saddr;
	pkt->tuple.dst.v4 = ip->daddr;
	off = host_ntohs(ip->frag_off);
	if (off & 0x4000)
		pkt->flags |= PACKET_DF;
	if (off & 0x1fff)
		pkt->frag = CTD_FRAG_LATER;
	else if (off & 0x2000)
		pkt->frag = CTD_FRAG_FIRST;
	if (pkt->frag != CTD_FRAG_LATER)
		parse_l4(ctx, pkt, total - header);
	return CTD_DROP_NONE;
}

static __always_inline int ipv6_is_extension(u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS ||
	       proto == IPPROTO_AH || proto == IPPROTO_FRAGMENT;
}

static __always_inline u32 ipv6_extension_len(u8 proto, u8 field)
{
	if (proto == IPPROTO_FRAGMENT)
		return 8;
	return proto == IPPROTO_AH ? ((u32)field + 2) * 4 : ((u32)field + 1) * 8;
}

/* RFC 8200: the chain of extension headers. A chain that is longer than we follow leaves the packet untrackable. */
static __always_inline int parse_ipv6_extensions(CTX *ctx, struct packet *pkt, u32 *off, u8 *next)
{
	u32 end = pkt->l3_off + pkt->l3_len;

#pragma unroll
	for (int i = 0; i < IP6_MAX_EXTENSIONS; i++) {
		u8 *ext;
		u32 len;

		if (!ipv6_is_extension(*next))
			return CTD_DROP_NONE;
		pkt->flags |= PACKET_OPTIONS;
		ext = ctx_at(ctx, *off, 8);
		if (!ext || *off + 8 > end)
			return CTD_DROP_TRUNCATED;
		len = ipv6_extension_len(*next, ext[1]);
		if (*next == IPPROTO_FRAGMENT) {
			u16 frag = (u16)((ext[2] << 8) | ext[3]);

			if (frag & 0xfff8)
				pkt->frag = CTD_FRAG_LATER;
			else if (frag & 1)
				pkt->frag = CTD_FRAG_FIRST;
		}
		*next = ext[0];
		*off += len;
		if (*off > end)
			return CTD_DROP_BAD_HEADER;
		if (pkt->frag == CTD_FRAG_LATER)
			return CTD_DROP_NONE;
	}
	if (ipv6_is_extension(*next))
		pkt->flags |= PACKET_UNTRACKABLE;
	return CTD_DROP_NONE;
}

static __always_inline int parse_ipv6(CTX *ctx, struct packet *pkt)
{
	struct ipv6hdr *ip = ctx_at(ctx, pkt->l3_off, sizeof(*ip));
	u32 have = pkt->len - pkt->l3_off, total, off;
	u8 next;
	int reason;

	if (!ip)
		return CTD_DROP_TRUNCATED;
	total = host_ntohs(ip->payload_len) + sizeof(*ip);
	if (total == sizeof(*ip) && ctx_gso_size(ctx))
		total = have;
	if (ip->version != 6)
		return CTD_DROP_BAD_HEADER;
	if (total > have)
		return CTD_DROP_TRUNCATED;

	pkt->flags |= PACKET_IP | PACKET_DF; /* routers never fragment IPv6 */
	pkt->l3_len = total;
	pkt->tos = (u8)((ip->priority << 4) | (ip->flow_lbl[0] >> 4));
	pkt->ipv6_label = *(be32 *)ip & host_htonl(0x000fffff);
	pkt->ttl = ip->hop_limit;
	pkt->tuple.family = CTD_IPV6;
	__builtin_memcpy(&pkt->tuple.src, &ip->saddr, 16);
	__builtin_memcpy(&pkt->tuple.dst, &ip->daddr, 16);
	next = ip->nexthdr;
	off = pkt->l3_off + sizeof(*ip);
	reason = parse_ipv6_extensions(ctx, pkt, &off, &next);
	if (reason)
		return reason;
	pkt->tuple.proto = next;
	pkt->l4_off = (u16)off;
	if (pkt->frag != CTD_FRAG_LATER && !(pkt->flags & PACKET_UNTRACKABLE))
		parse_l4(ctx, pkt, pkt->l3_off + total - off);
	return CTD_DROP_NONE;
}

static __always_inline int parse_l2(CTX *ctx, struct packet *pkt)
{
	struct ethhdr *eth = ctx_at(ctx, 0, sizeof(*eth));

	if (!eth)
		return CTD_DROP_TRUNCATED;
	__builtin_memcpy(pkt->eth_dst, eth->h_dest, 6);
	__builtin_memcpy(pkt->eth_src, eth->h_source, 6);
	if (eth->h_dest[0] & 1)
		pkt->flags |= PACKET_L2_MULTICAST;
	pkt->eth_type = eth->h_proto;
	pkt->l3_off = sizeof(*eth);
	if (ctx_vlan_present(ctx)) {
		pkt->vlan_tpid = ctx_vlan_tpid(ctx);
		pkt->vlan_tci = host_htons((u16)(ctx_vlan_tci(ctx) | 0x1000));
	} else if (pkt->eth_type == host_htons(ETH_P_8021Q) || pkt->eth_type == host_htons(ETH_P_8021AD)) {
		struct vlan_header *vlan = ctx_at(ctx, sizeof(*eth), sizeof(*vlan));

		if (!vlan)
			return CTD_DROP_TRUNCATED;
		pkt->vlan_tpid = pkt->eth_type;
		pkt->vlan_tci = vlan->tci | host_htons(0x1000);
		pkt->eth_type = vlan->type;
		pkt->l3_off += sizeof(*vlan);
	}
	return CTD_DROP_NONE;
}

/* Fills `pkt` from the packet; ifindex, in_port, port, egress and l2_len are the caller's, all else is overwritten. */
static __always_inline int parse(CTX *ctx, struct packet *pkt)
{
	int reason;

	pkt->len = ctx_len(ctx);
	pkt->l3_len = 0;
	pkt->l3_off = 0;
	pkt->l4_off = 0;
	pkt->flags &= PACKET_RESUMED;
	pkt->frag = CTD_FRAG_NO;
	pkt->vlan_tpid = 0;
	pkt->vlan_tci = 0;
	pkt->tos = 0;
	pkt->ttl = 0;
	pkt->tcp_flags = 0;
	pkt->icmp_type = 0;
	pkt->icmp_code = 0;
	pkt->ipv6_label = 0;
	__builtin_memset(&pkt->tuple, 0, sizeof(pkt->tuple));

	if (ctx_data(ctx) + PARSE_LINEAR > ctx_data_end(ctx))
		ctx_pull(ctx, pkt->len < PARSE_LINEAR ? pkt->len : PARSE_LINEAR);
	if (pkt->l2_len) {
		reason = parse_l2(ctx, pkt);
		if (reason)
			return reason;
	} else {
		pkt->eth_type = ctx_protocol(ctx);
	}
	if (pkt->eth_type == host_htons(ETH_P_IP))
		return parse_ipv4(ctx, pkt);
	if (pkt->eth_type == host_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, pkt);
	return CTD_DROP_NONE;
}

/* Layer 3 bytes of the largest packet that this one becomes on the wire. */
static __always_inline u32 wire_size(CTX *ctx, const struct packet *pkt)
{
	u32 gso = ctx_gso_size(ctx), header = 8;

	if (!gso)
		return pkt->l3_len;
	if (pkt->tuple.proto == IPPROTO_TCP) {
		struct tcp_header *tcp = ctx_at(ctx, pkt->l4_off, sizeof(*tcp));

		header = tcp ? (u32)(tcp->doff >> 4) * 4 : 60;
	}
	return gso + header + pkt->l4_off - pkt->l3_off;
}

#endif
