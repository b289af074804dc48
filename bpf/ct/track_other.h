/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All but TCP: which tracker a packet meets, and when its connection is assured. Protocols without a state machine are
 * unreplied, then replied.
 */
#ifndef CTD_CT_TRACK_OTHER_H
#define CTD_CT_TRACK_OTHER_H

#include "ct/dccp.h"
#include "ct/sctp.h"

/* After this time with traffic both ways, what has no handshake counts as a stream, as the kernel does it for UDP. */
#define STREAM_S 2

static __always_inline int stream_due(const struct ctd_conn *conn)
{
	u8 proto = conn->orig.proto;

	return (proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE || proto == IPPROTO_GRE) &&
	       read_once(conn->state) == CTD_OTHER_REPLIED && now_jiffies() - conn->start > STREAM_S * ctd_config.hz;
}

static __always_inline void conn_assure(struct ctd_conn *conn, u32 id, u32 *ctl)
{
	if (!(read_once(conn->status) & CTD_STATUS_ASSURED) && status_set(conn, *ctl, CTD_STATUS_ASSURED))
		conn_promote(conn, id, ctl, CTD_CLASS_ASSURED);
}

/* What ct() needs of the packet beside what the parser has read, and track() has no access to. */
static __always_inline void other_read(CTX *ctx, struct scratch *s)
{
	if (!(s->pkt.flags & PACKET_L4))
		return;
	if (s->pkt.tuple.proto == IPPROTO_SCTP)
		sctp_read(ctx, s);
	else if (s->pkt.tuple.proto == IPPROTO_DCCP)
		dccp_read(ctx, s);
}

/* May a connection begin with this packet? CTD_INVALID_NONE, or why not. */
static __always_inline u32 other_opens(struct scratch *s)
{
	u8 proto = s->pkt.tuple.proto;

	if (proto == IPPROTO_SCTP)
		return sctp_opens(s);
	if (proto == IPPROTO_DCCP)
		return dccp_opens(s);
	if (proto_is_icmp(proto) && !icmp_is_request(proto, s->pkt.icmp_type))
		return CTD_INVALID_ICMP_QUERY;
	return CTD_INVALID_NONE;
}

/* Fills in the protocol's part of a new record, which is zero so far. */
static __always_inline void other_begin(struct ctd_conn *conn, struct scratch *s)
{
	if (conn->orig.proto == IPPROTO_SCTP) {
		sctp_opens(s); /* again: there may have been an upcall since */
		conn->state = s->sctp.state;
		conn->sctp = s->sctp.track;
	} else if (conn->orig.proto == IPPROTO_DCCP) {
		dccp_begin(conn);
	}
}

/* A packet of a known connection: what it does to the protocol's state. */
static __always_inline int other_update(struct found *f)
{
	struct ctd_conn *conn = f->conn;

	switch (conn->orig.proto) {
		case IPPROTO_SCTP:
			return sctp_update(f->id, f->ctl, f->dir);
		case IPPROTO_DCCP:
			return dccp_update(f->id, f->ctl, f->dir);
	}
	if (f->dir == CTD_DIR_REPLY && read_once(conn->state) != CTD_OTHER_REPLIED) {
		if (!conn_lock(conn, f->ctl))
			return TRACK_BUSY;
		write_once(conn->state, CTD_OTHER_REPLIED);
		conn_set_timeout(conn, f->id, timeout_of(conn->timeout_policy, conn->orig.proto, CTD_OTHER_REPLIED));
		conn_unlock(conn);
	}
	return TRACK_OK;
}

/* Is the connection, by this packet or before it, one that must not give way to others? */
static __always_inline int other_assured(const struct scratch *s, const struct ctd_conn *conn)
{
	switch (conn->orig.proto) {
		case IPPROTO_TCP:
			return 0; /* the TCP tracker's */
		case IPPROTO_SCTP:
			return s->sctp.assured;
		case IPPROTO_DCCP:
			return s->dccp.assured;
	}
	return stream_due(conn);
}

#endif
