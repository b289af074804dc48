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
		/* Not what the flow committed any more: the rest of its actions would send it untranslated. */
		if (s->ct.state & CTD_CS_INV)
			return CTD_DROP_CT_INVALID;
	}
	return s->ct.conn ? CTD_DROP_NONE : CTD_DROP_CT_CLASH;
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
