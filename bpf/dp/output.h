/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ways out: a device, a neighbour, the host's stack. All of them set the token, so that our hooks know the packet.
 */
#ifndef CTD_DP_OUTPUT_H
#define CTD_DP_OUTPUT_H

#include "core/config.h"
#include "core/count.h"

static __always_inline int send_to(CTX *ctx, u32 port, u32 ifindex, u32 len)
{
	ctx_token_set(ctx, ctd_config.token);
	count_tx(port, len);
	return (int)ctx_redirect(ctx, ifindex);
}

/* May the host's stack have this packet? Nothing is ever forwarded through it. */
static __always_inline int is_hosts(const struct packet *pkt)
{
	struct ctd_addr dst = pkt->tuple.dst;

	if (!(pkt->flags & PACKET_IP) || pkt->flags & PACKET_L2_MULTICAST)
		return 1; /* the stack forwards no other protocol; multicast is stopped at the egress hooks */
	if (map_lookup(&local_addrs, &dst))
		return 1;
	if (pkt->tuple.family == CTD_IPV4)
		return (dst.b[0] & 0xf0) == 0xe0 || dst.v4 == 0xffffffff;
	return dst.b[0] == 0xff || (dst.b[0] == 0xfe && (dst.b[1] & 0xc0) == 0x80);
}

/*
 * `stack`: between the wire and the host. A packet that the host sent goes on to the device that the host chose; one
 * from a port goes up. A packet that came back from userspace stands at the dedicated device and is sent to its own
 * again.
 */
static __always_inline int to_stack(CTX *ctx, struct scratch *s)
{
	struct packet *pkt = &s->pkt;

	if (pkt->egress) {
		if (pkt->flags & PACKET_RESUMED)
			return send_to(ctx, pkt->port, pkt->ifindex, pkt->len);
		count_tx(pkt->port, pkt->len);
		return CTX_OK;
	}
	if (!is_hosts(pkt))
		return drop(pkt->port, CTD_DROP_NOT_LOCAL);
	count(pkt->port, CTD_COUNT_TO_STACK);
	if (pkt->flags & PACKET_RESUMED) {
		ctx_token_set(ctx, ctd_config.token);
		return (int)ctx_redirect_ingress(ctx, pkt->ifindex);
	}
	return CTX_OK;
}

/*
 * A stage was missing or the tail-call budget is spent. The host keeps what is its own; everything else is dropped, for
 * the stack would forward it untranslated.
 */
static __always_inline int fell_through(CTX *ctx, const struct packet *pkt)
{
	drop(pkt->port, CTD_DROP_TAIL_CALL);
	if (pkt->flags & PACKET_RESUMED || ctx_token_ok(ctx, ctd_config.token))
		return CTX_DROP;
	if (pkt->egress)
		return CTX_OK; /* the entry let only the host's own packets this far */
	return is_hosts(pkt) ? CTX_OK : CTX_DROP;
}

#endif
