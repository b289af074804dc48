/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP segments: opening, following. The state machine is in ct/tcp.h, the windows in ct/tcp_window.h; here is what is
 * between them: which segments count, which pass without counting, which are invalid.
 */
#ifndef CTD_CT_TRACK_TCP_H
#define CTD_CT_TRACK_TCP_H

#include "core/tcp_options.h"
#include "ct/refresh.h"
#include "ct/tcp_window.h"

#define TCP_MAX_RETRANS 3

/* What tcp_follow() has left to its caller, beside an enum track_result in the low byte. */
#define TCP_TO_ASSURE 0x100 /* established both ways: ASSURED */
#define TCP_HAS_LEFT 0x200  /* not established any more: verdicts go */

static __always_inline u32 tcp_policy_flags(u32 policy)
{
	struct ctd_ct_policy *p = map_lookup(&ct_policies, &policy);

	return p ? read_once(p->flags) : 0;
}

static __always_inline u32 tcp_max_retrans(u32 policy)
{
	u32 zero = 0, most = 0;
	struct ctd_ct_policy *p = map_lookup(&ct_policies, &policy);

	if (p)
		most = p->tcp_max_retrans;
	if (!most) {
		p = map_lookup(&ct_policies, &zero);
		if (p)
			most = p->tcp_max_retrans;
	}
	return most ? most : TCP_MAX_RETRANS;
}

/* May a connection begin with this segment, in a zone with this policy? CTD_INVALID_NONE, or why not. */
static __always_inline u32 tcp_opens(const struct packet *pkt, u32 policy)
{
	u32 next = tcp_next(CTD_TCP_NONE, CTD_DIR_ORIG, pkt->tcp_flags);

	if (!tcp_flags_valid(pkt->tcp_flags))
		return CTD_INVALID_TCP_FLAGS;
	if (next >= CTD_TCP_STATE_COUNT)
		return CTD_INVALID_TCP_PICKUP;
	if (next != CTD_TCP_SYN_SENT && tcp_policy_flags(policy) & CTD_CTP_NO_PICKUP)
		return CTD_INVALID_TCP_PICKUP;
	return CTD_INVALID_NONE;
}

/* What becomes of a segment. */
enum tcp_verdict {
	TCP_IF_IT_FITS, /* counts if it is in window */
	TCP_COUNTS,     /* whatever the window says */
	TCP_PASSES,     /* goes on, but nothing of it counts */
	TCP_REOPENS,
	TCP_BAD_STATE,
	TCP_BAD_RST,
};

/*
 * A segment on its way through the tracker: stands in the scratch record's buffer, since the parts of the tracker are
 * functions of their own. Inlined into one they would keep too much on the stack for the verifier of 6.1.
 */
struct tcp_step {
	struct tcp_windows w;
	u32 old; /* enum ctd_tcp_state, before and after */
	u32 next;
	u8 dir;
};

/* What every part works with. */
struct tcp_at {
	struct ctd_conn *conn;
	const struct packet *pkt;
	struct tcp_step *step;
	u8 dir;
};

/* 0 if there is no such connection. */
static __always_inline int tcp_locate(struct tcp_at *t, u32 id)
{
	struct scratch *s = scratch_get();

	t->conn = conn_get(id);
	if (!s || !t->conn)
		return 0;
	t->pkt = &s->pkt;
	t->step = (struct tcp_step *)s->buffer;
	t->dir = t->step->dir & 1;
	return 1;
}

static __always_inline void tcp_note(struct ctd_conn *conn, const struct packet *pkt, u8 dir)
{
	conn->tcp_last_flags = pkt->tcp_flags;
	conn->tcp_last_dir = dir;
}

/*
 * The peer answers a SYN that we had let through unchecked, so both have a connection that we do not know: we follow.
 * That SYN's window is what we noted of it.
 */
static __always_inline void tcp_resync(struct tcp_at *t)
{
	struct ctd_conn *conn = t->conn;
	struct ctd_tcp_window *rx = &t->step->w.rx;

	rx->end = conn->tcp_last_end;
	rx->max_end = conn->tcp_last_end;
	rx->max_win = at_least_one(conn->tcp_last_win);
	rx->scale = conn->tcp_syn_scale;
	rx->flags = conn->tcp_syn_flags & (CTD_TCPW_SCALE | CTD_TCPW_SACK | CTD_TCPW_LIBERAL);
	window_clear(&t->step->w.tx);
	t->step->next = CTD_TCP_SYN_RECV;
}

