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

/* Is the record still the packet's connection? If not, what was read of it may be another's. */
static __always_inline int nat_current(const struct scratch *s, const struct ctd_conn *conn)
{
	mem_barrier();
	return CTD_CTL_SEQ(read_once(conn->ctl)) == s->ct.conn_seq;
}

static __always_inline int nat_related(CTX *ctx, struct scratch *s, const struct ctd_conn *conn)
{
	const struct ctd_tuple *in = s->ct.dir ? &conn->reply : &conn->orig;
	const struct ctd_tuple *other = s->ct.dir ? &conn->orig : &conn->reply;
	struct ctd_tuple outer = s->pkt.tuple;

	/* Whoever follows it would talk past the translation. */
	if (outer.proto == IPPROTO_ICMP && s->pkt.icmp_type == ICMP_REDIRECT)
		return CTD_DROP_NAT_REDIRECT;
	/* The quoted packet travelled the other way: there it had the other direction's tuple. */
	if (rewrite_quoted(ctx, s, other))
		return CTD_DROP_REWRITE;
	outer.dst = other->src;
	/* Where the source is translated, a router on the way must not show its address either. */
	if (!addr_equal(&in->src, &other->dst))
		outer.src = other->dst;
	nat_note(s, &outer);
	if (rewrite(ctx, &s->pkt, &outer))
		return CTD_DROP_REWRITE;
	return nat_current(s, conn) ? CTD_DROP_NONE : CTD_DROP_CT_CLASH;
}

/*
 * Translates the packet in place. Answers a drop reason; CTD_DROP_CT_CLASH when the connection has ended meanwhile:
 * unless it is an ICMP error, the packet is as it was then.
 */
static __always_inline int nat_apply(CTX *ctx, struct scratch *s)
{
	struct ctd_conn *conn = conn_get(s->ct.conn);
	struct ctd_tuple to;
	u32 translated;

	if (!conn)
		return CTD_DROP_CT_CLASH;
	translated = read_once(conn->status) & (CTD_STATUS_SRC_NAT | CTD_STATUS_DST_NAT);
	if (translated && s->pkt.flags & PACKET_ICMP_ERROR)
		return nat_related(ctx, s, conn);
	tuple_invert(&to, s->ct.dir ? &conn->orig : &conn->reply);
	if (!nat_current(s, conn))
		return CTD_DROP_CT_CLASH;
	if (!translated)
		return CTD_DROP_NONE;
	nat_note(s, &to);
	if (!s->ct.nat_done)
		return CTD_DROP_NONE;
	return rewrite(ctx, &s->pkt, &to) ? CTD_DROP_REWRITE : CTD_DROP_NONE;
}

#endif
