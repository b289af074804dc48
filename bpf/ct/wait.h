/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who loses the race for a new connection waits until the winner's record is published, or the dead one whose tuple it
 * met is gone: else its packet would be lost. A loser has nothing reserved while it waits, so nobody waits for it.
 */
#ifndef CTD_CT_WAIT_H
#define CTD_CT_WAIT_H

#include "ct/table.h"

/*
 * The winner needs a few microseconds, an interrupt in between tens of them; this is about a millisecond. Each further
 * round waits for a quarter of it, so that a packet cannot hold its CPU for long.
 */
#define WAIT_SPINS(round) ((1u << 18) >> 2 * (round))

static long wait_step(CTD_UNUSED u32 i, void *arg)
{
	u32 *id = arg;
	struct ctd_conn *conn = conn_get(*id);

	cpu_relax();
	return !conn || CTD_CTL_LIFE(read_once(conn->ctl)) != CTD_CONN_BUSY;
}

static __always_inline void wait_for(const struct ctd_tuple *t, u32 spins)
{
	struct ctd_tuple_ref *ref = tuple_ref(t);
	u32 id;

	if (!ref)
		return;
	id = read_once(ref->conn);
	loop(spins, wait_step, &id);
}

/* After CTD_DROP_CT_CLASH: both tuples, since the winner may have but the first of them yet. */
CTD_GLOBAL int conn_wait(u32 round)
{
	struct scratch *s = scratch_get();
	struct ctd_tuple reply;

	if (!s)
		return 0;
	round &= 3;
	wait_for(&s->ct.tuple, WAIT_SPINS(round));
	tuple_invert(&reply, &s->ct.tuple);
	wait_for(&reply, WAIT_SPINS(round));
	return 0;
}

#endif