/*
 * SYN, SYN/ACK or ACK that the connection as we know it does not call for. We may be the one who is out of step: it
 * passes and is remembered, and the peer's answer (a SYN/ACK, a challenge ACK, a RST) tells. RFC 5961.
 */
static __always_inline u32 tcp_unexpected(struct tcp_at *t)
{
	const struct packet *pkt = t->pkt;
	struct ctd_conn *conn = t->conn;

	if (tcp_is_synack(pkt->tcp_flags) && tcp_is_syn(conn->tcp_last_flags) && conn->tcp_last_dir != t->dir &&
	    pkt->tcp_ack == conn->tcp_last_end) {
		tcp_resync(t);
		return TCP_IF_IT_FITS;
	}
	tcp_note(conn, pkt, t->dir);
	conn->tcp_last_seq = pkt->tcp_seq;
	conn->tcp_last_end = pkt->tcp_end;
	conn->tcp_last_win = pkt->tcp_window;
	if (tcp_is_syn(pkt->tcp_flags) && t->dir == CTD_DIR_ORIG) {
		conn->tcp_syn_flags = pkt->tcp_offers | (conn->tcp_syn_flags & CTD_TCPW_LIBERAL);
		conn->tcp_syn_scale = pkt->tcp_scale;
		if (t->step->old == CTD_TCP_LAST_ACK)
			conn->tcp_syn_flags |= CTD_TCPW_CHALLENGE;
	}
	if (t->step->old == CTD_TCP_SYN_SENT && tcp_is_ack(pkt->tcp_flags) && t->dir == CTD_DIR_REPLY)
		conn->tcp_last_ack = pkt->tcp_ack; /* the RST that answers it has this sequence number */
	return TCP_PASSES;
}

static __always_inline int tcp_is_closing(u32 state)
{
	return state >= CTD_TCP_FIN_WAIT && state <= CTD_TCP_CLOSE;
}

/* RFC 5961: a RST counts if it is exact, which is what its receiver has last acknowledged. */
static __always_inline u32 tcp_reset(struct tcp_at *t)
{
	const struct packet *pkt = t->pkt;
	struct ctd_conn *conn = t->conn;
	u32 status = read_once(conn->status), last = conn->tcp_last_flags;
	int established = t->step->old == CTD_TCP_ESTABLISHED && status & CTD_STATUS_ASSURED;

	if (tcp_is_closing(t->step->old))
		return TCP_COUNTS; /* the ports may have been taken anew already */
	if (t->step->w.rx.flags & CTD_TCPW_MAXACK && !tcp_is_syn(last) && !(conn->tcp_syn_flags & CTD_TCPW_LIBERAL)) {
		u32 exact = conn->tcp_max_ack[!t->dir];

		if (!established && !pkt->tcp_seq)
			return TCP_IF_IT_FITS; /* answers a SYN that we let through */
		if (seq_before(pkt->tcp_seq, exact))
			return TCP_BAD_RST;
		if (!established || pkt->tcp_seq == exact)
			return TCP_IF_IT_FITS;
		/* It follows its sender's last segment, which was not acknowledged yet. */
		if (tcp_is_ack(last) && conn->tcp_last_dir == t->dir && pkt->tcp_seq == conn->tcp_last_end)
			return TCP_IF_IT_FITS;
		t->step->next = t->step->old; /* its receiver answers with a challenge ACK, or is gone */
	}
	/* It refuses its peer's SYN, or an ACK of a half-open connection, that we let through unchecked. */
	if (pkt->tcp_ack == conn->tcp_last_end &&
	    ((status & CTD_STATUS_SEEN_REPLY && tcp_is_syn(last) && conn->tcp_last_dir != t->dir) ||
	     (!(status & CTD_STATUS_ASSURED) && tcp_is_ack(last))))
		return TCP_COUNTS;
	/* It answers a challenge ACK that we let through. */
	if (t->step->old == CTD_TCP_SYN_SENT && tcp_is_ack(last) && conn->tcp_last_dir == CTD_DIR_REPLY &&
	    pkt->tcp_seq == conn->tcp_last_ack)
		return TCP_COUNTS;
	return TCP_IF_IT_FITS;
}

/* TIME_WAIT or CLOSE, and a SYN: a new connection if the old one has ended in our sight, from this side. */
static __always_inline int tcp_may_reopen(const struct tcp_at *t)
{
	const struct ctd_conn *conn = t->conn;

	return ((t->step->w.tx.flags | t->step->w.rx.flags) & CTD_TCPW_FIN) ||
	       (conn->tcp_last_dir == t->dir && conn->tcp_last_flags & TCP_RST);
}

