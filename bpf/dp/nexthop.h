/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Next hops of the fast path: a device, the route's MTU and the layer 2 header towards a gateway. Found by hash in a
 * few slots of an array; where all are taken by others that are in use, the packets simply take the long way.
 *
 * A redirect alone never keeps a neighbour alive, and nobody tells BPF that a route has changed: every few seconds one
 * packet of each next hop goes the long way and checks the entry.
 */
#ifndef CTD_DP_NEXTHOP_H
#define CTD_DP_NEXTHOP_H

#include "core/config.h"
#include "core/count.h"

#ifndef BPF_FIB_LOOKUP_SKIP_NEIGH
#define BPF_FIB_LOOKUP_SKIP_NEIGH (1U << 2)
#endif
#define FAMILY_INET 2
#define FAMILY_INET6 10

#define NEXT_HOP_PROBES 4
#define NEXT_HOP_CHECK_S 2
#define NEXT_HOP_IDLE_S 10

static __always_inline u32 next_hop_hash(u32 ifindex, u32 mtu, const struct ctd_addr *gw)
{
	u64 h = ctd_hash_step(ctd_config.seed, (u64)mtu << 32 | ifindex);

	h = ctd_hash_step(h, gw->q[0]);
	return (u32)ctd_hash_end(ctd_hash_step(h, gw->q[1]));
}

static __always_inline int next_hop_is(const struct ctd_next_hop *nh, const struct scratch *s)
{
	return nh->ifindex == s->fib_ifindex && nh->mtu == s->fib_mtu && addr_equal(&nh->gateway, &s->fib_gw);
}

/* The slot of the route in the scratch record: its own, or one to take over; 0 if there is none. */
static __always_inline u32 next_hop_slot(const struct scratch *s, u32 now)
{
	u32 h = next_hop_hash(s->fib_ifindex, s->fib_mtu, &s->fib_gw), best = 0;

	for (u32 i = 0; i < NEXT_HOP_PROBES; i++) {
		u32 slot = (h + i) & (CTD_MAX_NEXT_HOPS - 1);
		struct ctd_next_hop *nh = map_lookup(&next_hops, &slot);

		if (!slot || !nh)
			continue;
		if (next_hop_is(nh, s))
			return slot;
		if (!best && (!nh->ifindex || (s32)(now - nh->checked) > (s32)(NEXT_HOP_IDLE_S * ctd_config.hz)))
			best = slot;
	}
	return best;
}

/* Asks the kernel for the layer 2 addresses towards the packet's destination. 0, or non-zero: not known now. */
static __always_inline int next_hop_ask(CTX *ctx, const struct scratch *s, struct bpf_fib_lookup *fib)
{
	fib->family = s->pkt.tuple.family == CTD_IPV4 ? FAMILY_INET : FAMILY_INET6;
	fib->l4_protocol = s->pkt.tuple.proto;
	fib->ifindex = s->pkt.ifindex;
	fib->tot_len = 64; /* the MTU is checked for every packet */
	if (fib->family == FAMILY_INET) {
		fib->tos = s->pkt.tos;
		fib->ipv4_src = s->pkt.tuple.src.v4;
		fib->ipv4_dst = s->pkt.tuple.dst.v4;
	} else {
		__builtin_memcpy(fib->ipv6_src, &s->pkt.tuple.src, 16);
		__builtin_memcpy(fib->ipv6_dst, &s->pkt.tuple.dst, 16);
	}
	if (ctx_fib_lookup(ctx, fib, sizeof(*fib), 0))
		return -1;
	return fib->ifindex == s->fib_ifindex ? 0 : -1;
}

/* The next hop of the route in the scratch record, fresh; 0 if none can be had now. */
static __always_inline u32 next_hop_get(CTX *ctx, struct scratch *s, const struct ctd_port *out)
{
	struct bpf_fib_lookup fib = {};
	u32 now = (u32)now_jiffies(), slot = next_hop_slot(s, now);
	struct ctd_next_hop *nh;
	int same;

	nh = map_lookup(&next_hops, &slot);
	if (!slot || !nh)
		return 0;
	same = next_hop_is(nh, s);
	if (same && !s->nh_check && (s32)(now - nh->checked) < (s32)(NEXT_HOP_CHECK_S * ctd_config.hz))
		return slot;
	if (next_hop_ask(ctx, s, &fib)) {
		if (same)
			write_once(nh->ifindex, 0);
		return 0;
	}
	if (same && !__builtin_memcmp(nh->eth_dst, fib.dmac, 6) && !__builtin_memcmp(nh->eth_src, fib.smac, 6)) {
		write_once(nh->checked, now);
		return slot;
	}
	/* Two CPUs may write at once: both write what the kernel says, and readers compare the sequence. */
	atomic_add(&nh->seq, 1);
	mem_barrier();
	nh->ifindex = s->fib_ifindex;
	nh->gateway = s->fib_gw;
	nh->family = (u8)s->fib_family;
	nh->mtu = (u16)s->fib_mtu;
	nh->out_port = out->number;
	nh->l2_len = sizeof(struct ethhdr);
	nh->vlan_tci = 0;
	__builtin_memcpy(nh->eth_dst, fib.dmac, 6);
	__builtin_memcpy(nh->eth_src, fib.smac, 6);
	nh->checked = now;
	mem_barrier();
	atomic_add(&nh->seq, 1);
	return slot;
}

/* A packet that went the long way found another route than its next hop's: nobody may use that one any more. */
static __always_inline void next_hop_verify(struct scratch *s)
{
	struct ctd_next_hop *nh;

	if (!s->nh_check)
		return;
	nh = map_lookup(&next_hops, &s->nh_check);
	if (nh && !next_hop_is(nh, s))
		write_once(nh->ifindex, 0);
}

#endif
