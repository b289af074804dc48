/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translation of a packet by its connection: a packet of direction d leaves with the inverse of the other direction's
 * tuple. Reads of the scratch record: ct, pkt, quoted. Writes: pkt.tuple, quoted, ct.nat_done, ct.state.
 */
#ifndef CTD_NAT_NAT_H
#define CTD_NAT_NAT_H

#include "ct/table.h"
#include "nat/quoted.h"

static __always_inline void nat_note(struct scratch *s, const struct ctd_tuple *to)
{
	const struct ctd_tuple *from = &s->pkt.tuple;

	if (!addr_equal(&from->src, &to->src) || (!proto_is_icmp(from->proto) && from->sport != to->sport))
		s->ct.nat_done |= CTD_CS_SNAT;
	if (!addr_equal(&from->dst, &to->dst) || from->dport != to->dport ||
	    (proto_is_icmp(from->proto) && from->sport != to->sport))
		s->ct.nat_done |= CTD_CS_DNAT;
	s->ct.state |= s->ct.nat_done;
}

static __always_inline int nat_related(CTX *ctx, struct scratch *s, const struct ctd_conn *conn)
{
	const struct ctd_tuple *in = s->ct.dir ? &conn->reply : &conn->orig;
	const struct ctd_tuple *other = s->ct.dir ? &conn->orig : &conn->reply;
	struct ctd_tuple outer = s->pkt.tuple;

	/* The quoted packet travelled the other way: there it had the other direction's tuple. */
	if (rewrite_quoted(ctx, s, other))
		return CTD_DROP_REWRITE;
	if (addr_equal(&outer.dst, &in->dst))
		outer.dst = other->src;
	/* Where the source is translated, a router on the way must not show its address either. */
	if (!addr_equal(&in->src, &other->dst))
		outer.src = other->dst;
	nat_note(s, &outer);
	return rewrite(ctx, &s->pkt, &outer) ? CTD_DROP_REWRITE : CTD_DROP_NONE;
}

static __always_inline int nat_packet(CTX *ctx, struct scratch *s, const struct ctd_conn *conn)
{
	struct ctd_tuple to;

	if (!(read_once(conn->status) & (CTD_STATUS_SRC_NAT | CTD_STATUS_DST_NAT)))
		return CTD_DROP_NONE;
	if (s->ct.state & CTD_CS_REL)
		return nat_related(ctx, s, conn);
	tuple_invert(&to, s->ct.dir ? &conn->orig : &conn->reply);
	nat_note(s, &to);
	if (!s->ct.nat_done)
		return CTD_DROP_NONE;
	return rewrite(ctx, &s->pkt, &to) ? CTD_DROP_REWRITE : CTD_DROP_NONE;
}

/* Translates the packet in place. Answers a drop reason. */
static __always_inline int nat_apply(CTX *ctx, struct scratch *s)
{
	struct ctd_conn *conn = conn_get(s->ct.conn);
	int reason;

	if (!conn)
		return CTD_DROP_CT_CLASH;
	reason = nat_packet(ctx, s, conn);
	mem_barrier();
	/* The connection may have ended in between, and what was read of it be another's: nothing of that may leave. */
	return CTD_CTL_SEQ(read_once(conn->ctl)) == s->ct.conn_seq ? reason : CTD_DROP_CT_CLASH;
}

#endif
