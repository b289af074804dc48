/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ct(commit): a new connection. The record is complete before any tuple; both are reserved before it is published, and
 * a tuple of an unpublished record is a miss. Of the original and its plain inverse the smaller goes first, translated
 * or not: two first packets in opposite directions then meet at the same tuple first and cannot defeat each other.
 */
#ifndef CTD_CT_CREATE_H
#define CTD_CT_CREATE_H

#include "ct/classes.h"
#include "ct/commit.h"
#include "ct/expect.h"
#include "ct/timeout.h"
#include "ct/track_other.h"
#include "ct/track_tcp.h"
#include "nat/select.h"

/* The record of the packet in the scratch record, not yet published. */
static __always_inline void conn_fill(struct ctd_conn *conn, u32 id, struct scratch *s)
{
	u64 now = now_jiffies();
	u32 seq = (CTD_CTL_SEQ(conn->ctl) + 1) & 0xffffff;

	write_once(conn->ctl, CTD_CTL(seq, CTD_CLASS_UNANSWERED, CTD_CONN_BUSY));
	mem_barrier();
	conn->id = id;
	conn->status = 0;
	conn->orig = s->ct.tuple;
	tuple_invert(&conn->reply, &conn->orig);
	conn->source = source_of(&conn->orig);
	conn->state = 0;
	__builtin_memset(conn->win, 0, sizeof(conn->win));
	if (conn->orig.proto != IPPROTO_TCP) /* TCP's part: tcp_begin() */
		other_begin(conn, s);
	conn->timeout_policy = s->commit.timeout_policy ? s->commit.timeout_policy : zone_policy(conn->orig.zone);
	conn->timeout = timeout_of(conn->timeout_policy, conn->orig.proto, conn->state);
	conn->last_seen[0] = (u32)now;
	conn->last_seen[1] = 0;
	conn->start = now;
	conn->mark = 0;
	conn->helper = 0;
	__builtin_memset(conn->label, 0, sizeof(conn->label));
	conn->event_mask = (u16)s->commit.event_mask;
	conn->master = CTD_CONN_NONE;
	conn->master_seq = 0;
	conn->count[0].packets = 1;
	conn->count[0].bytes = s->pkt.l3_len;
	conn->count[1].packets = 0;
	conn->count[1].bytes = 0;
	conn->expires = 0;
	conn->end_reason = CTD_END_NONE;
}

/*
 * What the record inherits of its master, if it is expected; then the action's mark, label and helper, which win.
 * Answers a drop reason.
 */
static __always_inline int conn_inherit(struct ctd_conn *conn, u32 id, struct scratch *s)
{
	struct commit_fields fields;

	if (s->ct.state & CTD_CS_REL && !expect_inherit(id))
		return CTD_DROP_CT_CLASH;
	commit_fields(&fields, conn, &s->commit);
	commit_write(&fields, conn);
	return CTD_DROP_NONE;
}

static __always_inline int reserve(u32 id, u32 dir)
{
	long error = tuple_insert(id, dir);

	if (!error)
		return CTD_DROP_NONE;
	return error == -E_EXIST ? CTD_DROP_CT_CLASH : CTD_DROP_CT_FULL;
}

/* expected: what the expectation says, which comes before the action's mapping; NULL if it says nothing. */
static __always_inline int reserve_mapping(struct ctd_conn *conn, u32 id, u32 nat_id, u32 out_port,
					   const struct ctd_nat_args *expected)
{
	const struct ctd_nat_args *args = expected ? expected : map_lookup(&ct_nat_args, &nat_id);

	if (!args)
		return CTD_DROP_NAT_EXHAUSTED;
	if (args->flags & CTD_NAT_MASQUERADE) {
		struct ctd_port *port = port_get(out_port);

		if (!port)
			return CTD_DROP_NAT_NO_ADDRESS;
		if (conn->orig.family == CTD_IPV4)
			conn->reply.dst.v4 = port->addr4; /* the rest of an IPv4 address is zero already */
		else
			conn->reply.dst = port->addr6;
		if (addr_is_zero(&conn->reply.dst))
			return CTD_DROP_NAT_NO_ADDRESS;
	}
	return nat_reserve(conn, id, args);
}

/* Reserves both tuples, in the order that the head of this file explains. Answers a drop reason. */
static __always_inline int reserve_both(struct ctd_conn *conn, u32 id, u32 nat_id, u32 out_port,
					const struct ctd_nat_args *expected)
{
	int orig_first = tuple_before(&conn->orig, &conn->reply);
	int reason = orig_first ? reserve(id, CTD_DIR_ORIG) : CTD_DROP_NONE;

	if (!reason)
		reason = nat_id || expected ? reserve_mapping(conn, id, nat_id, out_port, expected)
					    : reserve(id, CTD_DIR_REPLY);
	if (!reason && !orig_first)
		reason = reserve(id, CTD_DIR_ORIG);
	return reason;
}

