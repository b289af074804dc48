/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP's windows, seen from the middle: which sequence numbers and acknowledgements either side can mean. After Guido
 * van Rooij's "Real Stateful TCP Packet Filtering", with the bounds and the tolerances of Linux nf_conntrack.
 *
 * `tx` is the window of the direction that sends the segment, `rx` that of its peer. A segment is in window if
 *  - it begins within what its peer has opened: seq <= tx.max_end;
 *  - it does not end further back than its peer's window reaches: end >= tx.end - rx.max_win;
 *  - it acknowledges what has been sent: sack <= rx.end;
 *  - and not what is long past: sack >= rx.end - the sender's window, at least TCP_ACK_SLACK.
 *
 * All here works on copies: a segment that is invalid must change nothing in the record.
 */
#ifndef CTD_CT_TCP_WINDOW_H
#define CTD_CT_TCP_WINDOW_H

#include "ct/tcp.h"

#define TCP_ACK_SLACK 66000u

/* What of a segment counts for the windows. */
struct tcp_segment {
	u32 seq;
	u32 end; /* after its payload, SYN and FIN */
	u32 ack;
	u32 sack; /* the highest that it acknowledges, be it selectively */
	u32 win;
	u8 flags;
};

struct tcp_windows {
	struct ctd_tcp_window tx, rx;
	u32 tx_max_ack;
	struct tcp_segment seg;
};

enum tcp_fit {
	TCP_FITS,
	TCP_OVERSHOOTS, /* more than the peer has opened, by less than a window: it may take it */
	TCP_STALE,      /* repeats what was acknowledged long ago, or was overtaken: harmless */
	TCP_OUTSIDE,
};

/* Differences wrap: `a` before `b` means less than half of the sequence space. */
static __always_inline int seq_before(u32 a, u32 b)
{
	return (s32)(a - b) < 0;
}

static __always_inline int seq_upto(u32 a, u32 b)
{
	return seq_before(a, b + 1);
}

static __always_inline u32 at_least_one(u32 win)
{
	return win ? win : 1;
}

static __always_inline void window_clear(struct ctd_tcp_window *w)
{
	u8 liberal = w->flags & CTD_TCPW_LIBERAL;

	__builtin_memset(w, 0, sizeof(*w));
	w->flags = liberal;
}

/* A direction begins with this SYN. */
static __always_inline void window_open(struct ctd_tcp_window *tx, const struct packet *pkt)
{
	tx->end = pkt->tcp_end;
	tx->max_end = pkt->tcp_end;
	tx->max_win = at_least_one(pkt->tcp_window);
	tx->scale = pkt->tcp_scale;
	tx->flags = (tx->flags & CTD_TCPW_LIBERAL) | pkt->tcp_offers;
}

/* The answering SYN: windows are scaled if both sides offer it (RFC 7323). */
static __always_inline void window_answer(struct tcp_windows *w, const struct packet *pkt, u8 dir)
{
	window_open(&w->tx, pkt);
	if (dir == CTD_DIR_REPLY && !(w->tx.flags & w->rx.flags & CTD_TCPW_SCALE)) {
		w->tx.scale = 0;
		w->rx.scale = 0;
	}
}

/* The first that we see of this direction is from the middle of the stream: taken at its word. */
static __always_inline void window_adopt(struct tcp_windows *w)
{
	const struct tcp_segment *seg = &w->seg;

	w->tx.end = seg->end;
	w->tx.max_win = at_least_one(seg->win << w->tx.scale);
	w->tx.max_end = seg->end + w->tx.max_win;
	if (!w->rx.max_win) {
		w->rx.end = seg->sack;
		w->rx.max_end = seg->sack;
	} else if (seg->sack == w->rx.end + 1) {
		w->rx.end++; /* the answer to a keep-alive, as it seems */
	}
}

static __always_inline void segment_of(struct tcp_segment *seg, const struct packet *pkt, u8 rx_flags)
{
	seg->seq = pkt->tcp_seq;
	seg->end = pkt->tcp_end;
	seg->ack = pkt->tcp_ack;
	seg->sack = rx_flags & CTD_TCPW_SACK ? pkt->tcp_sack : pkt->tcp_ack;
	seg->win = pkt->tcp_window;
	seg->flags = pkt->tcp_flags;
}

