/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ct() action. Comes from ACTIONS; goes on to LOOKUP (with a recirculation id) or back to ACTIONS.
 *
 * Reads of the scratch record: pkt, ct, key, the action. Writes: ct, commit, settle, and the key's ct and address
 * fields.
 */
#ifndef CTD_CT_STAGE_H
#define CTD_CT_STAGE_H

#include "ct/commit.h"
#include "ct/create.h"
#include "ct/track.h"
#include "ct/wait.h"
#include "nat/nat.h"

#define CLASH_RETRIES 4

/* The zone that the action says: a number, or 16 bits of the flow key as it is now, at an even offset. */
static __always_inline u16 ct_zone(const struct scratch *s, const struct ctd_action *action)
{
	u32 zone = action->ct.zone, word = zone / 8;

	if (!(action->flags & CTD_CTF_ZONE_FIELD))
		return (u16)zone;
	return word < CTD_KEY_WORDS ? (u16)(s->key.w[word] >> (zone % 8 * 8)) : 0;
}

/*
 * A packet of the reply direction becomes the first of another connection, by its header as it is now. An ICMP error
 * never ends the connection that it is about.
 */
static __always_inline int ct_force(struct scratch *s)
{
	u16 zone = s->ct.zone;

	if (!s->ct.conn || s->ct.dir != CTD_DIR_REPLY || s->pkt.flags & PACKET_ICMP_ERROR)
		return CTD_DROP_NONE;
	conn_force_end(s->ct.conn, s->ct.conn_seq);
	__builtin_memset(&s->ct, 0, sizeof(s->ct));
	return track(zone);
}

/* ct(commit,…) on a packet that has been looked up. */
static __always_inline int ct_commit(struct scratch *s, const struct ctd_action *action)
{
	u16 zone = s->ct.zone;
	u8 related;

	s->commit = action->ct;
	if (action->flags & CTD_CTF_FORCE) {
		int reason = ct_force(s);

		if (reason)
			return reason;
	}
	related = s->ct.state & CTD_CS_REL;
	for (int i = 0; i < CLASH_RETRIES; i++) {
		int reason;

		if (s->ct.conn)
			conn_update(s->ct.conn, s->ct.conn_seq);
		if (s->ct.conn || !(s->ct.state & CTD_CS_NEW))
			return CTD_DROP_NONE;
		reason = conn_create();
		if (reason != CTD_DROP_CT_CLASH)
			return reason;
		/* Another CPU was first, or a dead connection had the tuple: look again. */
		conn_wait((u32)i);
		__builtin_memset(&s->ct, 0, sizeof(s->ct));
		reason = track(zone);
		if (reason)
			return reason;
		/* Not what the flow committed any more: the rest of its actions would send it untranslated. */
		if (s->ct.state & CTD_CS_INV)
			return CTD_DROP_CT_INVALID;
		if (related & ~s->ct.state)
			return CTD_DROP_CT_CLASH; /* another one was what is expected */
	}
	return s->ct.conn ? CTD_DROP_NONE : CTD_DROP_CT_CLASH;
}

/* Reads what tracking, creating and translating need of the packet beside its header. */
static __always_inline void ct_read(CTX *ctx, struct scratch *s, const struct ctd_action *action)
{
	if (s->pkt.flags & PACKET_ICMP_ERROR)
		parse_quoted(ctx, s);
	else if (track_done(s, ct_zone(s, action)) && !(action->flags & CTD_CTF_COMMIT))
		return;
	else if (s->pkt.tuple.proto == IPPROTO_TCP)
		tcp_read_options(ctx, s);
	else
		other_read(ctx, s);
}

static __always_inline int ct_run(CTX *ctx, struct scratch *s, const struct ctd_action *action)
{
	int reason;

	if (!(s->pkt.flags & PACKET_IP))
		return CTD_DROP_NONE; /* as in Open vSwitch: not tracked */
	ct_read(ctx, s, action);
	reason = track(ct_zone(s, action));
	if (!reason && action->flags & CTD_CTF_COMMIT)
		reason = ct_commit(s, action);
	return reason;
}

/* What ct(nat) does to the packet: by the mapping of its connection. */
static __always_inline int ct_translate(CTX *ctx, struct scratch *s, const struct ctd_action *action)
{
	if (!(action->flags & CTD_CTF_NAT) || !s->ct.conn || s->ct.nat_done)
		return CTD_DROP_NONE;
	return nat_apply(ctx, s);
}

#endif
