/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DCCP (RFC 4340) as seen from the middle: packet types, and who of the two is the client. States and transitions are
 * those that Linux nf_conntrack had (it tracks DCCP no more from 6.16 on).
 *
 * Reads of the scratch record: pkt. Writes: dccp.
 */
#ifndef CTD_CT_DCCP_H
#define CTD_CT_DCCP_H

#include "core/parse.h"
#include "ct/refresh.h"

enum dccp_role {
	DCCP_CLIENT,
	DCCP_SERVER,
};

/* Answers of dccp_next() that are no states. */
#define DCCP_INVALID 0xff
#define DCCP_IGNORE 0xfe /* let it pass, the state may be out of step */

#define DCCP_NO_ACK (~0ull)

/* Three bytes, or six with two zero bytes in front, as a number. */
static __always_inline u64 dccp_number(const u8 *b, int is_long)
{
	if (!is_long)
		return (u64)b[0] << 16 | (u64)b[1] << 8 | b[2];
	return (u64)b[0] << 40 | (u64)b[1] << 32 | (u64)b[2] << 24 | (u64)b[3] << 16 | (u64)b[4] << 8 | b[5];
}

/* Reads the packet's type and numbers into s->dccp; the parser has seen that its header is whole. */
static __always_inline void dccp_read(CTX *ctx, struct scratch *s)
{
	struct dccp_header h;
	u8 number[8];

	__builtin_memset(&s->dccp, 0, sizeof(s->dccp));
	s->dccp.ack = DCCP_NO_ACK;
	s->dccp.type = DCCP_TYPES;
	if (ctx_load(ctx, s->pkt.l4_off, &h, sizeof(h)))
		return;
	s->dccp.type = DCCP_TYPE(&h);
	s->dccp.seq = dccp_number(h.seq, 0);
	if (!DCCP_LONG_SEQ(&h))
		return;
	/* A reserved byte, then 48 bits: their upper half is where the short number ends. */
	if (!ctx_load(ctx, s->pkt.l4_off + 10, number, 6))
		s->dccp.seq = dccp_number(number, 1);
	if (s->dccp.type != DCCP_REQUEST && s->dccp.type != DCCP_DATA &&
	    !ctx_load(ctx, s->pkt.l4_off + 16, number, sizeof(number)))
		s->dccp.ack = dccp_number(number + 2, 1);
}

static __always_inline int dccp_open(u32 state)
{
	return state == CTD_DCCP_PARTOPEN || state == CTD_DCCP_OPEN;
}

static __always_inline u32 dccp_next_client(u32 state, u8 type)
{
	switch (type) {
		case DCCP_REQUEST:
			if (state <= CTD_DCCP_REQUEST || state == CTD_DCCP_TIMEWAIT)
				return CTD_DCCP_REQUEST;
			return state == CTD_DCCP_RESPOND ? state : DCCP_IGNORE;
		case DCCP_RESPONSE: /* to a Request that was ignored, with the roles reversed */
			return state == CTD_DCCP_TIMEWAIT ? DCCP_INVALID : DCCP_IGNORE;
		case DCCP_ACK:
		case DCCP_DATAACK:
			if (state == CTD_DCCP_RESPOND)
				return CTD_DCCP_PARTOPEN;
			return state >= CTD_DCCP_PARTOPEN && state <= CTD_DCCP_CLOSING ? state : DCCP_INVALID;
		case DCCP_DATA: /* not before the server has shown that it is open (section 8.1.5) */
			return state >= CTD_DCCP_OPEN && state <= CTD_DCCP_CLOSING ? state : DCCP_INVALID;
		case DCCP_CLOSE:
			return state >= CTD_DCCP_PARTOPEN && state <= CTD_DCCP_CLOSING ? CTD_DCCP_CLOSING
										       : DCCP_INVALID;
	}
	return DCCP_INVALID; /* CloseReq is the server's */
}

static __always_inline u32 dccp_next_server(u32 state, u8 type)
{
	switch (type) {
		case DCCP_REQUEST: /* in TIMEWAIT: the roles are reversed */
			return state == CTD_DCCP_TIMEWAIT ? CTD_DCCP_REQUEST : DCCP_IGNORE;
		case DCCP_RESPONSE:
			if (state == CTD_DCCP_REQUEST || state == CTD_DCCP_RESPOND)
				return CTD_DCCP_RESPOND;
			return state == CTD_DCCP_TIMEWAIT ? DCCP_INVALID : DCCP_IGNORE;
		case DCCP_ACK:
		case DCCP_DATAACK:
		case DCCP_DATA:
			if (dccp_open(state))
				return CTD_DCCP_OPEN;
			return state == CTD_DCCP_CLOSING ? state : DCCP_INVALID;
		case DCCP_CLOSEREQ:
			return state >= CTD_DCCP_PARTOPEN && state <= CTD_DCCP_CLOSING ? CTD_DCCP_CLOSEREQ
										       : DCCP_INVALID;
		case DCCP_CLOSE:
			return dccp_open(state) || state == CTD_DCCP_CLOSING ? CTD_DCCP_CLOSING : DCCP_INVALID;
	}
	return DCCP_INVALID;
}

