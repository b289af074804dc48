/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Events of connections. There is one function that emits. Its callers ask first whether anybody listens, so that
 * without a reader an event costs one load, and a packet that changes nothing costs not even that.
 */
#ifndef CTD_CT_EVENT_H
#define CTD_CT_EVENT_H

#include <ctd/abi/event.h>

#include "core/maps.h"

/*
 * Filled in place: this runs below conn_destroy(), where stack is dear. A full ring loses the event and counts it; the
 * reader is told.
 */
CTD_GLOBAL int event_send(u32 id, u32 what)
{
	struct ctd_conn *conn = conn_get(id);
	struct ctd_rt *rt = rt_get();
	struct ctd_event *event;
	u32 wanted;
	u64 seq;

	if (!conn || !rt)
		return 0;
	wanted = read_once(conn->event_mask);
	if (wanted && !(wanted & what))
		return 0;
	seq = atomic_add(&rt->event_seq, 1);
	event = ring_reserve(&ct_events, sizeof(*event));
	if (!event) {
		atomic_add(&rt->events_lost, 1);
		return 0;
	}
	event->seq = seq;
	event->time = now_jiffies();
	event->what = (u16)what;
	event->reason = what & CTD_EVENT_DESTROY ? read_once(conn->end_reason) : 0;
	__builtin_memset(event->pad, 0, sizeof(event->pad));
	event->conn = *conn;
	ring_submit(event);
	return 1;
}

/* `what` (enum ctd_event_bit) happened to a connection. */
static __always_inline void event(u32 id, u32 what)
{
	struct ctd_rt *rt = rt_get();

	if (rt && read_once(rt->event_mask) & what)
		event_send(id, what);
}

/* What a packet may change of a record, to be compared before and after. */
static __always_inline u32 event_before(const struct ctd_conn *conn)
{
	return read_once(conn->status) << 8 | read_once(conn->state);
}

/* Tells what a packet has changed since event_before(). */
static __always_inline void event_changes(const struct ctd_conn *conn, u32 id, u32 before)
{
	u32 diff = before ^ event_before(conn), what = 0;

	if (!diff)
		return;
	if (diff & 0xff)
		what |= CTD_EVENT_STATE;
	if (diff >> 8 & CTD_STATUS_SEEN_REPLY)
		what |= CTD_EVENT_REPLY;
	if (diff >> 8 & CTD_STATUS_ASSURED)
		what |= CTD_EVENT_ASSURED;
	event(id, what);
}

#endif
