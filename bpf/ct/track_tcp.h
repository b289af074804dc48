/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* TCP segments: opening, following. The state machine itself is in ct/tcp.h. */
#ifndef CTD_CT_TRACK_TCP_H
#define CTD_CT_TRACK_TCP_H

#include "ct/refresh.h"
#include "ct/tcp.h"

/* May a connection begin with this segment? CTD_INVALID_NONE, or why not. */
static __always_inline u32 tcp_opens(const struct packet *pkt)
{
	if (!tcp_flags_valid(pkt->tcp_flags))
		return CTD_INVALID_TCP_FLAGS;
	if (tcp_next(CTD_TCP_NONE, CTD_DIR_ORIG, pkt->tcp_flags) >= CTD_TCP_STATE_COUNT)
		return CTD_INVALID_TCP_PICKUP;
	return CTD_INVALID_NONE;
}

/* A TCP segment of a known connection. */
static __always_inline int track_tcp(struct found *f, const struct packet *pkt)
{
	struct ctd_conn *conn = f->conn;
	u32 old, next;

	if (!tcp_flags_valid(pkt->tcp_flags))
		return TRACK_INVALID(TCP_FLAGS);
	if (!conn_lock(conn, f->ctl))
		return TRACK_BUSY;
	old = conn->state;
	next = tcp_next(old, f->dir, pkt->tcp_flags);
	if (next == TCP_INVALID) {
		conn_unlock(conn);
		return TRACK_INVALID(TCP_STATE);
	}
	if (next == CTD_TCP_SYN_SENT && (old == CTD_TCP_TIME_WAIT || old == CTD_TCP_CLOSE)) {
		conn_unlock(conn);
		return TRACK_REOPEN;
	}
	if (next == TCP_IGNORE)
		next = old;
	conn->tcp_last_dir = f->dir;
	conn->tcp_last_flags = pkt->tcp_flags;
	conn->tcp_last_seq = pkt->tcp_seq;
	conn->tcp_last_ack = pkt->tcp_ack;
	write_once(conn->state, (u8)next);
	if (next == CTD_TCP_CLOSE && old == CTD_TCP_SYN_SENT && f->dir == CTD_DIR_REPLY)
		atomic_or(&conn->status, CTD_STATUS_SEEN_REPLY); /* refused: no reason to promote it */
	if (old != next)
		conn_set_timeout(conn, f->id, timeout_of(conn->timeout_policy, IPPROTO_TCP, (u8)next));
	conn_unlock(conn);

	if (next == CTD_TCP_ESTABLISHED && (old == CTD_TCP_SYN_RECV || old == CTD_TCP_ESTABLISHED) &&
	    (read_once(conn->status) & CTD_STATUS_SEEN_REPLY) && !(read_once(conn->status) & CTD_STATUS_ASSURED)) {
		atomic_or(&conn->status, CTD_STATUS_ASSURED);
		conn_promote(conn, f->id, &f->ctl, CTD_CLASS_ASSURED);
	}
	if (old != next && old == CTD_TCP_ESTABLISHED)
		conn_drop_verdicts(f->id);
	return TRACK_OK;
}

#endif
