/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every tracker does to a record: counters, last-seen, timeouts; and what trackers answer. */
#ifndef CTD_CT_REFRESH_H
#define CTD_CT_REFRESH_H

#include "ct/classes.h"
#include "ct/table.h"
#include "ct/timeout.h"

static __always_inline void conn_count(struct ctd_conn *conn, u8 dir, u32 bytes)
{
	atomic_add(&conn->count[dir & 1].packets, 1);
	atomic_add(&conn->count[dir & 1].bytes, bytes);
}

static __always_inline void conn_refresh(struct ctd_conn *conn, u8 dir, u32 bytes)
{
	conn_count(conn, dir, bytes);
	write_once(conn->last_seen[dir & 1], (u32)now_jiffies());
}

/* A shorter timeout must reach the sweep: it only looks when the old one is due. */
static __always_inline void conn_set_timeout(struct ctd_conn *conn, u32 id, u32 timeout)
{
	u32 old = read_once(conn->timeout);

	write_once(conn->timeout, timeout);
	if (timeout < old)
		check_by(id, (u32)now_jiffies() + timeout);
}

/* What a tracker answers. */
enum track_result {
	TRACK_OK,
	TRACK_PASSED,       /* goes on with its connection, but does not keep it alive and is not counted */
	TRACK_REOPEN,       /* the old connection is over: a new one begins */
	TRACK_BUSY,         /* the record stayed locked: the packet goes on by what is known */
	TRACK_INVALID_BASE, /* and above: invalid, by enum ctd_invalid_reason */
};
#define TRACK_INVALID(why) (TRACK_INVALID_BASE + CTD_INVALID_##why)

#endif
