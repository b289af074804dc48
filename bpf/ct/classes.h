/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Classes and quotas: unanswered and answered connections stand in a ring each, in order of arrival. At the quota the
 * oldest that is still in the class makes room, so that a flood lives and dies among its own kind. Ring entries of
 * connections that left the class are stale and skipped.
 */
#ifndef CTD_CT_CLASSES_H
#define CTD_CT_CLASSES_H

#include "ct/table.h"

#define CLASS_PROBES 16

static __always_inline void ring_push(struct ctd_class *c, u32 id, u32 seq)
{
	u64 pos = atomic_add(&c->head, 1);
	u32 index = c->base + (u32)(pos & (c->size - 1));
	u64 *entry = map_lookup(&ct_ring, &index);

	if (entry)
		write_once(*entry, ((u64)seq << 32) | id);
}

enum probe {
	PROBE_STALE, /* dropped a stale entry, or lost a race: look further */
	PROBE_KILLED,
	PROBE_KEPT, /* the class is within its quota: the entry went to the front of the ring */
	PROBE_EMPTY,
};

/* Takes the oldest entry of a class's ring. */
CTD_GLOBAL int class_probe(u32 cls)
{
	struct ctd_class *c = map_lookup(&ct_class, &cls);
	struct ctd_conn *conn;
	u64 tail, *entry, value;
	u32 index, ctl;

	if (!c)
		return PROBE_EMPTY;
	tail = read_once(c->tail);
	if (tail >= read_once(c->head))
		return PROBE_EMPTY;
	index = c->base + (u32)(tail & (c->size - 1));
	entry = map_lookup(&ct_ring, &index);
	if (!entry)
		return PROBE_EMPTY;
	value = read_once(*entry);
	if (atomic_cmpxchg(&c->tail, tail, tail + 1) != tail)
		return PROBE_STALE;
	conn = conn_get((u32)value);
	if (!conn)
		return PROBE_STALE;
	ctl = read_once(conn->ctl);
	if (ctl != CTD_CTL(value >> 32, cls, CTD_CONN_VALID))
		return PROBE_STALE;
	if (read_once(c->live) <= (s64)c->quota) {
		ring_push(c, (u32)value, (u32)(value >> 32));
		return PROBE_KEPT;
	}
	return conn_kill(conn, (u32)value, ctl) ? PROBE_KILLED : PROBE_STALE;
}

/* A connection joins a class, and the oldest make room. 1 if the class is within its quota then. */
static __always_inline int class_join(u32 cls, u32 id, u32 seq)
{
	struct ctd_class *c = map_lookup(&ct_class, &cls);

	if (!c)
		return 0;
	atomic_add(&c->live, 1);
	ring_push(c, id, seq);
	for (int i = 0; i < CLASS_PROBES; i++) {
		int over = read_once(c->live) > (s64)c->quota;
		int result;

		if (!over && read_once(c->head) - read_once(c->tail) <= c->size - 2)
			return 1;
		result = class_probe(cls);
		if (result == PROBE_KILLED)
			count(0, CTD_COUNT_CT_EVICTED);
		else if (result == PROBE_EMPTY)
			break;
	}
	return read_once(c->live) <= (s64)c->quota;
}

/* 1 if this call moved the record to `cls`. Another CPU may promote it at the same time: `ctl` follows. */
static __always_inline int class_set(struct ctd_conn *conn, u32 *ctl, u32 cls, u32 *from)
{
	for (int i = 0; i < CTD_CLASS_COUNT; i++) {
		u32 next = CTD_CTL(CTD_CTL_SEQ(*ctl), cls, CTD_CONN_VALID), seen;

		*from = CTD_CTL_CLASS(*ctl);
		if (*from >= cls)
			return 0;
		seen = atomic_cmpxchg(&conn->ctl, *ctl, next);
		if (seen == *ctl) {
			*ctl = next;
			return 1;
		}
		if (CTD_CTL_SEQ(seen) != CTD_CTL_SEQ(*ctl) || CTD_CTL_LIFE(seen) != CTD_CONN_VALID)
			return 0;
		*ctl = seen;
	}
	return 0;
}

/* Moves a connection to a better class. Its record stays where it is and its old ring entry is stale from now on. */
static __always_inline void conn_promote(struct ctd_conn *conn, u32 id, u32 *ctl, u32 cls)
{
	u32 from;

	if (!class_set(conn, ctl, cls, &from))
		return;
	class_live(from, -1);
	if (cls == CTD_CLASS_ASSURED)
		class_live(cls, 1);
	else
		class_join(cls, id, CTD_CTL_SEQ(*ctl));
}

#endif
