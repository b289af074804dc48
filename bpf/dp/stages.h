/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The stages as functions: what the programs of bpf/prog wrap, and the native host calls. */
#ifndef CTD_DP_STAGES_H
#define CTD_DP_STAGES_H

#include "ct/stage.h"
#include "dp/actions.h"
#include "dp/fast.h"
#include "dp/icmp_error.h"
#include "dp/key.h"
#include "dp/lookup.h"
#include "dp/route.h"
#include "dp/upcall.h"

/* Look-ups of one packet, all passes together: eight recirculations with room for `route`. */
#define MAX_PASSES 10

/* Carries out what a stage ended with: a verdict, or GO(). Tail calls come from main programs only. */
static __always_inline int go(CTX *ctx, struct scratch *s, int result)
{
	if (result >= 0)
		return result;
	ctx_tail_call(ctx, -1 - result);
	return fell_through(ctx, &s->pkt);
}

/* A packet begins. */
static __always_inline void packet_begin(struct scratch *s)
{
	struct ctd_rt *rt = rt_get();

	s->pkt.flags = 0;
	s->ct.conn = CTD_CONN_NONE;
	s->ct.state = 0;
	s->ct.nat_done = 0;
	s->passes = 0;
	s->flow_count = 0;
	s->guard = 0;
	s->settle = 0;
	s->lookups = 0;
	s->rpf_done = 0;
	s->icmp_type = 0;
	s->fib_family = 0;
	s->nh_check = 0;
	s->version = rt ? read_once(rt->version) : 0;
}

static __always_inline int entry_ingress(CTX *ctx)
{
	struct scratch *s = scratch_get();
	struct ctd_port *port;
	int reason, verdict;

	if (!s)
		return CTX_DROP;
	port = port_of(ctx_ifindex(ctx));
	if (!port)
		return drop(0, CTD_DROP_UNKNOWN_PORT);
	if (ctx_token_ok(ctx, ctd_config.token)) {
		ctx_token_clear(ctx); /* ours, on its way to the host */
		return CTX_OK;
	}
	packet_begin(s);
	s->pkt.ifindex = port->ifindex;
	s->pkt.in_port = port->number;
	s->pkt.port = port->number;
	s->pkt.egress = 0;
	s->pkt.l2_len = port->flags & CTD_PORT_L3 ? 0 : sizeof(struct ethhdr);
	reason = parse(ctx, &s->pkt);
	count_rx(port->number, s->pkt.len);
	if (reason)
		return drop(port->number, reason);
	if (s->pkt.l2_len && !(s->pkt.flags & PACKET_L2_MULTICAST) && __builtin_memcmp(s->pkt.eth_dst, port->mac, 6))
		return CTX_OK; /* somebody else's: the stack ignores it, a macvlan may know it */
	verdict = fast_path(ctx, s, port);
	if (verdict != FAST_MISS)
		return verdict;
	key_build(ctx, s);
	return go(ctx, s, GO(STAGE_LOOKUP));
}

static __always_inline int entry_egress(CTX *ctx)
{
	struct ctd_port *port;
	struct scratch *s;
	int reason;

	if (ctx_token_ok(ctx, ctd_config.token)) {
		ctx_token_clear(ctx); /* has been through */
		return CTX_OK;
	}
	s = scratch_get();
	port = port_of(ctx_ifindex(ctx));
	if (!s || !port)
		return drop(0, CTD_DROP_UNKNOWN_PORT);
	/* What has come in by a device and leaves without our token was forwarded by the host's stack: past every rule.
	 */
	if (ctx_came_from(ctx))
		return drop(port->number, CTD_DROP_STACK_FORWARD);
	packet_begin(s);
	s->pkt.ifindex = port->ifindex;
	s->pkt.in_port = CTD_PORT_LOCAL;
	s->pkt.port = port->number;
	s->pkt.egress = 1;
	s->pkt.l2_len = port->flags & CTD_PORT_L3 ? 0 : sizeof(struct ethhdr);
	reason = parse(ctx, &s->pkt);
	count_rx(CTD_PORT_LOCAL, s->pkt.len);
	if (reason)
		return drop(port->number, reason);
	key_build(ctx, s);
	return go(ctx, s, GO(STAGE_LOOKUP));
}