/* The challenge ACK to a SYN in LAST_ACK, which must not pass for the last ACK. */
static __always_inline int tcp_is_challenge(const struct tcp_at *t)
{
	const struct ctd_conn *conn = t->conn;

	return t->step->old == CTD_TCP_LAST_ACK && tcp_is_ack(t->pkt->tcp_flags) && conn->tcp_last_dir != t->dir &&
	       tcp_is_syn(conn->tcp_last_flags) && conn->tcp_syn_flags & CTD_TCPW_CHALLENGE;
}

/* What the state machine makes of a segment; the windows come after. */
CTD_GLOBAL int tcp_judge(u32 id)
{
	struct tcp_at at, *t = &at;
	u8 flags;

	if (!tcp_locate(t, id))
		return TCP_PASSES;
	flags = t->pkt->tcp_flags;
	t->step->next = tcp_next(t->step->old, t->dir, flags);
	switch (t->step->next) {
		case TCP_INVALID:
			return TCP_BAD_STATE;
		case TCP_IGNORE:
			return tcp_unexpected(t);
		case CTD_TCP_SYN_SENT:
			if (t->step->old != CTD_TCP_TIME_WAIT && t->step->old != CTD_TCP_CLOSE)
				break;
			return tcp_may_reopen(t) ? TCP_REOPENS : tcp_unexpected(t);
		case CTD_TCP_SYN_SENT2:
			t->conn->tcp_syn_flags |= CTD_TCPW_SIMULTANEOUS;
			break;
		case CTD_TCP_SYN_RECV:
			/* In a simultaneous open either side's ACK may be the last step. */
			if (t->dir == CTD_DIR_REPLY && tcp_is_ack(flags) &&
			    t->conn->tcp_syn_flags & CTD_TCPW_SIMULTANEOUS)
				t->step->next = CTD_TCP_ESTABLISHED;
			break;
		case CTD_TCP_TIME_WAIT:
			if (tcp_is_challenge(t)) {
				t->conn->tcp_syn_flags &= (u8)~CTD_TCPW_CHALLENGE;
				return TCP_PASSES;
			}
			break;
		case CTD_TCP_CLOSE:
			if (flags & TCP_RST)
				return tcp_reset(t);
			break;
	}
	return TCP_IF_IT_FITS;
}

/* The same ACK again and again: its sender gets no answer. */
static __always_inline void tcp_count_retrans(struct ctd_conn *conn, const struct tcp_segment *seg, u8 dir)
{
	if (conn->tcp_last_dir == dir && conn->tcp_last_seq == seg->seq && conn->tcp_last_ack == seg->ack &&
	    conn->tcp_last_end == seg->end && conn->tcp_last_win == seg->win) {
		if (conn->tcp_retrans < 0xff)
			conn->tcp_retrans++;
		return;
	}
	conn->tcp_last_dir = dir;
	conn->tcp_last_seq = seg->seq;
	conn->tcp_last_ack = seg->ack;
	conn->tcp_last_end = seg->end;
	conn->tcp_last_win = (u16)seg->win;
	conn->tcp_retrans = 0;
}

static __always_inline void tcp_store_windows(const struct tcp_at *t)
{
	t->conn->win[t->dir] = t->step->w.tx;
	t->conn->win[!t->dir] = t->step->w.rx;
	t->conn->tcp_max_ack[t->dir] = t->step->w.tx_max_ack;
}

/* Judges the segment by the windows. TRACK_OK: it counts; TRACK_PASSED; or invalid, and then nothing has changed. */
CTD_GLOBAL int tcp_check_window(u32 id)
{
	struct tcp_at at, *t = &at;
	int liberal;
	u32 fit;

	if (!tcp_locate(t, id))
		return TRACK_BUSY;
	fit = tcp_window(&t->step->w, t->pkt, t->dir, t->step->old);
	liberal = t->step->w.tx.flags & CTD_TCPW_LIBERAL;
	if (fit == TCP_OUTSIDE && !liberal)
		return TRACK_INVALID(TCP_WINDOW);
	tcp_store_windows(t);
	if (fit == TCP_FITS && tcp_is_ack(t->pkt->tcp_flags))
		tcp_count_retrans(t->conn, &t->step->w.seg, t->dir);
	return fit == TCP_FITS || liberal ? TRACK_OK : TRACK_PASSED;
}

