/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ageing: a timer looks at the dense array of due times, a part of it each tick, all of it each second. What is due and
 * really idle dies, and goes a tick later; until then a packet that was under way can still revive it. Expectations
 * are looked at once a round.
 */
#ifndef CTD_CT_SWEEP_H
#define CTD_CT_SWEEP_H

#include "ct/classes.h"
#include "ct/expect_sweep.h"

#define SWEEP_TICK_NS (10 * 1000 * 1000ull)
#define SWEEP_BUSY_TICK_NS (250 * 1000ull) /* after a tick that had more to do than it may */
#define SWEEP_ROUND_TICKS 80u              /* a whole round in a second, with time to spare for late ticks */
#define SWEEP_MAX_DUE 100u                 /* connections that one tick handles: about a microsecond each */
#define SWEEP_MAX_LOOKS 8192u              /* records that one tick looks into: some ten nanoseconds each */

struct sweep {
	u32 at;    /* first id of this tick */
	u32 now;   /* jiffies */
	u32 due;   /* handled in this tick */
	u32 looks; /* records looked into */
	u32 done;
	u32 scales; /* what is left of timeouts, see scales_now() */
};

/* Assured connections cannot be pushed out, so they alone say how much of a timeout the fill leaves. */
static __always_inline u32 scale_at(s64 assured, u32 capacity)
{
	u64 start = ctd_config.adaptive_start, end = ctd_config.adaptive_end, fill;

	if (assured <= 0 || !capacity || end <= start)
		return CTD_SCALE_FULL;
	fill = (u64)assured * 1000 / capacity;
	if (fill <= start)
		return CTD_SCALE_FULL;
	return fill >= end ? 1 : (u32)((end - fill) * CTD_SCALE_FULL / (end - start));
}

/* For IPv4 in the low half, for IPv6 in the high one: by the fill of the family or of the whole table, the fuller one.
 */
static __always_inline u32 scales_now(struct ctd_rt *rt)
{
	s64 v4 = class_live(CTD_CLASS_ASSURED, CTD_IPV4), v6 = class_live(CTD_CLASS_ASSURED, CTD_IPV6);
	u32 all = scale_at(v4 + v6, ctd_config.conn_capacity);
	u32 scale4 = scale_at(v4, ctd_config.family_capacity[0]), scale6 = scale_at(v6, ctd_config.family_capacity[1]);

	scale4 = scale4 < all ? scale4 : all;
	scale6 = scale6 < all ? scale6 : all;
	write_once(rt->timeout_scale[0], scale4);
	write_once(rt->timeout_scale[1], scale6);
	return scale6 << 16 | scale4;
}

#define SCALES_FULL (CTD_SCALE_FULL << 16 | CTD_SCALE_FULL)

/* When the connection expires: its later direction counts. */
static __always_inline u32 conn_expires_at(const struct ctd_conn *conn, u32 scales)
{
	u64 scale = conn->orig.family == CTD_IPV6 ? scales >> 16 : scales & 0xffff;
	u32 timeout = read_once(conn->timeout), last = last_seen(conn);

	return expires_is_set(conn, last) ? read_once(conn->expires) : last + (u32)(timeout * scale / CTD_SCALE_FULL);
}

/* A connection that may be due dies if it is. */
static __always_inline int sweep_valid(struct ctd_conn *conn, u32 id, u32 ctl, u32 due, u32 now, u32 scales)
{
	u32 expires;

	if ((s32)(now - conn_expires_at(conn, scales)) >= 0) {
		/* Credits what the fast path has seen meanwhile: that may be news. */
		conn_drop_verdicts(id);
		if ((s32)(now - conn_expires_at(conn, scales)) >= 0 && conn_make_dead(conn, ctl, conn_idle_end(conn))) {
			check_set(id, now + 1);
			return 1;
		}
	}
	expires = conn_expires(conn);
	if ((s32)(now - expires) < 0)
		check_move(id, due, expires);
	return 0;
}

/* Dead of its age, but a packet that was under way has come since: it died at `due` - 1. */
static __always_inline int revived(const struct ctd_conn *conn, u32 ctl, u32 due, u32 now, u32 scales)
{
	return CTD_CTL_END(ctl) == CTD_END_TIMEOUT && (s32)(last_seen(conn) - (due - 1)) >= 0 &&
	       (s32)(now - conn_expires_at(conn, scales)) < 0;
}

/* Looks at a connection by its id and due time. 1 if there was something to do: it died, went, or lives again. */
CTD_GLOBAL int sweep_look(u32 id, u32 due, u32 now, u32 scales)
{
	struct ctd_conn *conn = conn_get(id);
	u32 ctl;

	if (!conn)
		return 0;
	ctl = read_once(conn->ctl);
	if (CTD_CTL_LIFE(ctl) == CTD_CONN_VALID)
		return sweep_valid(conn, id, ctl, due, now, scales);
	if (CTD_CTL_LIFE(ctl) != CTD_CONN_DEAD || (s32)(now - due) < 0)
		return 0;
	if (revived(conn, ctl, due, now, scales)) {
		u32 valid = CTD_CTL(CTD_CTL_SEQ(ctl), CTD_CTL_CLASS(ctl), CTD_CONN_VALID);

		if (atomic_cmpxchg(&conn->ctl, ctl, valid) == ctl)
			check_set(id, conn_expires_at(conn, scales));
		return 1;
	}
	conn_reap(conn, id);
	return 1;
}

static __always_inline int sweep_enough(const struct sweep *sweep)
{
	return sweep->due >= SWEEP_MAX_DUE || sweep->looks >= SWEEP_MAX_LOOKS;
}

static long sweep_step(u32 i, void *arg)
{
	struct sweep *sweep = arg;
	u32 id = sweep->at + i, *check = map_lookup(&ct_check, &id), due;

	sweep->done = i + 1;
	if (!check)
		return 1;
	due = read_once(*check);
	if (!due)
		return 0;
	/* The array knows whole timeouts; shortened ones only the records tell. */
	if ((s32)(sweep->now - due) < 0 && sweep->scales == SCALES_FULL)
		return 0;
	sweep->looks++;
	sweep->due += (u32)sweep_look(id, due, sweep->now, sweep->scales);
	return sweep_enough(sweep);
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
	sweep.scales = scales_now(rt);
	high = read_once(rt->high_water);
	sweep.at = rt->sweep_at;
	if (sweep.at < 1 || sweep.at > high) {
		sweep.at = 1;
		rt->sweeps++;
		expect_sweep();
	}
	share = high / SWEEP_ROUND_TICKS + 1;
	left = high >= sweep.at ? high - sweep.at + 1 : 0;
	loop(share < left ? share : left, sweep_step, &sweep);
	rt->sweep_at = sweep.at + sweep.done;
	return sweep_enough(&sweep) ? SWEEP_BUSY_TICK_NS : SWEEP_TICK_NS;
}

#endif
