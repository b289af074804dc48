/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Operations on single connections: see ctd/abi/control.h. Runs as packets do, with bottom halves off. Batches are
 * small, so that packets need not wait for long.
 */
#ifndef CTD_CT_ORDER_H
#define CTD_CT_ORDER_H

#include <ctd/abi/control.h>

#include "ct/control.h"
#include "ct/create.h"
#include "ct/sweep.h"

#define ORDER_TRIES 4 /* at a control word that others change */

static __always_inline struct ctd_order *order_get(void)
{
	u32 zero = 0;

	return map_lookup(&ct_order, &zero);
}

/* Also of a connection that is dead and not gone yet: the sweep might still revive it, or come a second later. */
CTD_GLOBAL int order_delete(u32 id, u32 seq, u32 reason)
{
	struct ctd_conn *conn = conn_get(id);

	if (!conn)
		return CTD_REQUEST_GONE;
	for (int i = 0; i < ORDER_TRIES; i++) {
		u32 ctl = read_once(conn->ctl);

		if (CTD_CTL_SEQ(ctl) != seq || CTD_CTL_LIFE(ctl) == CTD_CONN_FREE)
			return CTD_REQUEST_GONE;
		if (CTD_CTL_LIFE(ctl) == CTD_CONN_BUSY)
			break; /* another CPU takes it apart */
		if (CTD_CTL_LIFE(ctl) == CTD_CONN_VALID) {
			if (!conn_make_dead(conn, ctl, (u8)reason))
				continue;
			check_set(id, (u32)now_jiffies());
		}
		return conn_reap(conn, id) ? CTD_REQUEST_DONE : CTD_REQUEST_DYING;
	}
	return CTD_REQUEST_BUSY;
}

static __always_inline void label_set(struct ctd_conn *conn, const struct ctd_order *order)
{
	u64 *label = (u64 *)conn->label;
	const u64 *value = (const u64 *)order->label, *mask = (const u64 *)order->label_mask;

	write_once(label[0], (label[0] & ~mask[0]) | (value[0] & mask[0]));
	write_once(label[1], (label[1] & ~mask[1]) | (value[1] & mask[1]));
}

/* The connection then expires `timeout` from now unless a packet comes; from then on, as its state says. */
static __always_inline void timeout_from_now(struct ctd_conn *conn, u32 id, u32 timeout)
{
	u32 due = (u32)now_jiffies() + timeout;

	write_once(conn->expires_seen, last_seen(conn));
	write_once(conn->expires, due ? due : 1);
	check_set(id, due);
}

CTD_GLOBAL int order_update(u32 id, u32 seq)
{
	struct ctd_order *order = order_get();
	struct ctd_conn *conn = conn_get(id);
	u32 ctl;

	if (!conn || !order)
		return CTD_REQUEST_GONE;
	ctl = read_once(conn->ctl);
	if (CTD_CTL_SEQ(ctl) != seq || CTD_CTL_LIFE(ctl) != CTD_CONN_VALID)
		return CTD_REQUEST_GONE;
	/* First, so that what they have seen is credited before a new timeout counts from it. */
	if (order->update & CTD_UPDATE_TIMEOUT)
		conn_drop_verdicts(id);
	if (!conn_lock(conn, ctl))
		return CTD_REQUEST_BUSY;
	if (order->update & CTD_UPDATE_MARK)
		write_once(conn->mark, (conn->mark & ~order->mark_mask) | (order->mark & order->mark_mask));
	if (order->update & CTD_UPDATE_LABEL)
		label_set(conn, order);
	if (order->update & CTD_UPDATE_TIMEOUT)
		timeout_from_now(conn, id, order->timeout);
	conn_unlock(conn);
	conn_drop_verdicts(id);
	if (order->update & (CTD_UPDATE_MARK | CTD_UPDATE_LABEL))
		event(id, (order->update & CTD_UPDATE_MARK ? CTD_EVENT_MARK : 0) |
				  (order->update & CTD_UPDATE_LABEL ? CTD_EVENT_LABEL : 0));
	return CTD_REQUEST_DONE;
}

static __always_inline void credit_tuple(const struct ctd_tuple *t)
{
	if (t->family == CTD_IPV6) {
		struct ctd_verdict6 *v = map_lookup(&ct_cache6, t);

		if (v)
			credit_one(&v->head, &v->tail);
	} else {
		struct ctd_verdict4 *v;
		struct ctd_tuple4 k4;

		tuple4_of(&k4, t);
		v = map_lookup(&ct_cache4, &k4);
		if (v)
			credit_one(&v->head, &v->tail);
	}
}

