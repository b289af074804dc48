/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `route`: the host's own addresses, its FIB and its neighbours. With a recirculation id it only chooses out_port;
 * without one it forwards. Packets that the host sent already have their way.
 *
 * Reads of the scratch record: pkt, ct, key. Writes: key.out_port, fib_*, icmp_*.
 */
#ifndef CTD_DP_ROUTE_H
#define CTD_DP_ROUTE_H

#include "dp/output.h"
#include "dp/verdict.h"
#include "nat/rewrite.h"

#define FIB_BLACKHOLE 1
#define FIB_UNREACHABLE 2
#define FIB_PROHIBIT 3
#define FIB_NOT_FORWARDED 4
#define FIB_FORWARDING_OFF 5
#define FIB_NO_NEIGH 7
#define FIB_FRAG_NEEDED 8

/* Addresses that are never forwarded, as source or destination. RFC 6890, RFC 1812 5.3.7, RFC 4291. */
static __always_inline int addr_unroutable(const struct ctd_addr *a, u8 family)
{
	if (family == CTD_IPV4)
		return a->b[0] == 0 || a->b[0] == 127 || a->b[0] >= 224 || (a->b[0] == 169 && a->b[1] == 254);
	if (a->b[0] == 0xff || (a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80))
		return 1;
	return a->q[0] == 0 && (a->q[1] == 0 || a->q[1] == 1ull << 56); /* :: and ::1 */
}

static __always_inline void fib_fill(struct bpf_fib_lookup *fib, const struct packet *pkt, const struct ctd_addr *src,
				     const struct ctd_addr *dst)
{
	fib->l4_protocol = pkt->tuple.proto;
	fib->ifindex = pkt->ifindex;
	if (pkt->tuple.family == CTD_IPV4) {
		fib->family = FAMILY_INET;
		fib->tos = pkt->tos;
		fib->ipv4_src = src->v4;
		fib->ipv4_dst = dst->v4;
	} else {
		fib->family = FAMILY_INET6;
		__builtin_memcpy(fib->ipv6_src, src, 16);
		__builtin_memcpy(fib->ipv6_dst, dst, 16);
	}
}

/* RFC 3704: would we send to this source the way it came from (strict), or at all (loose)? */
static __always_inline int rpf_ok(CTX *ctx, const struct packet *pkt, const struct ctd_port *port)
{
	struct bpf_fib_lookup fib = {.tot_len = 64};
	long result;

	if (!(port->flags & (CTD_PORT_RPF_STRICT | CTD_PORT_RPF_LOOSE)))
		return 1;
	fib_fill(&fib, pkt, &pkt->tuple.dst, &pkt->tuple.src);
	result = ctx_fib_lookup(ctx, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH);
	if (result == FIB_FORWARDING_OFF)
		return 1; /* the look-up of the destination says so by name */
	if (result && result != FIB_NO_NEIGH)
		return 0;
	return port->flags & CTD_PORT_RPF_LOOSE || fib.ifindex == port->ifindex;
}

/* The error that answers a packet; sent by the stage of that name. Type and code of IPv4 and of IPv6. */
static __always_inline int answer(struct scratch *s, int reason, u16 v4, u16 v6, u32 info)
{
	u16 kind = s->pkt.tuple.family == CTD_IPV4 ? v4 : v6;

	s->icmp_type = kind >> 8;
	s->icmp_code = (u8)kind;
	s->icmp_info = info;
	return reason;
}
#define ICMP_KIND(type, code) ((type) << 8 | (code))

static __always_inline int fib_result(struct scratch *s, long result, const struct bpf_fib_lookup *fib)
{
	switch (result) {
		case 0:
		case FIB_NO_NEIGH:
			return CTD_DROP_NONE;
		case FIB_FRAG_NEEDED:
			if (!(s->pkt.flags & PACKET_DF))
				return CTD_DROP_NEEDS_FRAGMENTATION;
			return answer(s, CTD_DROP_TOO_BIG, ICMP_KIND(3, 4), ICMP_KIND(2, 0), fib->mtu_result);
		case FIB_BLACKHOLE:
			return CTD_DROP_NO_ROUTE;
		case FIB_PROHIBIT:
			return answer(s, CTD_DROP_NO_ROUTE, ICMP_KIND(3, 13), ICMP_KIND(1, 1), 0);
		case FIB_FORWARDING_OFF:
			return CTD_DROP_FORWARDING_OFF;
	}
	return answer(s, CTD_DROP_NO_ROUTE, ICMP_KIND(3, 0), ICMP_KIND(1, 0), 0);
}