/* What segments leave out: an ACK where there is none, the sequence number of a RST that answers a SYN. */
static __always_inline void segment_complete(struct tcp_windows *w, u32 state)
{
	struct tcp_segment *seg = &w->seg;
	int rst = seg->flags & TCP_RST;

	if (!(seg->flags & TCP_ACK) || (rst && !seg->ack)) {
		seg->ack = w->rx.end;
		seg->sack = w->rx.end;
	}
	if (rst && !seg->seq && state == CTD_TCP_SYN_SENT) {
		seg->seq = w->tx.end;
		seg->end = w->tx.end;
	}
}

static __always_inline u32 window_fit(const struct tcp_windows *w)
{
	const struct tcp_segment *seg = &w->seg;
	u32 slack = w->tx.max_win > TCP_ACK_SLACK ? w->tx.max_win : TCP_ACK_SLACK;
	int seen = seq_upto(seg->sack, w->rx.end);
	int recent = !seq_before(seg->sack, w->rx.end - slack);
	int reaches = !seq_before(seg->end, w->tx.end - w->rx.max_win);

	if (!seq_upto(seg->seq, w->tx.max_end)) {
		u32 over = seg->end - w->tx.max_end + 1;

		return w->rx.max_win && reaches && recent && seen && over <= w->rx.max_win ? TCP_OVERSHOOTS
											   : TCP_OUTSIDE;
	}
	if (!seen)
		return TCP_OUTSIDE;
	return (reaches || !w->rx.max_win) && recent ? TCP_FITS : TCP_STALE;
}

/* More was sent than before: the peer owes an acknowledgement. */
static __always_inline void window_sent(struct ctd_tcp_window *tx, u32 end)
{
	tx->end = end;
	tx->flags |= CTD_TCPW_UNACKED;
}

/* The segment fits: both windows move on. */
static __always_inline void window_advance(struct tcp_windows *w)
{
	const struct tcp_segment *seg = &w->seg;
	struct ctd_tcp_window *tx = &w->tx, *rx = &w->rx;
	u32 win = seg->flags & TCP_SYN ? seg->win : seg->win << tx->scale, edge = seg->sack + win;

	if (tx->max_win < win + (seg->sack - seg->ack))
		tx->max_win = win + (seg->sack - seg->ack);
	if (seq_before(tx->end, seg->end))
		window_sent(tx, seg->end);
	if (seg->flags & TCP_ACK) {
		if (!(tx->flags & CTD_TCPW_MAXACK) || seq_before(w->tx_max_ack, seg->ack))
			w->tx_max_ack = seg->ack;
		tx->flags |= CTD_TCPW_MAXACK;
	}
	if (rx->max_win && seq_before(tx->max_end, seg->end))
		rx->max_win += seg->end - tx->max_end;
	if (!seq_before(edge, rx->max_end))
		rx->max_end = edge + !win;
	if (seg->ack == rx->end)
		rx->flags &= (u8)~CTD_TCPW_UNACKED;
}

/* Does this SYN begin its direction anew? "It must only be sure to use larger sequence numbers" (RFC 9293, 3.4.3). */
static __always_inline int window_restarts(const struct ctd_tcp_window *tx, const struct packet *pkt, u32 state)
{
	return pkt->tcp_flags & TCP_SYN && seq_before(tx->end, pkt->tcp_end) &&
	       (state == CTD_TCP_SYN_SENT || state == CTD_TCP_SYN_RECV);
}

/* Judges a segment by the windows and moves them on. `state` is the connection's before the segment. */
static __always_inline u32 tcp_window(struct tcp_windows *w, const struct packet *pkt, u8 dir, u32 state)
{
	struct tcp_segment *seg = &w->seg;
	u32 fit;

	segment_of(seg, pkt, w->rx.flags);
	if (!w->tx.max_win && !(seg->flags & TCP_SYN)) {
		window_adopt(w);
	} else if (!w->tx.max_win || window_restarts(&w->tx, pkt, state)) {
		int first = !w->tx.max_win;

		window_answer(w, pkt, dir);
		if (!(seg->flags & TCP_ACK) && (first || dir == CTD_DIR_REPLY))
			return TCP_FITS; /* simultaneous open: nothing to compare with */
	}
	segment_complete(w, state);
	fit = window_fit(w);
	if (fit == TCP_FITS)
		window_advance(w);
	else if (fit == TCP_OVERSHOOTS)
		window_sent(&w->tx, seg->end);
	return fit;
}

#endif