static __always_inline u32 tcp_timeout(u32 policy, u32 state)
{
	return timeout_of(policy, IPPROTO_TCP, (u8)state);
}

static __always_inline u32 tcp_capped(u32 policy, u32 timeout, u32 place)
{
	u32 cap = tcp_timeout(policy, place);

	return cap < timeout ? cap : timeout;
}

/* Less than `timeout` where the connection may well be dead. The first reason counts, in nf_conntrack's order. */
static __always_inline u32 tcp_shortened(const struct ctd_conn *conn, u8 flags, u32 timeout)
{
	u32 policy = conn->timeout_policy, shorter = timeout;
	/* Else the fast path does not say what is unacknowledged or repeated. */
	int strict = !(conn->tcp_syn_flags & CTD_TCPW_LIBERAL);

	if (strict && conn->tcp_retrans && conn->tcp_retrans >= tcp_max_retrans(policy))
		shorter = tcp_capped(policy, timeout, CTD_TIMEOUT_TCP_RETRANS);
	if (shorter == timeout && flags & TCP_RST)
		return tcp_timeout(policy, CTD_TCP_CLOSE);
	if (shorter == timeout && strict && (conn->win[0].flags | conn->win[1].flags) & CTD_TCPW_UNACKED)
		shorter = tcp_capped(policy, timeout, CTD_TIMEOUT_TCP_UNACK);
	if (shorter == timeout && strict && !conn->tcp_last_win)
		shorter = tcp_capped(policy, timeout, CTD_TIMEOUT_TCP_RETRANS);
	return shorter;
}

static __always_inline u32 tcp_timeout_now(const struct tcp_at *t)
{
	const struct ctd_conn *conn = t->conn;
	u32 policy = conn->timeout_policy;
	u32 timeout = tcp_shortened(conn, t->pkt->tcp_flags, tcp_timeout(policy, t->step->next));

	if (t->step->next == CTD_TCP_ESTABLISHED && !(read_once(conn->status) & CTD_STATUS_SEEN_REPLY))
		return tcp_capped(policy, timeout, CTD_TIMEOUT_TCP_UNACK); /* picked up, not answered yet */
	return timeout;
}

/* The segment counts: the record follows. */
CTD_GLOBAL int tcp_accept(u32 id)
{
	struct tcp_at at, *t = &at;
	struct ctd_conn *conn;
	int result = TRACK_OK;
	u32 status, timeout;

	if (!tcp_locate(t, id))
		return TRACK_BUSY;
	conn = t->conn;
	status = read_once(conn->status);
	tcp_note(conn, t->pkt, t->dir);
	write_once(conn->state, (u8)t->step->next);
	if (t->step->next == CTD_TCP_FIN_WAIT && t->step->old != CTD_TCP_FIN_WAIT)
		conn->win[t->dir].flags |= CTD_TCPW_FIN;
	if (!(status & CTD_STATUS_SEEN_REPLY)) {
		if (t->pkt->tcp_flags & TCP_RST) { /* refused: it is over when this packet has left */
			if (t->dir == CTD_DIR_REPLY)
				atomic_or(&conn->status, CTD_STATUS_SEEN_REPLY); /* but no reason to promote it */
			conn_set_timeout(conn, id, 0);
			return TRACK_OK;
		}
		if (tcp_is_syn(t->pkt->tcp_flags) && t->step->old == CTD_TCP_SYN_SENT)
			return TRACK_PASSED; /* repeated SYNs alone do not keep a connection, and its NAT, alive */
	} else if (!(status & CTD_STATUS_ASSURED) && t->step->next == CTD_TCP_ESTABLISHED &&
		   (t->step->old == CTD_TCP_SYN_RECV || t->step->old == CTD_TCP_ESTABLISHED)) {
		result |= TCP_TO_ASSURE;
	}
	timeout = tcp_timeout_now(t);
	if (timeout != read_once(conn->timeout))
		conn_set_timeout(conn, id, timeout);
	if (t->step->old == CTD_TCP_ESTABLISHED && t->step->next != CTD_TCP_ESTABLISHED)
		result |= TCP_HAS_LEFT;
	return result;
}

static __always_inline int tcp_follow_locked(u32 id)
{
	int result;

	switch (tcp_judge(id)) {
		case TCP_BAD_STATE:
			return TRACK_INVALID(TCP_STATE);
		case TCP_BAD_RST:
			return TRACK_INVALID(TCP_RST);
		case TCP_REOPENS:
			return TRACK_REOPEN;
		case TCP_PASSES:
			return TRACK_PASSED;
		case TCP_IF_IT_FITS:
			result = tcp_check_window(id);
			if (result != TRACK_OK)
				return result;
	}
	return tcp_accept(id);
}