/* The state after a packet of this type by client or server, DCCP_IGNORE or DCCP_INVALID. */
static __always_inline u32 dccp_next(u32 state, u8 role, u8 type)
{
	if (state == CTD_DCCP_NONE)
		return role == DCCP_CLIENT && type == DCCP_REQUEST ? CTD_DCCP_REQUEST : DCCP_INVALID;
	if (type == DCCP_SYNC || type == DCCP_SYNCACK)
		return DCCP_IGNORE;
	if (type == DCCP_RESET)
		return state == CTD_DCCP_TIMEWAIT ? DCCP_IGNORE : CTD_DCCP_TIMEWAIT;
	return role == DCCP_CLIENT ? dccp_next_client(state, type) : dccp_next_server(state, type);
}

/* May a connection begin with this packet? CTD_INVALID_NONE, or why not. */
static __always_inline u32 dccp_opens(const struct scratch *s)
{
	return s->dccp.type == DCCP_REQUEST ? CTD_INVALID_NONE : CTD_INVALID_DCCP_STATE;
}

/* The record of a new connection. The rest of it is zero. */
static __always_inline void dccp_begin(struct ctd_conn *conn)
{
	conn->state = CTD_DCCP_REQUEST;
	conn->dccp.role[CTD_DIR_REPLY] = DCCP_SERVER;
	conn->dccp.last_type = DCCP_REQUEST;
}

static __always_inline void dccp_set_client(struct ctd_dccp_track *t, u8 dir)
{
	t->role[dir & 1] = DCCP_CLIENT;
	t->role[!dir] = DCCP_SERVER;
}

/* What a packet makes of the record, which is locked: the new state, DCCP_IGNORE or DCCP_INVALID. */
static __always_inline u32 dccp_follow(struct ctd_conn *conn, struct dccp_packet *p, u8 dir)
{
	struct ctd_dccp_track *t = &conn->dccp;
	u32 old = conn->state, next = dccp_next(old, t->role[dir & 1], p->type);

	if (next == DCCP_IGNORE && p->type == DCCP_RESPONSE && t->last_type == DCCP_REQUEST && t->last_dir == !dir) {
		/* The Request that we ignored was right: the two have begun anew. */
		dccp_set_client(t, !dir);
		next = CTD_DCCP_RESPOND;
		old = CTD_DCCP_REQUEST;
	}
	if (next == CTD_DCCP_REQUEST && old == CTD_DCCP_TIMEWAIT)
		dccp_set_client(t, dir);
	if (next == CTD_DCCP_RESPOND && old == CTD_DCCP_REQUEST)
		t->handshake_seq = p->seq;
	p->assured = next == CTD_DCCP_PARTOPEN && old == CTD_DCCP_RESPOND && p->ack == t->handshake_seq;
	return next;
}

/* A packet of a known connection. */
CTD_GLOBAL int dccp_update(u32 id, u32 ctl, u32 in_dir)
{
	struct ctd_conn *conn = conn_get(id);
	struct scratch *s = scratch_get();
	u8 dir = (u8)(in_dir & 1);
	u32 next;

	if (!conn || !s || !conn_lock(conn, ctl))
		return TRACK_BUSY;
	next = dccp_follow(conn, &s->dccp, dir);
	if (next != DCCP_INVALID) {
		conn->dccp.last_type = s->dccp.type;
		conn->dccp.last_dir = dir;
	}
	if (next < CTD_DCCP_STATE_COUNT && next != conn->state) {
		write_once(conn->state, (u8)next);
		conn_set_timeout(conn, id, timeout_of(conn->timeout_policy, IPPROTO_DCCP, (u8)next));
		if (next == CTD_DCCP_TIMEWAIT && dir == CTD_DIR_REPLY)
			atomic_or(&conn->status, CTD_STATUS_SEEN_REPLY); /* refused: no reason to promote it */
	}
	conn_unlock(conn);
	if (next == DCCP_INVALID)
		return TRACK_INVALID(DCCP_STATE);
	return next == DCCP_IGNORE ? TRACK_PASSED : TRACK_OK;
}

#endif