/* Finds the way of a packet that came in by a port. Answers a drop reason; icmp_type says if it is to be answered. */
static __always_inline int route_decide(CTX *ctx, struct scratch *s, const struct ctd_port *in)
{
	u32 size = wire_size(ctx, &s->pkt);
	struct bpf_fib_lookup fib = {};
	struct ctd_addr dst = s->pkt.tuple.dst;
	struct ctd_port *out;
	long result;
	int reason;

	if (map_lookup(&local_addrs, &dst)) {
		s->key.key.out_port = CTD_PORT_LOCAL;
		return CTD_DROP_NONE;
	}
	if (s->pkt.flags & PACKET_L2_MULTICAST)
		return CTD_DROP_MULTICAST_FORWARD;
	if (addr_unroutable(&s->pkt.tuple.src, s->pkt.tuple.family) || addr_unroutable(&dst, s->pkt.tuple.family))
		return CTD_DROP_MARTIAN;
	if (!s->rpf_done && !(s->ct.nat_done & CTD_CS_SNAT)) {
		if (!rpf_ok(ctx, &s->pkt, in))
			return CTD_DROP_RPFILTER;
		s->rpf_done = 1;
	}
	if (s->fib_family && addr_equal(&s->fib_dst, &dst))
		return CTD_DROP_NONE; /* chosen in an earlier pass */
	if (s->pkt.ttl <= 1)
		return answer(s, CTD_DROP_TTL_EXCEEDED, ICMP_KIND(11, 0), ICMP_KIND(3, 0), 0);

	fib_fill(&fib, &s->pkt, &s->pkt.tuple.src, &dst);
	fib.tot_len = (u16)(size > 65535 ? 65535 : size);
	result = ctx_fib_lookup(ctx, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH);
	reason = fib_result(s, result, &fib);
	if (reason)
		return reason;
	out = port_of(fib.ifindex);
	if (!out)
		return CTD_DROP_UNKNOWN_PORT;
	s->key.key.out_port = out->number;
	s->fib_ifindex = fib.ifindex;
	s->fib_dst = dst;
	s->fib_mtu = fib.mtu_result; /* where tot_len was: set by every kernel since 5.12 */
	s->fib_family = fib.family == FAMILY_INET ? CTD_IPV4 : CTD_IPV6;
	s->fib_gw = (struct ctd_addr){};
	if (fib.family == FAMILY_INET)
		s->fib_gw.v4 = fib.ipv4_dst;
	else
		__builtin_memcpy(&s->fib_gw, fib.ipv6_dst, 16);
	return CTD_DROP_NONE;
}

/* Sends the packet to the neighbour that route_decide() found. */
static __always_inline int forward(CTX *ctx, struct scratch *s)
{
	struct ctd_port *out = port_get(s->key.key.out_port);
	struct bpf_redir_neigh nh = {};

	if (!out || !s->fib_family)
		return drop(s->pkt.port, CTD_DROP_UNKNOWN_PORT);
	next_hop_verify(s);
	if (s->settle)
		verdict_make(ctx, s, out);
	if (decrement_ttl(ctx, &s->pkt))
		return drop(s->pkt.port, CTD_DROP_REWRITE);
	if (s->fib_family == CTD_IPV4) {
		nh.nh_family = FAMILY_INET;
		nh.ipv4_nh = s->fib_gw.v4;
	} else {
		nh.nh_family = FAMILY_INET6;
		__builtin_memcpy(nh.ipv6_nh, &s->fib_gw, 16);
	}
	ctx_token_set(ctx, ctd_config.token);
	count_tx(out->number, s->pkt.len);
	return (int)ctx_redirect_neigh(ctx, s->fib_ifindex, &nh, sizeof(nh));
}

#endif