/* Makes the counters of one connection exact, without a look at all others' verdicts. */
CTD_GLOBAL int order_credit(u32 id, u32 seq)
{
	struct ctd_conn *conn = conn_get(id);
	u32 ctl;

	if (!conn)
		return CTD_REQUEST_GONE;
	ctl = read_once(conn->ctl);
	if (CTD_CTL_SEQ(ctl) != seq || CTD_CTL_LIFE(ctl) != CTD_CONN_VALID)
		return CTD_REQUEST_GONE;
	credit_tuple(&conn->orig);
	credit_tuple(&conn->reply);
	return CTD_REQUEST_DONE;
}

/* What the request says, but for what the table keeps itself. */
static __always_inline void conn_fill_from(struct ctd_conn *conn, u32 id, const struct ctd_conn *from)
{
	u32 seq = (CTD_CTL_SEQ(conn->ctl) + 1) & 0xffffff;

	write_once(conn->ctl, CTD_CTL(seq, CTD_CLASS_UNANSWERED, CTD_CONN_BUSY));
	mem_barrier();
	__builtin_memcpy(&conn->status, &from->status, sizeof(*conn) - __builtin_offsetof(struct ctd_conn, status));
	conn->id = id;
	conn->source = source_of(&conn->orig);
	conn->end_reason = CTD_END_NONE;
}

/* It counts as the packet would have that found no room. */
static __always_inline int insertion_refused(int reason)
{
	drop(0, (u32)reason);
	return reason == CTD_DROP_CT_LIMIT ? CTD_REQUEST_LIMIT : CTD_REQUEST_FULL;
}

/* Begins as any connection does, among the unanswered, and is promoted to what it was. */
CTD_GLOBAL int order_insert(u32 index)
{
	struct ctd_request *request = map_lookup(&ct_requests, &index);
	struct ctd_rt *rt = rt_get();
	struct ctd_conn *conn;
	u32 id, ctl;
	int reason;

	if (!request || !rt)
		return CTD_REQUEST_GONE;
	if (!zone_enter(request->conn.orig.zone))
		return insertion_refused(CTD_DROP_CT_LIMIT);
	id = conn_place(request->conn.orig.family, source_of(&request->conn.orig));
	conn = conn_get(id);
	if (!id || !conn) {
		zone_leave(request->conn.orig.zone);
		return insertion_refused(CTD_DROP_CT_FULL);
	}
	conn_fill_from(conn, id, &request->conn);
	reason = reserve_both(conn, id, 0, 0, NULL);
	if (reason) {
		conn_discard(rt, conn, id);
		return reason == CTD_DROP_CT_CLASH ? CTD_REQUEST_EXISTS : insertion_refused(CTD_DROP_CT_FULL);
	}
	conn_publish(rt, conn, id);
	check_set(id, conn_expires(conn));
	ctl = read_once(conn->ctl);
	request->id = id;
	request->seq = CTD_CTL_SEQ(ctl);
	if (request->cls > CTD_CLASS_UNANSWERED && request->cls < CTD_CLASS_COUNT)
		conn_promote(conn, id, &ctl, request->cls);
	return CTD_REQUEST_DONE;
}

static long order_step(u32 i, void *arg CTD_UNUSED)
{
	struct ctd_request *request = map_lookup(&ct_requests, &i);
	const struct ctd_order *order = order_get();

	if (!request || !order)
		return 1;
	if (order->kind == CTD_ORDER_DELETE)
		request->result = (u32)order_delete(request->id, request->seq, order->reason);
	else if (order->kind == CTD_ORDER_UPDATE)
		request->result = (u32)order_update(request->id, request->seq);
	else if (order->kind == CTD_ORDER_INSERT)
		request->result = (u32)order_insert(i);
	else if (order->kind == CTD_ORDER_CREDIT)
		request->result = (u32)order_credit(request->id, request->seq);
	return 0;
}

static __always_inline void order_run(void)
{
	struct ctd_order *order = order_get();
	u32 none = 0;

	if (!order)
		return;
	loop(order->count < CTD_MAX_REQUESTS ? order->count : CTD_MAX_REQUESTS, order_step, &none);
	mem_barrier();
	atomic_xchg(&order->done, order->number);
}

#endif
