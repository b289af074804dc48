/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP options, as far as windows depend on them: what a SYN offers (scale, SACK) and SACK blocks. RFC 7323, RFC 2018.
 *
 * Reads of the scratch record: pkt. Writes: pkt.tcp_sack, tcp_offers, tcp_scale, and the buffer.
 */
#ifndef CTD_CORE_TCP_OPTIONS_H
#define CTD_CORE_TCP_OPTIONS_H

#include "core/maps.h"
#include "core/parse.h"

#define TCP_OPTIONS_MAX 40u
#define TCP_MAX_SCALE 14u
#define TCP_SACK_BLOCKS 4 /* as many as fit */

enum tcp_option {
	TCP_OPT_END = 0,
	TCP_OPT_NOP = 1,
	TCP_OPT_SCALE = 3,
	TCP_OPT_SACK_PERMITTED = 4,
	TCP_OPT_SACK = 5,
};

/* NOP, NOP, timestamps: all that most segments have. */
#define TCP_TIMESTAMPS_LEN 12u
#define TCP_TIMESTAMPS_HEAD 0x0101080au

static __always_inline u8 tcp_option_byte(const struct scratch *s, u32 at)
{
	return s->buffer[at & 63];
}

/* The highest right edge of the blocks at `at`. */
static __always_inline void tcp_sack_blocks(struct scratch *s, u32 at, u32 count)
{
#pragma unroll
	for (u32 i = 0; i < TCP_SACK_BLOCKS; i++) {
		u32 edge, right = at + i * 8 + 4;

		if (i >= count)
			break;
		edge = (u32)tcp_option_byte(s, right) << 24 | (u32)tcp_option_byte(s, right + 1) << 16 |
		       (u32)tcp_option_byte(s, right + 2) << 8 | tcp_option_byte(s, right + 3);
		if ((s32)(s->pkt.tcp_sack - edge) < 0)
			s->pkt.tcp_sack = edge;
	}
}

/* One option; `arg` is where it starts. Non-zero: that was the last. */
static long tcp_option_step(u32 i CTD_UNUSED, void *arg)
{
	struct scratch *s = scratch_get();
	u32 *at = arg, len, size;

	if (!s || *at >= s->pkt.tcp_options || tcp_option_byte(s, *at) == TCP_OPT_END)
		return 1;
	if (tcp_option_byte(s, *at) == TCP_OPT_NOP) {
		*at += 1;
		return 0;
	}
	len = s->pkt.tcp_options - *at;
	size = tcp_option_byte(s, *at + 1);
	if (len < 2 || size < 2 || size > len)
		return 1; /* what follows cannot be found */
	switch (tcp_option_byte(s, *at)) {
		case TCP_OPT_SCALE:
			if (size == 3) {
				u8 scale = tcp_option_byte(s, *at + 2);

				s->pkt.tcp_offers |= CTD_TCPW_SCALE;
				s->pkt.tcp_scale = scale > TCP_MAX_SCALE ? TCP_MAX_SCALE : scale;
			}
			break;
		case TCP_OPT_SACK_PERMITTED:
			if (size == 2)
				s->pkt.tcp_offers |= CTD_TCPW_SACK;
			break;
		case TCP_OPT_SACK:
			if (size > 2 && (size - 2) % 8 == 0)
				tcp_sack_blocks(s, *at + 2, (size - 2) / 8);
			break;
	}
	*at += size;
	return 0;
}

/* A function of its own: the loop would be verified once more for every path to it. */
CTD_GLOBAL int tcp_options_scan(void)
{
	u32 at = 0;

	loop(TCP_OPTIONS_MAX, tcp_option_step, &at);
	return 0;
}

/* To be called before a segment is tracked, as long as the packet is as it was parsed. */
static __always_inline void tcp_read_options(CTX *ctx, struct scratch *s)
{
	u32 len = s->pkt.tcp_options, off = s->pkt.l4_off + sizeof(struct tcp_header);

	value_barrier(len);
	value_barrier(off);
	s->pkt.tcp_sack = s->pkt.tcp_ack;
	s->pkt.tcp_offers = 0;
	s->pkt.tcp_scale = 0;
	if (len < 4 || len > TCP_OPTIONS_MAX)
		return;
	if (len == TCP_TIMESTAMPS_LEN) {
		be32 *head = ctx_at(ctx, off, sizeof(*head));

		if (head && *head == host_htonl(TCP_TIMESTAMPS_HEAD))
			return;
	}
	if (!ctx_load(ctx, off, s->buffer, len))
		tcp_options_scan();
}

#endif
