/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who loses the race for a new connection waits until the winner's record is published, or the dead one whose tuple it
 * met is gone: else its packet would be lost. A loser has nothing reserved while it waits, so nobody waits for it.
 */
#ifndef CTD_CT_WAIT_H
#define CTD_CT_WAIT_H

#include "ct/table.h"

/* The winner needs a few microseconds, an interrupt in between tens of them; this is about a millisecond. */
#define WAIT_SPINS (1u << 18)

static long wait_step(CTD_UNUSED u32 i, void *arg)
{
	u32 *id = arg;
	struct ctd_conn *conn = conn_get(*id);

	cpu_relax();
	return !conn || CTD_CTL_LIFE(read_once(conn->ctl)) != CTD_CONN_BUSY;
}

static __always_inline void wait_for(const struct ctd_tuple *t)
{
	struct ctd_tuple_ref *ref = tuple_ref(t);
	u32 id;

	if (!ref)
		return;
	id = read_once(ref->conn);
	loop(WAIT_SPINS, wait_step, &id);
}

/* After CTD_DROP_CT_CLASH: both tuples, since the winner may have but the first of them yet. */
CTD_GLOBAL int conn_wait(void)
{
	struct scratch *s = scratch_get();
	struct ctd_tuple reply;

	if (!s)
		return 0;
	wait_for(&s->ct.tuple);
	tuple_invert(&reply, &s->ct.tuple);
	wait_for(&reply);
	return 0;
}

#endif
