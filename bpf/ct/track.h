/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tracking: which connection a packet belongs to, what it says about it, and the ct_state that follows.
 *
 * Reads of the scratch record: pkt, quoted. Writes: ct, settle.
 */
#ifndef CTD_CT_TRACK_H
#define CTD_CT_TRACK_H

#include "ct/classes.h"
#include "ct/table.h"
#include "ct/tcp.h"
#include "ct/timeout.h"

/* Is this the first packet of a connection that we would open? */
static __always_inline int opens_connection(const struct packet *pkt)
{
	u8 proto = pkt->tuple.proto;

	if (proto == IPPROTO_TCP)
		return tcp_flags_valid(pkt->tcp_flags) &&
		       tcp_next(CTD_TCP_NONE, CTD_DIR_ORIG, pkt->tcp_flags) < CTD_TCP_STATE_COUNT;
	if (proto_is_icmp(proto))
		return icmp_is_request(proto, pkt->icmp_type);
	return 1;
}

static __always_inline void conn_refresh(struct ctd_conn *conn, u8 dir, u32 bytes)
{
	atomic_add(&conn->count[dir & 1].packets, 1);
	atomic_add(&conn->count[dir & 1].bytes, bytes);
	write_once(conn->last_seen[dir & 1], (u32)now_jiffies());
}

/* A shorter timeout must reach the sweep: it only looks when the old one is due. */
static __always_inline void conn_set_timeout(struct ctd_conn *conn, u32 id, u32 timeout)
{
	u32 old = read_once(conn->timeout);

	write_once(conn->timeout, timeout);
	if (timeout < old)
		check_set(id, (u32)now_jiffies() + timeout);
}

enum track_result {
	TRACK_OK,
	TRACK_INVALID,
	TRACK_REOPEN, /* the old connection is over: a new one begins */
	TRACK_BUSY,
};

