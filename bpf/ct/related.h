/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors: related to the connection whose packet they quote. */
#ifndef CTD_CT_RELATED_H
#define CTD_CT_RELATED_H

#include "ct/refresh.h"

/*
 * An ICMP error belongs to the connection of the packet that it quotes: the quoted tuple inverted is a tuple of that
 * connection, and the error travels in that tuple's direction, to whoever sent the quoted packet: one that goes
 * elsewhere was made up. It never changes the connection.
 */
static __always_inline int track_related(struct scratch *s, u16 zone)
{
	struct ctd_tuple inverted;
	struct found f = {};

	s->quoted.zone = zone;
	tuple_invert(&inverted, &s->quoted);
	if (!s->quoted_l4 || !addr_equal(&s->quoted.src, &s->pkt.tuple.dst) || !conn_find(&inverted, &f) || f.dead)
		return TRACK_INVALID(ICMP_ERROR);
	if (conn_expired(f.conn, f.id))
		return TRACK_INVALID(ICMP_ERROR); /* it is over, and only waits for the sweep */
	s->ct.conn = f.id;
	s->ct.conn_seq = CTD_CTL_SEQ(f.ctl);
	s->ct.dir = f.dir;
	s->ct.state = CTD_CS_TRK | CTD_CS_REL | (f.dir == CTD_DIR_REPLY ? CTD_CS_RPL : 0);
	return TRACK_OK;
}

#endif
