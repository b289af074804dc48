/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SCTP (RFC 9260) as seen from the middle, with the states and transitions of Linux nf_conntrack, which is the oracle
 * of the tests. Several chunks share a packet, and each may change the state: the packet is read once, where there is
 * access to it, and what matters of its chunks is then followed on a copy of the record, so that an invalid packet
 * changes nothing.
 *
 * Reads of the scratch record: pkt. Writes: sctp.
 */
#ifndef CTD_CT_SCTP_H
#define CTD_CT_SCTP_H

#include "core/parse.h"
#include "ct/refresh.h"

enum sctp_chunk_type {
	SCTP_DATA = 0,
	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_HEARTBEAT = 4,
	SCTP_HEARTBEAT_ACK = 5,
	SCTP_ABORT = 6,
	SCTP_SHUTDOWN = 7,
	SCTP_SHUTDOWN_ACK = 8,
	SCTP_ERROR = 9,
	SCTP_COOKIE_ECHO = 10,
	SCTP_COOKIE_ACK = 11,
	SCTP_SHUTDOWN_COMPLETE = 14,
};
#define SCTP_SEEN(type) (1u << SCTP_##type)
/* Chunks that stand alone, chunks that stand first, and all that matter to the state. RFC 9260, section 6.10. */
#define SCTP_ALONE (SCTP_SEEN(INIT) | SCTP_SEEN(INIT_ACK) | SCTP_SEEN(SHUTDOWN_COMPLETE))
#define SCTP_FIRST (SCTP_SEEN(COOKIE_ECHO) | SCTP_SEEN(COOKIE_ACK))
#define SCTP_STATEFUL                                                                                   \
	(SCTP_ALONE | SCTP_FIRST | SCTP_SEEN(HEARTBEAT) | SCTP_SEEN(HEARTBEAT_ACK) | SCTP_SEEN(ABORT) | \
	 SCTP_SEEN(SHUTDOWN) | SCTP_SEEN(SHUTDOWN_ACK) | SCTP_SEEN(ERROR))
/* Any of these brings a rule of its own for the verification tag (section 8.5.1). */
#define SCTP_TAG_RULES                                                                                \
	(SCTP_SEEN(INIT) | SCTP_SEEN(SHUTDOWN_COMPLETE) | SCTP_SEEN(COOKIE_ECHO) | SCTP_SEEN(ABORT) | \
	 SCTP_SEEN(SHUTDOWN_ACK) | SCTP_SEEN(HEARTBEAT) | SCTP_SEEN(HEARTBEAT_ACK))

#define SCTP_T_BIT 0x80       /* in sctp_packet.chunk: the flag T, "the tag is the peer's" */
#define SCTP_CHUNKS_READ 128u /* of a packet; what comes after so many can only be data */
#define SCTP_OTHER 0x8000u    /* in sctp_packet.seen: a chunk that changes no state */
#define SCTP_INVALID 0xff

/* ctd_sctp_track.flags */
#define SCTP_INIT_SEEN(dir) (1u << (dir)) /* a first INIT from this direction that no COOKIE ACK has settled yet */
#define SCTP_TAG_DOUBTED 0x04             /* a HEARTBEAT carried another tag; its answer decides */
#define SCTP_DOUBTED_REPLY 0x08           /* that HEARTBEAT was in the reply direction */
#define SCTP_PENDING 0x10                 /* an INIT with another tag than the known one: see sctp_handshake() */
#define SCTP_PENDING_REPLY 0x20           /* that INIT was in the reply direction */
#define SCTP_PENDING_ECHOED 0x40          /* and its cookie came back */
#define SCTP_PENDING_FLAGS (SCTP_PENDING | SCTP_PENDING_REPLY | SCTP_PENDING_ECHOED)

struct sctp_chunk_header {
	u8 type;
	u8 flags; /* bit 0: T */
	be16 len; /* header included, padding not */
};

struct sctp_reader {
	CTX *ctx;
	u32 off;
	u32 end;
};

/* Notes one chunk. 0 if it may stand where it does. */
static __always_inline int sctp_note(struct sctp_packet *p, u32 i, const struct sctp_chunk_header *chunk)
{
	u32 bit = chunk->type < 15 ? 1u << chunk->type : SCTP_OTHER;

	if (i && (bit & (SCTP_ALONE | SCTP_FIRST) || p->seen & SCTP_ALONE))
		return -1;
	p->seen |= (u16)bit;
	if (!(bit & SCTP_STATEFUL)) {
		p->seen |= SCTP_OTHER;
		return 0;
	}
	if (p->count >= SCTP_MAX_CHUNKS)
		return -1;
	p->chunk[p->count & (SCTP_MAX_CHUNKS - 1)] = chunk->type | (chunk->flags & 1 ? SCTP_T_BIT : 0);
	p->count++;
	return 0;
}

