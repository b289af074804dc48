/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Upcall and execute, over the dedicated device. A miss goes there with its state in front; the daemon installs a flow
 * and writes the same bytes back, and the packet goes on in the middle of the pipeline, without running ct() again. GSO
 * and partial checksums survive both ways, for the device has a vnet header.
 */
#ifndef CTD_DP_UPCALL_H
#define CTD_DP_UPCALL_H

#include <ctd/abi/upcall.h>

#include "dp/output.h"

#define DAEMON_BEAT_S 3

/* The port's token bucket: one port's misses never starve the others. */
static __always_inline int upcall_allowed(u32 port)
{
	u32 index = port < CTD_MAX_PORTS ? port : 0, now = (u32)now_jiffies(), passed;
	struct ctd_port_limit *limit = map_lookup(&port_limits, &index);
	u64 filled;
	u32 tokens;

	if (!limit)
		return 0;
	/* Two CPUs may lose an update of each other: the limit is a bound, not an account. */
	passed = now - read_once(limit->filled);
	tokens = read_once(limit->tokens);
	filled = passed > ctd_config.hz ? limit->burst : tokens + (u64)passed * limit->rate / ctd_config.hz;
	if (filled > limit->burst)
		filled = limit->burst;
	if (filled != tokens || passed > ctd_config.hz)
		write_once(limit->filled, now);
	if (!filled)
		return 0;
	write_once(limit->tokens, (u32)(filled - 1));
	return 1;
}

static __always_inline void meta_fill(struct ctd_packet_meta *meta, const struct scratch *s)
{
	meta->magic = CTD_UPCALL_MAGIC;
	meta->abi_version = CTD_ABI_VERSION;
	meta->token = ctd_config.token;
	meta->kind = CTD_UPCALL_MISS;
	meta->l2_len = s->pkt.l2_len;
	meta->eth_type = s->pkt.eth_type;
	meta->vlan_tpid = 0;
	meta->vlan_tci = 0;
	meta->cvlan_tpid = 0;
	meta->cvlan_tci = 0;
	meta->pad = 0;
	meta->ifindex = s->pkt.ifindex;
	meta->egress = s->pkt.egress;
	meta->rt_version = s->version;
	meta->passes = s->passes;
	meta->ct = s->ct;
	meta->key = s->key.key;
}

/*
 * Takes the accelerated tag off: the device would put it in front of the metadata. The kernel then makes a second tag
 * the accelerated one, so it goes too.
 */
static __always_inline int upcall_take_tags(CTX *ctx, struct ctd_packet_meta *meta)
{
	if (!ctx_vlan_present(ctx))
		return 0;
	meta->vlan_tpid = ctx_vlan_tpid(ctx);
	meta->vlan_tci = host_htons((u16)ctx_vlan_tci(ctx));
	if (ctx_vlan_clear(ctx))
		return -1;
	if (!ctx_vlan_present(ctx))
		return 0;
	meta->cvlan_tpid = ctx_vlan_tpid(ctx);
	meta->cvlan_tci = host_htons((u16)ctx_vlan_tci(ctx));
	return ctx_vlan_clear(ctx) || ctx_vlan_present(ctx) ? -1 : 0;
}

/* A miss: the packet goes to the daemon. */
static __always_inline int upcall(CTX *ctx, struct scratch *s)
{
	struct ctd_packet_meta *meta = (struct ctd_packet_meta *)s->buffer;
	u32 port = s->pkt.port, head = sizeof(*meta) + (s->pkt.l2_len ? 0 : sizeof(struct ethhdr));
	struct ctd_rt *rt = rt_get();
	struct ethhdr eth;

	if (!rt || !ctd_config.tap_ifindex ||
	    (s32)((u32)now_jiffies() - read_once(rt->daemon_beat)) > (s32)(DAEMON_BEAT_S * ctd_config.hz))
		return drop(port, CTD_DROP_UPCALL_NO_DAEMON);
	if (!upcall_allowed(port))
		return drop(port, CTD_DROP_UPCALL_LIMIT);
	meta_fill(meta, s);
	__builtin_memset(&eth, 0, sizeof(eth));
	if (upcall_take_tags(ctx, meta) || (s->pkt.l2_len && ctx_load(ctx, 0, &eth, sizeof(eth))))
		return drop(port, CTD_DROP_UPCALL_FAILED);
	if (s->pkt.l2_len)
		meta->eth_type = eth.h_proto; /* of what follows the Ethernet header now: maybe a tag in the packet */
	eth.h_proto = host_htons(CTD_ETH_P_UPCALL);
	if (ctx_change_head(ctx, head) || ctx_store(ctx, 0, &eth, sizeof(eth)) ||
	    ctx_store(ctx, sizeof(eth), meta, sizeof(*meta)))
		return drop(port, CTD_DROP_UPCALL_FAILED);
	count(port, CTD_COUNT_UPCALL);
	ctx_token_set(ctx, ctd_config.token);
	return (int)ctx_redirect(ctx, ctd_config.tap_ifindex);
}

/*
 * What the daemon wrote. Takes the metadata off and fills the scratch record as it was at the miss. Answers a drop
 * reason.
 */
static __always_inline int resume(CTX *ctx, struct scratch *s)
{
	struct ctd_packet_meta *meta = (struct ctd_packet_meta *)s->buffer;
	struct ctd_rt *rt = rt_get();
	be16 type;

	if (!rt || ctx_load(ctx, sizeof(struct ethhdr), meta, sizeof(*meta)))
		return CTD_DROP_FORGED;
	if (meta->magic != CTD_UPCALL_MAGIC || meta->token != ctd_config.token)
		return CTD_DROP_FORGED;
	if (meta->abi_version != CTD_ABI_VERSION)
		return CTD_DROP_STALE;
	if (ctx_strip(ctx, sizeof(*meta)))
		return CTD_DROP_UPCALL_FAILED;
	type = meta->eth_type;
	if (ctx_store(ctx, offsetof(struct ethhdr, h_proto), &type, sizeof(type)))
		return CTD_DROP_UPCALL_FAILED;
	if (meta->cvlan_tpid && ctx_vlan_push(ctx, meta->cvlan_tpid, host_ntohs(meta->cvlan_tci)))
		return CTD_DROP_UPCALL_FAILED;
	if (meta->vlan_tpid && ctx_vlan_push(ctx, meta->vlan_tpid, host_ntohs(meta->vlan_tci)))
		return CTD_DROP_UPCALL_FAILED;
	s->ct = meta->ct;
	s->key.key = meta->key;
	s->passes = meta->passes;
	s->version = meta->rt_version;
	s->pkt.ifindex = meta->ifindex;
	s->pkt.egress = (u8)meta->egress;
	s->pkt.l2_len = sizeof(struct ethhdr);
	s->pkt.flags = PACKET_RESUMED;
	return CTD_DROP_NONE;
}

#endif