/* A packet that the daemon gives back. */
static __always_inline int entry_tap_in(CTX *ctx)
{
	struct scratch *s = scratch_get();
	struct ctd_port *port;
	int reason;

	if (!s)
		return CTX_DROP;
	packet_begin(s);
	reason = resume(ctx, s);
	if (reason)
		return drop(0, reason);
	port = port_of(s->pkt.ifindex);
	if (!port)
		return drop(0, CTD_DROP_UNKNOWN_PORT);
	s->pkt.in_port = s->key.key.in_port;
	s->pkt.port = port->number;
	reason = parse(ctx, &s->pkt);
	if (reason)
		return drop(port->number, reason);
	count(port->number, CTD_COUNT_EXECUTE);
	return go(ctx, s, GO(STAGE_LOOKUP));
}

/* Only our own stages send to the dedicated device: nobody forges metadata. */
static __always_inline int entry_tap_out(CTX *ctx)
{
	if (!ctx_token_ok(ctx, ctd_config.token))
		return drop(0, CTD_DROP_FORGED);
	ctx_token_clear(ctx);
	return CTX_OK;
}

static __always_inline int stage_lookup(CTX *ctx)
{
	struct scratch *s = scratch_get();

	if (!s)
		return CTX_DROP;
	if (++s->passes > MAX_PASSES)
		return drop(s->pkt.port, CTD_DROP_RECIRC_LIMIT);
	if (!flow_lookup(s)) {
		count(s->pkt.port, CTD_COUNT_FLOW_MISS);
		return go(ctx, s, GO(STAGE_UPCALL));
	}
	count(s->pkt.port, CTD_COUNT_FLOW_HIT);
	return go(ctx, s, run_actions(ctx, s));
}

static __always_inline int stage_actions(CTX *ctx)
{
	struct scratch *s = scratch_get();

	if (!s)
		return CTX_DROP;
	return go(ctx, s, run_actions(ctx, s));
}

static __always_inline int stage_ct(CTX *ctx)
{
	struct scratch *s = scratch_get();
	struct ctd_action *action;
	u32 recirc_id;
	int reason;

	if (!s)
		return CTX_DROP;
	action = action_at(s, s->action_at - 1);
	if (!action)
		return drop(s->pkt.port, CTD_DROP_POLICY);
	recirc_id = action->ct.recirc_id;
	reason = ct_run(ctx, s, action);
	/* What the key has of the connection before the packet is changed: until then it can start over. */
	if (!reason)
		reason = key_set_ct(s);
	if (!reason)
		reason = ct_translate(ctx, s, action);
	if (reason == CTD_DROP_CT_CLASH && s->ct.conn && !s->ct.nat_done && !(action->flags & CTD_CTF_ZONE_FIELD)) {
		/* The connection ended under the packet, which is as it was: once more, from the look-up on. (Where
		 * the zone comes from the key it may not be as it was.) */
		__builtin_memset(&s->ct, 0, sizeof(s->ct));
		return go(ctx, s, GO(STAGE_CT));
	}
	if (reason)
		return drop(s->pkt.port, reason);
	key_set_header(s);
	return go(ctx, s, recirc_id ? recirculate(s, recirc_id) : GO(STAGE_ACTIONS));
}

static __always_inline int stage_route(CTX *ctx)
{
	struct scratch *s = scratch_get();
	struct ctd_action *action;
	struct ctd_port *in;
	u32 recirc_id;
	int reason;

	if (!s)
		return CTX_DROP;
	action = action_at(s, s->action_at - 1);
	in = port_get(s->pkt.port);
	if (!action || !in)
		return drop(s->pkt.port, CTD_DROP_UNKNOWN_PORT);
	recirc_id = action->route.recirc_id;
	if (!s->pkt.egress && s->pkt.flags & PACKET_IP) {
		reason = route_decide(ctx, s, in);
		if (reason) {
			drop(s->pkt.port, reason);
			return s->icmp_type ? go(ctx, s, GO(STAGE_ICMP_ERROR)) : CTX_DROP;
		}
	}
	if (recirc_id)
		return go(ctx, s, recirculate(s, recirc_id));
	if (s->pkt.egress || s->key.key.out_port == CTD_PORT_LOCAL || !(s->pkt.flags & PACKET_IP))
		return to_stack(ctx, s);
	return forward(ctx, s);
}

static __always_inline int stage_upcall(CTX *ctx)
{
	struct scratch *s = scratch_get();

	return s ? upcall(ctx, s) : CTX_DROP;
}

static __always_inline int stage_icmp_error(CTX *ctx)
{
	struct scratch *s = scratch_get();

	return s ? icmp_error(ctx, s) : CTX_DROP;
}

#endif
