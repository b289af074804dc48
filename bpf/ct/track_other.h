/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Protocols without a state machine: unreplied, then replied. UDP becomes assured after a while. */
#ifndef CTD_CT_TRACK_OTHER_H
#define CTD_CT_TRACK_OTHER_H

#include "ct/refresh.h"

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
		conn_set_timeout(conn, f->id, timeout_of(conn->timeout_policy, conn->orig.proto, CTD_OTHER_REPLIED));
	}
	udp_assure(conn, f->id, &f->ctl);
}

#endif