/*
 * Brings connection `id` up to date with the segment in the scratch record; `ctl` names the incarnation. Answers an
 * enum track_result with TCP_TO_ASSURE, TCP_HAS_LEFT. Leaves the rest to its caller: it must stay shallow. Doing it
 * twice for one segment does no harm, since it is a retransmission then.
 */
CTD_GLOBAL int tcp_follow(u32 id, u32 ctl, u32 dir)
{
	struct ctd_conn *conn = conn_get(id);
	struct scratch *s = scratch_get();
	struct tcp_step *step;
	int result = TRACK_REOPEN;

	if (!s || !conn)
		return TRACK_BUSY;
	if (!tcp_flags_valid(s->pkt.tcp_flags))
		return TRACK_INVALID(TCP_FLAGS);
	if (!conn_lock(conn, ctl))
		return TRACK_BUSY;
	/* No time left: a RST has refused it, and it only waits for the sweep. */
	if (read_once(conn->timeout)) {
		dir &= 1;
		step = (struct tcp_step *)s->buffer;
		step->dir = (u8)dir;
		step->old = conn->state;
		step->w.tx = conn->win[dir];
		step->w.rx = conn->win[!dir];
		step->w.tx_max_ack = conn->tcp_max_ack[dir];
		result = tcp_follow_locked(id);
	}
	conn_unlock(conn);
	return result;
}

/* The windows of a first segment. */
static __always_inline void tcp_first_windows(struct tcp_windows *w, const struct packet *pkt, u32 state, u8 liberal)
{
	__builtin_memset(w, 0, sizeof(*w));
	window_open(&w->tx, pkt);
	if (state != CTD_TCP_SYN_SENT) {
		/* From the middle of a stream: nobody knows what its SYNs offered. */
		w->tx.max_end += w->tx.max_win;
		w->tx.scale = 0;
		w->tx.flags = CTD_TCPW_SACK | CTD_TCPW_LIBERAL;
		w->rx.flags = CTD_TCPW_SACK | CTD_TCPW_LIBERAL;
	}
	w->tx.flags |= liberal;
	w->rx.flags |= liberal;
}

/* The first segment, of a record that is not published yet: its policy is known, its state and windows are set here. */
CTD_GLOBAL int tcp_begin(u32 id)
{
	struct scratch *s = scratch_get();
	struct tcp_at t;
	u8 liberal;

	if (!s)
		return 0;
	((struct tcp_step *)s->buffer)->dir = CTD_DIR_ORIG;
	if (!tcp_locate(&t, id))
		return 0;
	t.step->old = CTD_TCP_NONE;
	t.step->next = tcp_next(CTD_TCP_NONE, CTD_DIR_ORIG, t.pkt->tcp_flags);
	liberal = tcp_policy_flags(t.conn->timeout_policy) & CTD_CTP_LIBERAL ? CTD_TCPW_LIBERAL : 0;
	tcp_first_windows(&t.step->w, t.pkt, t.step->next, liberal);
	t.conn->tcp_last_seq = 0;
	t.conn->tcp_last_ack = 0;
	t.conn->tcp_last_end = 0;
	t.conn->tcp_last_win = 0;
	t.conn->tcp_retrans = 0;
	t.conn->tcp_syn_flags = liberal;
	t.conn->tcp_syn_scale = 0;
	t.conn->tcp_max_ack[0] = 0;
	t.conn->tcp_max_ack[1] = 0;
	tcp_check_window(id);
	tcp_note(t.conn, t.pkt, CTD_DIR_ORIG);
	t.conn->state = (u8)t.step->next;
	t.conn->timeout = tcp_timeout_now(&t);
	return 0;
}

/* A TCP segment of a known connection. Answers an enum track_result. */
static __always_inline int track_tcp(struct found *f)
{
	struct ctd_conn *conn = f->conn;
	int result = tcp_follow(f->id, f->ctl, f->dir);

	if (result & TCP_TO_ASSURE && status_set(conn, f->ctl, CTD_STATUS_ASSURED))
		conn_promote(conn, f->id, &f->ctl, CTD_CLASS_ASSURED);
	if (result & TCP_HAS_LEFT)
		conn_drop_verdicts(f->id);
	return result & 0xff;
}

#endif
