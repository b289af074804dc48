/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What userspace asks of the connection table, as BPF_PROG_TYPE_SYSCALL programs. They run in process context and can
 * be preempted, so they touch nothing that is per CPU: they mark, and the sweep does the rest.
 */
#ifndef CTD_CT_CONTROL_H
#define CTD_CT_CONTROL_H

#include "ct/table.h"

static long flush_step(u32 i, void *arg)
{
	struct ctd_control *count = arg;
	struct ctd_conn *conn;
	u32 id = i + 1;

	conn = conn_get(id);
	if (!conn)
		return 1;
	for (int tries = 0; tries < 4; tries++) {
		u32 ctl = read_once(conn->ctl);

		if (CTD_CTL_LIFE(ctl) != CTD_CONN_VALID)
			break;
		if (conn_make_dead(conn, ctl, CTD_END_FLUSHED)) {
			check_set(id, (u32)now_jiffies());
			count->count++;
			break;
		}
	}
	return 0;
}

/* Every connection dies; the sweep destroys them within a second. */
static __always_inline int control_flush(struct ctd_control *arg)
{
	struct ctd_control done = {};
	struct ctd_rt *rt = rt_get();

	if (!rt)
		return -1;
	loop(read_once(rt->high_water), flush_step, &done);
	arg->count = done.count;
	return 0;
}

static __always_inline void credit_one(struct ctd_verdict_head *v, const struct ctd_verdict_tail *tail)
{
	struct ctd_conn *conn = conn_get(v->conn);

	/* The time of the last packet is not known here; it is less than a second off in the record. */
	if (conn && CTD_CTL_SEQ(read_once(conn->ctl)) == tail->conn_seq)
		verdict_credit(v, tail, conn);
}

static long credit4_step(void *map CTD_UNUSED, const void *key CTD_UNUSED, struct ctd_verdict4 *v,
			 struct ctd_control *arg)
{
	credit_one(&v->head, &v->tail);
	arg->count++;
	return 0;
}

static long credit6_step(void *map CTD_UNUSED, const void *key CTD_UNUSED, struct ctd_verdict6 *v,
			 struct ctd_control *arg)
{
	credit_one(&v->head, &v->tail);
	arg->count++;
	return 0;
}

/* Credits what all verdicts have collected, so that a dump is exact. */
static __always_inline int control_credit(struct ctd_control *arg)
{
	struct ctd_control done = {};

	for_each_element(&ct_cache4, credit4_step, &done);
	for_each_element(&ct_cache6, credit6_step, &done);
	arg->count = done.count;
	return 0;
}

#endif
