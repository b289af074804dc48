/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP's state machine, RFC 9293 as seen from the middle, with the states and transitions of Linux nf_conntrack, which
 * is the oracle of the tests. States only: the windows are ct/tcp_window.h's.
 */
#ifndef CTD_CT_TCP_H
#define CTD_CT_TCP_H

#include <ctd/abi/ct.h>

#include "core/parse.h"

/* Answers of tcp_next() that are no states. */
#define TCP_INVALID 0xff
#define TCP_IGNORE 0xfe /* let it pass, change nothing */

/* What the last segment was, by its flags. */
static __always_inline int tcp_is_syn(u32 flags)
{
	return (flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

static __always_inline int tcp_is_synack(u32 flags)
{
	return (flags & (TCP_SYN | TCP_ACK | TCP_RST)) == (TCP_SYN | TCP_ACK);
}

/* Neither opens nor ends anything. */
static __always_inline int tcp_is_ack(u32 flags)
{
	return (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_ACK;
}

static __always_inline u32 tcp_next_rst(u32 state)
{
	return state == CTD_TCP_NONE ? TCP_INVALID : CTD_TCP_CLOSE;
}

static __always_inline u32 tcp_next_syn(u32 state, u8 dir)
{
	if (dir == CTD_DIR_ORIG) {
		switch (state) {
			case CTD_TCP_NONE:
			case CTD_TCP_SYN_SENT:
			case CTD_TCP_TIME_WAIT: /* opens anew */
			case CTD_TCP_CLOSE:
				return CTD_TCP_SYN_SENT;
			case CTD_TCP_SYN_SENT2:
				return CTD_TCP_SYN_SENT2;
		}
		return TCP_IGNORE; /* the peer answers with an ACK if it knows better */
	}
	switch (state) {
		case CTD_TCP_SYN_SENT: /* simultaneous open */
		case CTD_TCP_SYN_SENT2:
			return CTD_TCP_SYN_SENT2;
		case CTD_TCP_TIME_WAIT:
			return CTD_TCP_SYN_SENT;
	}
	return TCP_INVALID;
}

static __always_inline u32 tcp_next_synack(u32 state, u8 dir)
{
	if (dir == CTD_DIR_ORIG) /* only in a simultaneous open */
		return state == CTD_TCP_SYN_RECV || state == CTD_TCP_SYN_SENT2 ? CTD_TCP_SYN_RECV : TCP_INVALID;
	switch (state) {
		case CTD_TCP_NONE:
			return TCP_INVALID;
		case CTD_TCP_SYN_SENT:
		case CTD_TCP_SYN_SENT2:
			return CTD_TCP_SYN_RECV;
	}
	return TCP_IGNORE;
}

static __always_inline u32 tcp_next_fin(u32 state)
{
	switch (state) {
		case CTD_TCP_SYN_RECV:
		case CTD_TCP_ESTABLISHED:
			return CTD_TCP_FIN_WAIT;
		case CTD_TCP_FIN_WAIT:
		case CTD_TCP_CLOSE_WAIT:
		case CTD_TCP_LAST_ACK:
			return CTD_TCP_LAST_ACK;
		case CTD_TCP_TIME_WAIT:
		case CTD_TCP_CLOSE:
			return state;
	}
	return TCP_INVALID;
}

static __always_inline u32 tcp_next_ack(u32 state, u8 dir)
{
	switch (state) {
		case CTD_TCP_NONE: /* picked up in mid-stream */
			return dir == CTD_DIR_ORIG ? CTD_TCP_ESTABLISHED : TCP_INVALID;
		case CTD_TCP_SYN_SENT:
			return dir == CTD_DIR_ORIG ? TCP_INVALID : TCP_IGNORE;
		case CTD_TCP_SYN_SENT2:
			return dir == CTD_DIR_ORIG ? TCP_INVALID : TCP_IGNORE;
		case CTD_TCP_SYN_RECV: /* the handshake's third step is the opener's */
			return dir == CTD_DIR_ORIG ? CTD_TCP_ESTABLISHED : CTD_TCP_SYN_RECV;
		case CTD_TCP_FIN_WAIT:
			return CTD_TCP_CLOSE_WAIT;
		case CTD_TCP_LAST_ACK:
			return CTD_TCP_TIME_WAIT;
	}
	return state;
}

/* The state after a segment with these flags, TCP_IGNORE or TCP_INVALID. */
static __always_inline u32 tcp_next(u32 state, u8 dir, u8 flags)
{
	if (flags & TCP_RST)
		return tcp_next_rst(state);
	if (flags & TCP_SYN)
		return flags & TCP_ACK ? tcp_next_synack(state, dir) : tcp_next_syn(state, dir);
	if (flags & TCP_FIN)
		return tcp_next_fin(state);
	if (flags & TCP_ACK)
		return tcp_next_ack(state, dir);
	return TCP_INVALID;
}

/* Combinations that no TCP sends: as nf_conntrack, which takes PSH, ECE and CWR with anything. */
static __always_inline int tcp_flags_valid(u8 flags)
{
	switch (flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK | TCP_URG)) {
		case TCP_SYN:
		case TCP_SYN | TCP_URG:
		case TCP_SYN | TCP_ACK:
		case TCP_RST:
		case TCP_RST | TCP_ACK:
		case TCP_FIN | TCP_ACK:
		case TCP_FIN | TCP_ACK | TCP_URG:
		case TCP_ACK:
		case TCP_ACK | TCP_URG:
			return 1;
	}
	return 0;
}

#endif