/* A TCP segment of a known connection. */
static __always_inline int track_tcp(struct found *f, const struct packet *pkt)
{
	struct ctd_conn *conn = f->conn;
	u32 old, next;

	if (!tcp_flags_valid(pkt->tcp_flags))
		return TRACK_INVALID;
	if (!conn_lock(conn, f->ctl))
		return TRACK_BUSY;
	old = conn->state;
	next = tcp_next(old, f->dir, pkt->tcp_flags);
	if (next == TCP_INVALID) {
		conn_unlock(conn);
		return TRACK_INVALID;
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
		conn_set_timeout(conn, f->id, timeout_of(IPPROTO_TCP, (u8)next));
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

/* After this time with traffic both ways a UDP connection counts as a stream, as in the kernel. */
#define UDP_STREAM_S 2

static __always_inline void udp_assure(struct ctd_conn *conn, u32 id, u32 *ctl)
{
	if (conn->orig.proto == IPPROTO_UDP && !(read_once(conn->status) & CTD_STATUS_ASSURED) &&
	    read_once(conn->state) == CTD_OTHER_REPLIED && now_jiffies() - conn->start > UDP_STREAM_S * ctd_config.hz) {
		atomic_or(&conn->status, CTD_STATUS_ASSURED);
		conn_promote(conn, id, ctl, CTD_CLASS_ASSURED);
	}
}

static __always_inline void track_other(struct found *f)
{
	struct ctd_conn *conn = f->conn;

	if (f->dir == CTD_DIR_REPLY && read_once(conn->state) != CTD_OTHER_REPLIED) {
		write_once(conn->state, CTD_OTHER_REPLIED);
		conn_set_timeout(conn, f->id, timeout_of(conn->orig.proto, CTD_OTHER_REPLIED));
	}
	udp_assure(conn, f->id, &f->ctl);
}

/* May the fast path carry this connection? After a few packets, when its state does not change any more. */
#define SETTLE_PACKETS 4

static __always_inline u8 conn_settled(const struct ctd_conn *conn, const struct packet *pkt, u8 dir)
{
	if (conn->helper || !(read_once(conn->status) & CTD_STATUS_SEEN_REPLY))
		return 0;
	if (pkt->flags & PACKET_OPTIONS || pkt->frag || read_once(conn->count[dir & 1].packets) < SETTLE_PACKETS)
		return 0;
	if (conn->orig.proto == IPPROTO_TCP)
		return read_once(conn->state) == CTD_TCP_ESTABLISHED &&
		       (read_once(conn->status) & CTD_STATUS_ASSURED) &&
		       !(pkt->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST));
	return conn->orig.proto == IPPROTO_UDP;
}

static __always_inline int track_known(struct scratch *s, struct found *f)
{
	struct ctd_conn *conn = f->conn;
	int result = TRACK_OK;

	if (conn->orig.proto == IPPROTO_TCP)
		result = track_tcp(f, &s->pkt);
	if (result == TRACK_INVALID || result == TRACK_REOPEN)
		return result;
	if (f->dir == CTD_DIR_REPLY && !(read_once(conn->status) & CTD_STATUS_SEEN_REPLY)) {
		atomic_or(&conn->status, CTD_STATUS_SEEN_REPLY);
		conn_promote(conn, f->id, &f->ctl, CTD_CLASS_ANSWERED);
	}
	if (conn->orig.proto != IPPROTO_TCP)
		track_other(f);
	conn_refresh(conn, f->dir, s->pkt.l3_len);

	s->ct.state = CTD_CS_TRK;
	if (f->dir == CTD_DIR_REPLY)
		s->ct.state |= CTD_CS_EST | CTD_CS_RPL;
	else
		s->ct.state |= read_once(conn->status) & CTD_STATUS_SEEN_REPLY ? CTD_CS_EST : CTD_CS_NEW;
	s->settle = result == TRACK_OK && conn_settled(conn, &s->pkt, f->dir);
	return result;
}

/*
 * An ICMP error belongs to the connection of the packet that it quotes: the quoted tuple inverted is a tuple of that
 * connection, and the error travels in that tuple's direction. It never changes the connection.
 */
static __always_inline int track_related(struct scratch *s, u16 zone)
{
	struct ctd_tuple inverted;
	struct found f = {};

	s->quoted.zone = zone;
	tuple_invert(&inverted, &s->quoted);
	if (!s->quoted_l4 || !conn_find(&inverted, &f) || f.dead)
		return TRACK_INVALID;
	s->ct.conn = f.id;
	s->ct.conn_seq = CTD_CTL_SEQ(f.ctl);
	s->ct.dir = f.dir;
	s->ct.state = CTD_CS_TRK | CTD_CS_REL | (f.dir == CTD_DIR_REPLY ? CTD_CS_RPL : 0);
	return TRACK_OK;
}

static __always_inline void track_miss(struct scratch *s)
{
	s->ct.conn = CTD_CONN_NONE;
	s->ct.dir = CTD_DIR_ORIG;
	s->ct.state = CTD_CS_TRK | (opens_connection(&s->pkt) ? CTD_CS_NEW : CTD_CS_INV);
}

/*
 * Looks the packet up in `zone` and brings its connection up to date. Answers a drop reason, CTD_DROP_NONE if the
 * packet goes on; an invalid packet goes on with CTD_CS_INV and has changed nothing.
 */
CTD_GLOBAL int track(u32 in_zone)
{
	struct scratch *s = scratch_get();
	struct found f = {};
	int result = TRACK_INVALID;
	u16 zone = (u16)in_zone;

	if (!s)
		return CTD_DROP_NO_SCRATCH;
	if (s->pkt.frag)
		return CTD_DROP_FRAGMENT;
	if (s->ct.state & CTD_CS_TRK && s->ct.zone == zone)
		return CTD_DROP_NONE; /* the header may be translated by now: another look-up would miss */

	__builtin_memset(&s->ct, 0, sizeof(s->ct));
	s->ct.zone = zone;
	s->settle = 0;
	s->pkt.tuple.zone = zone;
	s->ct.tuple = s->pkt.tuple;
	if (s->pkt.flags & PACKET_UNTRACKABLE)
		goto done;
	if (s->pkt.flags & PACKET_ICMP_ERROR) {
		result = track_related(s, zone);
		goto done;
	}
	if (!conn_find(&s->pkt.tuple, &f)) {
		track_miss(s);
		return CTD_DROP_NONE;
	}
	if (f.dead) {
		conn_reap(f.conn, f.id);
		track_miss(s);
		return CTD_DROP_NONE;
	}
	result = track_known(s, &f);
	if (result == TRACK_REOPEN) {
		conn_kill(f.conn, f.id, f.ctl);
		track_miss(s);
		return CTD_DROP_NONE;
	}
	s->ct.conn = f.id;
	s->ct.conn_seq = CTD_CTL_SEQ(f.ctl);
	s->ct.dir = f.dir;
	if (result == TRACK_BUSY)
		count(s->pkt.port, CTD_COUNT_CT_BUSY);
done:
	if (result == TRACK_INVALID) {
		s->ct.conn = CTD_CONN_NONE;
		s->ct.state = CTD_CS_TRK | CTD_CS_INV;
	}
	return CTD_DROP_NONE;
}

#endif
