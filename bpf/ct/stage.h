/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ct() action. Comes from ACTIONS; goes on to LOOKUP (with a recirculation id) or back to ACTIONS.
 *
 * Reads of the scratch record: pkt, ct, the action. Writes: ct, settle, and the key's ct and address fields.
 */
#ifndef CTD_CT_STAGE_H
#define CTD_CT_STAGE_H

#include "ct/create.h"
#include "ct/track.h"
#include "nat/nat.h"

#define CLASH_RETRIES 4

/* What ct() and NAT changed, in the flow key. */
static __always_inline void key_set_ct(struct scratch *s)
{
	struct ctd_flow_key *key = &s->key.key;
	struct ctd_conn *conn = conn_get(s->ct.conn);

	key->ct_state = s->ct.state;
	key->ct_zone = s->ct.zone;
	key->ct_mark = 0;
	__builtin_memset(key->ct_label, 0, sizeof(key->ct_label));
	__builtin_memset(&key->ct_orig_src, 0, 2 * sizeof(struct ctd_addr));
	key->ct_orig_proto = 0;
	key->ct_orig_sport = 0;
	key->ct_orig_dport = 0;
	if (s->ct.conn && conn) {
		key->ct_mark = conn->mark;
		__builtin_memcpy(key->ct_label, conn->label, sizeof(key->ct_label));
		key->ct_orig_src = conn->orig.src;
		key->ct_orig_dst = conn->orig.dst;
		key->ct_orig_proto = conn->orig.proto;
		key->ct_orig_sport = conn->orig.sport;
		key->ct_orig_dport = conn->orig.dport;
	}
	key->ip_src = s->pkt.tuple.src;
	key->ip_dst = s->pkt.tuple.dst;
	if (!proto_is_icmp(s->pkt.tuple.proto)) {
		key->sport = s->pkt.tuple.sport;
		key->dport = s->pkt.tuple.dport;
	}
}

/* ct(commit,…) on a packet that has been looked up. */
static __always_inline int ct_commit(struct scratch *s, const struct ctd_action_ct *act)
{
	u16 zone = s->ct.zone;

	for (int i = 0; i < CLASH_RETRIES; i++) {
		int reason;

		if (s->ct.conn || !(s->ct.state & CTD_CS_NEW))
			return CTD_DROP_NONE; /* a second commit changes only mark and label */
		reason = conn_create(act->nat_id);
		if (reason != CTD_DROP_CT_CLASH)
			return reason;
		/* Another CPU was first, or a dead connection had the tuple: look again. */
		__builtin_memset(&s->ct, 0, sizeof(s->ct));
		reason = track(zone);
		if (reason)
			return reason;
	}
	return CTD_DROP_CT_CLASH;
}

static __always_inline int ct_run(CTX *ctx, struct scratch *s, const struct ctd_action *action)
{
	const struct ctd_action_ct *act = &action->ct;
	int reason;

	if (!(s->pkt.flags & PACKET_IP))
		return CTD_DROP_NONE; /* as in Open vSwitch: not tracked */
	if (action->flags & (CTD_CTF_FORCE | CTD_CTF_MARK | CTD_CTF_LABEL | CTD_CTF_ZONE_FIELD) || act->helper)
		return CTD_DROP_UNSUPPORTED_ACTION;
	if (s->pkt.flags & PACKET_ICMP_ERROR && !(s->ct.state & CTD_CS_TRK))
		parse_quoted(ctx, s);
	reason = track(act->zone);
	if (!reason && action->flags & CTD_CTF_COMMIT)
		reason = ct_commit(s, act);
	if (!reason && action->flags & CTD_CTF_NAT && s->ct.conn && !s->ct.nat_done)
		reason = nat_apply(ctx, s);
	return reason;
}

#endif