static long sctp_read_chunk(u32 i, void *arg)
{
	struct sctp_reader *r = arg;
	struct scratch *s = scratch_get();
	struct sctp_chunk_header chunk;
	u32 len;

	if (!s || r->off >= r->end)
		return 1;
	if (r->off + sizeof(chunk) > r->end || ctx_load(r->ctx, r->off, &chunk, sizeof(chunk)))
		goto bad;
	len = host_ntohs(chunk.len);
	if (len < sizeof(chunk) || r->off + len > r->end || sctp_note(&s->sctp, i, &chunk))
		goto bad;
	if (chunk.type == SCTP_INIT || chunk.type == SCTP_INIT_ACK) {
		/* Their fixed part: tag, window, streams, first TSN. The tag must not be zero (section 3.3.2). */
		if (len < sizeof(chunk) + 16 ||
		    ctx_load(r->ctx, r->off + sizeof(chunk), &s->sctp.init_tag, sizeof(s->sctp.init_tag)) ||
		    !s->sctp.init_tag)
			goto bad;
	}
	r->off += (len + 3) & ~3u;
	return 0;
bad:
	s->sctp.bad = 1;
	return 1;
}

/* Reads the packet's chunks into s->sctp. */
static __always_inline void sctp_read(CTX *ctx, struct scratch *s)
{
	struct sctp_reader r = {
		.ctx = ctx,
		.off = s->pkt.l4_off + sizeof(struct sctp_header),
		.end = s->pkt.l3_off + s->pkt.l3_len,
	};

	__builtin_memset(&s->sctp, 0, sizeof(s->sctp));
	if (ctx_load(ctx, s->pkt.l4_off + offsetof(struct sctp_header, tag), &s->sctp.tag, sizeof(s->sctp.tag))) {
		s->sctp.bad = 1;
		return;
	}
	loop(SCTP_CHUNKS_READ, sctp_read_chunk, &r);
	if (!s->sctp.seen)
		s->sctp.bad = 1;
}

/* Before the association is confirmed: what its first packet makes of it. */
static __always_inline u32 sctp_first(u8 type)
{
	switch (type) {
		case SCTP_SHUTDOWN_ACK:
			return CTD_SCTP_SHUTDOWN_ACK_SENT;
		case SCTP_HEARTBEAT:
			return CTD_SCTP_HEARTBEAT_SENT;
	}
	return CTD_SCTP_CLOSED;
}

/* A new path of an association that is known by another one (or not at all): only a HEARTBEAT was seen here. */
static __always_inline u32 sctp_next_path(u8 dir, u8 type)
{
	if (type == SCTP_HEARTBEAT)
		return CTD_SCTP_HEARTBEAT_SENT;
	if (dir == CTD_DIR_REPLY)
		return type == SCTP_HEARTBEAT_ACK ? CTD_SCTP_ESTABLISHED : SCTP_INVALID;
	switch (type) {
		case SCTP_HEARTBEAT_ACK:
			return CTD_SCTP_HEARTBEAT_SENT;
		case SCTP_INIT:
			return CTD_SCTP_COOKIE_WAIT;
		case SCTP_SHUTDOWN_ACK:
			return CTD_SCTP_SHUTDOWN_ACK_SENT;
	}
	return CTD_SCTP_CLOSED;
}

