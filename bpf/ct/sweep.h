/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ageing: a timer looks at the dense array of due times, a part of it each tick, all of it each second. What is due and
 * really idle dies, and goes a tick later; until then a packet that was under way can still revive it.
 */
#ifndef CTD_CT_SWEEP_H
#define CTD_CT_SWEEP_H

#include "ct/table.h"

#define SWEEP_TICK_NS (10 * 1000 * 1000ull)
#define SWEEP_BUSY_TICK_NS (1000 * 1000ull) /* after a tick that had more to do than it may */
#define SWEEP_ROUND_TICKS 100u              /* a whole round in a second */
#define SWEEP_MAX_DUE 100u                  /* connections that one tick handles: about a microsecond each */

struct sweep {
	u32 at;  /* first id of this tick */
	u32 now; /* jiffies */
	u32 due; /* handled in this tick */
	u32 done;
};

/* When the connection expires: its later direction counts. */
static __always_inline u32 conn_expires(const struct ctd_conn *conn)
{
	u32 last = read_once(conn->last_seen[0]), reply = read_once(conn->last_seen[1]);

	if (reply && (s32)(reply - last) > 0)
		last = reply;
	return last + read_once(conn->timeout);
}

/* A connection whose time has come, by its due time. */
CTD_GLOBAL int sweep_due(u32 id, u32 now)
{
	struct ctd_conn *conn = conn_get(id);
	u32 ctl, expires, life;

	if (!conn)
		return 0;
	ctl = read_once(conn->ctl);
	life = CTD_CTL_LIFE(ctl);
	if (life != CTD_CONN_VALID && life != CTD_CONN_DEAD)
		return 0;
	expires = conn_expires(conn);
	if (life == CTD_CONN_VALID) {
		if ((s32)(now - expires) < 0) {
			check_set(id, expires);
			return 0;
		}
		if (!conn_make_dead(conn, ctl))
			return 0;
		/* Credits what the fast path has seen meanwhile: that may be news. */
		conn_drop_verdicts(id);
		check_set(id, now + 1);
		return 0;
	}
	if ((s32)(now - expires) < 0) {
		u32 valid = CTD_CTL(CTD_CTL_SEQ(ctl), CTD_CTL_CLASS(ctl), CTD_CONN_VALID);

		if (atomic_cmpxchg(&conn->ctl, ctl, valid) == ctl)
			check_set(id, expires);
		return 0;
	}
	conn_reap(conn, id);
	return 0;
}

static long sweep_step(u32 i, void *arg)
{
	struct sweep *sweep = arg;
	u32 id = sweep->at + i, *check = map_lookup(&ct_check, &id), due;

	sweep->done = i + 1;
	if (!check)
		return 1;
	due = read_once(*check);
	if (!due || (s32)(sweep->now - due) < 0)
		return 0;
	sweep_due(id, sweep->now);
	return ++sweep->due >= SWEEP_MAX_DUE;
}

/* One tick's share of a round. Answers when the next one is due, in ns. */
static __always_inline u64 sweep_tick(void)
{
	struct sweep sweep = {.now = (u32)now_jiffies()};
	struct ctd_rt *rt = rt_get();
	u32 high, share, left;

	if (!rt)
		return SWEEP_TICK_NS;
	write_once(rt->beat, sweep.now);
	high = read_once(rt->high_water);
	sweep.at = rt->sweep_at;
	if (sweep.at < 1 || sweep.at > high) {
		sweep.at = 1;
		rt->sweeps++;
	}
	share = high / SWEEP_ROUND_TICKS + 1;
	left = high >= sweep.at ? high - sweep.at + 1 : 0;
	loop(share < left ? share : left, sweep_step, &sweep);
	rt->sweep_at = sweep.at + sweep.done;
	return sweep.due >= SWEEP_MAX_DUE ? SWEEP_BUSY_TICK_NS : SWEEP_TICK_NS;
}

#endif
