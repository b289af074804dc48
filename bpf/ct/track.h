/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tracking: which connection a packet belongs to, what it says about it, and the ct_state that follows.
 *
 * Reads of the scratch record: pkt, quoted. Writes: ct, settle.
 */
#ifndef CTD_CT_TRACK_H
#define CTD_CT_TRACK_H

#include "ct/expect.h"
#include "ct/related.h"
#include "ct/track_other.h"
#include "ct/track_tcp.h"

/* May a connection begin with this packet? CTD_INVALID_NONE, or why not. */
static __always_inline u32 opens_connection(struct scratch *s)
{
	u32 zone = s->pkt.tuple.zone;

	return s->pkt.tuple.proto == IPPROTO_TCP ? tcp_opens(&s->pkt, zone_policy(zone)) : other_opens(s);
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
	return conn->orig.proto == IPPROTO_UDP || conn->orig.proto == IPPROTO_UDPLITE;
}

/* As in Open vSwitch: all packets of an expected connection are related, and before the reply they are nothing else. */
static __always_inline u8 known_state(u32 status, u8 dir)
{
	u8 related = status & CTD_STATUS_EXPECTED ? CTD_CS_REL : 0;

	if (dir == CTD_DIR_REPLY)
		return CTD_CS_TRK | CTD_CS_EST | CTD_CS_RPL | related;
	if (status & CTD_STATUS_SEEN_REPLY)
		return CTD_CS_TRK | CTD_CS_EST | related;
	return CTD_CS_TRK | (related ? related : CTD_CS_NEW);
}

static __always_inline int track_known(struct scratch *s, struct found *f)
{
	struct ctd_conn *conn = f->conn;
	int result = conn->orig.proto == IPPROTO_TCP ? track_tcp(f) : other_update(f);

	if (result >= TRACK_INVALID_BASE || result == TRACK_REOPEN)
		return result;
	if (CTD_CTL_SEQ(read_once(conn->ctl)) != CTD_CTL_SEQ(f->ctl))
		return TRACK_REOPEN; /* it went under us, and its record is another's by now */
	if (f->dir == CTD_DIR_REPLY && !(read_once(conn->status) & CTD_STATUS_SEEN_REPLY) &&
	    status_set(conn, f->ctl, CTD_STATUS_SEEN_REPLY))
		conn_promote(conn, f->id, &f->ctl, CTD_CLASS_ANSWERED);
	if (other_assured(s, conn))
		conn_assure(conn, f->id, &f->ctl);
	if (result != TRACK_PASSED)
		conn_refresh(conn, f->dir, s->pkt.l3_len);

	s->ct.state = known_state(read_once(conn->status), f->dir);
	s->settle = result == TRACK_OK && conn_settled(conn, &s->pkt, f->dir);
	return result;
}

/* Nobody has this tuple: a new connection, or invalid. */
static __always_inline int track_miss(struct scratch *s)
{
	u32 why = opens_connection(s);

	s->ct.conn = CTD_CONN_NONE;
	s->ct.dir = CTD_DIR_ORIG;
	s->ct.state = CTD_CS_TRK | CTD_CS_NEW;
	if (!why && expected())
		s->ct.state |= CTD_CS_REL;
	return why ? TRACK_INVALID_BASE + (int)why : TRACK_OK;
}

/* A packet that is no ICMP error, by its tuple. */
static __always_inline int track_packet(struct scratch *s, struct found *f)
{
	u32 before;
	int result;

	if (!conn_find(&s->pkt.tuple, f))
		return track_miss(s);
	if (f->dead) {
		conn_reap(f->conn, f->id);
		return track_miss(s);
	}
	if (conn_expired(f->conn, f->id)) { /* and the sweep has not been there yet */
		conn_kill(f->conn, f->id, f->ctl, conn_idle_end(f->conn));
		return track_miss(s);
	}
	before = event_before(f->conn);
	result = track_known(s, f);
	event_changes(f->conn, f->id, before);
	if (result == TRACK_REOPEN) {
		conn_kill(f->conn, f->id, f->ctl, CTD_END_REOPENED);
		return track_miss(s);
	}
	s->ct.conn = f->id;
	s->ct.conn_seq = CTD_CTL_SEQ(f->ctl);
	s->ct.dir = f->dir;
	return result;
}

/* What is no connection's. As in Open vSwitch, neighbour discovery and MLD are `inv`, too; they are counted apart. */
static __always_inline int track_never(const struct packet *pkt)
{
	if (pkt->tuple.proto == IPPROTO_ICMPV6 && icmp6_is_link(pkt->icmp_type))
		return TRACK_INVALID(UNTRACKED);
	return TRACK_INVALID(UNTRACKABLE);
}

/* Has the packet been through ct() in this zone? Its header may be translated by now: a look-up would miss. */
static __always_inline int track_done(const struct scratch *s, u16 zone)
{
	return s->ct.state & CTD_CS_TRK && s->ct.zone == zone;
}

/*
 * Looks the packet up in `zone` and brings its connection up to date. Answers a drop reason, CTD_DROP_NONE if the
 * packet goes on; an invalid packet goes on with CTD_CS_INV and has changed nothing.
 */
CTD_GLOBAL int track(u32 in_zone)
{
	struct scratch *s = scratch_get();
	struct found f = {};
	u16 zone = (u16)in_zone;
	int result;

	if (!s)
		return CTD_DROP_NO_SCRATCH;
	if (s->pkt.frag)
		return CTD_DROP_FRAGMENT;
	if (track_done(s, zone))
		return CTD_DROP_NONE;

	__builtin_memset(&s->ct, 0, sizeof(s->ct));
	s->ct.zone = zone;
	s->settle = 0;
	s->lookups++;
	s->pkt.tuple.zone = zone;
	s->ct.tuple = s->pkt.tuple;
	if (s->pkt.flags & PACKET_UNTRACKABLE)
		result = track_never(&s->pkt);
	else if (s->pkt.flags & PACKET_ICMP_ERROR)
		result = track_related(s, zone);
	else
		result = track_packet(s, &f);
	if (result == TRACK_BUSY)
		count(s->pkt.port, CTD_COUNT_CT_BUSY);
	if (result >= TRACK_INVALID_BASE) {
		count_invalid((u32)result - TRACK_INVALID_BASE);
		s->ct.conn = CTD_CONN_NONE;
		s->ct.state = CTD_CS_TRK | CTD_CS_INV;
	}
	if (s->lookups > 1)
		s->settle = 0; /* a verdict is found by the header and zone of the first look-up */
	return CTD_DROP_NONE;
}

#endif