/* The state after a chunk, or SCTP_INVALID. */
static __always_inline u32 sctp_next(u32 state, u8 dir, u8 type)
{
	int orig = dir == CTD_DIR_ORIG;
	int closing = state == CTD_SCTP_SHUTDOWN_SENT || state == CTD_SCTP_SHUTDOWN_RECD;

	if (type >= 15 || !(1u << type & SCTP_STATEFUL))
		return state;
	if (state == CTD_SCTP_NONE)
		return orig ? sctp_first(type) : SCTP_INVALID;
	if (state == CTD_SCTP_HEARTBEAT_SENT)
		return sctp_next_path(dir, type);
	switch (type) {
		case SCTP_INIT:
			return orig && closing ? CTD_SCTP_CLOSED : state;
		case SCTP_INIT_ACK:
			return !orig && state == CTD_SCTP_CLOSED ? CTD_SCTP_COOKIE_WAIT : state;
		case SCTP_COOKIE_ECHO:
			return state == CTD_SCTP_COOKIE_WAIT ? CTD_SCTP_COOKIE_ECHOED : state;
		case SCTP_COOKIE_ACK:
			return state == CTD_SCTP_COOKIE_ECHOED ? CTD_SCTP_ESTABLISHED : state;
		case SCTP_ERROR: /* a stale cookie: the handshake has failed */
			return !orig && state == CTD_SCTP_COOKIE_ECHOED ? CTD_SCTP_CLOSED : state;
		case SCTP_ABORT:
			return CTD_SCTP_CLOSED;
		case SCTP_SHUTDOWN:
			if (state != CTD_SCTP_ESTABLISHED)
				return state;
			return orig ? CTD_SCTP_SHUTDOWN_SENT : CTD_SCTP_SHUTDOWN_RECD;
		case SCTP_SHUTDOWN_ACK:
			return closing ? CTD_SCTP_SHUTDOWN_ACK_SENT : state;
		case SCTP_SHUTDOWN_COMPLETE:
			return state == CTD_SCTP_SHUTDOWN_ACK_SENT ? CTD_SCTP_CLOSED : state;
	}
	return state;
}

/*
 * HEARTBEAT and its answer may be the first that is seen of a direction: its tag is learned. One with another tag than
 * the known one is believed only if both ends agree: the association was restarted on another path.
 */
static __always_inline int sctp_heartbeat(struct sctp_packet *p, u8 dir, u8 type)
{
	struct ctd_sctp_track *t = &p->track;
	u8 from = dir ? SCTP_DOUBTED_REPLY : 0;

	if (!t->vtag[dir & 1]) {
		t->vtag[dir & 1] = p->tag;
		return TRACK_OK;
	}
	if (p->tag == t->vtag[dir & 1]) {
		t->flags &= (u8) ~(SCTP_TAG_DOUBTED | SCTP_DOUBTED_REPLY);
		return TRACK_OK;
	}
	if (p->seen & SCTP_SEEN(DATA) || p->quiet)
		return TRACK_INVALID(SCTP_TAG);
	if (type == SCTP_HEARTBEAT) {
		t->flags = (u8)((t->flags & ~SCTP_DOUBTED_REPLY) | SCTP_TAG_DOUBTED | from);
		p->quiet = 1;
		return TRACK_PASSED;
	}
	if (!(t->flags & SCTP_TAG_DOUBTED) || (t->flags & SCTP_DOUBTED_REPLY) == from)
		return TRACK_INVALID(SCTP_TAG);
	t->flags &= (u8) ~(SCTP_TAG_DOUBTED | SCTP_DOUBTED_REPLY);
	t->vtag[dir & 1] = p->tag;
	t->vtag[!dir] = 0;
	return TRACK_OK;
}

/* May an INIT ACK announce its sender's tag? Not another one than is known, unless the sender's own INIT is open. */
static __always_inline int sctp_init_ack_ok(const struct sctp_packet *p, u8 dir)
{
	const struct ctd_sctp_track *t = &p->track;
	u8 both = SCTP_INIT_SEEN(0) | SCTP_INIT_SEEN(1);

	if (t->vtag[!dir] == p->init_tag)
		return 1;
	if (!(t->flags & SCTP_INIT_SEEN(!dir)) && t->vtag[!dir])
		return 0;
	return (t->flags & both) != both;
}