/* Without a copy of the tuple: the verifier of 6.1 counts the stack of all nested calls, and this is the deepest chain.
 */
static __always_inline u32 nat_status(const struct ctd_conn *conn)
{
	const struct ctd_tuple *orig = &conn->orig, *reply = &conn->reply;
	int icmp = proto_is_icmp(orig->proto);
	u32 status = 0;

	if (!addr_equal(&orig->src, &reply->dst) || orig->sport != (icmp ? reply->sport : reply->dport))
		status |= CTD_STATUS_SRC_NAT;
	if (!addr_equal(&orig->dst, &reply->src) || (!icmp && orig->dport != reply->sport))
		status |= CTD_STATUS_DST_NAT;
	return status;
}

/* The last step: from here on others see the connection. */
static __always_inline void conn_publish(struct ctd_rt *rt, struct ctd_conn *conn, u32 id)
{
	u32 seq = CTD_CTL_SEQ(conn->ctl);

	conn->status |= CTD_STATUS_CONFIRMED | nat_status(conn);
	atomic_add(&rt->conns, 1);
	check_set(id, (u32)now_jiffies() + conn->timeout);
	/* Before anybody can change it. */
	event(id, conn->status & CTD_STATUS_EXPECTED ? CTD_EVENT_RELATED : CTD_EVENT_NEW);
	conn_release_ctl(conn, CTD_CTL(seq, CTD_CLASS_UNANSWERED, CTD_CONN_VALID));
	class_stand(CTD_CLASS_INDEX(CTD_CLASS_UNANSWERED, conn->orig.family), id, seq);
}

/* A record that was never published: what it has reserved, and its id, go. */
static __always_inline void conn_discard(struct ctd_rt *rt, struct ctd_conn *conn, u32 id)
{
	u32 ctl = conn->ctl;

	if (conn_release(id)) {
		atomic_add(&rt->conns, 1); /* the sweep takes it off again */
		conn_linger(conn, id, ctl);
		return;
	}
	class_leave(CTD_CLASS_INDEX(CTD_CLASS_UNANSWERED, conn->orig.family), conn->source);
	zone_leave(conn->orig.zone);
	write_once(conn->ctl, CTD_CTL(CTD_CTL_SEQ(ctl), 0, CTD_CONN_FREE));
	id_free(id, conn);
}

/* A place among the unanswered, and an id. CTD_CONN_NONE if all that could make room are assured. */
static __always_inline u32 conn_place(u32 family, u32 source)
{
	u32 index = CTD_CLASS_INDEX(CTD_CLASS_UNANSWERED, family), id = CTD_CONN_NONE;

	if (!class_reserve(index, source))
		return CTD_CONN_NONE;
	if (!family_full(family) || family_make_room(family)) {
		id = id_alloc();
		if (!id && table_make_room())
			id = id_alloc();
	}
	if (!id)
		class_leave(index, source);
	return id;
}

/*
 * Makes the packet's connection. Answers a drop reason; CTD_DROP_CT_CLASH also when another CPU was first: the caller
 * looks the packet up again.
 */
CTD_GLOBAL int conn_create(void)
{
	struct scratch *s = scratch_get();
	struct ctd_rt *rt = rt_get();
	struct ctd_conn *conn;
	int reason;
	u32 id;

	if (!s || !rt)
		return CTD_DROP_NO_SCRATCH;
	/* By the policy of its zone it may begin; the action may have another one. */
	if (s->commit.timeout_policy && s->ct.tuple.proto == IPPROTO_TCP &&
	    tcp_opens(&s->pkt, s->commit.timeout_policy))
		return CTD_DROP_CT_INVALID;
	if (!zone_enter(s->ct.zone))
		return CTD_DROP_CT_LIMIT;
	id = conn_place(s->ct.tuple.family, source_of(&s->ct.tuple));
	conn = conn_get(id);
	if (!id || !conn) {
		zone_leave(s->ct.zone);
		return CTD_DROP_CT_FULL;
	}
	conn_fill(conn, id, s);
	if (conn->orig.proto == IPPROTO_TCP)
		tcp_begin(id);
	reason = conn_inherit(conn, id, s);
	if (!reason)
		reason = reserve_both(conn, id, s->commit.nat_id, s->key.key.out_port, expect_nat(s, conn));
	if (!reason && conn->status & CTD_STATUS_EXPECTED && !expect_use())
		reason = CTD_DROP_CT_CLASH;
	if (reason) {
		conn_discard(rt, conn, id);
		return reason;
	}
	s->ct.conn = id;
	s->ct.conn_seq = CTD_CTL_SEQ(conn->ctl);
	s->ct.dir = CTD_DIR_ORIG;
	conn_publish(rt, conn, id);
	count(s->pkt.port, CTD_COUNT_CT_NEW);
	return CTD_DROP_NONE;
}

#endif