/* Follows one chunk. A function of its own: the verifier of 6.1 would follow all ways through all chunks. */
CTD_GLOBAL int sctp_step(u32 in_dir, u32 chunk)
{
	struct scratch *s = scratch_get();
	u8 dir = (u8)(in_dir & 1), type = chunk & 0xf, owner = chunk & SCTP_T_BIT ? !dir : dir;
	struct ctd_sctp_track *t;
	struct sctp_packet *p;
	u32 next;
	int result;

	if (!s)
		return TRACK_BUSY;
	p = &s->sctp;
	t = &p->track;
	switch (type) {
		case SCTP_INIT:
			if (p->tag)
				return TRACK_INVALID(SCTP_TAG);
			break;
		case SCTP_ABORT:
		case SCTP_SHUTDOWN_COMPLETE:
			if (p->tag != t->vtag[owner & 1])
				return TRACK_INVALID(SCTP_TAG);
			break;
		case SCTP_COOKIE_ECHO:
		case SCTP_COOKIE_ACK:
		case SCTP_ERROR:
			if (p->tag != t->vtag[dir & 1])
				return TRACK_INVALID(SCTP_TAG);
			if (type == SCTP_COOKIE_ACK)
				t->flags &= (u8) ~(SCTP_INIT_SEEN(0) | SCTP_INIT_SEEN(1));
			break;
		case SCTP_HEARTBEAT:
		case SCTP_HEARTBEAT_ACK:
			result = sctp_heartbeat(p, dir, type);
			if (result != TRACK_OK)
				return result;
			break;
	}
	next = sctp_next(p->state, dir, type);
	if (next == SCTP_INVALID)
		return TRACK_INVALID(SCTP_STATE);
	if (type == SCTP_INIT) {
		if (t->vtag[!dir] && t->vtag[!dir] != p->init_tag)
			return TRACK_INVALID(SCTP_TAG); /* sctp_handshake()'s */
		/* One that is repeated must not keep a dead association, and its mapping, alive. */
		p->quiet = next == CTD_SCTP_CLOSED && p->state == CTD_SCTP_CLOSED;
		if (!t->vtag[!dir])
			t->flags |= (u8)SCTP_INIT_SEEN(dir & 1);
		t->vtag[!dir] = p->init_tag;
	} else if (type == SCTP_INIT_ACK) {
		if (!sctp_init_ack_ok(p, dir))
			return TRACK_INVALID(SCTP_TAG);
		t->vtag[!dir] = p->init_tag;
	}
	p->state = (u8)next;
	p->assured |= next == CTD_SCTP_ESTABLISHED; /* also if the packet goes on to end it */
	return TRACK_OK;
}

/* Follows the packet's chunks from where s->sctp stands. */
CTD_GLOBAL int sctp_follow(u32 in_dir)
{
	struct scratch *s = scratch_get();
	u8 dir = (u8)(in_dir & 1);
	struct sctp_packet *p;

	if (!s)
		return TRACK_BUSY;
	p = &s->sctp;
	if (!(p->seen & SCTP_TAG_RULES) && p->tag != p->track.vtag[dir])
		return TRACK_INVALID(SCTP_TAG);
	for (u32 i = 0; i < SCTP_MAX_CHUNKS; i++) {
		int result;

		if (i >= p->count)
			break;
		result = sctp_step(dir, p->chunk[i]);
		if (result >= TRACK_INVALID_BASE)
			return result;
	}
	return p->quiet ? TRACK_PASSED : TRACK_OK;
}

/*
 * An INIT carries no tag, so anybody can forge one for an association, and its receiver does not give that one up
 * either (RFC 9260, section 5.2). Its tag is kept aside, as is that of the INIT ACK: with the COOKIE ACK both ends have
 * shown that they know them, and they are the association's. Until then the old ones hold.
 */
static __always_inline void sctp_pend(struct sctp_packet *p, u8 dir)
{
	struct ctd_sctp_track *t = &p->track;

	t->flags &= (u8)~SCTP_PENDING_FLAGS;
	t->flags |= SCTP_PENDING | (dir ? SCTP_PENDING_REPLY : 0);
	t->pending[!dir] = p->init_tag;
	t->pending[dir & 1] = 0;
}

/* What was before the handshake is over, whatever its state. */
static __always_inline void sctp_settle(struct sctp_packet *p)
{
	struct ctd_sctp_track *t = &p->track;

	t->vtag[0] = t->pending[0];
	t->vtag[1] = t->pending[1];
	t->pending[0] = 0;
	t->pending[1] = 0;
	t->flags = 0;
	p->state = CTD_SCTP_ESTABLISHED;
	p->assured = 1;
	p->quiet = 0;
}

/*
 * A packet whose tag is not the association's, from where s->sctp stands: part of a handshake with pending tags, or
 * invalid. Its first chunk says; what else it has passes along.
 */
CTD_GLOBAL int sctp_handshake(u32 in_dir)
{
	struct scratch *s = scratch_get();
	u8 dir = (u8)(in_dir & 1), type, owner = dir;
	struct ctd_sctp_track *t;
	struct sctp_packet *p;
	int opener;

	if (!s)
		return TRACK_BUSY;
	p = &s->sctp;
	t = &p->track;
	type = p->chunk[0] & 0xf;
	p->quiet = 1;
	if (!p->count)
		return TRACK_INVALID(SCTP_TAG);
	if (type == SCTP_INIT && !p->tag) {
		sctp_pend(p, dir);
		return TRACK_PASSED;
	}
	if (type == SCTP_ABORT && p->chunk[0] & SCTP_T_BIT)
		owner = !dir;
	if (!(t->flags & SCTP_PENDING) || !p->tag || p->tag != t->pending[owner & 1])
		return TRACK_INVALID(SCTP_TAG);
	opener = !(t->flags & SCTP_PENDING_REPLY) == !dir; /* who has sent that INIT */
	if (type == SCTP_INIT_ACK && !opener)
		t->pending[!dir] = p->init_tag;
	else if (type == SCTP_COOKIE_ECHO && opener)
		t->flags |= SCTP_PENDING_ECHOED;
	else if (type == SCTP_COOKIE_ACK && !opener && t->flags & SCTP_PENDING_ECHOED)
		sctp_settle(p);
	else if (type == SCTP_ABORT) /* refuses the new association, not the old one */
		t->flags &= (u8)~SCTP_PENDING_FLAGS;
	else if (type != SCTP_ERROR)
		return TRACK_INVALID(SCTP_TAG);
	if (type == SCTP_INIT_ACK || type == SCTP_COOKIE_ECHO)
		p->state = (u8)sctp_next(p->state, dir, type);
	return p->quiet ? TRACK_PASSED : TRACK_OK;
}

/*
 * May an association begin with this packet? CTD_INVALID_NONE, or why not. s->sctp is then the new record's. Packets
 * "out of the blue" (section 8.4) that end something, or carry data, open nothing.
 */
static __always_inline u32 sctp_opens(struct scratch *s)
{
	struct sctp_packet *p = &s->sctp;
	int result;

	if (p->bad)
		return CTD_INVALID_SCTP_CHUNK;
	if (p->seen & (SCTP_SEEN(ABORT) | SCTP_SEEN(SHUTDOWN_COMPLETE) | SCTP_SEEN(COOKIE_ACK) | SCTP_OTHER))
		return CTD_INVALID_SCTP_STATE;
	__builtin_memset(&p->track, 0, sizeof(p->track));
	p->state = CTD_SCTP_NONE;
	p->quiet = 0;
	p->assured = 0;
	if (p->seen & (SCTP_SEEN(HEARTBEAT) | SCTP_SEEN(HEARTBEAT_ACK)))
		p->track.vtag[CTD_DIR_ORIG] = p->tag;
	if (p->seen & SCTP_SEEN(SHUTDOWN_ACK))
		p->track.vtag[CTD_DIR_REPLY] = p->tag; /* its answer, a SHUTDOWN COMPLETE, has the same */
	result = sctp_follow(CTD_DIR_ORIG);
	return result >= TRACK_INVALID_BASE ? (u32)result - TRACK_INVALID_BASE : CTD_INVALID_NONE;
}

/* A packet of a known association. A function of its own: the lock is held over another one. */
CTD_GLOBAL int sctp_update(u32 id, u32 ctl, u32 dir)
{
	struct ctd_conn *conn = conn_get(id);
	struct scratch *s = scratch_get();
	u32 old;
	int result;

	if (!conn || !s)
		return TRACK_BUSY;
	if (s->sctp.bad)
		return TRACK_INVALID(SCTP_CHUNK);
	if (!conn_lock(conn, ctl))
		return TRACK_BUSY;
	old = conn->state;
	s->sctp.state = (u8)old;
	s->sctp.quiet = 0;
	s->sctp.assured = 0;
	s->sctp.track = conn->sctp;
	result = sctp_follow(dir);
	if (result == TRACK_INVALID(SCTP_TAG)) {
		s->sctp.track = conn->sctp;
		s->sctp.state = (u8)old;
		result = sctp_handshake(dir);
	}
	if (result < TRACK_INVALID_BASE) {
		conn->sctp = s->sctp.track;
		write_once(conn->state, s->sctp.state);
		if (s->sctp.seen & SCTP_SEEN(ABORT) && dir & CTD_DIR_REPLY)
			atomic_or(&conn->status, CTD_STATUS_SEEN_REPLY); /* refused: no reason to promote it */
		if (s->sctp.state != old)
			conn_set_timeout(conn, id, timeout_of(conn->timeout_policy, IPPROTO_SCTP, s->sctp.state));
	}
	conn_unlock(conn);
	return result;
}

#endif
